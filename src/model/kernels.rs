//! The hot operations, forward and backward, over plain slices.
//!
//! Each sum is taken in an order that the shapes alone decide, never the number of threads. Element-wise
//! loops are compiled for several instruction sets (`simd`) and give the same bits on each, as do products of
//! rounded numbers, down to 2^-126; a product in single precision differs where a processor has no fused multiply-add.

pub mod attention;
pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod matmul;
pub mod norm;
pub mod reduce;
pub mod simd;
mod tiles;

#[cfg(test)]
mod slopes;

/// Rows that one task takes in row-wise passes; fixed, so that sums over chunks have a fixed order.
pub const ROWS: usize = 64;
