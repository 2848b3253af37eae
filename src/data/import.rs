//! Importing: rows from text or Parquet through the same checks, and what there is to say about them.

use super::DataError;
use super::check::{self, BadRow};
use super::rows::{self, Rows};
use super::tsv;
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
    seen: u64,
}

impl Source {
    /// Opens a file; messages name it `label`.
    pub fn open(path: &Path, label: &str, labels_required: bool) -> Result<Self, DataError> {
        if !path.is_dir() && is_parquet(path)? {
            let reader = rows::Reader::open(path, label)?;
            return Ok(Self::Parquet(Parquet { reader, labels_required, seen: 0 }));
        }
        tsv::Reader::open(path, label, labels_required).map(Self::Text)
    }

    /// Gives the next usable rows, and adds the bad ones met on the way to `bad`; `None` at the end.
    pub fn next_batch(&mut self, bad: &mut Vec<BadRow>) -> Result<Option<Rows>, DataError> {
        match self {
            Self::Text(reader) => reader.next_batch(bad),
            Self::Parquet(reader) => reader.next_batch(bad),
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
    fn next_batch(&mut self, bad: &mut Vec<BadRow>) -> Result<Option<Rows>, DataError> {
        let Some(batch) = self.reader.next_batch()? else { return Ok(None) };
        let (mut rows, mut bases) = (Rows::default(), Vec::new());
        for i in 0..batch.len() {
            self.seen += 1;
            let checked =
                check::sequence(batch.sequences.get(i), &mut bases).map_err(|(at, reason)| (at + 1, reason)).and_then(
                    |()| check::measured(batch.expression[i], self.labels_required).map_err(|reason| (0, reason)),
                );
            match checked {
                Ok(expression) => rows.push(batch.pos[i], &bases, expression),
                Err((column, reason)) => bad.push(BadRow { line: self.seen, column, reason }),
            }
        }
        Ok(Some(rows))
    }
}

/// Gathers what there is to say about imported rows.
#[derive(Default)]
pub struct Summary {
    /// A digest for each row: equal ones are equal sequences. 16 bytes a row, where the sequences would take 110.
    digests: Vec<u128>,
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
    pub fn rows(&self) -> u64 {
        self.digests.len() as u64
    }

    pub fn add(&mut self, rows: &Rows) {
        for sequence in rows.sequences.iter() {
            let digest = blake3::hash(sequence);
            self.digests.push(u128::from_le_bytes(digest.as_bytes()[..16].try_into().expect("a digest has 32 bytes")));
            self.shortest = Some(self.shortest.map_or(sequence.len(), |l| l.min(sequence.len())));
            self.longest = self.longest.max(Some(sequence.len()));
        }
        for value in rows.expression.iter().flatten() {
            self.labelled += 1;
            let step = value - self.mean;
            self.mean += step / self.labelled as f64;
            self.squares += step * (value - self.mean);
        }
    }

    pub fn facts(mut self) -> Facts {
        let rows = self.rows();
        self.digests.sort_unstable();
        self.digests.dedup();
        let labelled = (self.labelled > 0).then_some(self.labelled as f64);
        Facts {
            rows,
            duplicates: rows - self.digests.len() as u64,
            labelled: self.labelled,
            mean: labelled.map(|_| self.mean),
            sd: labelled.map(|n| (self.squares / n).sqrt()),
            shortest: self.shortest,
            longest: self.longest,
        }
    }
}
