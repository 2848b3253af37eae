//! Sums over rows, in a fixed order.

use super::ROWS;
use super::simd::multiversion;
use rayon::prelude::*;

/// Values that one task takes where rows do not matter.
const SPAN: usize = 1 << 16;

multiversion! {
    /// Adds `values` to `sums`.
    pub fn add(sums: &mut [f32], values: &[f32]) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }

    pub fn multiply_span(values: &mut [f32], factors: &[f32]) {
        for (value, factor) in values.iter_mut().zip(factors) {
            *value *= factor;
        }
    }

    /// The sum of squares, in f64 with eight lanes.
    pub fn squares(values: &[f32]) -> f64 {
        let mut lanes = [0.0_f64; 8];
        for chunk in values.chunks(8) {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(*value) * f64::from(*value);
            }
        }
        lanes.iter().sum()
    }
}

/// Adds the rows of `values` to `out`: chunks of rows first, then the chunks in order.
pub fn add_columns(values: &[f32], out: &mut [f32]) {
    let width = out.len();
    let parts: Vec<Vec<f32>> = values
        .par_chunks(ROWS * width)
        .map(|chunk| {
            let mut sums = vec![0.0; width];
            chunk.chunks(width).for_each(|row| add(&mut sums, row));
            sums
        })
        .collect();
    parts.iter().for_each(|part| add(out, part));
}

/// The sum of squares of everything: fixed spans first, then the spans in order.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    let parts: Vec<f64> = values.par_chunks(SPAN).map(squares).collect();
    parts.iter().sum()
}

/// Multiplies each value by its factor.
pub fn multiply(values: &mut [f32], factors: &[f32]) {
    values.par_chunks_mut(SPAN).zip(factors.par_chunks(SPAN)).for_each(|(value, factor)| multiply_span(value, factor));
}
