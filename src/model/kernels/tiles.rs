//! The matrix product by tiles: both sides are packed into strips, so that a tile of the result stays in vector registers.
//!
//! Each number of the result is the sum over a slice of the depth, in order and with fused multiply-add; the slices are
//! added in order. So its bits depend neither on where its tile lies nor on its size nor on the threads, and in single
//! precision they are those of the crate that multiplies where there are no such instructions, were it to use them.

mod registers;
mod strips;

use super::matmul::{Mat, Onto};
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

/// The left side of a tile: element `k` of row `i` is at `i * row + k * step`, or that of a strip.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a, E> {
    pub data: &'a [E],
    pub row: usize,
    pub step: usize,
}

/// Writes `scale` times the product of rows of `a` and a strip of `b`, added to `onto`; the first number of the tile is that of
/// `out`, its rows are `stride` apart, and it has so many rows and columns.
///
/// # Safety
///
/// The processor has the instructions that the function is compiled for.
pub type Tile<E> =
    unsafe fn(Side<'_, E>, b: &[E], out: &mut [f32], stride: usize, (usize, usize), scale: f32, Onto<'_>);

/// Bytes of `b` that are packed at a time, about: several slices of a small one, as threads wait for each other in between.
const SHARED: usize = 4 << 20;

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

/// `out = a * b` added to `onto`, on all threads of the current pool, in tiles of `ROWS` x `COLS`.
///
/// # Safety
///
/// The processor has the instructions that `tile` is compiled for.
pub unsafe fn matmul<E: Element, const ROWS: usize, const COLS: usize>(
    tile: Tile<E>,
    (a, b): (Mat<'_>, Mat<'_>),
    onto: Onto<'_>,
    out: &mut [f32],
) {
    let (m, n, threads) = (a.rows, b.cols, rayon::current_num_threads());
    let room: &'static LocalKey<Room<E>> = E::room();
    let depth = DEPTH / size_of::<E>() * E::NUMBERS;
    let panels = n.div_ceil(COLS);
    let strips = m.div_ceil(ROWS).div_ceil(4 * threads).clamp(1, BLOCK / ROWS);
    let together = panels.div_ceil(2 * threads);
    // Elements of `b` in a slice, and numbers along the depth of as many slices as are packed at a time.
    let full = panels * COLS * (DEPTH / size_of::<E>());
    let stage = depth * (SHARED / size_of::<E>() / full).max(1);
    let mut shared = room.with(|room| room.shared.take());
    shared.resize(panels * COLS * stage.min(a.cols).div_ceil(E::NUMBERS), E::default());
    for start in (0..a.cols).step_by(stage) {
        let end = (start + stage).min(a.cols);
        let slices = || (start..end).step_by(depth).map(|start| start..(start + depth).min(end));
        let shared = &mut shared[..panels * COLS * (end - start).div_ceil(E::NUMBERS)];
        shared.par_chunks_mut(full).zip(slices().collect::<Vec<_>>()).for_each(|(to, slice)| {
            let deep = slice.len().div_ceil(E::NUMBERS);
            to.par_chunks_mut(together * COLS * deep).enumerate().for_each(|(i, to)| {
                strips::pack::<E, COLS>(b.transposed(), i * together * COLS, slice.clone(), to);
            });
        });
        let shared = &*shared;
        out.par_chunks_mut(strips * ROWS * n).enumerate().for_each(|(i, out)| {
            room.with(|room| {
                let mut own = room.own.borrow_mut();
                let rows = out.len() / n;
                for (shared, slice) in shared.chunks(full).zip(slices()) {
                    let onto = if slice.start == 0 { onto } else { Onto::Out };
                    let deep = slice.len().div_ceil(E::NUMBERS);
                    own.resize(rows.div_ceil(ROWS) * ROWS * deep, E::default());
                    strips::pack::<E, ROWS>(a, i * strips * ROWS, slice, &mut own);
                    let near = NEAR / COLS * COLS;
                    for first in (0..n).step_by(near) {
                        for (a, row) in own.chunks_exact(ROWS * deep).zip((0..).step_by(ROWS)) {
                            for col in (first..(first + near).min(n)).step_by(COLS) {
                                let a = Side { data: a, row: 1, step: ROWS };
                                let b = &shared[col * deep..(col + COLS) * deep];
                                let size = (ROWS.min(rows - row), COLS.min(n - col));
                                // SAFETY: our caller's promise.
                                unsafe { tile(a, b, &mut out[row * n + col..], n, size, 1.0, onto.from(col)) };
                            }
                        }
                    }
                }
            });
        });
    }
    room.with(|room| room.shared.set(shared));
}

/// `out = scale * a * b` on the calling thread; the rows of `out` are `stride` apart. Rows of `a` are read where they are: for
/// products so small that packing them would take longer.
///
/// # Safety
///
/// The processor has the instructions that `tile` is compiled for.
pub unsafe fn product<const ROWS: usize, const COLS: usize>(
    tile: Tile<f32>,
    scale: f32,
    (a, b): (Mat<'_>, Mat<'_>),
    out: &mut [f32],
    stride: usize,
) {
    let (m, n) = (a.rows, b.cols);
    f32::room().with(|room| {
        let mut strips = room.own.borrow_mut();
        for start in (0..a.cols).step_by(DEPTH / size_of::<f32>()) {
            let slice = start..(start + DEPTH / size_of::<f32>()).min(a.cols);
            let onto = if start == 0 { Onto::Nothing } else { Onto::Out };
            strips.resize(n.div_ceil(COLS) * COLS * slice.len(), 0.0);
            strips::pack::<f32, COLS>(b.transposed(), 0, slice.clone(), &mut strips);
            for (b, col) in strips.chunks_exact(COLS * slice.len()).zip((0..).step_by(COLS)) {
                for row in (0..m).step_by(ROWS) {
                    let from = row * a.row_stride + start * a.col_stride;
                    let a = Side { data: &a.data[from..], row: a.row_stride, step: a.col_stride };
                    let size = (ROWS.min(m - row), COLS.min(n - col));
                    // SAFETY: our caller's promise.
                    unsafe { tile(a, b, &mut out[row * stride + col..], stride, size, scale, onto) };
                }
            }
        }
    });
}
