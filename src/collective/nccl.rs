//! The collective of ranks that have a GPU each: NCCL moves the numbers. Gradients go from GPU to GPU; what processors ask
//! each other takes the same way, through a little memory of the GPU.

use super::place::Place;
use super::{BetweenGpus, Collective, Lost, Stream, rendezvous};
use candle_core::cuda::cudarc::driver::result::{memcpy_dtoh_sync, memcpy_htod_async};
use candle_core::cuda::cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};
use candle_core::cuda::cudarc::nccl::result::{self, NcclError, NcclStatus};
use candle_core::cuda::cudarc::nccl::sys;
use std::ffi::{CStr, c_char};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Ranks come within this time, or not at all.
const PATIENCE: Duration = Duration::from_secs(180);

/// Bytes of the GPU's memory for what processors say to each other.
const ROOM: usize = 4 << 20;

/// All ranks, each with its GPU. Dropped after success, it waits for all of them to be done.
pub struct Nccl {
    place: Place,
    link: Mutex<Link>,
}

/// The way to the other ranks.
struct Link {
    comm: sys::ncclComm_t,
    /// For what processors say: it does not wait for the model's own stream.
    stream: Arc<CudaStream>,
    room: CudaSlice<u8>,
}

// SAFETY: NCCL takes calls from any thread, one at a time; the lock around it sees to that.
unsafe impl Send for Link {}

/// A number of four bytes, or a byte: plain data that NCCL moves as it is.
trait Moved: Copy + Default {
    const KIND: sys::ncclDataType_t;
}

impl Moved for f32 {
    const KIND: sys::ncclDataType_t = sys::ncclDataType_t::ncclFloat32;
}

impl Moved for u8 {
    const KIND: sys::ncclDataType_t = sys::ncclDataType_t::ncclUint8;
}

