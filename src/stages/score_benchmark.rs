//! `score-benchmark`: gives predictions for the official test set the challenge's scores.

use crate::artifact::Format;
use crate::stage::{Contract, Port, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

fn official_weights() -> BTreeMap<String, f64> {
    [
        ("all", 1.0),
        ("high", 0.3),
        ("low", 0.3),
        ("native", 0.3),
        ("random", 0.3),
        ("challenging", 0.5),
        ("snv", 1.25),
        ("motif_perturbation", 0.3),
        ("motif_tiling", 0.4),
    ]
    .into_iter()
    .map(|(name, weight)| (name.to_owned(), weight))
    .collect()
}

/// Gives predictions for the official test set the challenge's scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreBenchmark {
    /// Weight of each subset in the scores; the official ones unless given.
    pub weights: BTreeMap<String, f64>,
}

impl Default for ScoreBenchmark {
    fn default() -> Self {
        Self { weights: official_weights() }
    }
}

impl Stage for ScoreBenchmark {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![
                Port::required("predictions", Format::Predictions),
                Port::required("labels", Format::Raw),
                Port::required("subsets", Format::Subsets),
            ],
            outputs: vec![("metrics".to_owned(), Format::Metrics)],
            ..Contract::default()
        }
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
