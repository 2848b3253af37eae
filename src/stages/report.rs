//! `report`: writes one self-contained HTML page about its inputs.

use crate::artifact::Format;
use crate::stage::{Contract, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Writes one self-contained HTML page about its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Report {
    /// The heading of the page.
    pub title: String,
}

impl Default for Report {
    fn default() -> Self {
        Self { title: "Report".to_owned() }
    }
}

impl Stage for Report {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![],
            more_inputs: Some(Format::Raw),
            gathers: true,
            outputs: vec![("report".to_owned(), Format::Report)],
            ..Contract::default()
        }
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
