//! Parquet columns: what rows and predictions share in reading.

use super::DataError;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::SchemaDescriptor;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How the crate begins its complaint about a codec that it was built without.
const NO_CODEC: &str = "Parquet error: Disabled feature at compile time: ";

/// Runs a Parquet reading step; an error or a panic in it means that the user's file is damaged.
pub fn guarded<T>(label: &str, step: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DataError> {
    // The reader panics on some corrupt files (an index past a page's end).
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => match error.to_string() {
            text if text.starts_with(NO_CODEC) => Err(DataError::Input(format!(
                "{label}: a Parquet file in a compression that is not built in ({}); write it with zstd",
                text.trim_start_matches(NO_CODEC)
            ))),
            text => Err(damaged(label, &text)),
        },
        Err(_) => Err(damaged(label, "its pages contradict its index")),
    }
}

pub fn damaged(label: &str, reason: &str) -> DataError {
    DataError::Input(format!("{label}: not a readable Parquet file ({reason}); make or fetch it again"))
}

/// What is said where [`counts_agree`] says no.
pub const COUNTS: &str = "its footer contradicts itself";

/// Whether the rows of a file are those of its groups, and those of a group those of its flat `columns`.
pub fn counts_agree(metadata: &ParquetMetaData, columns: impl Iterator<Item = usize> + Clone) -> bool {
    let rows = metadata.row_groups().iter().try_fold(0_i64, |sum, group| {
        let agree = columns.clone().all(|place| group.column(place).num_values() == group.num_rows());
        sum.checked_add(group.num_rows()).filter(|_| agree && group.num_rows() >= 0)
    });
    rows == Some(metadata.file_metadata().num_rows())
}

/// The place of a flat column, where the file has it.
pub fn find(schema: &SchemaDescriptor, name: &str) -> Option<usize> {
    schema.columns().iter().position(|c| c.path().parts() == [name] && c.max_rep_level() == 0)
}

/// Reads up to `wanted` values of a column, `None` for nulls.
pub fn read_column<T: DataType, U>(
    reader: &mut ColumnReaderImpl<T>,
    nullable: bool,
    wanted: usize,
    mut take: impl FnMut(Option<&T::T>) -> U,
) -> Result<Vec<U>, ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let (records, _, _) = reader.read_records(wanted, nullable.then_some(&mut levels), None, &mut values)?;
    if records != wanted {
        return Err(ParquetError::General(format!("a column ends {} rows early", wanted - records)));
    }
    if !nullable {
        return Ok(values.iter().map(|v| take(Some(v))).collect());
    }
    let mut values = values.iter();
    levels
        .iter()
        .map(|&level| match level {
            0 => Ok(take(None)),
            _ => values.next().map(|v| take(Some(v))).ok_or_else(|| ParquetError::General("a value is missing".into())),
        })
        .collect()
}

/// Reads up to `wanted` numbers, whichever way the file stores them.
pub fn read_numbers(
    reader: &mut ColumnReader,
    nullable: bool,
    wanted: usize,
) -> Result<Vec<Option<f64>>, ParquetError> {
    match reader {
        ColumnReader::DoubleColumnReader(r) => read_column(r, nullable, wanted, |v| v.copied()),
        ColumnReader::FloatColumnReader(r) => read_column(r, nullable, wanted, |v| v.map(|&v| f64::from(v))),
        ColumnReader::Int32ColumnReader(r) => read_column(r, nullable, wanted, |v| v.map(|&v| f64::from(v))),
        #[expect(clippy::cast_precision_loss, reason = "an expression value of 2^53 is refused elsewhere")]
        ColumnReader::Int64ColumnReader(r) => read_column(r, nullable, wanted, |v| v.map(|&v| v as f64)),
        _ => Err(ParquetError::General("a column of numbers holds something else".into())),
    }
}

/// Reads `wanted` positions; a null is an error.
pub fn read_positions(reader: &mut ColumnReader, nullable: bool, wanted: usize) -> Result<Vec<i64>, ParquetError> {
    let found: Vec<Option<i64>> = match reader {
        ColumnReader::Int64ColumnReader(r) => read_column(r, nullable, wanted, |v| v.copied())?,
        ColumnReader::Int32ColumnReader(r) => read_column(r, nullable, wanted, |v| v.map(|&v| i64::from(v)))?,
        _ => return Err(ParquetError::General("column `pos` must hold whole numbers".into())),
    };
    found.into_iter().map(|v| v.ok_or_else(|| ParquetError::General("column `pos` has a null".into()))).collect()
}
