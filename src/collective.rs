//! Processes that work on one stage together: the ranks of a training. The one place that knows whether the program was
//! built with MPI, for ranks on processors, and with NCCL, for ranks that have a GPU each.
//!
//! What moves is moved by others (MPI, NCCL; threads in tests); what is added is added by us, in the order of the ranks. So
//! a sum depends neither on who comes first nor on the way that a library chooses for a message.

mod adder;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
#[cfg(any(feature = "nccl", test))]
mod place;
#[cfg(any(feature = "nccl", test))]
mod rendezvous;
#[cfg(test)]
pub mod threads;

pub use adder::{Adder, Piece, pieces};

use crate::device::Device;
use std::ffi::c_void;
use std::ops::Range;
use std::path::Path;

/// The most ranks of one stage.
pub const MOST_RANKS: u32 = 1024;

/// Bytes of one message: what MPI counts in an `int`, with much room.
const MESSAGE: usize = 1 << 28;

/// The ranks of one stage, seen by one of them. All of them make the same calls in the same order.
pub trait Collective: Send + Sync {
    /// Which of the ranks this is, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn world(&self) -> usize;

    /// Sends each rank its part of `send`, parts being of equal length, and receives one of each, in the order of the ranks.
    fn all_to_all(&self, send: &[f32], receive: &mut [f32]);

    /// Gives everyone what each rank sends, in the order of the ranks.
    fn all_gather(&self, send: &[f32], receive: &mut [f32]);

    /// Gives everyone rank 0's bytes, of a length that all know.
    fn broadcast(&self, bytes: &mut [u8]);

    /// The way between the GPUs of the ranks, where each has one.
    fn gpus(&self) -> Option<&dyn BetweenGpus> {
        None
    }

    /// Ends all ranks at once.
    fn abort(&self) -> !;
}

/// The way between the GPUs of the ranks: numbers move from memory to memory of GPUs. Both calls put their work on a stream
/// of this rank's GPU and return before it is done.
pub trait BetweenGpus {
    /// Sends each rank its part of the numbers at `send`, and receives one of each, in the order of the ranks.
    ///
    /// # Safety
    ///
    /// Both addresses are those of a part for each rank, in memory of this rank's GPU that outlives the work on `stream`.
    unsafe fn exchange(&self, send: u64, receive: u64, part: usize, stream: Stream) -> Result<(), String>;

    /// Gives everyone what each rank has in its own part of the numbers at `at`.
    ///
    /// # Safety
    ///
    /// As of [`BetweenGpus::exchange`].
    unsafe fn hand_out(&self, at: u64, part: usize, stream: Stream) -> Result<(), String>;
}

/// A stream of a GPU, as its driver names it.
pub type Stream = *mut c_void;

/// What a collective panics with when it can't reach the other ranks any more; the text says why.
#[derive(Debug)]
pub struct Lost(pub String);

/// One process alone.
#[derive(Debug, Clone, Copy)]
pub struct Single;

impl Collective for Single {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn all_to_all(&self, send: &[f32], receive: &mut [f32]) {
        receive.copy_from_slice(send);
    }

    fn all_gather(&self, send: &[f32], receive: &mut [f32]) {
        receive.copy_from_slice(send);
    }

    fn broadcast(&self, _bytes: &mut [u8]) {}

    fn abort(&self) -> ! {
        unreachable!("one process alone gives its exit code")
    }
}

