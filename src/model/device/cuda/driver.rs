//! One GPU: its stream, its memory, our kernels on it and cuBLAS.

use super::super::GpuModel;
use crate::collective::Stream;
use crate::device::Device;
use crate::model::ModelError;
use candle_core::CudaDevice;
use candle_core::cuda::cudarc::cublas::{self, CudaBlas};
use candle_core::cuda::cudarc::driver::{
    CudaFunction, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg, result, sys,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `kernels.cu`, compiled by the build script; the driver makes machine code of it for the GPU that it finds.
const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

const NAMES: [&str; 26] = [
    "embed",
    "one_hot",
    "positions_backward",
    "norm_forward",
    "norm_backward",
    "columns",
    "columns_end",
    "gelu_forward",
    "gelu_again",
    "gelu_backward",
    "split_heads",
    "merge_heads",
    "softmax_forward",
    "drop_weights",
    "softmax_backward",
    "gather_first",
    "scatter_first",
    "pool_forward",
    "head_forward",
    "loss_and_slope",
    "head_backward",
    "adamw",
    "squares",
    "squares_end",
    "round_to_bf16",
    "add_ranks",
];

/// The GPUs that the driver shows.
pub fn gpus() -> Result<Vec<GpuModel>, String> {
    let driver = |error: result::DriverError| format!("the NVIDIA driver can't be used: {error}");
    result::init().map_err(driver)?;
    let cublas = cublas_release();
    let count = result::device::get_count().map_err(driver)?;
    let gpu = |number| {
        let device = result::device::get(number)?;
        // SAFETY: the driver gave this device.
        let memory = unsafe { result::device::total_mem(device) }?;
        Ok(GpuModel { name: result::device::get_name(device)?, memory: memory as u64, cublas: cublas.clone() })
    };
    (0..count).map(gpu).collect::<Result<_, _>>().map_err(driver)
}

/// Major and minor release of the library that is loaded.
fn cublas_release() -> String {
    use cublas::sys::{cublasGetProperty, libraryPropertyType_t as Property};
    let part = |which| {
        let mut value = 0;
        // SAFETY: writes one number to where it is told.
        let _ = unsafe { cublasGetProperty(which, &raw mut value) };
        value
    };
    format!("{}.{}", part(Property::MAJOR_VERSION), part(Property::MINOR_VERSION))
}

/// Numbers in the GPU's memory: an address, and how many.
#[derive(Debug, Clone, Copy)]
pub struct Floats {
    pub at: u64,
    pub len: usize,
}

impl Floats {
    /// For a kernel's argument that may be absent.
    pub const NONE: Self = Self { at: 0, len: 0 };

    pub fn part(self, range: &std::ops::Range<usize>) -> Self {
        assert!(range.end <= self.len, "a part lies within the whole");
        Self { at: self.at + 4 * range.start as u64, len: range.len() }
    }
}

/// The dropout of one step as kernels take it: `Drop` of `kernels.cu`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Dropping {
    pub key: u64,
    pub threshold: u32,
    /// 0 where nothing is dropped.
    pub scale: f32,
    /// The place in the whole batch of the first row here.
    pub first_row: u32,
}

// SAFETY: plain numbers, laid out as the kernels' own struct.
unsafe impl DeviceRepr for Dropping {}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub enum Arg {
    At(u64),
    Int(i32),
    Uint(u32),
    Size(u64),
    Float(f32),
    Dropping(Dropping),
}

impl From<Floats> for Arg {
    fn from(floats: Floats) -> Self {
        Self::At(floats.at)
    }
}

impl From<Dropping> for Arg {
    fn from(dropping: Dropping) -> Self {
        Self::Dropping(dropping)
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<u32> for Arg {
    fn from(value: u32) -> Self {
        Self::Uint(value)
    }
}

impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        Self::Int(i32::from(value))
    }
}

impl From<usize> for Arg {
    /// A C `int`: `Pass::new` refuses batches whose tensors have more numbers.
    fn from(value: usize) -> Self {
        Self::Int(i32::try_from(value).expect("checked when the pass began"))
    }
}

/// How a kernel's threads are spread; each shape is what those kernels of `kernels.cu` expect.
#[derive(Debug, Clone, Copy)]
pub enum Threads {
    /// One for each number.
    Each(usize),
    /// One warp for each line.
    Lines(usize),
    /// Slices of tokens by columns.
    Columns(usize),
    /// So many blocks.
    Blocks(u32),
}

impl Threads {
    fn config(self) -> LaunchConfig {
        let blocks = |n: usize, each: usize| u32::try_from(n.div_ceil(each)).expect("checked when the pass began");
        let (grid_dim, block_dim) = match self {
            Self::Each(n) => ((blocks(n, 256), 1, 1), (256, 1, 1)),
            Self::Lines(n) => ((blocks(n, 8), 1, 1), (256, 1, 1)),
            Self::Columns(n) => ((blocks(n, 32), 32, 1), (32, 8, 1)),
            Self::Blocks(n) => ((n, 1, 1), (256, 1, 1)),
        };
        LaunchConfig { grid_dim, block_dim, shared_mem_bytes: 0 }
    }
}

