//! `predict`: predicts expression with a trained model.

use super::predicting::{self, Span};
use crate::artifact::Format;
use crate::model::Model;
use crate::name::PortName;
use crate::stage::{Contract, Estimate, Machine, Port, Resources, Size, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Predicts expression with a trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Predict {}

impl Stage for Predict {
    /// 1: first. 2: predictions packed otherwise.
    fn version(&self) -> u32 {
        2
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![Port::required("model", Format::Model), Port::required("rows", Format::Rows)],
            outputs: vec![("predictions".to_owned(), Format::Predictions)],
            device: true,
            ..Contract::default()
        }
    }

    fn needs(&self) -> Resources {
        Resources::ALL_CPUS
    }

    fn estimate(&self, inputs: &BTreeMap<PortName, Size>, _machine: &Machine) -> Estimate {
        let rows = inputs.get("rows").and_then(|size| size.rows);
        Estimate {
            rows: rows.into_iter().map(|rows| ("predictions", rows)).collect(),
            samples: rows,
            ..Estimate::default()
        }
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        let model = Model::read(ctx.input("model"))?;
        let span = Span { before: 0, total: predicting::count(ctx)? };
        let predictions = predicting::predict(&model, span, ctx)?;
        if predicting::is_constant(&predictions.prediction) {
            ctx.warning("the model predicts the same for every row");
        }
        let path = ctx.output("predictions", Format::Predictions);
        let written = predictions.write(&path)?;
        ctx.sealed("predictions", written.digest, written.bytes);
        Ok(())
    }
}
