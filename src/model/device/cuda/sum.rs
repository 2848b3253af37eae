//! The sum of the gradients of several GPUs, in the order of the ranks: what `Adder` does on processors, without leaving the
//! GPU's memory.

use super::Gpu;
use super::driver::{Arg, Threads, failed};
use crate::collective::{Collective, pieces};
use crate::model::ModelError;

/// Numbers that are added at a time: 64 MiB of memory beside the gradient.
const TOGETHER: usize = 1 << 24;

impl Gpu {
    /// Adds the gradients and losses of all ranks, which came from [`Gpu::gradient`], in the order of the ranks: everyone gets
    /// the same bits. Its work waits for theirs on the GPU alone.
    ///
    /// NCCL moves numbers and adds none: in which order it would depends on the ways that it finds between GPUs.
    pub fn sum(&mut self, together: &dyn Collective) -> Result<(), ModelError> {
        let (rank, world) = (together.rank(), together.world());
        if world == 1 {
            return Ok(());
        }
        let lost = |error: String| failed("to reach the others", error);
        let gpus = together.gpus().ok_or_else(|| lost("these ranks are of processors".to_owned()))?;
        self.driver.enter()?;
        let training = self.training.as_mut().expect("a gradient comes before its sum");
        let summed = training.summed();
        let received = match &training.received {
            Some(memory) => memory.floats,
            None => {
                let longest = pieces(summed.len, world, TOGETHER).next().map_or(0, |piece| piece.range(world).len());
                training.received.insert(self.driver.allocate(longest)?).floats
            }
        };
        let stream = self.driver.stream();
        for piece in pieces(summed.len, world, TOGETHER) {
            let all = training.numbers.floats.part(&piece.range(world));
            let own = all.part(&(rank * piece.part..(rank + 1) * piece.part));
            // SAFETY: both hold a part for each rank, and live as long as the model.
            unsafe { gpus.exchange(all.at, received.at, piece.part, stream) }.map_err(lost)?;
            let args = [received.into(), own.into(), Arg::Size(piece.part as u64), world.into()];
            self.driver.launch("add_ranks", Threads::Each(piece.part), &args)?;
            // SAFETY: as above.
            unsafe { gpus.hand_out(all.at, piece.part, stream) }.map_err(lost)?;
        }
        Ok(())
    }
}
