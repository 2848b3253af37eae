//! Parquet files in which equal values give equal bytes, whichever thread encoded which row group.

use super::DataError;
use crate::digest::{Digest, HashingWriter};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaDataPtr;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, Type};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Rows in a row group, and the most that a batch holds: some megabytes of text.
pub const GROUP_ROWS: usize = 1 << 16;

/// A row group while its columns are written, in memory.
pub type Group<'a> = SerializedRowGroupWriter<'a, Vec<u8>>;

/// A Parquet file that takes encoded row groups in their order.
pub struct GroupWriter {
    file: SerializedFileWriter<HashingWriter<File>>,
    rows: u64,
    pub form: Form,
}

/// What all row groups of a file share; any number of threads may encode by it at once.
pub struct Form {
    schema: Arc<Type>,
    properties: Arc<WriterProperties>,
}

/// A finished file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub rows: u64,
    /// Of the file's bytes, hashed while they were written.
    pub digest: Digest,
    pub bytes: u64,
}

/// A row group as it goes into a file.
pub struct Encoded {
    bytes: Bytes,
    metadata: RowGroupMetaDataPtr,
}

impl GroupWriter {
    pub fn create(path: &Path, schema: &str) -> Result<Self, DataError> {
        let schema = Arc::new(parse_message_type(schema).expect("the schema is a constant of ours"));
        let properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            // The default names the crate's version: then an update would change every digest.
            .set_created_by("cistage rows 1".to_owned())
            // Bases hold 2 bits each: level 3 takes half as long again and saves less than one byte in a hundred.
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level")))
            // Sequences hardly repeat: a dictionary is built and thrown away.
            .set_dictionary_enabled(false)
            .set_column_encoding(ColumnPath::from("pos"), Encoding::DELTA_BINARY_PACKED)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let properties = Arc::new(properties);
        let file = fs_err::File::create(path)?.into_parts().0;
        let file = HashingWriter::new(file);
        let file = SerializedFileWriter::new(file, Arc::clone(&schema), Arc::clone(&properties)).map_err(failed)?;
        Ok(Self { file, rows: 0, form: Form { schema, properties } })
    }

    /// Writes the next row group.
    pub fn append(&mut self, encoded: Encoded) -> Result<(), DataError> {
        let mut append = || {
            let mut group = self.file.next_row_group()?;
            for column in encoded.metadata.columns() {
                let close = ColumnCloseResult {
                    bytes_written: column.compressed_size().cast_unsigned(),
                    rows_written: encoded.metadata.num_rows().cast_unsigned(),
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                group.append_column(&encoded.bytes, close)?;
            }
            group.close().map(drop)
        };
        append().map_err(failed)?;
        self.rows += encoded.metadata.num_rows().cast_unsigned();
        Ok(())
    }

    /// Writes the footer.
    pub fn finish(self) -> Result<Written, DataError> {
        let (_, digest, bytes) = self.file.into_inner().map_err(failed)?.finish()?;
        Ok(Written { rows: self.rows, digest, bytes })
    }
}

impl Form {
    /// Encodes a row group in memory; the file takes it when its turn has come.
    pub fn encode(&self, fill: impl FnOnce(&mut Group<'_>) -> Result<(), ParquetError>) -> Result<Encoded, DataError> {
        let encode = || {
            // A file of one row group: its columns are then copied into the real one.
            let (schema, properties) = (Arc::clone(&self.schema), Arc::clone(&self.properties));
            let mut alone = SerializedFileWriter::new(Vec::new(), schema, properties)?;
            let mut group = alone.next_row_group()?;
            fill(&mut group)?;
            let metadata = group.close()?;
            Ok(Encoded { bytes: alone.into_inner()?.into(), metadata })
        };
        encode().map_err(failed)
    }
}

/// A write that fails is the disk's fault: our values fit our schema.
fn failed(error: ParquetError) -> DataError {
    DataError::Io(std::io::Error::other(format!("can't write Parquet: {error}")))
}
