//! Tiles in vector registers, for each instruction set: in single precision, and for pairs of bfloat16.
//!
//! A pair is multiplied as the processor's own instruction does it (VDPBF16PS: the high halves, then the low, each fused
//! with its addition), so all processors give the same bits, but for numbers below 2^-126: that instruction takes them for zero.

use super::Pair;
use std::array::from_fn;

/// Writes `sum + keep * out`; what was there is not read where nothing of it is kept.
#[inline(always)]
fn write(sums: &[f32], out: &mut [f32], keep: f32) {
    if keep == 0.0 {
        out.copy_from_slice(sums);
    } else {
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = keep.mul_add(*out, *sum));
    }
}

/// Tiles without the processor's vector instructions: the compiler finds what there is.
pub fn pairs_portable(a: &[Pair], b: &[Pair], out: &mut [f32], stride: usize, (rows, cols): (usize, usize), keep: f32) {
    let mut sums = [[0.0_f32; 8]; 4];
    for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks::<8>().0) {
        let b = b.map(Pair::split);
        for (sums, a) in sums.iter_mut().zip(a) {
            let [low, high] = a.split();
            for (sum, b) in sums.iter_mut().zip(&b) {
                *sum = low.mul_add(b[0], high.mul_add(b[1], *sum));
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.chunks_mut(stride)).take(rows) {
        write(&sums[..cols], &mut out[..cols], keep);
    }
}

/// A tile for an instruction set: `$rows` x `$vectors` sums of `$lanes` numbers stay in registers with a line of `b` and one
/// number of `a`. `$load` reads a vector of `b`, `$spread` fills one with an element of `a`, `$step` multiplies and adds.
#[cfg(target_arch = "x86_64")]
macro_rules! tile {
    ($(#[$meta:meta])* $name:ident($features:literal, $element:ty, $rows:literal, $vectors:literal, $lanes:literal):
        $zero:ident, $read:ident, $write:ident, $fill:ident, $fma:ident, $load:expr, $spread:expr, $step:expr) => {
        $(#[$meta])*
        #[target_feature(enable = $features)]
        pub fn $name(
            a: &[$element],
            b: &[$element],
            out: &mut [f32],
            stride: usize,
            (rows, cols): (usize, usize),
            keep: f32,
        ) {
            let mut sums = [[$zero(); $vectors]; $rows];
            for (a, b) in a.as_chunks::<$rows>().0.iter().zip(b.as_chunks::<{ $vectors * $lanes }>().0) {
                let b: [_; $vectors] = from_fn(|v| $load(&b.as_chunks::<$lanes>().0[v]));
                for (sums, a) in sums.iter_mut().zip(a) {
                    let a = $spread(a);
                    for (sum, b) in sums.iter_mut().zip(&b) {
                        *sum = $step(*sum, a, *b);
                    }
                }
            }
            let kept = $fill(keep);
            for (sums, out) in sums.iter().zip(out.chunks_mut(stride)).take(rows) {
                let whole = out.as_chunks_mut::<$lanes>().0;
                if cols == $vectors * $lanes {
                    for (sum, out) in sums.iter().zip(whole) {
                        // SAFETY: reads and writes as many numbers as the array has.
                        unsafe {
                            let sum = if keep == 0.0 { *sum } else { $fma(kept, $read(out.as_ptr()), *sum) };
                            $write(out.as_mut_ptr(), sum);
                        }
                    }
                } else {
                    let mut line = [[0.0_f32; $lanes]; $vectors];
                    for (line, sum) in line.iter_mut().zip(sums) {
                        // SAFETY: writes as many numbers as the array has.
                        unsafe { $write(line.as_mut_ptr(), *sum) };
                    }
                    write(&line.as_flattened()[..cols], &mut out[..cols], keep);
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Pair, from_fn, write};
    use std::arch::x86_64::{
        __m256, __m512, __m512bh, __m512i, _mm256_and_si256, _mm256_castsi256_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_loadu_si256, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_storeu_ps,
        _mm512_and_si512, _mm512_castsi512_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    tile! {
        /// 24 sums, three vectors of `b` and one number of `a` in 28 of 32 registers.
        singles_avx512("avx512f,avx512bw,avx512dq,avx512vl", f32, 8, 3, 16):
            _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps,
            // SAFETY: reads as many numbers as the array has.
            |b: &[f32; 16]| unsafe { _mm512_loadu_ps(b.as_ptr()) },
            |a: &f32| _mm512_set1_ps(*a),
            |sum, a, b| _mm512_fmadd_ps(a, b, sum)
    }

    tile! {
        /// 12 sums, two vectors of `b` and one number of `a` in 15 of 16 registers.
        singles_avx2("avx2,fma", f32, 6, 2, 8):
            _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps,
            // SAFETY: reads as many numbers as the array has.
            |b: &[f32; 8]| unsafe { _mm256_loadu_ps(b.as_ptr()) },
            |a: &f32| _mm256_set1_ps(*a),
            |sum, a, b| _mm256_fmadd_ps(a, b, sum)
    }

    tile! {
        /// The processor multiplies pairs itself.
        pairs_avx512bf16("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16", Pair, 8, 3, 16):
            _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps,
            // SAFETY: reads as many pairs as the array has; any bits are a vector of pairs.
            |b: &[Pair; 16]| unsafe { transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.as_ptr().cast())) },
            // SAFETY: any bits are a vector of pairs.
            |a: &Pair| unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(a.0 as i32)) },
            |sum, a, b| _mm512_dpbf16_ps(sum, a, b)
    }

    tile! {
        /// Pairs are split as they are read: 18 sums, and both halves of three vectors of `b`.
        pairs_avx512("avx512f,avx512bw,avx512dq,avx512vl", Pair, 6, 3, 16):
            _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps,
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
            _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps,
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
