//! A Parquet file read at positions: several threads may read it at once.

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A file of which each reader keeps its own place. (The crate's own reader of files moves one place that all share.)
#[derive(Debug, Clone)]
pub struct Chunks {
    file: Arc<File>,
    size: u64,
}

/// Reads on from a position.
#[derive(Debug)]
pub struct From {
    file: Arc<File>,
    at: u64,
}

impl Chunks {
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = fs_err::File::open(path)?.into_parts().0;
        let size = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), size })
    }
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(From { file: Arc::clone(&self.file), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // A file that lies about its sizes must not make us take more memory than it has bytes.
        if start.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} lie past the end of the file")));
        }
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, start)?;
        Ok(buffer.into())
    }
}
