//! `evaluate`: compares the predictions of models with measured values, overall and per bin.

use crate::artifact::Format;
use crate::stage::{Contract, Port, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Compares the predictions of models with measured values, overall and per bin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluate {
    /// Bootstrap resamples for the confidence intervals; 0 for none.
    pub bootstrap: u32,
    pub seed: u64,
}

impl Default for Evaluate {
    fn default() -> Self {
        Self { bootstrap: 1000, seed: 42 }
    }
}

impl Stage for Evaluate {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![Port::required("rows", Format::Rows)],
            more_inputs: Some(Format::Model),
            outputs: vec![("metrics".to_owned(), Format::Metrics)],
            device: true,
            ..Contract::default()
        }
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
