//! Rows as Parquet: `pos` INT64, `sequence` UTF-8, `expression` DOUBLE (null where unlabelled).

use super::DataError;
use std::io::Write;
use std::path::Path;

mod reader;
mod writer;

pub use reader::{Batches, Reader};
pub use writer::Writer;

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

    /// Adds what `write` puts at the end of the buffer; nothing where it fails.
    pub fn push_with<T, E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>) -> Result<T, E> {
        let written = write(&mut self.bytes);
        match &written {
            Ok(_) => self.ends.push(self.bytes.len()),
            Err(_) => self.bytes.truncate(self.ends.last().copied().unwrap_or(0)),
        }
        written
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

    /// How many bases each row has.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.ends.iter().zip(starts).map(|(end, start)| end - start)
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

    pub fn push(&mut self, pos: i64, sequence: &[u8], expression: Option<f64>) {
        self.pos.push(pos);
        self.sequences.push(sequence);
        self.expression.push(expression);
    }

    /// Adds all rows of `other` at the end.
    pub fn append(&mut self, other: &Self) {
        self.append_range(other, 0, other.len());
    }

    fn append_range(&mut self, other: &Self, start: usize, end: usize) {
        self.pos.extend_from_slice(&other.pos[start..end]);
        (start..end).for_each(|i| self.sequences.push(other.sequences.get(i)));
        self.expression.extend_from_slice(&other.expression[start..end]);
    }

    /// Parts the rows into those that `wanted` says yes to, given place and sequence, and the others.
    pub fn part(self, mut wanted: impl FnMut(usize, &[u8]) -> bool) -> (Self, Self) {
        let chosen: Vec<bool> = (0..self.len()).map(|i| wanted(i, self.sequences.get(i))).collect();
        // Most often nearly all go one way, sometimes all.
        match chosen.iter().filter(|wanted| **wanted).count() {
            0 => (Self::default(), self),
            all if all == self.len() => (self, Self::default()),
            _ => {
                let places = |side| (0..self.len()).filter(|&i| chosen[i] == side).collect::<Vec<_>>();
                (self.select(&places(true)), self.select(&places(false)))
            }
        }
    }

    /// The rows at `places`, in that order.
    pub fn select(&self, places: &[usize]) -> Self {
        let mut chosen = Self::default();
        for &i in places {
            chosen.push(self.pos[i], self.sequences.get(i), self.expression[i]);
        }
        chosen
    }
}

/// Reads a whole rows file.
pub fn read(path: &Path) -> Result<Rows, DataError> {
    read_named(path, &path.display().to_string())
}

/// Reads a whole rows file; messages name it `label`.
pub fn read_named(path: &Path, label: &str) -> Result<Rows, DataError> {
    let mut rows = Rows::default();
    for batch in Batches::from(Reader::open(path, label)?) {
        rows.append(&batch?);
    }
    Ok(rows)
}

/// Puts before each batch how many rows stand before it; `place` becomes their number after the last.
pub fn placed(batches: Vec<Rows>, place: &mut usize) -> Vec<(usize, Rows)> {
    let mut put = |batch: Rows| {
        let first = *place;
        *place += batch.len();
        (first, batch)
    };
    batches.into_iter().map(&mut put).collect()
}

/// Writes rows; equal rows give equal bytes.
pub fn write(path: &Path, rows: &Rows) -> Result<(), DataError> {
    let mut writer = Writer::create(path)?;
    writer.append(rows.clone())?;
    writer.finish().map(drop)
}

/// Gives the number of rows from the file's footer alone.
pub fn count(path: &Path) -> Result<u64, DataError> {
    Ok(Reader::open(path, &path.display().to_string())?.rows())
}

/// Writes rows as the challenge does: `sequence<TAB>expression`, no header, `nan` where unlabelled.
pub fn write_tsv(rows: &Rows, out: &mut dyn Write) -> std::io::Result<()> {
    for (sequence, expression) in rows.sequences.iter().zip(&rows.expression) {
        out.write_all(sequence)?;
        match expression {
            Some(value) => writeln!(out, "\t{value}")?,
            None => out.write_all(b"\tnan\n")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::row_groups::GROUP_ROWS;

    fn made_up(n: usize) -> Rows {
        let mut rows = Rows::default();
        for i in 0..n {
            let sequence: Vec<u8> = (0..=i % 130).map(|j| b"ACGTN"[(i * 7 + j * j) % 5]).collect();
            rows.push(i as i64 * 3, &sequence, (i % 4 != 0).then_some(i as f64 / 8.0));
        }
        rows
    }

    #[test]
    fn rows_come_back_as_written_across_row_groups() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for n in [0, 1, GROUP_ROWS, GROUP_ROWS + 17] {
            let (path, rows) = (dir.path().join("rows.parquet"), made_up(n));
            write(&path, &rows).expect("written");
            assert_eq!(count(&path).expect("counted"), n as u64);
            assert!(read(&path).expect("read") == rows, "{n} rows");
        }
    }

    #[test]
    fn the_bytes_do_not_show_how_rows_were_batched() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (one, many) = (dir.path().join("one"), dir.path().join("many"));
        let rows = made_up(GROUP_ROWS + 999);
        write(&one, &rows).expect("written");
        let mut writer = Writer::create(&many).expect("created");
        for start in (0..rows.len()).step_by(997) {
            let places: Vec<usize> = (start..rows.len().min(start + 997)).collect();
            writer.append(rows.select(&places)).expect("appended");
        }
        writer.finish().expect("finished");
        assert!(fs_err::read(one).expect("read") == fs_err::read(many).expect("read"));
    }

    #[test]
    fn a_damaged_file_is_an_input_error_wherever_it_is_damaged() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("rows.parquet");
        write(&path, &made_up(3000)).expect("written");
        let whole = fs_err::read(&path).expect("read");
        for cut in [0, 3, whole.len() / 2, whole.len() - 1] {
            fs_err::write(&path, &whole[..cut]).expect("cut");
            assert!(matches!(read(&path), Err(DataError::Input(_))), "cut at {cut}");
        }
        for at in (0..whole.len()).step_by(97).chain(whole.len() - 200..whole.len()) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            fs_err::write(&path, &bytes).expect("flipped");
            // A flip inside a page may give other values; what it may not do is panic.
            assert!(!matches!(read(&path), Err(DataError::Io(_))), "flipped at {at}");
        }
    }

    #[test]
    fn text_shows_values_in_shortest_form() {
        let mut rows = Rows::default();
        rows.push(0, b"ACGT", Some(12.0));
        rows.push(1, b"N", None);
        let mut text = Vec::new();
        write_tsv(&rows, &mut text).expect("memory does not fail");
        assert_eq!(text, b"ACGT\t12\nN\tnan\n");
    }
}
