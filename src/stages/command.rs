//! `command`: runs any program on declared inputs, and keeps its declared outputs.

use crate::artifact::Format;
use crate::stage::{Contract, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Runs a program in a work directory of its own.
///
/// The user writes `run` or `argv`, and `env`; the plan fills in the rest, so that the key is made of
/// all that the program can see.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// Text for bash, run with `set -eu -o pipefail`; `{in.PORT}`, `{out.PORT}` and `{param.NAME}` become
    /// quoted references to environment variables.
    pub run: Option<String>,
    /// A program and its arguments, run without a shell; the same placeholders stand for an argument or a part of one.
    pub argv: Option<Vec<String>>,
    /// Environment variables that the program sees; their values are part of the key.
    pub env: Vec<String>,
    /// Filled in by the plan: the values of `env`, null where unset.
    #[schemars(skip)]
    pub environment: BTreeMap<String, Option<String>>,
    /// Filled in by the plan: the pipeline parameters that the text uses, as text.
    #[schemars(skip)]
    pub values: BTreeMap<String, String>,
    /// Filled in by the plan: file name endings of the inputs, which the program can see (`.tsv.gz`).
    #[schemars(skip)]
    pub endings: BTreeMap<String, String>,
    /// Filled in by the plan from the stage's `out:`: where the program leaves each output.
    #[schemars(skip)]
    pub out: BTreeMap<String, String>,
}

impl Stage for Command {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            more_inputs: Some(Format::Raw),
            outputs: self.out.keys().map(|port| (port.clone(), Format::Raw)).collect(),
            ..Contract::default()
        }
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
