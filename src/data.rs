//! Rows of promoters with their expression: reading, writing, encoding, measuring.
//!
//! A row is a sequence, its place in the file that it came from, and a measured value or none. Between stages rows are
//! Parquet ([`rows`]); they enter as the challenge's text ([`tsv`]), become token ids ([`encode`]), and what a model
//! says about them ([`predictions`]) is measured here ([`metrics`]).

pub mod benchmark;
pub mod bins;
// Public for the fuzz targets, which cut one text in several ways.
#[doc(hidden)]
pub mod blocks;
pub mod check;
mod chunks;
mod columns;
mod distinct;
pub mod encode;
pub mod export;
pub mod import;
pub mod labelled;
pub mod metrics;
pub mod number;
pub mod overlap;
mod pages;
pub mod predictions;
pub mod row_groups;
pub mod rows;
pub mod subsets;
pub mod synthetic;
pub mod text;
pub mod tokenizer;
pub mod tokens;
pub mod tsv;
pub mod unpack;

/// What can go wrong with data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The user's file or values are at fault; names file, line and what to do.
    #[error("{0}")]
    Input(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    /// Where the real data stands beside a checkout; tests that use it skip where it is absent.
    pub fn shared() -> PathBuf {
        std::env::var_os("CISTAGE_SHARED")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
    }
}