/// Says that the GPU failed, and at what.
pub fn failed(what: &str, error: impl std::fmt::Display) -> ModelError {
    ModelError::Device(format!("the GPU failed {what}: {error}"))
}

pub struct Driver {
    stream: Arc<CudaStream>,
    pub(super) blas: Arc<CudaBlas>,
    kernels: BTreeMap<&'static str, CudaFunction>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GPU {}", self.stream.context().ordinal())
    }
}

impl Driver {
    pub fn open(device: Device) -> Result<Self, ModelError> {
        let Device::Cuda(number) = device else { return Err(failed("to open", "it is a processor")) };
        let open = || -> candle_core::Result<Self> {
            let device = CudaDevice::new_with_stream(usize::from(number))?;
            let mut kernels = BTreeMap::new();
            for name in NAMES {
                let kernel = device.get_or_load_custom_func(name, "cistage", KERNELS)?;
                kernels.insert(name, kernel.into_cuda_function());
            }
            Ok(Self { stream: device.cuda_stream(), blas: device.cublas_handle(), kernels })
        };
        open().map_err(|error| failed("to start", error))
    }

    /// Makes the GPU this thread's: first thing to do in each thread.
    pub fn enter(&self) -> Result<(), ModelError> {
        self.stream.context().bind_to_thread().map_err(|e| failed("to answer", e))
    }

    /// The stream that everything runs on.
    pub fn stream(&self) -> Stream {
        self.stream.cu_stream().cast()
    }

    /// Starts a kernel. The caller answers for its arguments: `kernels.cu` says what each kernel takes.
    pub fn launch(&self, name: &'static str, threads: Threads, args: &[Arg]) -> Result<(), ModelError> {
        let mut builder = self.stream.launch_builder(&self.kernels[name]);
        for arg in args {
            match arg {
                Arg::At(value) | Arg::Size(value) => builder.arg(value),
                Arg::Int(value) => builder.arg(value),
                Arg::Uint(value) => builder.arg(value),
                Arg::Float(value) => builder.arg(value),
                Arg::Dropping(value) => builder.arg(value),
            };
        }
        // SAFETY: addresses are of memory that lives as long as the model, and counts bound what a kernel touches.
        unsafe { builder.launch(threads.config()) }.map(drop).map_err(|e| failed(name, e))
    }

    /// Memory for so many numbers, for as long as this lives.
    pub fn allocate(&self, len: usize) -> Result<Memory, ModelError> {
        // SAFETY: whoever takes it writes before reading.
        let slice = unsafe { self.stream.alloc::<f32>(len.max(1)) }.map_err(|error| {
            let [free, whole] = self.stream.context().mem_get_info().map_or([0, 0], |(free, all)| [free, all].map(|b| b >> 20));
            let wanted = (len * 4) >> 20;
            ModelError::Device(format!(
                "the GPU has no room for {wanted} MiB more ({free} of its {whole} MiB are free): lower `batch_size` ({error})"
            ))
        })?;
        let at = {
            use candle_core::cuda::cudarc::driver::DevicePtr;
            slice.device_ptr(&self.stream).0
        };
        Ok(Memory { floats: Floats { at, len }, _slice: slice })
    }

    pub fn upload<T>(&self, to: u64, from: &[T]) -> Result<(), ModelError> {
        // SAFETY: the place was allocated for so much; pageable memory is copied before the call returns.
        unsafe { result::memcpy_htod_async(to, from, self.stream.cu_stream()) }.map_err(|e| failed("to take data", e))
    }

    /// Waits for all that was started, and copies.
    pub fn download(&self, from: Floats) -> Result<Vec<f32>, ModelError> {
        let mut out = vec![0.0_f32; from.len];
        self.stream.synchronize().map_err(|e| failed("at its work", e))?;
        // SAFETY: nothing runs that could still write there, and there are so many.
        unsafe { result::memcpy_dtoh_sync(&mut out, from.at) }.map_err(|e| failed("to give data", e))?;
        Ok(out)
    }

    pub fn clear(&self, floats: Floats) -> Result<(), ModelError> {
        // SAFETY: within what was allocated.
        unsafe { result::memset_d8_async(floats.at as sys::CUdeviceptr, 0, floats.len * 4, self.stream.cu_stream()) }
            .map_err(|e| failed("to clear memory", e))
    }
}

/// Memory of the GPU, given back when dropped.
#[derive(Debug)]
pub struct Memory {
    pub floats: Floats,
    _slice: candle_core::cuda::cudarc::driver::CudaSlice<f32>,
}
