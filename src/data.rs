//! Rows of promoters with their expression: reading, writing, encoding, measuring.

pub mod rows;

/// What can go wrong with data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The user's file or values are at fault; names file, line and what to do.
    #[error("{0}")]
    Input(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
