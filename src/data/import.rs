//! Importing: rows from text or Parquet through the same checks, and what there is to say about them.

use super::DataError;
use super::blocks::Blocks;
use super::check::{self, BadRow, Faults};
use super::distinct::Distinct;
use super::rows::{self, Rows};
use super::{text, tsv};
use rayon::prelude::*;
use std::io::Read;
use std::path::Path;

/// A file of rows, text or Parquet as its content says.
pub enum Source {
    Text(tsv::Reader),
    Parquet(Parquet),
}

/// Rows of a Parquet file, to be checked as text is.
pub struct Parquet {
    reader: rows::Reader,
    labels_required: bool,
    /// Rows before.
    seen: usize,
}

impl Source {
    /// Opens a file; messages name it `label`.
    pub fn open(path: &Path, label: &str, labels_required: bool) -> Result<Self, DataError> {
        if !path.is_dir() && is_parquet(path)? {
            let reader = rows::Reader::open(path, label)?;
            return Ok(Self::Parquet(Parquet { reader, labels_required, seen: 0 }));
        }
        Ok(Self::Text(tsv::Reader::new(Blocks::new(text::open(path, label)?)?, labels_required)))
    }

    /// Gives the next usable rows, and adds the bad ones met on the way to `faults`; `None` at the end.
    pub fn next_batches(&mut self, faults: &mut Faults) -> Result<Option<Vec<Rows>>, DataError> {
        match self {
            Self::Text(reader) => reader.next_batches(faults),
            Self::Parquet(reader) => reader.next_batches(faults),
        }
    }

    /// Says where a bad row stands and what is wrong with it.
    pub fn place(&self, label: &str, row: &BadRow) -> String {
        match self {
            Self::Text(_) => format!("{label}:{}:{}: {}", row.line, row.column, row.reason),
            Self::Parquet(_) if row.column == 0 => format!("{label}: row {}: {}", row.line, row.reason),
            Self::Parquet(_) => format!("{label}: row {}: base {}: {}", row.line, row.column, row.reason),
        }
    }
}

fn is_parquet(path: &Path) -> Result<bool, DataError> {
    let mut magic = Vec::new();
    fs_err::File::open(path)?.take(4).read_to_end(&mut magic)?;
    Ok(magic == b"PAR1")
}

impl Parquet {
    fn next_batches(&mut self, faults: &mut Faults) -> Result<Option<Vec<Rows>>, DataError> {
        let Some(batches) = self.reader.next_batches()? else { return Ok(None) };
        let placed = rows::placed(batches, &mut self.seen);
        let required = self.labels_required;
        let checked: Vec<(Rows, Faults)> =
            placed.par_iter().map(|(first, batch)| checked(batch, *first as u64, required)).collect();
        let usable = checked.into_iter().map(|(rows, met)| {
            faults.count += met.count - met.listed.len() as u64;
            met.listed.into_iter().for_each(|row| faults.add(row));
            rows
        });
        Ok(Some(usable.collect()))
    }
}

/// The usable rows of a batch, and the others; `before` rows stand before it.
fn checked(batch: &Rows, before: u64, labels_required: bool) -> (Rows, Faults) {
    let (mut rows, mut faults) = (Rows::default(), Faults::default());
    for (i, line) in (0..batch.len()).zip(before + 1..) {
        let checked = rows.sequences.push_with(|bases| {
            check::sequence(batch.sequences.get(i), bases).map_err(|(at, reason)| (at + 1, reason))?;
            check::measured(batch.expression[i], labels_required).map_err(|reason| (0, reason))
        });
        match checked {
            Ok(expression) => {
                rows.pos.push(batch.pos[i]);
                rows.expression.push(expression);
            }
            Err((column, reason)) => faults.add(BadRow { line, column, reason }),
        }
    }
    (rows, faults)
}

/// Gathers what there is to say about imported rows.
pub struct Summary {
    distinct: Distinct,
    labelled: u64,
    mean: f64,
    /// Sum of squared distances from the mean so far (Welford).
    squares: f64,
    shortest: Option<usize>,
    longest: Option<usize>,
}

/// What there is to say about imported rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub rows: u64,
    /// Rows whose sequence stands in an earlier row too.
    pub duplicates: u64,
    pub labelled: u64,
    pub mean: Option<f64>,
    /// Standard deviation, over n.
    pub sd: Option<f64>,
    pub shortest: Option<usize>,
    pub longest: Option<usize>,
}

impl Summary {
    /// `scratch` is a folder for files that come and go.
    pub fn new(scratch: &Path) -> Self {
        let distinct = Distinct::new(scratch.to_owned());
        Self { distinct, labelled: 0, mean: 0.0, squares: 0.0, shortest: None, longest: None }
    }

    pub fn rows(&self) -> u64 {
        self.distinct.added()
    }

    pub fn add(&mut self, batches: &[Rows]) -> Result<(), DataError> {
        let hashes: Vec<Vec<u128>> =
            batches.par_iter().map(|rows| rows.sequences.iter().map(Distinct::hash).collect()).collect();
        hashes.iter().try_for_each(|hashes| self.distinct.add(hashes))?;
        for rows in batches {
            let lengths = rows.sequences.lengths();
            self.shortest = self.shortest.into_iter().chain(lengths.clone().min()).min();
            self.longest = self.longest.max(lengths.max());
            // One value after the other: the result must not depend on how rows were batched.
            for value in rows.expression.iter().flatten() {
                self.labelled += 1;
                let step = value - self.mean;
                self.mean += step / self.labelled as f64;
                self.squares += step * (value - self.mean);
            }
        }
        Ok(())
    }

    pub fn facts(self) -> Result<Facts, DataError> {
        let rows = self.rows();
        let labelled = (self.labelled > 0).then_some(self.labelled as f64);
        Ok(Facts {
            rows,
            duplicates: rows - self.distinct.count()?,
            labelled: self.labelled,
            mean: labelled.map(|_| self.mean),
            sd: labelled.map(|n| (self.squares / n).sqrt()),
            shortest: self.shortest,
            longest: self.longest,
        })
    }
}
