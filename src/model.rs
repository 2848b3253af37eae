//! The BERT regressor: its configuration, weights, forward and backward passes, and the folder it is kept in.

pub mod batch;
pub mod bert;
pub mod buffers;
pub mod config;
pub mod device;
pub mod folder;
pub mod kernels;
pub mod op;
pub mod precision;
pub mod predict;
pub mod reference;
pub mod speed;
pub mod weights;

#[cfg(test)]
mod bad_folders;
#[cfg(test)]
mod interop;

pub use batch::Batch;
pub use bert::Bert;
pub use config::BertConfig;
pub use folder::{Model, Training};
pub use precision::Precision;
pub use reference::Reference;
pub use weights::{Layout, Weights};

/// Why a model can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The model's files are at fault; names the file and what is wrong.
    #[error("{0}")]
    Input(String),
    /// A row that has no token; rows are counted from 1.
    #[error("row {row} has no bases")]
    NoBases { row: usize },
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// A GPU that can't be used, or that failed.
    #[error("{0}")]
    Device(String),
    #[error("can't start {threads} threads: {reason}")]
    Threads { threads: usize, reason: String },
}

/// Runs `work` in a pool of its own with `threads` threads.
pub fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T, ModelError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|i| format!("model-{i}"))
        .build()
        .map_err(|e| ModelError::Threads { threads, reason: e.to_string() })?;
    Ok(pool.install(work))
}
