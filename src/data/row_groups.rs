//! Parquet files in which equal values give equal bytes, whichever thread encoded which row group.

use super::DataError;
use super::pages::Pages;
use crate::digest::{Digest, HashingWriter};
use bytes::Bytes;
use parquet::basic::{Compression, CompressionCodec, Encoding};
use parquet::column::writer::{ColumnCloseResult, get_column_writer, get_typed_column_writer_mut};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, TrackedWrite};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, SchemaDescriptor};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Rows in a row group, and the most that a batch holds: some megabytes of text.
pub const GROUP_ROWS: usize = 1 << 16;

/// A Parquet file that takes encoded row groups in their order.
pub struct GroupWriter {
    file: SerializedFileWriter<HashingWriter<File>>,
    rows: u64,
    pub form: Form,
}

/// What all row groups of a file share; any number of threads may encode by it at once.
pub struct Form {
    columns: SchemaDescriptor,
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

/// A row group as it goes into a file: its columns end to end.
pub struct Encoded {
    bytes: Bytes,
    columns: Vec<ColumnCloseResult>,
}

/// A row group while its columns are written, in memory.
pub struct Group<'a> {
    form: &'a Form,
    bytes: TrackedWrite<Vec<u8>>,
    columns: Vec<ColumnCloseResult>,
}

impl Group<'_> {
    /// Writes the next column of the schema. `levels` says which rows have a value, where a column may be without.
    pub fn column<T: DataType>(&mut self, values: &[T::T], levels: Option<&[i16]>) -> Result<(), DataError> {
        let mut write = || {
            let column = self.form.columns.column(self.columns.len());
            let pages = Box::new(Pages::new(&mut self.bytes)?);
            let mut writer = get_column_writer(column, Arc::clone(&self.form.properties), pages);
            get_typed_column_writer_mut::<T>(&mut writer).write_batch(values, levels, None)?;
            let closed = writer.close()?;
            // The crate was told not to compress: that has been done.
            let metadata = closed.metadata.into_builder().set_compression_codec(CompressionCodec::ZSTD).build()?;
            self.columns.push(ColumnCloseResult { metadata, ..closed });
            Ok(())
        };
        write().map_err(failed)
    }
}

impl GroupWriter {
    pub fn create(path: &Path, schema: &str) -> Result<Self, DataError> {
        let schema = Arc::new(parse_message_type(schema).expect("the schema is a constant of ours"));
        let properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            // The default names the crate's version: then an update would change every digest.
            .set_created_by("cistage rows 1".to_owned())
            // Pages are compressed on their way out.
            .set_compression(Compression::UNCOMPRESSED)
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
        let form = Form { columns: SchemaDescriptor::new(schema), properties };
        Ok(Self { file, rows: 0, form })
    }

    /// Writes the next row group.
    pub fn append(&mut self, encoded: Encoded) -> Result<(), DataError> {
        let Encoded { bytes, columns } = encoded;
        self.rows += columns.first().map_or(0, |column| column.rows_written);
        let append = || {
            let mut group = self.file.next_row_group()?;
            columns.into_iter().try_for_each(|column| group.append_column(&bytes, column))?;
            group.close().map(drop)
        };
        append().map_err(failed)
    }

    /// Writes the footer.
    pub fn finish(self) -> Result<Written, DataError> {
        let (_, digest, bytes) = self.file.into_inner().map_err(failed)?.finish()?;
        Ok(Written { rows: self.rows, digest, bytes })
    }
}

impl Form {
    /// Encodes a row group in memory; the file takes it when its turn has come.
    pub fn encode(&self, fill: impl FnOnce(&mut Group<'_>) -> Result<(), DataError>) -> Result<Encoded, DataError> {
        let mut group = Group { form: self, bytes: TrackedWrite::new(Vec::new()), columns: Vec::new() };
        fill(&mut group)?;
        let bytes = group.bytes.into_inner().map_err(failed)?;
        Ok(Encoded { bytes: bytes.into(), columns: group.columns })
    }
}

/// A write that fails is the disk's fault: our values fit our schema.
fn failed(error: ParquetError) -> DataError {
    DataError::Io(std::io::Error::other(format!("can't write Parquet: {error}")))
}
