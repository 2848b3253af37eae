//! Matrix products by cuBLAS, in the model's precision: f32, or pairs of bfloat16 summed in f32.

use super::driver::{Driver, Floats, failed};
use crate::model::ModelError;
use candle_core::cuda::cudarc::cublas::{result, sys};
use std::ffi::c_void;

/// How numbers lie: end to end in f32, or as bfloat16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    F32,
    Bf16,
}

/// A matrix, row after row, as a product reads it.
#[derive(Debug, Clone, Copy)]
pub struct Side {
    pub at: u64,
    /// Numbers from the start of one line in memory to that of the next.
    pub line: usize,
    /// Whether the lines in memory are the columns of what is multiplied.
    pub turned: bool,
}

impl Side {
    pub fn new(at: u64, line: usize) -> Self {
        Self { at, line, turned: false }
    }

    pub fn turned(self) -> Self {
        Self { turned: true, ..self }
    }
}

/// Sizes of a product `[m, k] * [k, n]`, and how many there are, with the distances between them in memory.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub count: usize,
    pub apart: [usize; 3],
}

impl Sizes {
    pub fn one(m: usize, n: usize, k: usize) -> Self {
        Self { m, n, k, count: 1, apart: [0; 3] }
    }
}

impl Driver {
    /// `out = a * b`, in f32; cuBLAS, which thinks in columns, is asked for the transpose of it.
    pub fn product(&self, kind: Kind, a: Side, b: Side, sizes: Sizes, out: Floats) -> Result<(), ModelError> {
        let int = |n: usize| i32::try_from(n).expect("checked when the pass began");
        let turn = |side: Side| match side.turned {
            false => sys::cublasOperation_t::CUBLAS_OP_N,
            true => sys::cublasOperation_t::CUBLAS_OP_T,
        };
        let numbers = match kind {
            Kind::F32 => sys::cudaDataType_t::CUDA_R_32F,
            Kind::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        };
        let (one, zero) = (1.0_f32, 0.0_f32);
        let scalar = |x: &f32| std::ptr::from_ref(x).cast::<c_void>();
        let [apart_a, apart_b, apart_out] = sizes.apart.map(|n| n as i64);
        // SAFETY: the sides are matrices of these sizes in memory that lives as long as the model.
        unsafe {
            result::gemm_strided_batched_ex(
                *self.blas.handle(),
                turn(b),
                turn(a),
                int(sizes.n),
                int(sizes.m),
                int(sizes.k),
                scalar(&one),
                b.at as *const c_void,
                numbers,
                int(b.line),
                apart_b,
                a.at as *const c_void,
                numbers,
                int(a.line),
                apart_a,
                scalar(&zero),
                out.at as *mut c_void,
                sys::cudaDataType_t::CUDA_R_32F,
                int(sizes.n),
                apart_out,
                int(sizes.count),
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|error| failed("to multiply", error))
    }
}
