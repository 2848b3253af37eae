//! How fast this machine multiplies matrices, for estimates.

use super::Precision;
use super::device::Gpu;
use super::kernels::matmul::{Mat, Onto, matmul};
use crate::device::Device;
use std::time::{Duration, Instant};

/// Measures the product's speed in f32 on a GPU, or on so many threads, in floating-point operations per second; takes
/// below 100 ms on a processor, and as long as a GPU takes to start.
pub fn measure(device: Device, threads: usize) -> f64 {
    match device {
        Device::Cpu => on_processor(threads),
        Device::Cuda(_) => Gpu::speed(device).unwrap_or(0.0),
    }
}

fn on_processor(threads: usize) -> f64 {
    const SIZE: usize = 384;
    let a = vec![0.5_f32; SIZE * SIZE];
    let mut out = vec![0.0_f32; SIZE * SIZE];
    super::with_threads(threads, || {
        let mut best = f64::MAX;
        let started = Instant::now();
        // The first round warms the caches and the clock; other work on the machine only ever slows a round.
        while started.elapsed() < Duration::from_millis(60) {
            let round = Instant::now();
            matmul(Precision::F32, Mat::new(&a, SIZE, SIZE), Mat::new(&a, SIZE, SIZE), Onto::Nothing, &mut out);
            best = best.min(round.elapsed().as_secs_f64());
        }
        2.0 * (SIZE as f64).powi(3) / best
    })
    .unwrap_or(1e9)
}
