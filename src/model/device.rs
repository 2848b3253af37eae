//! Where numbers are computed, and the numeric target: what decides their bits. The one place that knows whether the
//! program was built for GPUs.

#[cfg(not(feature = "cuda"))]
mod absent;
#[cfg(feature = "cuda")]
mod cuda;

#[cfg(not(feature = "cuda"))]
pub use absent::Gpu;
#[cfg(feature = "cuda")]
pub use cuda::Gpu;

pub use super::kernels::simd::gains_by_bf16;
use super::kernels::simd::{Level, level};
use crate::device::Device;
#[cfg(not(feature = "cuda"))]
use absent as platform;
#[cfg(feature = "cuda")]
use cuda as platform;
use std::sync::OnceLock;

/// A GPU that this program can compute on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuModel {
    /// As the driver says: `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Bytes.
    pub memory: u64,
    /// The release of cuBLAS that multiplies: `13.1`.
    pub cublas: String,
}

/// The GPUs that this program can compute on, or why there is none. Looks once.
pub fn gpus() -> Result<&'static [GpuModel], &'static str> {
    static SEEN: OnceLock<Result<Vec<GpuModel>, String>> = OnceLock::new();
    SEEN.get_or_init(platform::gpus).as_ref().map(Vec::as_slice).map_err(String::as_str)
}

/// Where to compute: where the user says, else on the first GPU, else on the processor.
pub fn choose(wanted: Option<Device>) -> Result<Device, String> {
    match (wanted, gpus()) {
        (Some(Device::Cpu), _) | (None, Err(_) | Ok([])) => Ok(Device::Cpu),
        (None, Ok(_)) => Ok(Device::Cuda(0)),
        (Some(Device::Cuda(_)), Err(why)) => Err(why.to_owned()),
        (Some(device @ Device::Cuda(number)), Ok(gpus)) if usize::from(number) < gpus.len() => Ok(device),
        (Some(device), Ok(gpus)) => Err(match gpus.len() {
            0 => "the driver shows no GPU to this process (CUDA_VISIBLE_DEVICES may hide them)".to_owned(),
            1 => format!("there is no {device}: the one GPU is cuda:0"),
            n => format!("there is no {device}: the GPUs are cuda:0 to cuda:{}", n - 1),
        }),
    }
}

/// The part of an action key that says what the bits of products depend on: processor features, or the GPU and the
/// library that multiplies on it.
pub fn target(device: Device) -> String {
    let cpu = match level() {
        Level::Avx512 => "cpu-avx512",
        Level::Avx2 => "cpu-avx2",
        Level::Portable => "cpu",
    };
    let gpu = |number: u8| gpus().ok().and_then(|gpus| gpus.get(usize::from(number)));
    match device {
        Device::Cpu => cpu.to_owned(),
        Device::Cuda(number) => match gpu(number) {
            Some(gpu) => format!("cuda-{}-cublas-{}", slug(&gpu.name), gpu.cublas),
            None => "cuda".to_owned(),
        },
    }
}

/// Where to compute what was computed on `target` before: there if it is here, else on something like it, else on the processor.
pub fn suited_to(target: &str) -> Device {
    let count = gpus().map_or(0, <[GpuModel]>::len).min(256);
    let mut here = (0..count).map(|number| Device::Cuda(number as u8));
    if !target.starts_with("cuda") {
        return Device::Cpu;
    }
    let same = here.clone().find(|device| self::target(*device) == target);
    same.or_else(|| here.next()).unwrap_or(Device::Cpu)
}

/// `NVIDIA H100 80GB HBM3` as `nvidia-h100-80gb-hbm3`.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_there_is_refused_in_words() {
        assert_eq!(choose(Some(Device::Cpu)), Ok(Device::Cpu));
        let refused = choose(Some(Device::Cuda(255))).expect_err("nobody has so many");
        assert!(refused.contains("GPU"), "{refused}");
    }

    #[test]
    fn targets_are_single_words() {
        assert_eq!(slug("NVIDIA H100 80GB HBM3"), "nvidia-h100-80gb-hbm3");
        assert!(target(Device::Cpu).starts_with("cpu"));
        assert_eq!(suited_to("cpu-avx2"), Device::Cpu);
    }
}
