//! Rows as Parquet: `pos` INT64, `sequence` UTF-8, `expression` DOUBLE (null where unlabelled).

use super::DataError;
use std::path::Path;

/// Sequences end to end in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequences {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Sequences {
    pub fn push(&mut self, sequence: &[u8]) {
        self.bytes.extend_from_slice(sequence);
        self.ends.push(self.bytes.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bases of row `i`.
    pub fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start..self.ends[i]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// Rows in columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// The row's place in the file that it came from, from 0.
    pub pos: Vec<i64>,
    pub sequences: Sequences,
    /// Measured expression; `None` where unlabelled.
    pub expression: Vec<Option<f64>>,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.pos.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pos.is_empty()
    }

    /// The rows at `places`, in that order.
    pub fn select(&self, places: &[usize]) -> Self {
        let mut chosen = Self::default();
        for &i in places {
            chosen.pos.push(self.pos[i]);
            chosen.sequences.push(self.sequences.get(i));
            chosen.expression.push(self.expression[i]);
        }
        chosen
    }
}

/// Reads a whole rows file.
pub fn read(_path: &Path) -> Result<Rows, DataError> {
    todo!()
}

/// Writes rows; equal rows give equal bytes.
pub fn write(_path: &Path, _rows: &Rows) -> Result<(), DataError> {
    todo!()
}
