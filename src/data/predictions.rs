//! Predictions: one number per row position, as Parquet, TSV, or the challenge's JSON.

use super::DataError;
use super::columns;
use super::number::nine_digits;
use super::row_groups::{GROUP_ROWS, GroupWriter, Written};
use super::text::Lines;
use parquet::data_type::{DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::io::{Read, Write};
use std::path::Path;

/// Predictions in columns; row `i` is for the sequence at `pos[i]` of its file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predictions {
    pub pos: Vec<i64>,
    pub prediction: Vec<f64>,
}

const SCHEMA: &str = "message predictions {
    required int64 pos;
    required double prediction;
}";

/// Reads predictions, Parquet or TSV as their content says; messages name the file `label`.
pub fn read(path: &Path, label: &str) -> Result<Predictions, DataError> {
    let mut magic = [0_u8; 4];
    let mut file = fs_err::File::open(path)?;
    let parquet = file.read(&mut magic)? == 4 && &magic == b"PAR1";
    if parquet { read_parquet(path, label) } else { read_tsv(Lines::open(path, label)?) }
}

fn read_parquet(path: &Path, label: &str) -> Result<Predictions, DataError> {
    let file = fs_err::File::open(path)?.into_parts().0;
    columns::guarded(label, || {
        let file = SerializedFileReader::new(file)?;
        let schema = file.metadata().file_metadata().schema_descr();
        let place = |name: &str| {
            columns::find(schema, name).ok_or_else(|| ParquetError::General(format!("there is no column `{name}`")))
        };
        let (pos, prediction) = (place("pos")?, place("prediction")?);
        if !columns::counts_agree(file.metadata(), [pos, prediction].into_iter()) {
            return Err(ParquetError::General(columns::COUNTS.to_owned()));
        }
        let nullable = |i: usize| schema.column(i).max_def_level() > 0;
        let mut found = Predictions::default();
        for group in 0..file.num_row_groups() {
            let group = file.get_row_group(group)?;
            let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
            found.pos.extend(columns::read_positions(&mut group.get_column_reader(pos)?, nullable(pos), rows)?);
            let values = columns::read_numbers(&mut group.get_column_reader(prediction)?, nullable(prediction), rows)?;
            for value in values {
                found
                    .prediction
                    .push(value.ok_or_else(|| ParquetError::General("column `prediction` has a null".into()))?);
            }
        }
        Ok(found)
    })
}

/// Reads `pos<TAB>prediction`, with or without a header.
fn read_tsv(mut lines: Lines) -> Result<Predictions, DataError> {
    let table = read_pairs(&mut lines)?;
    Ok(Predictions { pos: table.iter().map(|p| p.0).collect(), prediction: table.iter().map(|p| p.1).collect() })
}

/// Reads a table of positions and finite numbers, with or without a header line.
pub fn read_pairs(lines: &mut Lines) -> Result<Vec<(i64, f64)>, DataError> {
    let label = lines.label().to_owned();
    let mut table = Vec::new();
    while let Some(line) = lines.next_line()? {
        let text = String::from_utf8_lossy(line.text);
        let fields: Vec<&str> = text.split('\t').collect();
        let fault =
            |column: usize, what: String| Err(DataError::Input(format!("{label}:{}:{column}: {what}", line.number)));
        if line.number == 1 && fields[0].parse::<f64>().is_err() && !text.is_empty() {
            continue;
        }
        match fields[..] {
            [""] => {}
            [pos, value] => {
                let Ok(place) = pos.parse::<i64>() else {
                    return fault(1, format!("{pos:?} is not a row position (a whole number from 0)"));
                };
                match value.parse::<f64>() {
                    Ok(value) if value.is_finite() => table.push((place, value)),
                    _ => return fault(pos.len() + 2, format!("{value:?} is not a finite number")),
                }
            }
            _ => return fault(1, format!("{} columns, where two are expected: a position and a number", fields.len())),
        }
    }
    Ok(table)
}

impl Predictions {
    pub fn len(&self) -> usize {
        self.pos.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pos.is_empty()
    }

    /// Writes Parquet; equal predictions give equal bytes.
    pub fn write(&self, path: &Path) -> Result<Written, DataError> {
        let mut file = GroupWriter::create(path, SCHEMA)?;
        for (pos, prediction) in self.pos.chunks(GROUP_ROWS).zip(self.prediction.chunks(GROUP_ROWS)) {
            let encoded = file.form.encode(|group| {
                group.column::<Int64Type>(pos, None)?;
                group.column::<DoubleType>(prediction, None)
            })?;
            file.append(encoded)?;
        }
        file.finish()
    }

    /// Writes `pos<TAB>prediction` with a header, 9 significant digits.
    pub fn write_tsv(&self, out: &mut dyn Write) -> std::io::Result<()> {
        out.write_all(b"pos\tprediction\n")?;
        for (pos, value) in self.pos.iter().zip(&self.prediction) {
            writeln!(out, "{pos}\t{}", nine_digits(*value))?;
        }
        Ok(())
    }

    /// Writes the challenge's submission format: one JSON object from row position to number.
    pub fn write_challenge_json(&self, out: &mut dyn Write) -> std::io::Result<()> {
        out.write_all(b"{")?;
        for (i, (pos, value)) in self.pos.iter().zip(&self.prediction).enumerate() {
            if !value.is_finite() {
                return Err(std::io::Error::other(format!(
                    "the prediction at position {pos} is {value}: JSON has no such number"
                )));
            }
            let comma = if i == 0 { "" } else { ", " };
            // `{:?}` keeps a fraction (`12.0`), as Python's json does.
            write!(out, "{comma}\"{pos}\": {value:?}")?;
        }
        out.write_all(b"}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Predictions {
        Predictions { pos: vec![0, 1, 7], prediction: vec![11.301_043_2, -0.5, 12.0] }
    }

    #[test]
    fn predictions_come_back_from_parquet_and_text() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (parquet, text) = (dir.path().join("p.parquet"), dir.path().join("p.tsv"));
        sample().write(&parquet).expect("written");
        sample().write_tsv(&mut fs_err::File::create(&text).expect("created")).expect("written");
        assert_eq!(read(&parquet, "p").expect("read"), sample());
        assert_eq!(read(&text, "p").expect("read"), sample());
        assert_eq!(fs_err::read_to_string(&text).expect("read"), "pos\tprediction\n0\t11.3010432\n1\t-0.5\n7\t12\n");
    }

    #[test]
    fn the_challenge_format_is_an_object_by_position() {
        let mut text = Vec::new();
        sample().write_challenge_json(&mut text).expect("memory does not fail");
        assert_eq!(String::from_utf8_lossy(&text), "{\"0\": 11.3010432, \"1\": -0.5, \"7\": 12.0}\n");
    }

    #[test]
    fn a_bad_line_is_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("p.tsv");
        for (text, message) in [
            ("pos\tprediction\n1\tnan\n", "p:2:3: \"nan\" is not a finite number"),
            ("1\t2\nx\t2\n", "p:2:1: \"x\" is not a row position (a whole number from 0)"),
            ("1\t2\t3\n", "p:1:1: 3 columns, where two are expected: a position and a number"),
        ] {
            fs_err::write(&path, text).expect("written");
            assert_eq!(read(&path, "p").expect_err("bad").to_string(), message);
        }
    }
}
