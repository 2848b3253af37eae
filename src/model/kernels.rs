//! The hot operations, forward and backward, over plain slices.
//!
//! Each sum is taken in an order that the shapes alone decide, never the number of threads. Element-wise
//! loops are compiled for several instruction sets (`simd`) and give the same bits on each; only the matrix
//! product differs between them.

pub mod attention;
pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod matmul;
pub mod norm;
pub mod reduce;
pub mod simd;
#[cfg(target_arch = "x86_64")]
mod tiles;

/// Rows that one task takes in row-wise passes; fixed, so that sums over chunks have a fixed order.
pub const ROWS: usize = 64;
