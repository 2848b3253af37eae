//! Dropout, residual and LayerNorm in one pass over rows.

use super::dropout::Masks;
use super::simd::{dot, multiversion, sum_by};
use super::{ROWS, reduce};
use rayon::prelude::*;

/// Where a row stands: its place in the batch, and its token's position. Dropout is indexed by both.
pub type Place = (u32, u32);

/// Masks of the values that come in and of those that go out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dropping {
    pub before: Option<(Masks, u32)>,
    pub after: Option<(Masks, u32)>,
}

multiversion! {
    pub fn forward_row(unit: &mut [f32], scale: &[f32], shift: &[f32], epsilon: f32, out: &mut [f32]) -> f32 {
        let n = unit.len();
        let mean = sum_by(unit, |x| x) / n as f32;
        let variance = sum_by(unit, |x| (x - mean) * (x - mean)) / n as f32;
        let inverse = 1.0 / (variance + epsilon).sqrt();
        for (((u, out), scale), shift) in unit.iter_mut().zip(out).zip(scale).zip(shift) {
            *u = (*u - mean) * inverse;
            *out = *u * scale + shift;
        }
        inverse
    }

    pub fn output_row(unit: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
        for (((u, out), scale), shift) in unit.iter().zip(out).zip(scale).zip(shift) {
            *out = *u * scale + shift;
        }
    }

    pub fn backward_row(grad: &mut [f32], unit: &[f32], inverse: f32, scale: &[f32], scale_grad: &mut [f32], shift_grad: &mut [f32]) {
        for (((g, u), scale_grad), shift_grad) in grad.iter().zip(unit).zip(scale_grad).zip(shift_grad) {
            *scale_grad += g * u;
            *shift_grad += g;
        }
        for (g, scale) in grad.iter_mut().zip(scale) {
            *g *= scale;
        }
        let n = grad.len() as f32;
        let (mean, along) = (sum_by(grad, |x| x) / n, dot(grad, unit) / n);
        for (g, u) in grad.iter_mut().zip(unit) {
            *g = inverse * (*g - mean - u * along);
        }
    }
}

/// `out = after(LayerNorm(residual + before(values)))`. The values become rows with mean 0 and variance 1, before scale and
/// shift; gives 1 / standard deviation of each.
pub fn forward(
    values: &mut [f32],
    residual: Option<&[f32]>,
    [scale, shift]: [&[f32]; 2],
    epsilon: f32,
    places: &[Place],
    dropping: Dropping,
    out: &mut [f32],
) -> Vec<f32> {
    let width = scale.len();
    let mut inverse = vec![0.0; places.len()];
    values
        .par_chunks_mut(ROWS * width)
        .zip(out.par_chunks_mut(ROWS * width))
        .zip(inverse.par_chunks_mut(ROWS))
        .enumerate()
        .for_each(|(chunk, ((units, outs), inverses))| {
            for (i, ((unit, out), inverse)) in
                units.chunks_mut(width).zip(outs.chunks_mut(width)).zip(inverses).enumerate()
            {
                let row = chunk * ROWS + i;
                let (sequence, position) = places[row];
                let counter = position.wrapping_mul(width as u32);
                if let Some((masks, site)) = dropping.before {
                    masks.row(site, sequence).apply(unit, counter);
                }
                if let Some(residual) = residual {
                    reduce::add(unit, &residual[row * width..][..width]);
                }
                *inverse = forward_row(unit, scale, shift, epsilon, out);
                if let Some((masks, site)) = dropping.after {
                    masks.row(site, sequence).apply(out, counter);
                }
            }
        });
    inverse
}

/// What `forward` put out, from the rows that it left.
pub fn output(units: &[f32], [scale, shift]: [&[f32]; 2], places: &[Place], dropping: Dropping, out: &mut [f32]) {
    let width = scale.len();
    let chunks = units.par_chunks(ROWS * width).zip(out.par_chunks_mut(ROWS * width)).zip(places.par_chunks(ROWS));
    chunks.for_each(|((units, outs), places)| {
        for ((unit, out), (sequence, position)) in units.chunks(width).zip(outs.chunks_mut(width)).zip(places) {
            output_row(unit, scale, shift, out);
            if let Some((masks, site)) = dropping.after {
                masks.row(site, *sequence).apply(out, position.wrapping_mul(width as u32));
            }
        }
    });
}

/// Turns `grad`, the gradient of the result, into that of the residual; `branch` becomes that of the input.
pub fn backward(
    grad: &mut [f32],
    branch: Option<&mut [f32]>,
    (units, inverse): (&[f32], &[f32]),
    scale: &[f32],
    [scale_grad, shift_grad]: [&mut [f32]; 2],
    places: &[Place],
    dropping: Dropping,
) {
    let width = scale.len();
    let parts: Vec<[Vec<f32>; 2]> = grad
        .par_chunks_mut(ROWS * width)
        .enumerate()
        .map(|(chunk, grads)| {
            let mut sums = [vec![0.0; width], vec![0.0; width]];
            for (i, grad) in grads.chunks_mut(width).enumerate() {
                let row = chunk * ROWS + i;
                let (sequence, position) = places[row];
                if let Some((masks, site)) = dropping.after {
                    masks.row(site, sequence).apply(grad, position.wrapping_mul(width as u32));
                }
                let [scale_sum, shift_sum] = &mut sums;
                let unit = &units[row * width..][..width];
                backward_row(grad, unit, inverse[row], scale, scale_sum, shift_sum);
            }
            sums
        })
        .collect();
    scale_grad.fill(0.0);
    shift_grad.fill(0.0);
    for [scale_sum, shift_sum] in &parts {
        reduce::add(scale_grad, scale_sum);
        reduce::add(shift_grad, shift_sum);
    }
    let Some(branch) = branch else { return };
    branch.par_chunks_mut(ROWS * width).zip(grad.par_chunks(ROWS * width)).enumerate().for_each(
        |(chunk, (branches, grads))| {
            for (i, (branch, grad)) in branches.chunks_mut(width).zip(grads.chunks(width)).enumerate() {
                let (sequence, position) = places[chunk * ROWS + i];
                match dropping.before {
                    Some((masks, site)) => {
                        masks.row(site, sequence).write(grad, position.wrapping_mul(width as u32), branch);
                    }
                    None => branch.copy_from_slice(grad),
                }
            }
        },
    );
}
