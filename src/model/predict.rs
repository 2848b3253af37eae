//! Prediction: rows in windows, similar lengths together, results in the rows' order.
//!
//! A row's result has the same bits whatever rows share its batch and however many threads work: each number of a product
//! is summed along its own row alone.

use super::{Batch, Bert, Model, ModelError};
use crate::data::encode::Encoder;
use crate::data::rows::Sequences;
use crate::data::tokens::Tokens;

/// Rows encoded at a time: bounds memory for any number of rows.
const WINDOW: usize = 16_384;

/// Tokens of one batch.
const TOKENS: usize = 8192;

/// Predicts for rows of token ids; call it within a pool of threads.
pub fn encoded(bert: &Bert, parameters: &[f32], rows: &Tokens) -> Vec<f64> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| rows.length(row));
    let mut out = vec![0.0; rows.len()];
    let mut rest = &order[..];
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = rest
            .iter()
            .take_while(|&&row| {
                tokens += rows.length(row);
                tokens <= TOKENS
            })
            .count()
            .max(1);
        let (now, later) = rest.split_at(fits);
        let batch = Batch::of(rows, now);
        for (&row, value) in now.iter().zip(bert.predict(parameters, &batch)) {
            out[row] = f64::from(value);
        }
        rest = later;
    }
    out
}

impl Model {
    /// Predicts for sequences; `progress` is told how many are done, and stops the work by saying `false`.
    pub fn predict(
        &self,
        sequences: &Sequences,
        threads: usize,
        progress: &mut (dyn FnMut(usize) -> bool + Send),
    ) -> Result<Option<Vec<f64>>, ModelError> {
        let encoder = self.encoder()?;
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
                out.extend(encoded(&self.bert, &self.parameters, &tokens));
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
