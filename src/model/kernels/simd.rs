//! Compiles element-wise loops for several instruction sets, and chooses at run time.

/// What the processor can do, as far as the kernels care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Avx512,
    Avx2,
    Portable,
}

/// What this processor can do (the standard library remembers what it found).
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::Avx2;
        }
    }
    Level::Portable
}

/// Whether this processor has an instruction for products of bfloat16 (AVX512_BF16), and gains by it: AMD's does as many as
/// of products in f32, each of two pairs of numbers; Intel's, seen on a Xeon with AMX, takes more than twice as long.
pub fn gains_by_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16") && vendor() == *b"AuthenticAMD";
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
fn vendor() -> [u8; 12] {
    let found = std::arch::x86_64::__cpuid(0);
    let mut name = [0; 12];
    for (to, register) in name.chunks_exact_mut(4).zip([found.ebx, found.edx, found.ecx]) {
        to.copy_from_slice(&register.to_le_bytes());
    }
    name
}

/// Declares a function whose loops are compiled once per instruction set.
///
/// The body is ordinary Rust without fused multiply-add, and with explicit lanes where it sums: the bits do
/// not depend on the instruction set.
macro_rules! multiversion {
    ($($(#[$meta:meta])* pub fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block)+) => {$(
        $(#[$meta])*
        pub fn $name($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn portable($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $type),*) $(-> $out)? {
                    portable($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) $(-> $out)? {
                    portable($($arg),*)
                }
                match $crate::model::kernels::simd::level() {
                    // SAFETY: `level` saw every feature that the function enables on this processor; the body is safe code.
                    $crate::model::kernels::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::model::kernels::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::model::kernels::simd::Level::Portable => {}
                }
            }
            portable($($arg),*)
        }
    )+};
}
pub(crate) use multiversion;

/// Numbers that a loop takes at a time, on every instruction set.
const LANES: usize = 16;

/// Numbers by lanes; the last few are padded, so that no loop's length is known at run time alone.
#[inline(always)]
fn lanes(values: &[f32], padding: f32) -> (&[[f32; LANES]], [f32; LANES]) {
    let (whole, rest) = values.as_chunks();
    let mut last = [padding; LANES];
    last[..rest.len()].copy_from_slice(rest);
    (whole, last)
}

/// Sums with 16 lanes and a fixed tree, whatever the instruction set.
#[inline(always)]
pub fn sum_by(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (whole, last) = lanes(values, 0.0);
    let rest = values.len() % LANES;
    let mut sums = [0.0_f32; LANES];
    for chunk in whole {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += term(*x);
        }
    }
    for (i, (sum, x)) in sums.iter_mut().zip(last).enumerate() {
        *sum += if i < rest { term(x) } else { 0.0 };
    }
    tree(sums)
}

/// The sum of products, likewise.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((whole_a, last_a), (whole_b, last_b)) = (lanes(a, 0.0), lanes(b, 0.0));
    let mut sums = [0.0_f32; LANES];
    for (a, b) in whole_a.iter().zip(whole_b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(last_a.iter().zip(last_b)) {
        *sum += a * b;
    }
    tree(sums)
}

/// The largest number.
#[inline(always)]
pub fn largest(values: &[f32]) -> f32 {
    let (whole, mut top) = lanes(values, f32::NEG_INFINITY);
    for chunk in whole {
        for (top, x) in top.iter_mut().zip(chunk) {
            *top = if *x > *top { *x } else { *top };
        }
    }
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            let other = top[lane + width];
            top[lane] = if other > top[lane] { other } else { top[lane] };
        }
    }
    top[0]
}

#[inline(always)]
fn tree(mut lanes: [f32; LANES]) -> f32 {
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}

