//! The matrix product at the shapes of a training, as a share of what this machine's vector units can do at most:
//! `cargo bench --bench product -- [threads]`.

use cistage::model::kernels::matmul::{Mat, Onto, matmul, product};
use cistage::model::{Precision, with_threads};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// Rows, depth and columns of batches of 36 rows padded to 128, of base, small and tiny.
const SHAPES: [(&str, [usize; 3]); 8] = [
    ("base attention", [4608, 768, 768]),
    ("base inner", [4608, 768, 3072]),
    ("base outer", [4608, 3072, 768]),
    ("base gradient of inner", [3072, 4608, 768]),
    ("small inner", [4608, 256, 1024]),
    ("small gradient of inner", [1024, 4608, 256]),
    ("tiny inner", [4608, 128, 512]),
    ("tiny gradient of inner", [512, 4608, 128]),
];
const HEADS: usize = 432;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = words.first().and_then(|word| word.parse().ok()).unwrap_or(cores);
    for precision in [Precision::F32, Precision::Bf16] {
        with_threads(threads, || {
            let most = peak(precision, threads);
            println!("{precision:?}, {threads} threads, GFLOP/s: at most {:.0} in registers", most / 1e9);
            let show = |name: &str, [m, k, n]: [usize; 3], speed: f64| {
                println!(
                    "  {name:<24} {m:>4} x {k:>4} x {n:>4}  {:>5.0}  {:>3.0} %",
                    speed / 1e9,
                    100.0 * speed / most
                );
            };
            for (name, shape) in SHAPES {
                show(name, shape, linear(precision, shape, name.contains("gradient")));
            }
            if precision == Precision::F32 {
                show("432 heads, scores", [128, 64, 128], heads());
            }
        })
        .expect("threads start");
    }
}

/// The best speed of some rounds: other work on the machine only ever slows one.
fn best(flops: f64, mut round: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut best = f64::MAX;
    while began.elapsed().as_secs_f64() < 1.0 {
        let round_began = Instant::now();
        round();
        best = best.min(round_began.elapsed().as_secs_f64());
    }
    flops / best
}

/// A layer's product with its weights, or that of the gradient of the weights.
fn linear(precision: Precision, [m, k, n]: [usize; 3], gradient: bool) -> f64 {
    let (a, b) = (vec![0.5_f32; m * k], vec![0.25_f32; k * n]);
    let mut out = vec![0.0_f32; m * n];
    let (a, b) = match gradient {
        true => (Mat::new(&a, k, m).transposed(), Mat::new(&b, k, n)),
        false => (Mat::new(&a, m, k), Mat::new(&b, n, k).transposed()),
    };
    best(2.0 * (m * k * n) as f64, || matmul(precision, a, b, Onto::Nothing, &mut out))
}

/// Attention's scores, head by head, where a layer's queries and keys lie.
fn heads() -> f64 {
    let (tokens, width, stride) = (128, 64, 768);
    let q = vec![0.5_f32; tokens * stride];
    let mut scores = vec![0.0_f32; HEADS * tokens * tokens];
    best(2.0 * (HEADS * tokens * tokens * width) as f64, || {
        scores.par_chunks_mut(tokens * tokens).for_each(|scores| {
            let side = Mat::strided(&q, tokens, width, stride);
            product(0.125, side, side.transposed(), scores, tokens);
        });
    })
}

/// What all threads multiply and add with every operand in a register.
fn peak(precision: Precision, threads: usize) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        const ROUNDS: usize = 1_000_000;
        let work: (unsafe fn(usize) -> f32, f64) = match precision {
            Precision::Bf16 if is_x86_feature_detected!("avx512bf16") => (registers::pairs_avx512, 24.0 * 64.0),
            _ if is_x86_feature_detected!("avx512f") => (registers::singles_avx512, 24.0 * 32.0),
            _ if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => {
                (registers::singles_avx2, 12.0 * 16.0)
            }
            _ => return f64::NAN,
        };
        best(work.1 * (ROUNDS * threads) as f64, || {
            rayon::broadcast(|_| {
                // SAFETY: this processor has the instructions that the function is compiled for.
                black_box(unsafe { work.0(ROUNDS) });
            });
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (precision, threads);
        f64::NAN
    }
}

/// As many sums as hide an instruction's latency.
#[cfg(target_arch = "x86_64")]
mod registers {
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_cvtss_f32, _mm512_dpbf16_ps,
        _mm512_fmadd_ps, _mm512_set1_epi32, _mm512_set1_ps,
    };
    use std::hint::black_box;
    use std::mem::transmute;

    macro_rules! sums {
        ($name:ident($features:literal, $count:literal): $fill:ident, $x:expr, $step:expr, $first:ident) => {
            #[target_feature(enable = $features)]
            pub fn $name(rounds: usize) -> f32 {
                let (x, mut sums) = ($x, [$fill(0.0); $count]);
                for _ in 0..rounds {
                    for sum in &mut sums {
                        *sum = $step(*sum, x);
                    }
                }
                sums.iter().map(|sum| $first(*sum)).sum()
            }
        };
    }

    sums! {
        singles_avx512("avx512f", 24):
            _mm512_set1_ps, _mm512_set1_ps(black_box(1.0)), |sum, x| _mm512_fmadd_ps(x, x, sum), _mm512_cvtss_f32
    }
    sums! {
        singles_avx2("avx2,fma", 12):
            _mm256_set1_ps, _mm256_set1_ps(black_box(1.0)), |sum, x| _mm256_fmadd_ps(x, x, sum), _mm256_cvtss_f32
    }
    sums! {
        pairs_avx512("avx512f,avx512bf16", 24):
            _mm512_set1_ps,
            // SAFETY: any bits are a vector of pairs.
            unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(black_box(0x3f80_3f80))) },
            |sum, x| _mm512_dpbf16_ps(sum, x, x),
            _mm512_cvtss_f32
    }
}
