//! The model as one operation on candle's tape: flat parameters in, one output for each row out.
//!
//! candle keeps the parameters (`Var`) and runs loss and `backward`; the kernels do the work. The gradient goes into a
//! buffer that is made once: candle's own way makes and adds whole-parameter temporaries at every step.

use super::bert::{Saved, StepKey};
use super::{Batch, Bert};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor, bail};
use std::sync::{Arc, Mutex};

/// Where a step's gradient is left.
pub type Gradient = Arc<Mutex<Vec<f32>>>;

/// One forward pass over a batch, with what its backward needs.
pub struct BertOp {
    pub bert: Arc<Bert>,
    pub batch: Batch,
    pub key: StepKey,
    pub gradient: Gradient,
    saved: Mutex<Option<Saved>>,
}

impl BertOp {
    pub fn new(bert: Arc<Bert>, batch: Batch, key: StepKey, gradient: Gradient) -> Self {
        Self { bert, batch, key, gradient, saved: Mutex::new(None) }
    }
}

/// Calls `work` with the numbers of a tensor that lies end to end in memory.
pub fn with_values<T>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("the fused model runs on the CPU alone") };
    Ok(work(contiguous(storage, layout)?))
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("the tensor does not lie end to end"),
    }
}

impl CustomOp1 for BertOp {
    fn name(&self) -> &'static str {
        "bert"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let parameters = contiguous(storage, layout)?;
        let (logits, saved) = self.bert.forward(parameters, &self.batch, Some(self.key));
        *self.saved.lock().expect("no pass panicked") = Some(saved);
        let shape = Shape::from(logits.len());
        Ok((CpuStorage::F32(logits), shape))
    }

    fn bwd(&self, parameters: &Tensor, _logits: &Tensor, logits_grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(saved) = self.saved.lock().expect("no pass panicked").take() else {
            bail!("backward runs once after each forward")
        };
        let logits_grad = logits_grad.to_vec1::<f32>()?;
        let mut gradient = self.gradient.lock().expect("no pass panicked");
        gradient.resize(self.bert.layout.len(), 0.0);
        with_values(parameters, |p| self.bert.backward(p, &self.batch, saved, &logits_grad, &mut gradient))?;
        Ok(None)
    }
}
