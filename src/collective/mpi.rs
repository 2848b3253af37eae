//! The collective of production: MPI moves the numbers.

use super::Collective;
use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{CommunicatorCollectives, Root};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All processes that `mpirun` or `srun` started together. Dropped after success, it waits for all of them to be done; an
/// error of MPI ends all of them where it happens.
pub struct Mpi {
    rank: usize,
    world: usize,
    everyone: Mutex<Everyone>,
    /// Ends MPI when it is dropped; after the communicator.
    _universe: Universe,
}

/// All ranks, as MPI names them.
struct Everyone(SimpleCommunicator);

// SAFETY: the name is good on every thread, as MPI was started for calls from any thread, one at a time; the lock around it
// sees to that.
unsafe impl Send for Everyone {}

impl Mpi {
    pub fn start() -> Result<Self, String> {
        // A training computes in a pool of threads: one of them talks at a time, not always the same.
        let (universe, threading) =
            mpi::initialize_with_threading(Threading::Serialized).ok_or("MPI was started twice in one process")?;
        if threading < Threading::Serialized {
            return Err(
                "this MPI library takes calls from one thread alone; one with MPI_THREAD_SERIALIZED is needed".into()
            );
        }
        let everyone = universe.world();
        let (rank, world) = (everyone.rank() as usize, everyone.size() as usize);
        Ok(Self { rank, world, everyone: Mutex::new(Everyone(everyone)), _universe: universe })
    }

    fn everyone(&self) -> MutexGuard<'_, Everyone> {
        self.everyone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn all_to_all(&self, send: &[f32], receive: &mut [f32]) {
        self.everyone().0.all_to_all_into(send, receive);
    }

    fn all_gather(&self, send: &[f32], receive: &mut [f32]) {
        self.everyone().0.all_gather_into(send, receive);
    }

    fn broadcast(&self, bytes: &mut [u8]) {
        self.everyone().0.process_at_rank(0).broadcast_into(bytes);
    }

    fn abort(&self) -> ! {
        self.everyone().0.abort(1)
    }
}
