//! `predict`: predicts expression with a trained model.

use crate::artifact::Format;
use crate::stage::{Contract, Port, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Predicts expression with a trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Predict {}

impl Stage for Predict {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![Port::required("model", Format::Model), Port::required("rows", Format::Rows)],
            outputs: vec![("predictions".to_owned(), Format::Predictions)],
            device: true,
            ..Contract::default()
        }
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
