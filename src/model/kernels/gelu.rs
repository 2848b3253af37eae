//! GELU in its exact form, x * Phi(x).

use super::simd::{erf, exp, multiversion};
use rayon::prelude::*;

const SPAN: usize = 1 << 14;

multiversion! {
    pub fn forward_span(input: &[f32], out: &mut [f32]) {
        for (x, y) in input.iter().zip(out) {
            *y = 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
        }
    }

    pub fn slope_span(values: &mut [f32], out: &mut [f32]) {
        // The density of the standard normal distribution at 0.
        const DENSITY: f32 = 0.398_942_3;
        for (x, y) in values.iter_mut().zip(out) {
            let sides = 1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2);
            *y = 0.5 * *x * sides;
            *x = 0.5 * sides + *x * DENSITY * exp(-0.5 * *x * *x);
        }
    }
}

pub fn forward(input: &[f32], out: &mut [f32]) {
    input.par_chunks(SPAN).zip(out.par_chunks_mut(SPAN)).for_each(|(x, y)| forward_span(x, y));
}

/// Writes what `forward` does, and turns each value into the slope there: the factor of the gradient.
pub fn slope(values: &mut [f32], out: &mut [f32]) {
    values.par_chunks_mut(SPAN).zip(out.par_chunks_mut(SPAN)).for_each(|(x, y)| slope_span(x, y));
}
