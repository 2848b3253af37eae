//! `split`: parts rows into training and test rows.

use crate::artifact::Format;
use crate::stage::{Contract, Port, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What decides on which side a row falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    /// A seeded permutation; the test part is the ceiling of the share.
    Random,
    /// A seeded hash of the sequence: equal sequences never part, and reordering rows changes nothing.
    SequenceHash,
}

/// Parts rows into training and test rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Split {
    /// The share of rows held out, above 0 and below 1.
    pub test: f64,
    pub by: SplitBy,
    pub seed: u64,
}

impl Default for Split {
    fn default() -> Self {
        Self { test: 0.01, by: SplitBy::Random, seed: 42 }
    }
}

impl Stage for Split {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![Port::required("rows", Format::Rows)],
            outputs: vec![("train".to_owned(), Format::Rows), ("test".to_owned(), Format::Rows)],
            ..Contract::default()
        }
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
