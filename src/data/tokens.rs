//! Token ids of many rows, held in at most one byte each.

use std::ops::Range;

/// Token ids of rows; of a vocabulary of up to 16 words, as bases have, two share a byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    bytes: Vec<u8>,
    /// Where each row begins in `bytes`.
    starts: Vec<usize>,
    lengths: Vec<u16>,
    paired: bool,
}

impl Tokens {
    /// The longest row that is held.
    pub const LONGEST: usize = u16::MAX as usize;

    /// `vocab_size` says how many bits an id takes.
    pub fn new(vocab_size: usize) -> Self {
        Self { bytes: Vec::new(), starts: Vec::new(), lengths: Vec::new(), paired: vocab_size <= 16 }
    }

    /// Makes room for `rows` rows of up to `longest` tokens: room that is not used takes no memory, while growing
    /// would for a moment take twice as much.
    #[must_use]
    pub fn with_room(mut self, rows: usize, longest: usize) -> Self {
        self.bytes.reserve_exact(rows * if self.paired { longest.div_ceil(2) } else { longest });
        self.starts.reserve_exact(rows);
        self.lengths.reserve_exact(rows);
        self
    }

    /// Adds a row of at most [`Self::LONGEST`] ids.
    pub fn push(&mut self, ids: &[u8]) {
        self.starts.push(self.bytes.len());
        self.lengths.push(u16::try_from(ids.len()).expect("a row is cut to the model's longest before"));
        if self.paired {
            let byte = |pair: &[u8]| pair[0] | pair.get(1).map_or(0, |second| second << 4);
            self.bytes.extend(ids.chunks(2).map(byte));
        } else {
            self.bytes.extend_from_slice(ids);
        }
    }

    /// Adds all rows of `other`, which is of the same vocabulary.
    pub fn append(&mut self, other: &Self) {
        debug_assert_eq!(self.paired, other.paired, "both are of one vocabulary");
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.starts.extend(other.starts.iter().map(|start| before + start));
        self.lengths.extend_from_slice(&other.lengths);
    }

    /// The first `rows` rows, or all there are.
    #[must_use]
    pub fn first(&self, rows: usize) -> Self {
        self.slice(0..rows.min(self.len()))
    }

    /// The rows of a range.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let at = |row: usize| self.starts.get(row).copied().unwrap_or(self.bytes.len());
        let (start, end) = (at(rows.start), at(rows.end));
        Self {
            bytes: self.bytes[start..end].to_vec(),
            starts: self.starts[rows.clone()].iter().map(|at| at - start).collect(),
            lengths: self.lengths[rows].to_vec(),
            paired: self.paired,
        }
    }

    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// How many tokens row `i` has.
    pub fn length(&self, i: usize) -> usize {
        usize::from(self.lengths[i])
    }

    /// Adds the ids of row `i` to `out`.
    pub fn extend(&self, i: usize, out: &mut Vec<u8>) {
        let (start, length) = (self.starts[i], self.length(i));
        if !self.paired {
            out.extend_from_slice(&self.bytes[start..start + length]);
            return;
        }
        let before = out.len();
        out.extend(self.bytes[start..start + length.div_ceil(2)].iter().flat_map(|byte| [byte & 15, byte >> 4]));
        out.truncate(before + length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_went_in() {
        for words in [10, 16, 17, 256] {
            let row = |i: usize| (0..i % 131).map(|j| ((i * 7 + j * j) % words) as u8).collect::<Vec<u8>>();
            let (mut first, mut second) = (Tokens::new(words).with_room(300, 130), Tokens::new(words));
            (0..250).for_each(|i| first.push(&row(i)));
            (250..500).for_each(|i| second.push(&row(i)));
            first.append(&second);
            assert_eq!(first.len(), 500);
            for i in 0..500 {
                let mut ids = vec![9];
                first.extend(i, &mut ids);
                assert_eq!((ids[0], &ids[1..], first.length(i)), (9, &row(i)[..], i % 131), "{words} words, row {i}");
            }
            let bytes = if words <= 16 {
                (0..500).map(|i| (i % 131_usize).div_ceil(2)).sum()
            } else {
                first.lengths.iter().map(|n| usize::from(*n)).sum::<usize>()
            };
            assert_eq!(first.bytes.len(), bytes);
        }
    }
}
