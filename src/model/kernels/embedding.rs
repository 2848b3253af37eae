//! Word, position and type embeddings.

use super::norm::Place;
use super::{ROWS, reduce};
use rayon::prelude::*;

/// The sum of a token's word, its position and type 0.
pub fn forward(ids: &[u8], places: &[Place], [words, positions, types]: [&[f32]; 3], width: usize, out: &mut [f32]) {
    out.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, outs)| {
        for (i, out) in outs.chunks_mut(width).enumerate() {
            let token = chunk * ROWS + i;
            out.copy_from_slice(&words[usize::from(ids[token]) * width..][..width]);
            // Type before position: the order in which the published model adds them.
            reduce::add(out, &types[..width]);
            reduce::add(out, &positions[places[token].1 as usize * width..][..width]);
        }
    });
}

/// Writes the gradients of the three tables; the padding word's row and type 1's stay 0.
pub fn backward(
    grad: &[f32],
    ids: &[u8],
    starts: &[usize],
    [words, positions, types]: [&mut [f32]; 3],
    width: usize,
    padding: Option<usize>,
) {
    types.fill(0.0);
    reduce::add_columns(grad, &mut types[..width]);
    // One task for each position: sequences are added in their order.
    positions.par_chunks_mut(width).enumerate().for_each(|(position, out)| {
        out.fill(0.0);
        for row in starts.windows(2) {
            if row[0] + position < row[1] {
                reduce::add(out, &grad[(row[0] + position) * width..][..width]);
            }
        }
    });
    // One task for each word: tokens are added in their order.
    words.par_chunks_mut(width).enumerate().for_each(|(word, out)| {
        out.fill(0.0);
        if Some(word) == padding || word > usize::from(u8::MAX) {
            return;
        }
        for (token, _) in ids.iter().enumerate().filter(|(_, id)| usize::from(**id) == word) {
            reduce::add(out, &grad[token * width..][..width]);
        }
    });
}
