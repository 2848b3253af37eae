//! The matrix product by tiles: both sides are packed into strips, so that a tile of the result stays in vector registers.
//!
//! Each number of the result is the sum over a slice of the depth, in order and with fused multiply-add; the slices are
//! added in order. So its bits depend neither on where its tile lies nor on its size nor on the threads, and in single
//! precision they are those of the crate that multiplies where there are no such instructions, were it to use them.

mod registers;
mod strips;

use super::matmul::Mat;
use rayon::prelude::*;
use std::cell::{Cell, RefCell};
use std::thread::LocalKey;

pub use registers::*;
pub use strips::{Element, Pair};

/// Columns whose strips of `b`, one slice deep, fit the second-level cache beside a block of `a`.
const NEAR: usize = 512;
/// Rows in a block, about: fewer where that leaves a thread idle.
const BLOCK: usize = 112;
/// Bytes of one column of a slice.
const DEPTH: usize = 1024;

/// Adds the product of a strip of `a` and a strip of `b` to `keep` times the tile, whose first number `out` begins with;
/// its rows are `stride` apart, and it has so many rows and columns.
///
/// # Safety
///
/// The processor has the instructions that the function is compiled for.
pub type Tile<E> = unsafe fn(a: &[E], b: &[E], out: &mut [f32], stride: usize, size: (usize, usize), keep: f32);

/// Room for strips, kept from product to product: what takes it leaves none for a product that runs in between.
pub struct Room<E> {
    shared: Cell<Vec<E>>,
    own: RefCell<Vec<E>>,
}

impl<E> Room<E> {
    pub const fn new() -> Self {
        Self { shared: Cell::new(Vec::new()), own: RefCell::new(Vec::new()) }
    }
}

/// `out = a * b + keep * out` on all threads of the current pool, in tiles of `ROWS` x `COLS`.
///
/// # Safety
///
/// The processor has the instructions that `tile` is compiled for.
pub unsafe fn matmul<E: Element, const ROWS: usize, const COLS: usize>(
    tile: Tile<E>,
    (a, b): (Mat<'_>, Mat<'_>),
    keep: f32,
    out: &mut [f32],
) {
    let (m, n, threads) = (a.rows, b.cols, rayon::current_num_threads());
    let room: &'static LocalKey<Room<E>> = E::room();
    let depth = DEPTH / size_of::<E>() * E::NUMBERS;
    let panels = n.div_ceil(COLS);
    let strips = m.div_ceil(ROWS).div_ceil(4 * threads).clamp(1, BLOCK / ROWS);
    let together = panels.div_ceil(2 * threads);
    let mut shared = room.with(|room| room.shared.take());
    shared.resize(panels * COLS * depth.min(a.cols).div_ceil(E::NUMBERS), E::default());
    for start in (0..a.cols).step_by(depth) {
        let slice = start..(start + depth).min(a.cols);
        let (deep, keep) = (slice.len().div_ceil(E::NUMBERS), if start == 0 { keep } else { 1.0 });
        let shared = &mut shared[..panels * COLS * deep];
        shared.par_chunks_mut(together * COLS * deep).enumerate().for_each(|(i, to)| {
            strips::pack::<E, COLS>(b.transposed(), i * together * COLS, slice.clone(), to);
        });
        let shared = &*shared;
        out.par_chunks_mut(strips * ROWS * n).enumerate().for_each(|(i, out)| {
            room.with(|room| {
                let mut own = room.own.borrow_mut();
                let rows = out.len() / n;
                own.resize(rows.div_ceil(ROWS) * ROWS * deep, E::default());
                strips::pack::<E, ROWS>(a, i * strips * ROWS, slice.clone(), &mut own);
                let near = NEAR / COLS * COLS;
                for first in (0..n).step_by(near) {
                    for (a, row) in own.chunks_exact(ROWS * deep).zip((0..).step_by(ROWS)) {
                        for col in (first..(first + near).min(n)).step_by(COLS) {
                            let (b, size) =
                                (&shared[col * deep..(col + COLS) * deep], (ROWS.min(rows - row), COLS.min(n - col)));
                            // SAFETY: our caller's promise.
                            unsafe { tile(a, b, &mut out[row * n + col..], n, size, keep) };
                        }
                    }
                }
            });
        });
    }
    room.with(|room| room.shared.set(shared));
}
