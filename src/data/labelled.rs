//! Rows as a training takes them: token ids and measured values.

use super::DataError;
use super::encode::Encoder;
use super::rows::{Reader, Rows};
use super::tokens::Tokens;
use rayon::prelude::*;
use std::path::Path;

/// Room for more rows is not made before they are there: a damaged file may say any number.
const MOST_ROOM: usize = 1 << 26;

/// Encoded rows with their measured expression.
#[derive(Debug, Clone)]
pub struct Labelled {
    pub tokens: Tokens,
    pub targets: Vec<f64>,
}

impl Labelled {
    /// Reads and encodes a rows file, batch by batch; messages name it `label`. A row without a value is an error, and so is a
    /// file without rows.
    pub fn read(path: &Path, label: &str, encoder: &Encoder) -> Result<Self, DataError> {
        let mut reader = Reader::open(path, label)?;
        let rows = usize::try_from(reader.rows()).unwrap_or(0).min(MOST_ROOM);
        let mut tokens = encoder.tokens().with_room(rows, encoder.max_length());
        let mut targets = Vec::with_capacity(rows);
        while let Some(batches) = reader.next_batches()? {
            let encoded: Vec<Tokens> =
                batches.par_iter().map(|rows| encoder.encode_all(rows.sequences.iter())).collect();
            encoded.iter().for_each(|part| tokens.append(part));
            targets.extend(batches.iter().flat_map(values));
        }
        if tokens.is_empty() {
            return Err(DataError::Input(format!("{label} has no rows: there is nothing to train on")));
        }
        let missing = targets.iter().filter(|value| value.is_nan()).count();
        if missing > 0 {
            return Err(DataError::Input(format!(
                "{label}: {missing} of {} rows have no measured expression: training needs labelled rows",
                tokens.len()
            )));
        }
        if let Some(row) = (0..tokens.len()).find(|&row| tokens.length(row) == 0) {
            return Err(DataError::Input(format!("{label}: row {} has no bases", row + 1)));
        }
        Ok(Self { tokens, targets })
    }
}

/// The values of rows; a missing one is not a number.
fn values(rows: &Rows) -> impl Iterator<Item = f64> {
    rows.expression.iter().map(|value| value.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows;
    use crate::data::tokenizer::{Counts, train};

    #[test]
    fn rows_are_encoded_and_those_without_a_value_or_a_base_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let json = train(&Counts::default(), "t").expect("trained");
        let encoder = Encoder::new(&json, "t", 3, false).expect("made");
        let read = |given: &[(&[u8], Option<f64>)]| {
            let mut all = Rows::default();
            given.iter().for_each(|(sequence, value)| all.push(0, sequence, *value));
            let path = folder.path().join("rows.parquet");
            rows::write(&path, &all).expect("written");
            Labelled::read(&path, "split.train", &encoder)
        };
        let labelled = read(&[(b"AC", Some(1.5)), (b"GTTT", Some(2.0))]).expect("read");
        let mut ids = Vec::new();
        (0..2).for_each(|row| labelled.tokens.extend(row, &mut ids));
        assert_eq!((ids, labelled.targets), (vec![5, 6, 7, 8, 8], vec![1.5, 2.0]));
        for (given, message) in [
            (&[][..], "split.train has no rows: there is nothing to train on"),
            (
                &[(&b"A"[..], Some(1.0)), (b"A", None)],
                "split.train: 1 of 2 rows have no measured expression: training needs labelled rows",
            ),
            (&[(&b"A"[..], Some(1.0)), (b"", Some(1.0))], "split.train: row 2 has no bases"),
        ] {
            assert_eq!(read(given).expect_err("refused").to_string(), message);
        }
    }
}
