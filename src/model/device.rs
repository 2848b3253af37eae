//! The numeric target: what decides the bits of a product.

pub use super::kernels::simd::gains_by_bf16;
use super::kernels::simd::{Level, level};

/// The part of an action key that says which processor features the numbers depend on.
pub fn target() -> &'static str {
    match level() {
        Level::Avx512 => "cpu-avx512",
        Level::Avx2 => "cpu-avx2",
        Level::Portable => "cpu",
    }
}
