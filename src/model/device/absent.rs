//! A program that was not built for GPUs: has what `cuda.rs` has, and no value of it.

use super::GpuModel;
use crate::collective::Collective;
use crate::device::Device;
use crate::model::bert::StepKey;
use crate::model::{Batch, Bert, ModelError};
use std::convert::Infallible;
use std::ops::Range;

pub fn gpus() -> Result<Vec<GpuModel>, String> {
    let words = "this program was built for processors alone; `make gpu` builds one for NVIDIA GPUs, too, `make nccl` one \
                 whose trainings may take several (docs/gpu.md)";
    Err(words.to_owned())
}

/// A model on a GPU.
#[derive(Debug)]
pub struct Gpu(Infallible);

impl Gpu {
    pub fn new(_bert: &Bert, _parameters: &[f32], _device: Device) -> Result<Self, ModelError> {
        Err(ModelError::Device(gpus().expect_err("there are none")))
    }

    pub fn speed(_device: Device) -> Result<f64, ModelError> {
        Err(ModelError::Device(gpus().expect_err("there are none")))
    }

    pub fn predict_with(&mut self, _parameters: Option<&[f32]>) -> Result<(), ModelError> {
        match self.0 {}
    }

    pub fn predict(&mut self, _batch: &Batch) -> Result<Vec<f32>, ModelError> {
        match self.0 {}
    }

    pub fn gradient(
        &mut self,
        _batch: &Batch,
        _targets: &[f32],
        _of: usize,
        _huber_delta: Option<f32>,
        _key: StepKey,
    ) -> Result<(), ModelError> {
        match self.0 {}
    }

    pub fn sum(&mut self, _together: &dyn Collective) -> Result<(), ModelError> {
        match self.0 {}
    }

    pub fn measure(&self) -> Result<(f64, f64), ModelError> {
        match self.0 {}
    }

    pub fn update(&mut self, _spans: &[(Range<usize>, f32)], _rates: [f32; 3]) -> Result<(), ModelError> {
        match self.0 {}
    }

    pub fn parameters(&self) -> Result<Vec<f32>, ModelError> {
        match self.0 {}
    }

    pub fn state(&mut self) -> Result<[Vec<f32>; 3], ModelError> {
        match self.0 {}
    }

    pub fn restore(&mut self, _state: [&[f32]; 3]) -> Result<(), ModelError> {
        match self.0 {}
    }

    #[cfg(test)]
    pub fn last_gradient(&self) -> Result<Vec<f32>, ModelError> {
        match self.0 {}
    }
}
