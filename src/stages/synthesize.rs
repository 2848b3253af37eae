//! `synthesize`: makes up seeded promoters in the challenge's form, with expression from planted motifs.

use crate::artifact::Format;
use crate::stage::{Contract, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes up seeded promoters in the challenge's form, with expression from planted motifs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Synthesize {
    /// How many rows.
    pub rows: u64,
    pub seed: u64,
}

impl Default for Synthesize {
    fn default() -> Self {
        Self { rows: 100_000, seed: 42 }
    }
}

impl Stage for Synthesize {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract { inputs: vec![], outputs: vec![("rows".to_owned(), Format::Rows)], ..Contract::default() }
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
