//! Writing rows as Parquet, several row groups compressed side by side.

use super::{Rows, Sequences};
use crate::data::DataError;
use crate::data::row_groups::{Encoded, GROUP_ROWS, Group, GroupWriter, Written};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use rayon::prelude::*;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

/// The layout of a rows file.
const SCHEMA: &str = "message rows {
    required int64 pos;
    required binary sequence (UTF8);
    optional double expression;
}";

/// Writes a rows file batch by batch; how the rows were batched leaves no trace in its bytes.
pub struct Writer {
    file: GroupWriter,
    held: VecDeque<Held>,
    /// Rows of the first held batch that are written already.
    used: usize,
    /// Rows held and not written.
    waiting: usize,
}

/// A batch whose sequences are one shared buffer: the encoder takes slices of it.
struct Held {
    pos: Vec<i64>,
    text: ByteArray,
    ends: Vec<usize>,
    expression: Vec<Option<f64>>,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Self, DataError> {
        Ok(Self { file: GroupWriter::create(path, SCHEMA)?, held: VecDeque::new(), used: 0, waiting: 0 })
    }

    /// Adds rows at the end.
    pub fn append(&mut self, rows: Rows) -> Result<(), DataError> {
        self.waiting += rows.len();
        let Rows { pos, sequences: Sequences { bytes, ends }, expression } = rows;
        self.held.push_back(Held { pos, text: ByteArray::from(bytes), ends, expression });
        // Enough for each thread to have one in hand and one in store.
        let groups = self.waiting / GROUP_ROWS;
        if groups >= 2 * rayon::current_num_threads() { self.flush(groups) } else { Ok(()) }
    }

    /// Writes what is left and the footer.
    pub fn finish(mut self) -> Result<Written, DataError> {
        self.flush(self.waiting.div_ceil(GROUP_ROWS))?;
        self.file.finish()
    }

    /// Writes the next `count` row groups.
    fn flush(&mut self, count: usize) -> Result<(), DataError> {
        let mut groups = Vec::with_capacity(count);
        let (mut batch, mut start) = (0, self.used);
        for _ in 0..count {
            let (mut pieces, mut room) = (Vec::new(), GROUP_ROWS);
            while room > 0 && batch < self.held.len() {
                let end = self.held[batch].pos.len().min(start + room);
                pieces.push((&self.held[batch], start..end));
                room -= end - start;
                start = end;
                if end == self.held[batch].pos.len() {
                    (batch, start) = (batch + 1, 0);
                }
            }
            groups.push(pieces);
        }
        let form = &self.file.form;
        let encode = |pieces: &Vec<_>| form.encode(|group| write_group(group, pieces));
        let encoded: Vec<Encoded> = groups.par_iter().map(encode).collect::<Result<_, _>>()?;
        self.waiting -= groups.iter().flatten().map(|(_, range)| range.len()).sum::<usize>();
        drop(groups);
        self.held.drain(..batch);
        self.used = start;
        encoded.into_iter().try_for_each(|group| self.file.append(group))
    }
}

/// Writes one row group, made of pieces of batches.
fn write_group(group: &mut Group<'_>, pieces: &[(&Held, Range<usize>)]) -> Result<(), DataError> {
    let total = pieces.iter().map(|(_, range)| range.len()).sum();
    let mut pos = Vec::with_capacity(total);
    let mut sequences = Vec::with_capacity(total);
    let mut levels = Vec::with_capacity(total);
    let mut values = Vec::with_capacity(total);
    for (held, range) in pieces {
        pos.extend_from_slice(&held.pos[range.clone()]);
        let mut start = if range.start == 0 { 0 } else { held.ends[range.start - 1] };
        for &end in &held.ends[range.clone()] {
            sequences.push(held.text.slice(start, end - start));
            start = end;
        }
        levels.extend(held.expression[range.clone()].iter().map(|v| i16::from(v.is_some())));
        values.extend(held.expression[range.clone()].iter().copied().flatten());
    }
    group.column::<Int64Type>(&pos, None)?;
    group.column::<ByteArrayType>(&sequences, None)?;
    group.column::<DoubleType>(&values, Some(&levels))
}
