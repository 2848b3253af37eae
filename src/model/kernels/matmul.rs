//! The matrix product, behind one function.
//!
//! Large products are made by our own tiles where the processor has fused multiply-add, and all of rounded numbers; small
//! ones, and those in single precision on other processors, by a crate. That splits a deep product by the cache sizes that it finds, and reads environment variables.
//! Neither may change our bytes: depth is cut here into slices that fit any cache, the switches are pinned, and each block
//! of the result is one single-threaded call, its shape decided by the shape of the product alone.

#[cfg(target_arch = "x86_64")]
use super::simd::{self, Level, level};
use super::tiles::{self, Pair};
use crate::model::Precision;
use gemmkit::{MatMut, MatRef, Parallelism, tuning};
use rayon::prelude::*;
use std::sync::Once;

/// Depth of one call: one panel for the crate, whatever the caches.
const DEPTH: usize = 256;

/// A matrix somewhere in a slice.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Rows end to end.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows `stride` apart, the first at the start of `data`.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(rows == 0 || data.len() >= (rows - 1) * stride + cols, "a matrix lies within its slice");
        Self { data, rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// Rows and columns exchanged, nothing copied.
    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn part(self, rows: std::ops::Range<usize>, cols: std::ops::Range<usize>) -> MatRef<'a, f32> {
        let start = rows.start * self.row_stride + cols.start * self.col_stride;
        MatRef::new(&self.data[start..], rows.len(), cols.len(), self.row_stride as isize, self.col_stride as isize)
    }
}

/// What a product is added to.
#[derive(Debug, Clone, Copy)]
pub enum Onto<'a> {
    Nothing,
    /// What `out` holds.
    Out,
    /// The same row for every row of `out`.
    Row(&'a [f32]),
}

impl Onto<'_> {
    /// The part that begins at a column.
    pub(super) fn from(self, column: usize) -> Self {
        match self {
            Onto::Row(row) => Onto::Row(&row[column..]),
            other => other,
        }
    }
}

/// `out = scale * a * b` on the calling thread; the rows of `out` are `stride` apart.
pub fn product(scale: f32, a: Mat<'_>, b: Mat<'_>, out: &mut [f32], stride: usize) {
    assert_eq!(a.cols, b.rows, "inner sizes agree");
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    // A row times columns that lie side by side: the other way round, nothing large is turned.
    let (sides, stride) =
        if a.rows == 1 && b.row_stride == 1 { ((b.transposed(), a.transposed()), 1) } else { ((a, b), stride) };
    #[cfg(target_arch = "x86_64")]
    match level() {
        Level::Avx512 => {
            // SAFETY: `level` saw every feature that the tile is compiled for on this processor.
            return unsafe { tiles::product::<8, 48>(tiles::singles_avx512::<false>, scale, sides, out, stride) };
        }
        Level::Avx2 => {
            // SAFETY: as above.
            return unsafe { tiles::product::<6, 16>(tiles::singles_avx2::<false>, scale, sides, out, stride) };
        }
        Level::Portable => {}
    }
    by_crate(scale, sides, 0.0, out, stride);
}

/// `out = scale * a * b + keep * out` by the crate.
fn by_crate(scale: f32, (a, b): (Mat<'_>, Mat<'_>), mut keep: f32, out: &mut [f32], stride: usize) {
    pin();
    for start in (0..a.cols).step_by(DEPTH) {
        let depth = start..(start + DEPTH).min(a.cols);
        gemmkit::gemm(
            scale,
            a.part(0..a.rows, depth.clone()),
            b.part(depth, 0..b.cols),
            keep,
            MatMut::new(out, a.rows, b.cols, stride as isize, 1),
            Parallelism::Serial,
        );
        keep = 1.0;
    }
}