impl Nccl {
    /// Meets the other ranks in `folder`; gives the number of this rank's GPU, too. On each node the ranks take one GPU each,
    /// from `first` on.
    pub fn start(first: u8, folder: &Path) -> Result<(Self, u8), String> {
        let place = Place::find(&|name| std::env::var(name).ok())?;
        let Place { rank, world, .. } = place;
        let driver = |error| format!("rank {rank}: the NVIDIA driver can't be used: {error}");
        let shown = CudaContext::device_count().map_err(driver)?;
        let narrowed = std::env::var_os("CUDA_VISIBLE_DEVICES").is_some();
        let gpu = place.gpu(first, usize::try_from(shown).unwrap_or(0), narrowed)?;
        let stream = CudaContext::new(usize::from(gpu)).and_then(|gpu| gpu.new_stream()).map_err(driver)?;
        // SAFETY: whoever reads it has written there.
        let room = unsafe { stream.alloc::<u8>(ROOM) }.map_err(driver)?;
        let failed = |error: NcclError| format!("rank {rank} can't join the others by NCCL: {}", words(&error));
        let id = rendezvous::meet(folder, rank, world, PATIENCE, || {
            let id = result::get_uniqueid().map_err(failed)?;
            Ok(id.internal.map(|byte| byte as u8).to_vec())
        })?;
        let internal: [u8; 128] = id.try_into().map_err(|_| format!("rank {rank}: rank 0 left no NCCL id"))?;
        let id = sys::ncclUniqueId { internal: internal.map(|byte| byte as c_char) };
        let mut comm = std::ptr::null_mut();
        // SAFETY: the GPU was made this thread's above; the name of the ranks is written to where it is told.
        unsafe { result::comm_init_rank(&raw mut comm, world as i32, id, rank as i32) }.map_err(failed)?;
        Ok((Self { place, link: Mutex::new(Link { comm, stream, room }) }, gpu))
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends this rank's work with the reason where the others can't be reached.
fn reached(said: Result<(), String>) {
    if let Err(why) = said {
        std::panic::resume_unwind(Box::new(Lost(format!("the other ranks can't be reached: {why}"))));
    }
}

impl Link {
    /// Everyone's numbers, in the order of the ranks.
    fn gather<T: Moved>(&self, place: Place, send: &[T], receive: &mut [T]) -> Result<(), String> {
        let Place { rank, world, .. } = place;
        let (size, most) = (size_of::<T>(), ROOM / size_of::<T>() / world);
        let mut all = Vec::new();
        for start in (0..send.len()).step_by(most) {
            let own = &send[start..send.len().min(start + most)];
            all.resize(world * own.len(), T::default());
            self.talk(own, rank * own.len() * size, &mut all, |link, at| {
                let own_at = at + (rank * own.len() * size) as u64;
                // SAFETY: the memory has room for a part of each rank; this rank's was written there.
                unsafe {
                    result::all_gather(
                        own_at as _,
                        at as _,
                        own.len(),
                        T::KIND,
                        link.comm,
                        link.stream.cu_stream().cast(),
                    )
                }
            })?;
            for (from, part) in all.chunks_exact(own.len()).enumerate() {
                receive[from * send.len() + start..][..own.len()].copy_from_slice(part);
            }
        }
        Ok(())
    }

    /// Brings `own` to the GPU, so many bytes into the memory; has NCCL work on it; brings `all` back from its start.
    fn talk<T: Moved>(
        &self,
        own: &[T],
        offset: usize,
        all: &mut [T],
        work: impl FnOnce(&Self, u64) -> Result<NcclStatus, NcclError>,
    ) -> Result<(), String> {
        let driver = |error| format!("the GPU failed: {error}");
        self.stream.context().bind_to_thread().map_err(driver)?;
        let at = self.room.device_ptr(&self.stream).0;
        if !own.is_empty() {
            // SAFETY: it lies within the memory; pageable memory is copied before the call returns.
            unsafe { memcpy_htod_async(at + offset as u64, own, self.stream.cu_stream()) }.map_err(driver)?;
        }
        work(self, at).map_err(|error| words(&error))?;
        self.stream.synchronize().map_err(driver)?;
        // SAFETY: nothing runs that could still write there, and there are so many.
        unsafe { memcpy_dtoh_sync(all, at) }.map_err(driver)
    }
}

impl Collective for Nccl {
    fn rank(&self) -> usize {
        self.place.rank
    }

    fn world(&self) -> usize {
        self.place.world
    }

    /// Of few numbers: those of a gradient lie on GPUs, and go from one to the other.
    fn all_to_all(&self, send: &[f32], receive: &mut [f32]) {
        let part = send.len() / self.world();
        let mut all = vec![0.0; send.len() * self.world()];
        self.all_gather(send, &mut all);
        let own = all.chunks_exact(send.len().max(1)).map(|of_rank| &of_rank[self.rank() * part..][..part]);
        own.zip(receive.chunks_exact_mut(part.max(1))).for_each(|(from, to)| to.copy_from_slice(from));
    }

    fn all_gather(&self, send: &[f32], receive: &mut [f32]) {
        reached(self.link().gather(self.place, send, receive));
    }

    fn broadcast(&self, bytes: &mut [u8]) {
        let link = self.link();
        for bytes in bytes.chunks_mut(ROOM) {
            let own = if self.place.rank == 0 { bytes.to_vec() } else { Vec::new() };
            let count = bytes.len();
            reached(link.talk(&own, 0, bytes, |link, at| {
                // SAFETY: the memory has room for so many bytes; rank 0's were written there.
                unsafe {
                    result::broadcast(at as _, at as _, count, u8::KIND, 0, link.comm, link.stream.cu_stream().cast())
                }
            }));
        }
    }

    fn gpus(&self) -> Option<&dyn BetweenGpus> {
        Some(self)
    }

    fn abort(&self) -> ! {
        let link = self.link();
        // SAFETY: nobody uses it any more. The process ends at once: what a library does on the way out might wait for a rank
        // that has died. The launcher sees the code, and ends the others.
        unsafe {
            let _ = result::comm_abort(link.comm);
            libc::_exit(1)
        }
    }
}

impl BetweenGpus for Nccl {
    unsafe fn exchange(&self, send: u64, receive: u64, part: usize, stream: Stream) -> Result<(), String> {
        let (link, bytes) = (self.link(), (size_of::<f32>() * part) as u64);
        let moved = || {
            // One group: otherwise each would wait for the one before it.
            result::group_start()?;
            for (peer, at) in (0..self.place.world).map(|peer| (peer as i32, peer as u64 * bytes)) {
                // SAFETY: the caller vouches for the memory.
                unsafe {
                    result::send((send + at) as _, part, f32::KIND, peer, link.comm, stream.cast())?;
                    result::recv((receive + at) as _, part, f32::KIND, peer, link.comm, stream.cast())?;
                }
            }
            result::group_end()
        };
        moved().map(drop).map_err(|error| words(&error))
    }

    unsafe fn hand_out(&self, at: u64, part: usize, stream: Stream) -> Result<(), String> {
        let own = at + (size_of::<f32>() * part * self.place.rank) as u64;
        let link = self.link();
        // SAFETY: the caller vouches for the memory; NCCL knows parts that lie where they will be.
        let gathered = unsafe { result::all_gather(own as _, at as _, part, f32::KIND, link.comm, stream.cast()) };
        gathered.map(drop).map_err(|error| words(&error))
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        // Nobody leaves before all are done: a launcher may end whoever is left.
        let link = self.link();
        let mut all = vec![0_u8; self.place.world];
        let _ = link.gather(self.place, &[0_u8], &mut all);
        // SAFETY: nobody uses it any more.
        let _ = unsafe { result::comm_destroy(link.comm) };
    }
}

/// What NCCL says of an error, and of the last thing that went wrong.
fn words(error: &NcclError) -> String {
    let text = |text: *const c_char| match text.is_null() {
        true => String::new(),
        // SAFETY: a text of the library, which ends with 0 and stays where it is until the next error.
        false => unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned(),
    };
    // SAFETY: these take and give what the library made.
    let [what, last] =
        unsafe { [sys::ncclGetErrorString(error.0), sys::ncclGetLastError(std::ptr::null_mut())] }.map(text);
    match last.as_str() {
        "" => what,
        _ if last.contains("Duplicate GPU") => {
            format!("two ranks were given one GPU, and ranks don't share one ({last})")
        }
        _ => format!("{what}: {last}"),
    }
}
