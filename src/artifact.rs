//! Artifacts: typed, immutable values on the ports of stages.

use crate::digest::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an artifact's bytes are; lets the plan refuse a wrong connection before anything runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Any bytes, a file or a folder.
    Raw,
    /// Parquet: `pos` INT64, `sequence` UTF-8, `expression` DOUBLE (null where unlabelled).
    Rows,
    /// `tokenizer.json`.
    Tokenizer,
    /// A folder that `transformers` loads.
    Model,
    /// Parquet: `pos` INT64, `prediction` DOUBLE.
    Predictions,
    /// JSON numbers.
    Metrics,
    /// A folder of TSV lists of positions.
    Subsets,
    /// One HTML file.
    Report,
}

impl Format {
    pub const ALL: [Self; 8] = [
        Self::Raw,
        Self::Rows,
        Self::Tokenizer,
        Self::Model,
        Self::Predictions,
        Self::Metrics,
        Self::Subsets,
        Self::Report,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Rows => "rows",
            Self::Tokenizer => "tokenizer",
            Self::Model => "model",
            Self::Predictions => "predictions",
            Self::Metrics => "metrics",
            Self::Subsets => "subsets",
            Self::Report => "report",
        }
    }

    /// The usual file extension of this format, with its dot; empty where there is none.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Rows | Self::Predictions => ".parquet",
            Self::Tokenizer | Self::Metrics => ".json",
            Self::Report => ".html",
            Self::Raw | Self::Model | Self::Subsets => "",
        }
    }

    /// Whether an artifact of this format may feed a port that wants `wanted`.
    pub fn feeds(self, wanted: Self) -> bool {
        self == wanted || wanted == Self::Raw
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether an artifact is one file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// The digest is that of the file's bytes.
    File,
    /// The digest is that of the folder's listing, itself an object (see `cache::tree`).
    Tree,
}

/// A value that a stage made or reads, named by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    pub digest: Digest,
    /// Size in bytes; of a folder, the sum over its files.
    pub bytes: u64,
    pub layout: Layout,
    pub format: Format,
}
