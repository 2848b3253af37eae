//! The matrix product by tiles: both sides are packed into strips, so that a tile of the result stays in vector registers.
//!
//! Each number of the result is the sum over a slice of the depth, in order and with fused multiply-add; the slices are
//! added in order. So its bits depend neither on where its tile lies nor on the threads, and they are those of the crate
//! that multiplies where there are no such instructions, were it to use them.

use super::matmul::Mat;
use rayon::prelude::*;
use std::arch::x86_64::{
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};
use std::cell::{Cell, RefCell};
use std::ops::Range;

/// Columns whose strips of `b`, one slice deep, fit the second-level cache beside a block of `a`.
const NEAR: usize = 512;
/// Strips of `a` in a block: fewer where that leaves a thread idle.
const STRIPS: usize = 8;

/// Adds the product of a strip of `a` and a strip of `b` to `keep` times the tile, whose first number `out` begins with;
/// its rows are `stride` apart, and it has so many rows and columns.
///
/// # Safety
///
/// The processor has the instructions that the function is compiled for.
pub type Tile = unsafe fn(a: &[f32], b: &[f32], out: &mut [f32], stride: usize, size: (usize, usize), keep: f32);

thread_local! {
    /// Room for strips, kept from product to product: what takes it leaves none for a product that runs in between.
    static SHARED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static OWN: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `out = a * b + keep * out` on all threads of the current pool, in tiles of `ROWS` x `COLS`, slices `depth` deep.
///
/// # Safety
///
/// The processor has the instructions that `tile` is compiled for.
pub unsafe fn matmul<const ROWS: usize, const COLS: usize>(
    tile: Tile,
    depth: usize,
    (a, b): (Mat<'_>, Mat<'_>),
    keep: f32,
    out: &mut [f32],
) {
    let (m, n, threads) = (a.rows, b.cols, rayon::current_num_threads());
    let panels = n.div_ceil(COLS);
    let strips = m.div_ceil(ROWS).div_ceil(4 * threads).clamp(1, STRIPS);
    let together = panels.div_ceil(2 * threads);
    let mut shared = SHARED.take();
    shared.resize(panels * COLS * depth.min(a.cols), 0.0);
    for start in (0..a.cols).step_by(depth) {
        let slice = start..(start + depth).min(a.cols);
        let (deep, keep) = (slice.len(), if start == 0 { keep } else { 1.0 });
        let shared = &mut shared[..panels * COLS * deep];
        shared.par_chunks_mut(together * COLS * deep).enumerate().for_each(|(i, to)| {
            pack::<COLS>(b.transposed(), i * together * COLS, slice.clone(), to);
        });
        let shared = &*shared;
        out.par_chunks_mut(strips * ROWS * n).enumerate().for_each(|(i, out)| {
            OWN.with_borrow_mut(|own| {
                let rows = out.len() / n;
                own.resize(rows.div_ceil(ROWS) * ROWS * deep, 0.0);
                pack::<ROWS>(a, i * strips * ROWS, slice.clone(), own);
                for near in (0..n).step_by(NEAR) {
                    for (a, row) in own.chunks_exact(ROWS * deep).zip((0..).step_by(ROWS)) {
                        for col in (near..(near + NEAR).min(n)).step_by(COLS) {
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
    SHARED.set(shared);
}

/// Packs rows of a matrix from `first` on into strips of `WIDTH`: for each column of the slice the numbers of the strip's
/// rows. What lies past the last row stays unsaid; no tile keeps it.
fn pack<const WIDTH: usize>(from: Mat<'_>, first: usize, slice: Range<usize>, to: &mut [f32]) {
    for (strip, first) in to.chunks_exact_mut(WIDTH * slice.len()).zip((first..).step_by(WIDTH)) {
        let rows = WIDTH.min(from.rows - first);
        if from.row_stride == 1 {
            for (to, column) in strip.chunks_exact_mut(WIDTH).zip(slice.clone()) {
                let at = first + column * from.col_stride;
                to[..rows].copy_from_slice(&from.data[at..at + rows]);
            }
        } else {
            assert_eq!(from.col_stride, 1, "a matrix is contiguous one way");
            // Past the last row the last is read again: whole strips are copied without a test in the loop.
            let lines: [&[f32]; WIDTH] = std::array::from_fn(|i| {
                let at = (first + i.min(rows - 1)) * from.row_stride + slice.start;
                &from.data[at..at + slice.len()]
            });
            for (k, to) in strip.chunks_exact_mut(WIDTH).enumerate() {
                for (to, line) in to.iter_mut().zip(&lines) {
                    *to = line[k];
                }
            }
        }
    }
}

/// Writes a tile's line: `out = line + keep * out`, what was there not read where nothing of it is kept.
#[inline(always)]
fn write(line: &[f32], out: &mut [f32], keep: f32) {
    if keep == 0.0 {
        out.copy_from_slice(line);
    } else {
        out.iter_mut().zip(line).for_each(|(out, sum)| *out = keep.mul_add(*out, *sum));
    }
}

/// Tiles of 14 x 32: 28 sums, two parts of `b` and one number of `a` in 31 of 32 registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn avx512(a: &[f32], b: &[f32], out: &mut [f32], stride: usize, (rows, cols): (usize, usize), keep: f32) {
    let mut sums = [[_mm512_setzero_ps(); 2]; 14];
    for (a, b) in a.as_chunks::<14>().0.iter().zip(b.as_chunks::<32>().0) {
        // SAFETY: two reads of 16 numbers, of an array of 32.
        let b = unsafe { [_mm512_loadu_ps(b.as_ptr()), _mm512_loadu_ps(b.as_ptr().add(16))] };
        for i in 0..14 {
            let a = _mm512_set1_ps(a[i]);
            sums[i] = [_mm512_fmadd_ps(a, b[0], sums[i][0]), _mm512_fmadd_ps(a, b[1], sums[i][1])];
        }
    }
    let mut line = [0.0_f32; 32];
    for (sums, out) in sums.iter().zip(out.chunks_mut(stride)).take(rows) {
        // SAFETY: two writes of 16 numbers, into an array of 32.
        unsafe {
            _mm512_storeu_ps(line.as_mut_ptr(), sums[0]);
            _mm512_storeu_ps(line.as_mut_ptr().add(16), sums[1]);
        }
        write(&line[..cols], &mut out[..cols], keep);
    }
}

/// Tiles of 6 x 16: 12 sums, two parts of `b` and one number of `a` in 15 of 16 registers.
#[target_feature(enable = "avx2,fma")]
pub fn avx2(a: &[f32], b: &[f32], out: &mut [f32], stride: usize, (rows, cols): (usize, usize), keep: f32) {
    let mut sums = [[_mm256_setzero_ps(); 2]; 6];
    for (a, b) in a.as_chunks::<6>().0.iter().zip(b.as_chunks::<16>().0) {
        // SAFETY: two reads of 8 numbers, of an array of 16.
        let b = unsafe { [_mm256_loadu_ps(b.as_ptr()), _mm256_loadu_ps(b.as_ptr().add(8))] };
        for i in 0..6 {
            let a = _mm256_set1_ps(a[i]);
            sums[i] = [_mm256_fmadd_ps(a, b[0], sums[i][0]), _mm256_fmadd_ps(a, b[1], sums[i][1])];
        }
    }
    let mut line = [0.0_f32; 16];
    for (sums, out) in sums.iter().zip(out.chunks_mut(stride)).take(rows) {
        // SAFETY: two writes of 8 numbers, into an array of 16.
        unsafe {
            _mm256_storeu_ps(line.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(line.as_mut_ptr().add(8), sums[1]);
        }
        write(&line[..cols], &mut out[..cols], keep);
    }
}
