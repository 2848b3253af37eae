//! `sample-bins`: draws the same number of rows from each bin of expression.

use crate::artifact::Format;
use crate::stage::{Contract, Port, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which bin an expression value falls in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BinRule {
    /// The whole part, clipped to the first and last bin.
    Floor,
    /// The nearest whole number, clipped to the first and last bin.
    Round,
    /// The open interval (i, i+1): whole numbers belong to no bin (as submitted).
    OpenInterval,
}

/// Draws the same number of rows from each bin of expression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SampleBins {
    /// How many unit bins, from 0 up.
    pub bins: u32,
    pub rule: BinRule,
    /// Rows drawn from each bin, without replacement; has to be given.
    pub per_bin: u64,
    pub seed: u64,
}

impl Default for SampleBins {
    fn default() -> Self {
        Self { bins: 18, rule: BinRule::Floor, per_bin: 0, seed: 42 }
    }
}

impl Stage for SampleBins {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![Port::required("rows", Format::Rows)],
            outputs: vec![("rows".to_owned(), Format::Rows), ("metrics".to_owned(), Format::Metrics)],
            ..Contract::default()
        }
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
