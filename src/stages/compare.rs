//! `compare`: puts the metrics of several stages side by side.

use crate::artifact::Format;
use crate::stage::{Contract, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Puts the metrics of several stages side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Compare {}

impl Stage for Compare {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![],
            more_inputs: Some(Format::Metrics),
            gathers: true,
            outputs: vec![("metrics".to_owned(), Format::Metrics)],
            ..Contract::default()
        }
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
