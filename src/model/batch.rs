//! A batch of packed tokens: rows end to end, no padding.

use super::kernels::norm::Place;
use crate::data::tokens::Tokens;
use std::ops::Range;

/// Token ids of rows, end to end.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(super) ids: Vec<u8>,
    /// Where each row starts, and the end of the last.
    pub(super) starts: Vec<usize>,
    /// Each token's row and position.
    pub(super) places: Vec<Place>,
    /// The same of the rows' first tokens.
    pub(super) firsts: Vec<Place>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { ids: Vec::new(), starts: vec![0], places: Vec::new(), firsts: Vec::new() }
    }
}

impl Batch {
    /// Packs rows of token ids; a row has at least one token.
    pub fn new<'a>(rows: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut batch = Self::default();
        rows.into_iter().for_each(|row| batch.push(row));
        batch
    }

    /// Packs the rows of `tokens` at these places.
    pub fn of(tokens: &Tokens, rows: &[usize]) -> Self {
        let (mut batch, mut ids) = (Self::default(), Vec::new());
        for &row in rows {
            ids.clear();
            tokens.extend(row, &mut ids);
            batch.push(&ids);
        }
        batch
    }

    /// Adds a row.
    pub fn push(&mut self, ids: &[u8]) {
        assert!(!ids.is_empty(), "a row has at least one token: checked when it was encoded");
        let row = self.rows() as u32;
        self.ids.extend_from_slice(ids);
        self.starts.push(self.ids.len());
        self.places.extend((0..ids.len() as u32).map(|position| (row, position)));
        self.firsts.push((row, 0));
    }

    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The length of the longest row.
    pub fn longest(&self) -> usize {
        self.lengths().max().unwrap_or(0)
    }

    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.starts.windows(2).map(|row| row[1] - row[0])
    }

    pub(super) fn range(&self, row: usize) -> Range<usize> {
        self.starts[row]..self.starts[row + 1]
    }
}
