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

    pub fn backward_span(input: &[f32], grad: &mut [f32]) {
        // The density of the standard normal distribution at 0.
        const DENSITY: f32 = 0.398_942_3;
        for (&x, g) in input.iter().zip(grad) {
            *g *= 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * DENSITY * exp(-0.5 * x * x);
        }
    }
}

pub fn forward(input: &[f32], out: &mut [f32]) {
    input.par_chunks(SPAN).zip(out.par_chunks_mut(SPAN)).for_each(|(x, y)| forward_span(x, y));
}

/// Turns the gradient of the result into that of the input.
pub fn backward(input: &[f32], grad: &mut [f32]) {
    input.par_chunks(SPAN).zip(grad.par_chunks_mut(SPAN)).for_each(|(x, g)| backward_span(x, g));
}
