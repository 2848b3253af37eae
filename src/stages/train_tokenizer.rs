//! `train-tokenizer`: trains the ten-word WordPiece tokenizer: each base is a word.

use crate::artifact::Format;
use crate::stage::{Contract, Port, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Trains the ten-word WordPiece tokenizer: each base is a word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct TrainTokenizer {}

impl Stage for TrainTokenizer {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![Port::required("rows", Format::Rows)],
            outputs: vec![("tokenizer".to_owned(), Format::Tokenizer)],
            ..Contract::default()
        }
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
