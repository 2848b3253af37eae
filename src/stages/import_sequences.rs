//! `import-sequences`: reads and checks the challenge's rows, and writes them as Parquet.

use crate::artifact::Format;
use crate::stage::{Contract, Port, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to do about a row that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BadRows {
    /// Stop, naming file, line and column.
    Error,
    /// Leave it out, and count and list it in the metrics.
    Drop,
}

/// Whether every row must have a measured value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    Required,
    /// `nan` or an empty second column stands for "not measured".
    Optional,
}

/// Reads and checks the challenge's rows, and writes them as Parquet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImportSequences {
    /// What to do about a row that can't be used.
    pub bad_rows: BadRows,
    /// Whether every row must have a measured value.
    pub labels: Labels,
}

impl Default for ImportSequences {
    fn default() -> Self {
        Self { bad_rows: BadRows::Error, labels: Labels::Required }
    }
}

impl Stage for ImportSequences {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![Port::required("file", Format::Raw)],
            outputs: vec![("rows".to_owned(), Format::Rows), ("metrics".to_owned(), Format::Metrics)],
            ..Contract::default()
        }
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
