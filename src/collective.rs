//! Processes that work on one stage together: the ranks of a training. The one place that knows whether the program was
//! built with MPI.
//!
//! What moves is moved by others (MPI; threads in tests); what is added is added here, in the order of the ranks. So a sum
//! depends neither on who comes first nor on the way that a library chooses for a message.

#[cfg(feature = "mpi")]
mod mpi;
#[cfg(test)]
pub mod threads;

use std::ops::Range;

/// The most ranks of one stage.
pub const MOST_RANKS: u32 = 1024;

/// Numbers that are added at a time: what a sum needs beside its numbers stays within a few MiB.
const TOGETHER: usize = 1 << 20;

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

    /// Ends all ranks at once.
    fn abort(&self) -> !;
}

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

/// Adds the numbers of all ranks. Its buffers are kept from sum to sum: clearing fresh pages would take longer than adding.
#[derive(Debug, Default)]
pub struct Adder {
    part: Vec<f32>,
    received: Vec<f32>,
    padded: Vec<f32>,
}

impl Adder {
    /// Adds in the order of the ranks: everyone gets the same bits.
    ///
    /// Each rank adds one part of the numbers, which it then hands to all: nobody sends more than twice what there is.
    pub fn sum(&mut self, together: &dyn Collective, values: &mut [f32]) {
        let world = together.world();
        if world == 1 {
            return;
        }
        let Self { part, received, padded } = self;
        for values in values.chunks_mut((TOGETHER / world).max(1) * world) {
            let length = values.len().div_ceil(world);
            received.resize(length * world, 0.0);
            let whole = values.len() == length * world;
            if !whole {
                padded.clear();
                padded.extend_from_slice(values);
                padded.resize(length * world, 0.0);
            }
            together.all_to_all(if whole { values } else { padded }, received);
            let (first, others) = received.split_at(length);
            part.clear();
            part.extend_from_slice(first);
            for other in others.chunks_exact(length) {
                part.iter_mut().zip(other).for_each(|(sum, x)| *sum += x);
            }
            if whole {
                together.all_gather(part, values);
            } else {
                together.all_gather(part, padded);
                values.copy_from_slice(&padded[..values.len()]);
            }
        }
    }
}

fn share(rank: usize, world: usize, rows: usize) -> Range<usize> {
    rows * rank / world..rows * (rank + 1) / world
}

/// Why several ranks can't work here, if they can't.
pub fn missing() -> Option<&'static str> {
    (!cfg!(feature = "mpi")).then_some("this program was built without MPI: build it with `make mpi` (docs/mpi.md)")
}

/// Meets the other ranks that were started with this one.
pub fn meet() -> Result<Box<dyn Collective>, String> {
    #[cfg(feature = "mpi")]
    return mpi::Mpi::start().map(|mpi| Box::new(mpi) as Box<dyn Collective>);
    #[cfg(not(feature = "mpi"))]
    Err(missing().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Seed, normal};

    /// What each rank brings.
    fn numbers(world: usize, length: usize) -> Vec<Vec<f32>> {
        let mut rng = Seed(3).rng("test");
        (0..world).map(|_| (0..length).map(|_| (1e3 * normal(&mut rng)) as f32).collect()).collect()
    }

    #[test]
    fn sums_are_made_in_the_order_of_the_ranks_whoever_comes_first() {
        for (world, length) in [(2, 10), (3, 10), (3, 2), (4, 0), (4, 999), (3, TOGETHER + 5), (7, 1)] {
            let brought = numbers(world, length);
            let in_order = |i: usize| brought[1..].iter().fold(brought[0][i], |sum, values| sum + values[i]);
            let expected: Vec<f32> = (0..length).map(in_order).collect();
            for late in 0..world.min(3) {
                let sums = threads::with_ranks(world, |ranks| {
                    if ranks.rank() == late {
                        std::thread::sleep(std::time::Duration::from_millis(5));
                    }
                    let (mut adder, mut values) = (Adder::default(), vec![1.0; 7]);
                    adder.sum(ranks, &mut values);
                    assert_eq!(values, [world as f32; 7]);
                    values.clone_from(&brought[ranks.rank()]);
                    adder.sum(ranks, &mut values);
                    values
                });
                assert!(sums.iter().all(|sum| *sum == expected), "{world} ranks, {length} numbers");
            }
        }
    }

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
