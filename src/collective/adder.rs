//! The sum of all ranks' numbers: how it is cut, the same on processors and on GPUs, and the adding on a processor.

use super::Collective;
use std::ops::Range;

/// Numbers that are added at a time: what a sum needs beside its numbers stays within a few MiB.
const TOGETHER: usize = 1 << 20;

/// A stretch of the numbers, of which each rank adds one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub start: usize,
    /// Numbers of each rank's part.
    pub part: usize,
}

impl Piece {
    /// The numbers of all parts; those of the last piece may end after what there is to add.
    pub fn range(self, world: usize) -> Range<usize> {
        self.start..self.start + world * self.part
    }
}

/// Cuts numbers into pieces of `most` or fewer, side by side. Each is of as many equal parts as there are ranks, so the last
/// may reach farther than the numbers: by less than a number for each rank.
pub fn pieces(len: usize, world: usize, most: usize) -> impl Iterator<Item = Piece> {
    let whole = (most / world).max(1) * world;
    (0..len).step_by(whole).map(move |start| Piece { start, part: whole.min(len - start).div_ceil(world) })
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
        for piece in pieces(values.len(), world, TOGETHER) {
            let Range { start, end } = piece.range(world);
            let whole = end <= values.len();
            let end = end.min(values.len());
            let values = &mut values[start..end];
            received.resize(world * piece.part, 0.0);
            if !whole {
                padded.clear();
                padded.extend_from_slice(values);
                padded.resize(world * piece.part, 0.0);
            }
            together.all_to_all(if whole { values } else { padded }, received);
            let (first, others) = received.split_at(piece.part);
            part.clear();
            part.extend_from_slice(first);
            for other in others.chunks_exact(piece.part) {
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

#[cfg(test)]
mod tests {
    use super::super::threads;
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
    fn pieces_lie_side_by_side_and_only_the_last_has_room_left() {
        for (len, world, most) in
            [(0, 4, 8), (1, 4, 8), (8, 4, 8), (9, 4, 8), (1000, 3, 64), (5, 7, 2), (1 << 20, 8, 1 << 18)]
        {
            let pieces: Vec<Piece> = pieces(len, world, most).collect();
            let mut end = 0;
            for piece in &pieces {
                assert_eq!(piece.start, end, "{len} {world} {most}");
                assert!(end < len && piece.part >= 1);
                end = piece.range(world).end;
                assert!(end - piece.start <= most.max(world), "{piece:?}");
            }
            assert!(end >= len && end < len + world, "{len} {world} {most}: {pieces:?}");
        }
    }
}
