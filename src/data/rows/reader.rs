//! Reading rows from Parquet, several row groups side by side.

use super::{Rows, Sequences};
use crate::data::DataError;
use crate::data::chunks::Chunks;
use crate::data::columns;
use crate::data::row_groups::GROUP_ROWS;
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, Length, SerializedFileReader};
use rayon::prelude::*;
use std::collections::VecDeque;
use std::path::Path;

/// Rows for each byte of a file, above which its footer is not believed: some stages take a few bytes of memory for each
/// row. Of rows that are all equal a byte may hold thousands.
const MOST_IN_A_BYTE: u64 = 1 << 16;

/// Reads a rows file batch by batch, in the order of the file.
pub struct Reader {
    groups: Groups,
    label: String,
    /// The next row group to open.
    group: usize,
    /// A row group too large for one batch, read piece by piece.
    open: Option<Group>,
    /// Rows before the next row group: their positions where the file has no `pos`.
    before: i64,
}

/// The row groups of a file; any number of threads may open them.
struct Groups {
    file: SerializedFileReader<Chunks>,
    places: Places,
    sequences: bool,
}

/// Where the columns stand; only `sequence` has to be there.
struct Places {
    pos: Option<usize>,
    sequence: usize,
    expression: Option<usize>,
}

/// A row group that is being read.
struct Group {
    left: usize,
    /// The position of its next row where the file has no `pos`.
    next: i64,
    pos: Option<Column>,
    sequence: Option<Column>,
    expression: Option<Column>,
}

struct Column {
    reader: ColumnReader,
    nullable: bool,
}

impl Reader {
    /// Opens a file and checks its columns; messages name it `label`.
    pub fn open(path: &Path, label: &str) -> Result<Self, DataError> {
        let chunks = Chunks::open(path)?;
        let size = chunks.len();
        let file = columns::guarded(label, || SerializedFileReader::new(chunks))?;
        let schema = file.metadata().file_metadata().schema_descr();
        let Some(sequence) = columns::find(schema, "sequence") else {
            let has: Vec<String> = schema.columns().iter().map(|c| c.path().string()).collect();
            return Err(DataError::Input(format!(
                "{label}: this Parquet file holds no rows: it has the columns {}, and rows need `sequence` (with `pos` and `expression`)",
                has.join(", ")
            )));
        };
        let places =
            Places { pos: columns::find(schema, "pos"), sequence, expression: columns::find(schema, "expression") };
        let used = [places.pos, Some(places.sequence), places.expression];
        if !columns::counts_agree(file.metadata(), used.into_iter().flatten()) {
            return Err(columns::damaged(label, columns::COUNTS));
        }
        if file.metadata().file_metadata().num_rows().cast_unsigned() / MOST_IN_A_BYTE > size {
            return Err(columns::damaged(label, "its footer says more rows than it can hold"));
        }
        let groups = Groups { file, places, sequences: true };
        Ok(Self { groups, label: label.to_owned(), group: 0, open: None, before: 0 })
    }

    /// Leaves the sequences unread: batches then hold empty ones.
    #[must_use]
    pub fn without_sequences(self) -> Self {
        Self { groups: Groups { sequences: false, ..self.groups }, ..self }
    }

    /// The number of rows, as the footer says.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.groups.file.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Gives the next rows, at most [`GROUP_ROWS`] in a batch; `None` at the end. Row groups of that size, which our own
    /// files have, are read side by side on the current pool of threads; others one piece after the other.
    pub fn next_batches(&mut self) -> Result<Option<Vec<Rows>>, DataError> {
        let label = self.label.clone();
        if self.open.is_none() {
            let ahead = self.small_groups(2 * rayon::current_num_threads());
            if !ahead.is_empty() {
                let groups = &self.groups;
                let read = |&(group, before): &(usize, i64)| {
                    columns::guarded(&label, || {
                        let mut group = groups.open(group, before)?;
                        let rows = group.left;
                        group.read(rows)
                    })
                };
                let batches = ahead.par_iter().map(read).collect::<Result<Vec<_>, _>>()?;
                self.group += ahead.len();
                self.before += batches.iter().map(|rows| rows.len() as i64).sum::<i64>();
                return Ok(Some(batches));
            }
        }
        columns::guarded(&label, || self.next_piece()).map(|piece| piece.map(|rows| vec![rows]))
    }

