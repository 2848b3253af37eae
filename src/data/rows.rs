//! Rows as Parquet: `pos` INT64, `sequence` UTF-8, `expression` DOUBLE (null where unlabelled).

use super::DataError;
use super::columns::{self, GROUP_ROWS};
use parquet::column::reader::ColumnReader;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use std::fs::File;
use std::io::Write;
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

    /// The rows at `places`, in that order.
    pub fn select(&self, places: &[usize]) -> Self {
        let mut chosen = Self::default();
        for &i in places {
            chosen.push(self.pos[i], self.sequences.get(i), self.expression[i]);
        }
        chosen
    }
}

/// The layout of a rows file.
const SCHEMA: &str = "message rows {
    required int64 pos;
    required binary sequence (UTF8);
    optional double expression;
}";

/// Reads a whole rows file.
pub fn read(path: &Path) -> Result<Rows, DataError> {
    read_named(path, &path.display().to_string())
}

/// Reads a whole rows file; messages name it `label`.
pub fn read_named(path: &Path, label: &str) -> Result<Rows, DataError> {
    let mut reader = Reader::open(path, label)?;
    let mut rows = Rows::default();
    while let Some(batch) = reader.next_batch()? {
        rows.append(&batch);
    }
    Ok(rows)
}

/// Writes rows; equal rows give equal bytes.
pub fn write(path: &Path, rows: &Rows) -> Result<(), DataError> {
    let mut writer = Writer::create(path)?;
    writer.append(rows)?;
    writer.finish().map(drop)
}

/// Gives the number of rows from the file's footer alone.
pub fn count(path: &Path) -> Result<u64, DataError> {
    Ok(Reader::open(path, &path.display().to_string())?.rows())
}

/// Reads a rows file batch by batch.
pub struct Reader {
    file: SerializedFileReader<File>,
    label: String,
    places: Places,
    sequences: bool,
    group: usize,
    open: Option<Group>,
    /// Rows given so far: the position of the next one where the file has no `pos`.
    given: i64,
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
        let file = fs_err::File::open(path)?.into_parts().0;
        let file = columns::guarded(label, || SerializedFileReader::new(file))?;
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
        Ok(Self { file, label: label.to_owned(), places, sequences: true, group: 0, open: None, given: 0 })
    }

    /// Leaves the sequences unread: batches then hold empty ones.
    #[must_use]
    pub fn without_sequences(self) -> Self {
        Self { sequences: false, ..self }
    }

    /// The number of rows, as the footer says.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.file.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Gives the next rows, at most [`GROUP_ROWS`]; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<Rows>, DataError> {
        let label = self.label.clone();
        columns::guarded(&label, || self.read_batch())
    }

    fn read_batch(&mut self) -> Result<Option<Rows>, ParquetError> {
        while self.open.as_ref().is_none_or(|group| group.left == 0) {
            if self.group == self.file.num_row_groups() {
                return Ok(None);
            }
            self.open = Some(self.open_group(self.group)?);
            self.group += 1;
        }
        let group = self.open.as_mut().expect("opened just above");
        let wanted = group.left.min(GROUP_ROWS);
        let first = self.given;
        let mut rows = Rows::default();
        rows.pos = match &mut group.pos {
            Some(column) => columns::read_positions(&mut column.reader, column.nullable, wanted)?,
            None => (first..first + wanted as i64).collect(),
        };
        match &mut group.sequence {
            Some(column) => read_sequences(column, wanted, &mut rows.sequences)?,
            None => (0..wanted).for_each(|_| rows.sequences.push(b"")),
        }
        rows.expression = match &mut group.expression {
            Some(column) => columns::read_numbers(&mut column.reader, column.nullable, wanted)?,
            None => vec![None; wanted],
        };
        group.left -= wanted;
        self.given += wanted as i64;
        Ok(Some(rows))
    }

    fn open_group(&self, index: usize) -> Result<Group, ParquetError> {
        let reader = self.file.get_row_group(index)?;
        let column = |place: usize| {
            let nullable = reader.metadata().column(place).column_descr().max_def_level() > 0;
            reader.get_column_reader(place).map(|reader| Column { reader, nullable })
        };
        let left = usize::try_from(reader.metadata().num_rows())
            .map_err(|_| ParquetError::General("a row group has a negative size".into()))?;
        Ok(Group {
            left,
            pos: self.places.pos.map(column).transpose()?,
            sequence: self.sequences.then(|| column(self.places.sequence)).transpose()?,
            expression: self.places.expression.map(column).transpose()?,
        })
    }
}

fn read_sequences(column: &mut Column, wanted: usize, into: &mut Sequences) -> Result<(), ParquetError> {
    let ColumnReader::ByteArrayColumnReader(reader) = &mut column.reader else {
        return Err(ParquetError::General("column `sequence` must hold text".into()));
    };
    // A null becomes an empty sequence, which the checks of an import refuse by row.
    columns::read_column(reader, column.nullable, wanted, |v| into.push(v.map_or(b"", ByteArray::data))).map(drop)
}

/// Writes a rows file batch by batch; how the rows were batched leaves no trace in its bytes.
pub struct Writer {
    file: SerializedFileWriter<File>,
    pending: Rows,
    rows: u64,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Self, DataError> {
        Ok(Self { file: columns::create(path, SCHEMA)?, pending: Rows::default(), rows: 0 })
    }

    /// Adds rows at the end.
    pub fn append(&mut self, rows: &Rows) -> Result<(), DataError> {
        let mut start = 0;
        while start < rows.len() {
            let end = rows.len().min(start + GROUP_ROWS - self.pending.len());
            self.pending.append_range(rows, start, end);
            start = end;
            if self.pending.len() == GROUP_ROWS {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Adds one row at the end.
    pub fn push(&mut self, pos: i64, sequence: &[u8], expression: Option<f64>) -> Result<(), DataError> {
        self.pending.push(pos, sequence, expression);
        if self.pending.len() == GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    /// Writes what is left and the footer; gives the number of rows.
    pub fn finish(mut self) -> Result<u64, DataError> {
        if !self.pending.is_empty() {
            self.flush()?;
        }
        self.file.close().map_err(columns::write_failed)?;
        Ok(self.rows)
    }

    fn flush(&mut self) -> Result<(), DataError> {
        let rows = std::mem::take(&mut self.pending);
        self.rows += rows.len() as u64;
        self.write_group(rows).map_err(columns::write_failed)
    }

    fn write_group(&mut self, rows: Rows) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        let mut column = group.next_column()?.expect("pos is the first column");
        column.typed::<Int64Type>().write_batch(&rows.pos, None, None)?;
        column.close()?;

        let Sequences { bytes, ends } = rows.sequences;
        let text = ByteArray::from(bytes);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let sequences: Vec<ByteArray> = starts.zip(&ends).map(|(start, end)| text.slice(start, end - start)).collect();
        let mut column = group.next_column()?.expect("sequence is the second column");
        column.typed::<ByteArrayType>().write_batch(&sequences, None, None)?;
        column.close()?;

        let levels: Vec<i16> = rows.expression.iter().map(|v| i16::from(v.is_some())).collect();
        let values: Vec<f64> = rows.expression.iter().copied().flatten().collect();
        let mut column = group.next_column()?.expect("expression is the third column");
        column.typed::<DoubleType>().write_batch(&values, Some(&levels), None)?;
        column.close()?;
        group.close().map(drop)
    }
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
        for i in 0..rows.len() {
            writer.push(rows.pos[i], rows.sequences.get(i), rows.expression[i]).expect("pushed");
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