impl dyn Collective + '_ {
    /// This rank's share of `rows` rows: those of all ranks lie side by side, as equal as can be.
    pub fn share(&self, rows: usize) -> Range<usize> {
        share(self.rank(), self.world(), rows)
    }

    /// Whether it is so on any rank.
    pub fn any(&self, here: bool) -> bool {
        self.each(f32::from(u8::from(here))).iter().any(|x| *x > 0.0)
    }

    /// One number of each rank.
    pub fn each(&self, here: f32) -> Vec<f32> {
        let mut all = vec![0.0; self.world()];
        self.all_gather(&[here], &mut all);
        all
    }

    /// Everyone's share of numbers of which `values` is this rank's, as [`Self::share`] cuts `rows`.
    pub fn gather(&self, values: &[f32], rows: usize) -> Vec<f32> {
        let (world, longest) = (self.world(), rows.div_ceil(self.world()));
        let mut send = values.to_vec();
        send.resize(longest, 0.0);
        let mut received = vec![0.0; longest * world];
        self.all_gather(&send, &mut received);
        let shares = (0..world).map(|rank| &received[rank * longest..][..share(rank, world, rows).len()]);
        shares.collect::<Vec<_>>().concat()
    }

    /// Rank 0's bytes, of any length.
    pub fn of_first(&self, here: Vec<u8>) -> Vec<u8> {
        if self.world() == 1 {
            return here;
        }
        let mut length = (here.len() as u64).to_le_bytes();
        self.broadcast(&mut length);
        let mut bytes = here;
        bytes.resize(u64::from_le_bytes(length) as usize, 0);
        bytes.chunks_mut(MESSAGE).for_each(|message| self.broadcast(message));
        bytes
    }
}

fn share(rank: usize, world: usize, rows: usize) -> Range<usize> {
    rows * rank / world..rows * (rank + 1) / world
}

/// Why several ranks can't work on such a device here, if they can't.
pub fn missing(device: Device) -> Option<&'static str> {
    match device {
        Device::Cpu => (!cfg!(feature = "mpi"))
            .then_some("this program was built without MPI: build it with `make mpi` (docs/mpi.md)"),
        Device::Cuda(_) => (!cfg!(feature = "nccl")).then_some(
            "this program was built without NCCL, by which GPUs talk: build it with `make nccl` (docs/gpu.md), or add \
             `--device cpu`",
        ),
    }
}

/// Meets the other ranks that were started with this one; gives this rank's device, too. With GPUs, `device` is the first
/// that ranks take on each node, and they meet in `folder`, which all of them see.
#[cfg_attr(not(feature = "nccl"), expect(unused_variables, reason = "MPI's launcher brings ranks together itself"))]
pub fn meet(device: Device, folder: &Path) -> Result<(Box<dyn Collective>, Device), String> {
    match device {
        #[cfg(feature = "mpi")]
        Device::Cpu => Ok((Box::new(mpi::Mpi::start()?), device)),
        #[cfg(feature = "nccl")]
        Device::Cuda(first) => {
            let (nccl, number) = nccl::Nccl::start(first, folder)?;
            Ok((Box::new(nccl), Device::Cuda(number)))
        }
        #[cfg(not(all(feature = "mpi", feature = "nccl")))]
        _ => Err(missing(device).unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_lie_side_by_side_and_come_back_in_their_order() {
        for (world, rows) in [(1, 5), (2, 5), (3, 36), (4, 3), (4, 0)] {
            let rows_of: Vec<usize> = (0..world).flat_map(|rank| share(rank, world, rows)).collect();
            assert_eq!(rows_of, (0..rows).collect::<Vec<_>>());
            let lengths: Vec<usize> = (0..world).map(|rank| share(rank, world, rows).len()).collect();
            assert!(lengths.iter().max().expect("one") - lengths.iter().min().expect("one") <= 1, "{lengths:?}");
            let whole: Vec<f32> = (0..rows).map(|row| row as f32).collect();
            let gathered = threads::with_ranks(world, |ranks| ranks.gather(&whole[ranks.share(rows)], rows));
            assert!(gathered.iter().all(|all| *all == whole), "{world} {rows}");
        }
    }

    #[test]
    fn what_one_says_all_hear() {
        let heard = threads::with_ranks(3, |ranks| {
            let words = if ranks.rank() == 0 { b"of the first".to_vec() } else { b"other".to_vec() };
            (ranks.any(ranks.rank() == 2), ranks.any(false), ranks.of_first(words), ranks.each(ranks.rank() as f32))
        });
        let expected = (true, false, b"of the first".to_vec(), vec![0.0, 1.0, 2.0]);
        assert_eq!(heard, [expected.clone(), expected.clone(), expected]);
    }
}