/// `out = a * b` added to `onto`, on all threads of the current pool; the rows of `out` lie end to end.
pub fn matmul(precision: Precision, a: Mat<'_>, b: Mat<'_>, onto: Onto<'_>, out: &mut [f32]) {
    let (m, n) = (a.rows, b.cols);
    assert_eq!(a.cols, b.rows, "inner sizes agree");
    assert_eq!(out.len(), m * n, "the result has its shape");
    if let Onto::Row(row) = onto {
        assert_eq!(row.len(), n, "the row has the result's columns");
    }
    if m == 0 || n == 0 {
        return;
    }
    match precision {
        Precision::F32 => singles((a, b), onto, out),
        Precision::Bf16 => pairs((a, b), onto, out),
    }
}

fn singles(sides: (Mat<'_>, Mat<'_>), onto: Onto<'_>, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    match level() {
        Level::Avx512 => {
            // SAFETY: `level` saw every feature that the tile is compiled for on this processor.
            return unsafe { tiles::matmul::<_, 8, 48>(tiles::singles_avx512::<true>, sides, onto, out) };
        }
        // SAFETY: as above.
        Level::Avx2 => return unsafe { tiles::matmul::<_, 6, 16>(tiles::singles_avx2::<true>, sides, onto, out) },
        Level::Portable => {}
    }
    blocks(sides, onto, out);
}

fn pairs(sides: (Mat<'_>, Mat<'_>), onto: Onto<'_>, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    match level() {
        Level::Avx512 if simd::gains_by_bf16() => {
            // SAFETY: this processor has every feature that the tile is compiled for.
            return unsafe { tiles::matmul::<_, 8, 48>(tiles::pairs_avx512bf16::<true>, sides, onto, out) };
        }
        // SAFETY: as above.
        Level::Avx512 => return unsafe { tiles::matmul::<_, 6, 48>(tiles::pairs_avx512::<true>, sides, onto, out) },
        // SAFETY: as above.
        Level::Avx2 => return unsafe { tiles::matmul::<_, 4, 16>(tiles::pairs_avx2::<true>, sides, onto, out) },
        Level::Portable => {}
    }
    portable_pairs(sides, onto, out);
}

fn portable_pairs(sides: (Mat<'_>, Mat<'_>), onto: Onto<'_>, out: &mut [f32]) {
    // SAFETY: the tile is compiled for any processor.
    unsafe { tiles::matmul::<Pair, 4, 8>(tiles::pairs_portable, sides, onto, out) }
}

/// Single precision by the crate alone, for processors that the tiles are not made for.
fn blocks((a, b): (Mat<'_>, Mat<'_>), onto: Onto<'_>, out: &mut [f32]) {
    let (m, n) = (a.rows, b.cols);
    // About eight blocks or more, whole tiles of the kernel (12 rows) each: a function of the shape alone.
    let rows = (m.div_ceil(8).div_ceil(24) * 24).clamp(24, 192);
    out.par_chunks_mut(rows * n).enumerate().for_each(|(i, out)| {
        let first = i * rows;
        let count = out.len() / n;
        if let Onto::Row(row) = onto {
            out.chunks_mut(n).for_each(|out| out.copy_from_slice(row));
        }
        let keep = if matches!(onto, Onto::Nothing) { 0.0 } else { 1.0 };
        let block = Mat { data: &a.data[first * a.row_stride..], rows: count, ..a };
        by_crate(1.0, (block, b), keep, out, n);
    });
}

