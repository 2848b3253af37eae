//! Prediction: rows in windows, similar lengths together, results in the rows' order.
//!
//! A row's result has the same bits whatever rows share its batch and however many threads work: each number of a product
//! is summed along its own row alone. On a GPU it is the batch that decides, and so the rows of the file.

use super::device::Gpu;
use super::{Batch, Bert, Model, ModelError};
use crate::data::encode::Encoder;
use crate::data::rows::Sequences;
use crate::data::tokens::Tokens;
use crate::device::Device;

/// Rows encoded at a time: bounds memory for any number of rows.
const WINDOW: usize = 16_384;

/// Tokens of one batch.
const TOKENS: usize = 8192;

/// The same on a GPU, which is busy with large batches alone.
pub const GPU_TOKENS: usize = 65_536;

/// Predicts for rows of token ids on the processor; call it within a pool of threads.
pub fn encoded(bert: &Bert, parameters: &[f32], rows: &Tokens) -> Vec<f64> {
    let made = in_batches(rows, TOKENS, &mut |batch| Ok(bert.predict(parameters, batch)));
    made.expect("a pass on the processor can't fail")
}

/// Predicts for rows of token ids, in batches of about so many tokens.
pub fn in_batches(
    rows: &Tokens,
    tokens: usize,
    predict: &mut dyn FnMut(&Batch) -> Result<Vec<f32>, ModelError>,
) -> Result<Vec<f64>, ModelError> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| rows.length(row));
    let mut out = vec![0.0; rows.len()];
    let mut rest = &order[..];
    while !rest.is_empty() {
        let mut taken = 0;
        let fits = rest
            .iter()
            .take_while(|&&row| {
                taken += rows.length(row);
                taken <= tokens
            })
            .count()
            .max(1);
        let (now, later) = rest.split_at(fits);
        for (&row, value) in now.iter().zip(predict(&Batch::of(rows, now))?) {
            out[row] = f64::from(value);
        }
        rest = later;
    }
    Ok(out)
}

/// A model where it predicts.
pub struct Predictor<'m> {
    model: &'m Model,
    /// The processor, where there is none.
    gpu: Option<Gpu>,
}

impl Model {
    /// The model, ready to predict on a device.
    pub fn on(&self, device: Device) -> Result<Predictor<'_>, ModelError> {
        let gpu = match device {
            Device::Cpu => None,
            Device::Cuda(_) => Some(Gpu::new(&self.bert, &self.parameters, device)?),
        };
        Ok(Predictor { model: self, gpu })
    }
}

impl Predictor<'_> {
    /// Predicts for sequences; `progress` is told how many are done, and stops the work by saying `false`.
    pub fn predict(
        &mut self,
        sequences: &Sequences,
        threads: usize,
        progress: &mut (dyn FnMut(usize) -> bool + Send),
    ) -> Result<Option<Vec<f64>>, ModelError> {
        let encoder = self.model.encoder()?;
        super::with_threads(threads, || {
            let mut out = Vec::with_capacity(sequences.len());
            for start in (0..sequences.len()).step_by(WINDOW) {
                if !progress(start) {
                    return Ok(None);
                }
                let window = (start..(start + WINDOW).min(sequences.len())).map(|row| sequences.get(row));
                let tokens = encode(&encoder, window).map_err(|error| match error {
                    ModelError::NoBases { row } => ModelError::NoBases { row: start + row },
                    other => other,
                })?;
                out.extend(match &mut self.gpu {
                    None => encoded(&self.model.bert, &self.model.parameters, &tokens),
                    Some(gpu) => in_batches(&tokens, GPU_TOKENS, &mut |batch| gpu.predict(batch))?,
                });
            }
            progress(sequences.len());
            Ok(Some(out))
        })?
    }
}

/// Encodes rows; one without a token is an error.
fn encode<'a>(encoder: &Encoder, rows: impl Iterator<Item = &'a [u8]>) -> Result<Tokens, ModelError> {
    let tokens = encoder.encode_all(rows);
    match (0..tokens.len()).find(|&row| tokens.length(row) == 0) {
        Some(row) => Err(ModelError::NoBases { row: row + 1 }),
        None => Ok(tokens),
    }
}