    /// The row groups from here on that fit one batch, with the number of rows before each; at most `most` of them.
    fn small_groups(&self, most: usize) -> Vec<(usize, i64)> {
        let mut before = self.before;
        (self.group..self.groups.file.num_row_groups())
            .take(most)
            .map_while(|group| {
                let rows = self.groups.file.metadata().row_group(group).num_rows();
                let place = before;
                before += rows;
                (0..=GROUP_ROWS as i64).contains(&rows).then_some((group, place))
            })
            .collect()
    }

    fn next_piece(&mut self) -> Result<Option<Rows>, ParquetError> {
        while self.open.as_ref().is_none_or(|group| group.left == 0) {
            self.open = None;
            if self.group == self.groups.file.num_row_groups() {
                return Ok(None);
            }
            let group = self.groups.open(self.group, self.before)?;
            self.before += group.left as i64;
            self.group += 1;
            self.open = Some(group);
        }
        let group = self.open.as_mut().expect("opened just above");
        let rows = group.read(group.left.min(GROUP_ROWS))?;
        if group.left == 0 {
            self.open = None;
        }
        Ok(Some(rows))
    }
}

impl Groups {
    fn open(&self, index: usize, before: i64) -> Result<Group, ParquetError> {
        let reader = self.file.get_row_group(index)?;
        let column = |place: usize| {
            let nullable = reader.metadata().column(place).column_descr().max_def_level() > 0;
            reader.get_column_reader(place).map(|reader| Column { reader, nullable })
        };
        let left = usize::try_from(reader.metadata().num_rows())
            .map_err(|_| ParquetError::General("a row group has a negative size".into()))?;
        Ok(Group {
            left,
            next: before,
            pos: self.places.pos.map(column).transpose()?,
            sequence: self.sequences.then(|| column(self.places.sequence)).transpose()?,
            expression: self.places.expression.map(column).transpose()?,
        })
    }
}

impl Group {
    /// Reads the next `wanted` rows.
    fn read(&mut self, wanted: usize) -> Result<Rows, ParquetError> {
        let mut rows = Rows::default();
        rows.pos = match &mut self.pos {
            Some(column) => columns::read_positions(&mut column.reader, column.nullable, wanted)?,
            None => (self.next..self.next + wanted as i64).collect(),
        };
        match &mut self.sequence {
            Some(column) => read_sequences(column, wanted, &mut rows.sequences)?,
            None => (0..wanted).for_each(|_| rows.sequences.push(b"")),
        }
        rows.expression = match &mut self.expression {
            Some(column) => columns::read_numbers(&mut column.reader, column.nullable, wanted)?,
            None => vec![None; wanted],
        };
        self.left -= wanted;
        self.next += wanted as i64;
        Ok(rows)
    }
}

fn read_sequences(column: &mut Column, wanted: usize, into: &mut Sequences) -> Result<(), ParquetError> {
    let ColumnReader::ByteArrayColumnReader(reader) = &mut column.reader else {
        return Err(ParquetError::General("column `sequence` must hold text".into()));
    };
    // A null becomes an empty sequence, which the checks of an import refuse by row.
    columns::read_column(reader, column.nullable, wanted, |v| into.push(v.map_or(b"", ByteArray::data))).map(drop)
}

/// Rows one batch after the other, where nothing is done side by side.
pub struct Batches {
    reader: Reader,
    ready: VecDeque<Rows>,
}

impl From<Reader> for Batches {
    fn from(reader: Reader) -> Self {
        Self { reader, ready: VecDeque::new() }
    }
}

impl Iterator for Batches {
    type Item = Result<Rows, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            match self.reader.next_batches() {
                Ok(batches) => self.ready.extend(batches.into_iter().flatten()),
                Err(error) => return Some(Err(error)),
            }
        }
        self.ready.pop_front().map(Ok)
    }
}