/// Fixes every switch of the crate that could change the order of a sum.
fn pin() {
    static PINNED: Once = Once::new();
    PINNED.call_once(|| {
        tuning::set_kc(DEPTH);
        tuning::set_kc_min(DEPTH);
        tuning::set_gemv_threshold(0);
        tuning::set_small_k_threshold(16);
        tuning::set_small_mn_dim(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 504.0).collect()
    }

    #[test]
    fn odd_shapes_and_transposes_equal_the_plain_sum() {
        for (m, k, n) in [(1, 1, 1), (5, 3, 7), (37, 300, 13), (110, 32, 110), (200, 700, 33), (1, 64, 96), (96, 64, 1)]
        {
            let (a, b) = (numbers(m * k), numbers(k * n));
            let exact =
                |i: usize, j: usize| -> f64 { (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum() };
            let transposed: Vec<f32> = (0..m * k).map(|i| a[i % m * k + i / m]).collect();
            let mut out = vec![f32::NAN; m * n];
            matmul(Precision::F32, Mat::new(&a, m, k), Mat::new(&b, k, n), Onto::Nothing, &mut out);
            let mut again = vec![1.0; m * n];
            matmul(Precision::F32, Mat::new(&transposed, k, m).transposed(), Mat::new(&b, k, n), Onto::Out, &mut again);
            for i in 0..m * n {
                let exact = exact(i / n, i % n);
                assert!((f64::from(out[i]) - exact).abs() < 1e-4, "{m}x{k}x{n} at {i}: {} {exact}", out[i]);
                assert!((f64::from(again[i]) - 1.0 - exact).abs() < 1e-4);
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn every_instruction_set_gives_the_same_bits() {
        if level() == Level::Portable {
            eprintln!("skipped: this processor has no fused multiply-add");
            return;
        }
        // Edges of tiles, strips, slices and blocks, one less and one more; then shapes of models.
        let sizes = [1, 2, 5, 6, 7, 8, 9, 15, 16, 17, 31, 47, 48, 49, 95, 96, 97];
        let depths = [1, 2, 15, 16, 17, 31, 33, 255, 256, 257, 511, 513, 600];
        let small = sizes.iter().flat_map(|m| sizes.iter().map(move |n| (*m, *n)));
        let shapes = small.enumerate().map(|(i, (m, n))| (m, depths[i % depths.len()], n));
        let large = [(700, 128, 512), (128, 700, 512), (301, 96, 1030), (1030, 300, 1), (9, 1700, 1030)];
        for (m, k, n) in shapes.chain(large) {
            let (a, b, before) = (numbers(m * k), numbers(k * n), numbers(m * n));
            let row = numbers(n);
            let (none, out, row) = (Onto::Nothing, Onto::Out, Onto::Row(&row));
            for (across_a, across_b, onto) in
                [(false, false, none), (false, true, out), (true, false, row), (true, true, out), (false, true, row)]
            {
                let side = |data, rows, cols, across| match across {
                    true => Mat::new(data, cols, rows).transposed(),
                    false => Mat::new(data, rows, cols),
                };
                let sides = (side(&a, m, k, across_a), side(&b, k, n, across_b));
                let with = |product: &dyn Fn(&mut [f32])| {
                    let mut out = before.clone();
                    product(&mut out);
                    out
                };
                let at = format!("{m}x{k}x{n}, transposed {across_a} {across_b}");
                let crates = with(&|out| blocks(sides, onto, out));
                let portable = with(&|out| portable_pairs(sides, onto, out));
                // SAFETY: every feature of a tile was seen on this processor.
                unsafe {
                    let two = with(&|out| tiles::matmul::<_, 6, 16>(tiles::singles_avx2::<true>, sides, onto, out));
                    assert!(two == crates, "AVX2, {at}");
                    let two = with(&|out| tiles::matmul::<_, 4, 16>(tiles::pairs_avx2::<true>, sides, onto, out));
                    assert!(two == portable, "AVX2 in pairs, {at}");
                    if level() == Level::Avx512 {
                        let five =
                            with(&|out| tiles::matmul::<_, 8, 48>(tiles::singles_avx512::<true>, sides, onto, out));
                        assert!(five == crates, "AVX-512, {at}");
                        let five =
                            with(&|out| tiles::matmul::<_, 6, 48>(tiles::pairs_avx512::<true>, sides, onto, out));
                        assert!(five == portable, "AVX-512 in pairs, {at}");
                    }
                    if level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16") {
                        let own =
                            with(&|out| tiles::matmul::<_, 8, 48>(tiles::pairs_avx512bf16::<true>, sides, onto, out));
                        assert!(own == portable, "AVX512_BF16, {at}");
                    }
                }
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn small_products_have_the_same_bits_and_leave_their_neighbours_alone() {
        if level() == Level::Portable {
            eprintln!("skipped: this processor has no fused multiply-add");
            return;
        }
        // Queries, keys and columns of a head; a head lies between others, as in a model.
        for (queries, keys, width) in [
            (1, 1, 1),
            (1, 110, 32),
            (5, 5, 7),
            (8, 16, 48),
            (9, 49, 3),
            (110, 110, 32),
            (110, 110, 64),
            (127, 128, 65),
            (33, 300, 5),
        ] {
            let stride = 3 * width + 1;
            let (q, k) = (numbers(queries * stride), numbers(keys * stride + 5));
            let scores = numbers(queries * keys);
            let q = Mat::strided(&q[width..], queries, width, stride);
            let k = Mat::strided(&k[width + 1..], keys, width, stride);
            let scores = Mat::new(&scores, queries, keys);
            let products = [(q, k.transposed()), (scores, k), (scores.transposed(), q), (q.transposed(), scores)];
            for (i, sides) in products.into_iter().enumerate() {
                let (rows, cols) = (sides.0.rows, sides.1.cols);
                let with = |product: &dyn Fn(&mut [f32], usize)| {
                    let mut out = vec![7.0; rows * (cols + 3)];
                    product(&mut out, cols + 3);
                    assert!(out.chunks(cols + 3).all(|row| row[cols..].iter().all(|x| *x == 7.0)));
                    out
                };
                let at = format!("product {i} of {queries}x{keys}x{width}");
                // One slice deep: a deeper sum is scaled slice by slice on both sides, in another order of rounding.
                let scale = if sides.0.cols > DEPTH { 1.0 } else { 0.3 };
                let crates = with(&|out, stride| by_crate(scale, sides, 0.0, out, stride));
                // SAFETY: every feature of a tile was seen on this processor.
                unsafe {
                    let avx2 = tiles::singles_avx2::<false>;
                    let two = with(&|out, stride| tiles::product::<6, 16>(avx2, scale, sides, out, stride));
                    assert!(two == crates, "AVX2, {at}");
                    if level() == Level::Avx512 {
                        let avx512 = tiles::singles_avx512::<false>;
                        let five = with(&|out, stride| tiles::product::<8, 48>(avx512, scale, sides, out, stride));
                        assert!(five == crates, "AVX-512, {at}");
                    }
                }
                // A single row goes the other way round; its neighbours are the rows of the turned result.
                if rows > 1 {
                    assert!(with(&|out, stride| product(scale, sides.0, sides.1, out, stride)) == crates, "{at}");
                }
                let mut out = vec![7.0; rows * cols];
                product(scale, sides.0, sides.1, &mut out, cols);
                let dense = crates.chunks(cols + 3).flat_map(|row| &row[..cols]);
                assert!(out.iter().eq(dense), "{at}, dense");
            }
        }
    }

    #[test]
    fn rounded_products_are_those_of_rounded_numbers() {
        let (m, k, n) = (19, 1031, 50);
        let (a, b) = (numbers(m * k), numbers(k * n));
        let round = |x: f32| f64::from(Pair::new(x, 0.0).split()[0]);
        let mut out = vec![1.0; m * n];
        matmul(Precision::Bf16, Mat::new(&a, m, k), Mat::new(&b, k, n), Onto::Out, &mut out);
        for (i, out) in out.iter().enumerate() {
            let exact: f64 = (0..k).map(|l| round(a[i / n * k + l]) * round(b[l * n + i % n])).sum();
            assert!((f64::from(*out) - 1.0 - exact).abs() < 1e-3, "{i}: {out} {exact}");
        }
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        let (m, k, n) = (301, 1000, 77);
        let (a, b) = (numbers(m * k), numbers(k * n));
        let with = |precision, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            let mut out = vec![0.0; m * n];
            pool.install(|| matmul(precision, Mat::new(&a, m, k), Mat::new(&b, k, n), Onto::Nothing, &mut out));
            out
        };
        for precision in [Precision::F32, Precision::Bf16] {
            let one = with(precision, 1);
            assert!(one == with(precision, 2) && one == with(precision, 3));
        }
    }
}
