//! `evaluate`: compares the predictions of models with measured values, overall and per bin.

use super::predicting::{self, Span};
use crate::artifact::Format;
use crate::data::metrics;
use crate::data::rows::{Batches, Reader};
use crate::model::Model;
use crate::name::PortName;
use crate::seed::Seed;
use crate::stage::{Contract, Estimate, Machine, Port, Resources, Size, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

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
    /// 1: first. 2: bootstrap draws with 32 random bits each. 3: sums of a resample in lanes.
    fn version(&self) -> u32 {
        3
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

    fn needs(&self) -> Resources {
        Resources::ALL_CPUS
    }

    fn estimate(&self, inputs: &BTreeMap<PortName, Size>, _machine: &Machine) -> Estimate {
        let rows = inputs.get("rows").and_then(|size| size.rows);
        let models = inputs.len().saturating_sub(1) as u64;
        Estimate { samples: rows.map(|rows| rows * models), ..Estimate::default() }
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        let label = ctx.label("rows");
        let measured = measured(ctx.input("rows"), &label)?;
        let rows = measured.len();
        if rows == 0 {
            return Err(StageError::Input(format!("{label} has no rows: there is nothing to evaluate on")));
        }
        let missing = measured.iter().filter(|value| value.is_none()).count();
        if missing > 0 {
            return Err(StageError::Input(format!(
                "{label}: {missing} of {rows} rows have no measured expression to compare with; `predict` takes such rows"
            )));
        }
        let expression: Vec<f64> = measured.into_iter().flatten().collect();
        let ports: Vec<PortName> = ctx.inputs.keys().filter(|port| port.as_str() != "rows").cloned().collect();
        if ports.is_empty() {
            return Err(StageError::Input(
                "there is no model to evaluate: add inputs such as `base: train.model`".into(),
            ));
        }
        let mut models = BTreeMap::new();
        for (i, port) in ports.iter().enumerate() {
            let model = Model::read(ctx.input(port.as_str()))?;
            let span = Span { before: (i * rows) as u64, total: (rows * ports.len()) as u64 };
            let prediction = predicting::predict(&model, span, ctx)?.prediction;
            if predicting::is_constant(&prediction) {
                ctx.warning(&format!("{port}: the model predicts the same for every row"));
            }
            models.insert(port.clone(), metrics::evaluate(&expression, &prediction, self.bootstrap, Seed(self.seed)));
        }
        let metrics = json!({ "rows": rows, "models": models });
        let path = ctx.output("metrics", Format::Metrics);
        fs_err::write(path, serde_json::to_string_pretty(&metrics).expect("plain data") + "\n")?;
        Ok(())
    }
}

/// The measured values of all rows, without their sequences.
fn measured(path: &Path, label: &str) -> Result<Vec<Option<f64>>, StageError> {
    let mut measured = Vec::new();
    for rows in Batches::from(Reader::open(path, label)?.without_sequences()) {
        measured.extend(rows?.expression);
    }
    Ok(measured)
}
