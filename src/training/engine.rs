//! What computes a step: one trait, so that each engine is tested against the other.

use super::Loss;
use crate::data::tokens::Tokens;
use crate::model::bert::StepKey;
use crate::model::op::{BertOp, Gradient};
use crate::model::{Batch, Bert, Reference, predict};
use candle_core::{Device, Result, Tensor, Var};
use std::sync::Arc;

/// Rows of a batch with their targets: all of them, or the share of one rank.
#[derive(Debug, Clone)]
pub struct Part {
    pub rows: Batch,
    pub targets: Vec<f32>,
    /// How many rows the whole batch has.
    pub of: usize,
}

impl Part {
    /// A batch that is computed in one place.
    pub fn whole(rows: Batch, targets: Vec<f32>) -> Self {
        let of = targets.len();
        Self { rows, targets, of }
    }
}

/// Computes a batch's loss, its gradient, and outputs, of a model whose parameters lie flat.
pub trait Engine: Send + Sync {
    /// The model's shape.
    fn bert(&self) -> &Bert;

    /// One output for each row, on candle's tape; its backward gives the gradient of the parameters, in `gradient` or as
    /// candle's own.
    fn outputs(&self, parameters: &Var, batch: Batch, key: StepKey, gradient: &Gradient) -> Result<Tensor>;

    /// Predicts for rows of token ids.
    fn predict(&self, parameters: &[f32], rows: &Tokens) -> Result<Vec<f64>>;

    /// What these rows add to the batch's mean loss; the gradient of that is left in `gradient`, if it is a finite number.
    fn step(
        &self,
        parameters: &Var,
        Part { rows, targets, of }: Part,
        loss: Loss,
        key: StepKey,
        gradient: &Gradient,
    ) -> Result<f64> {
        let count = targets.len();
        let targets = Tensor::from_vec(targets, count, &Device::Cpu)?;
        let loss = loss.of(&self.outputs(parameters, rows, key, gradient)?, &targets, of)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        if value.is_finite() {
            let grads = loss.backward()?;
            if let Some(flat) = grads.get(parameters) {
                *gradient.lock().expect("no pass panicked") = flat.to_vec1()?;
            }
        }
        Ok(value)
    }
}

/// Our own kernels, on the processor: the engine that trains.
#[derive(Debug, Clone)]
pub struct Fused(Arc<Bert>);

impl Fused {
    pub fn new(bert: Bert) -> Self {
        Self(Arc::new(bert))
    }
}

impl Engine for Fused {
    fn bert(&self) -> &Bert {
        &self.0
    }

    fn outputs(&self, parameters: &Var, batch: Batch, key: StepKey, gradient: &Gradient) -> Result<Tensor> {
        parameters.apply_op1(BertOp::new(self.0.clone(), batch, key, gradient.clone()))
    }

    fn predict(&self, parameters: &[f32], rows: &Tokens) -> Result<Vec<f64>> {
        Ok(predict::encoded(&self.0, parameters, rows))
    }
}

/// Plain candle on padded rows: slow, short enough to be checked by reading, and the way to other devices.
impl Engine for Reference {
    fn bert(&self) -> &Bert {
        &self.bert
    }

    fn outputs(&self, parameters: &Var, batch: Batch, key: StepKey, _gradient: &Gradient) -> Result<Tensor> {
        self.forward(parameters, &batch, Some(key))
    }

    fn predict(&self, parameters: &[f32], rows: &Tokens) -> Result<Vec<f64>> {
        let parameters = Tensor::new(parameters, &Device::Cpu)?;
        let mut out = Vec::with_capacity(rows.len());
        for row in 0..rows.len() {
            let value = self.forward(&parameters, &Batch::of(rows, &[row]), None)?.to_vec1::<f32>()?;
            out.extend(value.into_iter().map(f64::from));
        }
        Ok(out)
    }
}