/// Changes each number, given its place. The last few are padded: one by one they would take longer than all before them.
#[inline(always)]
pub fn change(values: &mut [f32], to: impl Fn(usize, f32) -> f32) {
    let (whole, rest) = values.as_chunks_mut::<LANES>();
    let first = whole.len() * LANES;
    for (chunk, at) in whole.iter_mut().zip((0..).step_by(LANES)) {
        for (i, x) in chunk.iter_mut().enumerate() {
            *x = to(at + i, *x);
        }
    }
    if !rest.is_empty() {
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        for (i, x) in last.iter_mut().enumerate() {
            *x = to(first + i, *x);
        }
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// e^x within 2 units in the last place; below -87 it is taken at -87, above 88 at 88.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts: the first has few enough bits for an exact product with n.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    // Taylor's series: |r| is at most ln(2)/2, the first term left out is below 6e-9.
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    let power = f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23);
    p * power
}

/// The hyperbolic tangent, within 1e-7.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = exp(2.0 * x.abs().min(20.0));
    (1.0 - 2.0 / (e + 1.0)).copysign(x)
}

/// The error function, within 1e-7: our own fits, a polynomial of x^2 up to 1, the logarithm of 1 - erf beyond.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    // Interpolated at the Chebyshev nodes of t = 2 x^2 - 1.
    const NEAR: [f32; 8] = [
        0.965_468_764,
        -0.140_536_085,
        0.019_852_498_5,
        -0.002_285_485_62,
        0.000_217_511_988,
        -1.753_691_50e-5,
        1.231_639_54e-6,
        -7.552_378_63e-8,
    ];
    // Interpolated at the Chebyshev nodes of t = (x - 2.5) / 1.5; at 4 erf is 1 in f32.
    const FAR: [f32; 9] = [
        7.806_815_15,
        8.029_021_26,
        2.123_760_94,
        0.036_647_576_8,
        -0.010_961_849_2,
        0.003_190_305_32,
        -0.000_880_397_100,
        0.000_227_499_506,
        -4.195_839_94e-5,
    ];
    let a = x.abs();
    let t = 2.0 * (a * a).min(1.0) - 1.0;
    let mut near = NEAR[7];
    for i in (0..7).rev() {
        near = near * t + NEAR[i];
    }
    let t = (a.clamp(1.0, 4.0) - 2.5) * (1.0 / 1.5);
    let mut far = FAR[8];
    for i in (0..8).rev() {
        far = far * t + FAR[i];
    }
    let value = if a <= 1.0 { near * a } else { 1.0 - exp(-far) };
    value.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_accurate_to_1e_7() {
        // Textbook values of erf to 10 digits.
        for (x, y) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916_0),
            (0.5, 0.520_499_877_8),
            (0.99, 0.838_508_069_6),
            (1.0, 0.842_700_792_9),
            (1.01, 0.846_810_496_2),
            (1.5, 0.966_105_146_5),
            (2.0, 0.995_322_265_0),
            (3.0, 0.999_977_909_5),
            (5.0, 1.0),
        ] {
            assert!((f64::from(erf(x as f32)) - y).abs() < 1.2e-7, "erf({x}) = {}", erf(x as f32));
            assert_eq!(erf(-x as f32), -erf(x as f32));
        }
        for i in -800..=800 {
            let x = i as f32 / 10.0;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(((ours - exact) / exact).abs() < 2.5e-7, "exp({x}) = {ours}, not {exact}");
            assert!((f64::from(tanh(x / 8.0)) - f64::from(x / 8.0).tanh()).abs() < 1.5e-7);
        }
        assert!(exp(-1e9) < 2e-38 && exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_take_every_term_once() {
        for len in [0_usize, 1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let sum = (len * len.saturating_sub(1) / 2) as f32;
            assert_eq!(largest(&values), if len == 0 { f32::NEG_INFINITY } else { len as f32 - 1.0 });
            assert_eq!((sum_by(&values, |x| x), dot(&values, &vec![2.0; len])), (sum, 2.0 * sum));
            let mut changed = values.clone();
            change(&mut changed, |i, x| 3.0 * x + i as f32);
            assert!(changed.iter().zip(&values).all(|(a, b)| *a == 4.0 * b));
        }
    }
}
