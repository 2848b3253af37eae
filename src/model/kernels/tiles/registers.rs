//! Tiles in vector registers, for each instruction set: in single precision, and for pairs of bfloat16.
//!
//! A pair is multiplied as the processor's own instruction does it (VDPBF16PS: the high halves, then the low, each fused
//! with its addition), so all processors give the same bits, but for numbers below 2^-126: that instruction takes them for zero.

use super::{Onto, Pair, Side};
use std::array::from_fn;

/// Writes one row of a tile.
#[inline(always)]
fn write(sums: &[f32], out: &mut [f32], scale: f32, onto: Onto<'_>) {
    match onto {
        Onto::Nothing => out.iter_mut().zip(sums).for_each(|(out, sum)| *out = scale * sum),
        Onto::Out => out.iter_mut().zip(sums).for_each(|(out, sum)| *out = scale.mul_add(*sum, *out)),
        Onto::Row(row) => {
            out.iter_mut().zip(sums).zip(row).for_each(|((out, sum), row)| *out = scale.mul_add(*sum, *row))
        }
    }
}

/// Tiles without the processor's vector instructions: the compiler finds what there is.
pub fn pairs_portable(
    a: Side<'_, Pair>,
    b: &[Pair],
    out: &mut [f32],
    stride: usize,
    (rows, cols): (usize, usize),
    scale: f32,
    onto: Onto<'_>,
) {
    let mut sums = [[0.0_f32; 8]; 4];
    for (a, b) in a.data.as_chunks::<4>().0.iter().zip(b.as_chunks::<8>().0) {
        let b = b.map(Pair::split);
        for (sums, a) in sums.iter_mut().zip(a) {
            let [low, high] = a.split();
            for (sum, b) in sums.iter_mut().zip(&b) {
                *sum = low.mul_add(b[0], high.mul_add(b[1], *sum));
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.chunks_mut(stride)).take(rows) {
        write(&sums[..cols], &mut out[..cols], scale, onto);
    }
}

/// A tile for an instruction set: `$rows` x `$vectors` sums of `$lanes` numbers stay in registers with a line of `b` and one
/// number of `a`. `$load` reads a vector of `b`, `$spread` fills one with an element of `a`, `$step` multiplies and adds.
/// A tile at the right edge takes as few vectors as hold its columns. `PACKED`: `a` is a strip, not rows of a matrix.
#[cfg(target_arch = "x86_64")]
macro_rules! tile {
    ($(#[$meta:meta])* $name:ident($features:literal, $element:ty, $rows:literal, $vectors:literal, $lanes:literal):
        $zero:ident, $read:ident, $write:ident, $fill:ident, $mul:ident, $fma:ident, $load:expr, $spread:expr, $step:expr) => {
        $(#[$meta])*
        #[target_feature(enable = $features)]
        pub fn $name<const PACKED: bool>(
            a: Side<'_, $element>,
            b: &[$element],
            out: &mut [f32],
            stride: usize,
            size: (usize, usize),
            scale: f32,
            onto: Onto<'_>,
        ) {
            #[target_feature(enable = $features)]
            #[inline]
            fn some<const PACKED: bool, const VECTORS: usize>(
                a: Side<'_, $element>,
                b: &[$element],
                out: &mut [f32],
                stride: usize,
                (rows, cols): (usize, usize),
                scale: f32,
                onto: Onto<'_>,
            ) {
                let lines = b.as_chunks::<{ $vectors * $lanes }>().0;
                // Past the last row the last is read again.
                let starts: [usize; $rows] = from_fn(|i| if PACKED { i } else { i.min(rows - 1) * a.row });
                let next = if PACKED { $rows } else { a.step };
                assert!(lines.is_empty() || (lines.len() - 1) * next + starts[$rows - 1] < a.data.len());
                let mut sums = [[$zero(); VECTORS]; $rows];
                for (k, line) in lines.iter().enumerate() {
                    let b: [_; VECTORS] = from_fn(|v| $load(&line.as_chunks::<$lanes>().0[v]));
                    for (sums, start) in sums.iter_mut().zip(&starts) {
                        // SAFETY: the largest place is that of the last start and line: asserted to lie in the slice.
                        let a = $spread(unsafe { a.data.get_unchecked(start + k * next) });
                        for (sum, b) in sums.iter_mut().zip(&b) {
                            *sum = $step(*sum, a, *b);
                        }
                    }
                }
                let scaled = $fill(scale);
                for (sums, out) in sums.iter().zip(out.chunks_mut(stride)).take(rows) {
                    if cols == VECTORS * $lanes {
                        for (v, (sum, out)) in sums.iter().zip(out.as_chunks_mut::<$lanes>().0).enumerate() {
                            // SAFETY: reads and writes as many numbers as the arrays have.
                            unsafe {
                                let sum = match onto {
                                    Onto::Nothing => $mul(scaled, *sum),
                                    Onto::Out => $fma(scaled, *sum, $read(out.as_ptr())),
                                    Onto::Row(row) => $fma(scaled, *sum, $read(row.as_chunks::<$lanes>().0[v].as_ptr())),
                                };
                                $write(out.as_mut_ptr(), sum);
                            }
                        }
                    } else {
                        let mut line = [[0.0_f32; $lanes]; VECTORS];
                        for (line, sum) in line.iter_mut().zip(sums) {
                            // SAFETY: writes as many numbers as the array has.
                            unsafe { $write(line.as_mut_ptr(), *sum) };
                        }
                        write(&line.as_flattened()[..cols], &mut out[..cols], scale, onto);
                    }
                }
            }
            match size.1.div_ceil($lanes) {
                1 => some::<PACKED, 1>(a, b, out, stride, size, scale, onto),
                2 => some::<PACKED, 2>(a, b, out, stride, size, scale, onto),
                _ => some::<PACKED, $vectors>(a, b, out, stride, size, scale, onto),
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Onto, Pair, Side, from_fn, write};
    use std::arch::x86_64::{
        __m256, __m512, __m512bh, __m512i, _mm256_and_si256, _mm256_castsi256_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_loadu_si256, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32,
        _mm256_storeu_ps, _mm512_and_si512, _mm512_castsi512_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32,
        _mm512_storeu_ps,
    };
    use std::mem::transmute;

    tile! {
        /// 24 sums, three vectors of `b` and one number of `a` in 28 of 32 registers.
        singles_avx512("avx512f,avx512bw,avx512dq,avx512vl", f32, 8, 3, 16):
            _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_mul_ps, _mm512_fmadd_ps,
            // SAFETY: reads as many numbers as the array has.
            |b: &[f32; 16]| unsafe { _mm512_loadu_ps(b.as_ptr()) },
            |a: &f32| _mm512_set1_ps(*a),
            |sum, a, b| _mm512_fmadd_ps(a, b, sum)
    }

    tile! {
        /// 12 sums, two vectors of `b` and one number of `a` in 15 of 16 registers.
        singles_avx2("avx2,fma", f32, 6, 2, 8):
            _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_mul_ps, _mm256_fmadd_ps,
            // SAFETY: reads as many numbers as the array has.
            |b: &[f32; 8]| unsafe { _mm256_loadu_ps(b.as_ptr()) },
            |a: &f32| _mm256_set1_ps(*a),
            |sum, a, b| _mm256_fmadd_ps(a, b, sum)
    }

    tile! {
        /// The processor multiplies pairs itself.
        pairs_avx512bf16("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16", Pair, 8, 3, 16):
            _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_mul_ps, _mm512_fmadd_ps,
            // SAFETY: reads as many pairs as the array has; any bits are a vector of pairs.
            |b: &[Pair; 16]| unsafe { transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.as_ptr().cast())) },
            // SAFETY: any bits are a vector of pairs.
            |a: &Pair| unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(a.0 as i32)) },
            |sum, a, b| _mm512_dpbf16_ps(sum, a, b)
    }

    tile! {
        /// Pairs are split as they are read: 18 sums, and both halves of three vectors of `b`.
        pairs_avx512("avx512f,avx512bw,avx512dq,avx512vl", Pair, 6, 3, 16):
            _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_mul_ps, _mm512_fmadd_ps,
            |b: &[Pair; 16]| {
                // SAFETY: reads as many pairs as the array has.
                let b = unsafe { _mm512_loadu_si512(b.as_ptr().cast()) };
                let high = _mm512_and_si512(b, _mm512_set1_epi32(0xffff_0000_u32 as i32));
                [_mm512_slli_epi32::<16>(b), high].map(|x| _mm512_castsi512_ps(x))
            },
            |a: &Pair| a.split().map(|x| _mm512_set1_ps(x)),
            |sum, a: [__m512; 2], b: [__m512; 2]| _mm512_fmadd_ps(a[0], b[0], _mm512_fmadd_ps(a[1], b[1], sum))
    }

    tile! {
        /// Pairs are split as they are read: 8 sums, and both halves of two vectors of `b`.
        pairs_avx2("avx2,fma", Pair, 4, 2, 8):
            _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_mul_ps, _mm256_fmadd_ps,
            |b: &[Pair; 8]| {
                // SAFETY: reads as many pairs as the array has.
                let b = unsafe { _mm256_loadu_si256(b.as_ptr().cast()) };
                let high = _mm256_and_si256(b, _mm256_set1_epi32(0xffff_0000_u32 as i32));
                [_mm256_slli_epi32::<16>(b), high].map(|x| _mm256_castsi256_ps(x))
            },
            |a: &Pair| a.split().map(|x| _mm256_set1_ps(x)),
            |sum, a: [__m256; 2], b: [__m256; 2]| _mm256_fmadd_ps(a[0], b[0], _mm256_fmadd_ps(a[1], b[1], sum))
    }
}
#[cfg(target_arch = "x86_64")]
pub use x86::*;
