//! The collective of production: MPI moves the numbers.

use super::Collective;
use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{CommunicatorCollectives, Root};

/// All processes that `mpirun` or `srun` started together. Dropped after success, it waits for all of them to be done; an
/// error of MPI ends all of them where it happens.
pub struct Mpi {
    world: SimpleCommunicator,
    /// Ends MPI when it is dropped; after the communicator.
    _universe: Universe,
}

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
        Ok(Self { world: universe.world(), _universe: universe })
    }
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn world(&self) -> usize {
        self.world.size() as usize
    }

    fn all_to_all(&self, send: &[f32], receive: &mut [f32]) {
        self.world.all_to_all_into(send, receive);
    }

    fn all_gather(&self, send: &[f32], receive: &mut [f32]) {
        self.world.all_gather_into(send, receive);
    }

    fn broadcast(&self, bytes: &mut [u8]) {
        self.world.process_at_rank(0).broadcast_into(bytes);
    }

    fn abort(&self) -> ! {
        self.world.abort(1)
    }
}
