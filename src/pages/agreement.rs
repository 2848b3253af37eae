//! Predictions of a run against the measured values of the rows that they were made for.

use super::PageError;
use crate::cache::{Cache, RunRecord, StepRecord};
use crate::data::predictions;
use crate::data::rows::{Batches, Reader};
use crate::name::PortName;
use crate::report::{Html, density};
use std::collections::HashMap;

/// A picture for each `predict` stage whose rows were measured.
pub fn pictures(cache: &Cache, run: &RunRecord) -> Result<Html, PageError> {
    let mut pieces = Vec::new();
    for step in run.steps.iter().filter(|step| step.kind == "predict") {
        let pairs = pairs(cache, step)?;
        if let Some(chart) = density(&pairs) {
            let mut piece = Html::default();
            piece.figure(&format!("{}: predicted against measured, on the line both are equal", step.stage), &chart);
            pieces.push(piece);
        }
    }
    let mut html = Html::default();
    if !pieces.is_empty() {
        html.element("h3", "Predicted against measured");
        html.side_by_side(&pieces);
    }
    Ok(html)
}

/// Measured and predicted values of the same rows; none where files are gone or rows are unlabelled.
fn pairs(cache: &Cache, step: &StepRecord) -> Result<Vec<(f64, f64)>, PageError> {
    let port = |name: &str| PortName::parse(name).expect("a valid name");
    let (Some(rows), Some(made)) = (step.inputs.get(&port("rows")), step.outputs.get(&port("predictions"))) else {
        return Ok(Vec::new());
    };
    if !cache.verify_object(rows.artifact.digest)? || !cache.verify_object(made.digest)? {
        return Ok(Vec::new());
    }
    let predicted = predictions::read(&cache.object_path(made.digest), "predictions")?;
    let predicted: HashMap<i64, f64> = predicted.pos.into_iter().zip(predicted.prediction).collect();
    let mut pairs = Vec::new();
    for rows in Batches::from(Reader::open(&cache.object_path(rows.artifact.digest), "rows")?.without_sequences()) {
        let rows = rows?;
        for (pos, measured) in rows.pos.iter().zip(&rows.expression) {
            if let (Some(measured), Some(predicted)) = (measured, predicted.get(pos)) {
                pairs.push((*measured, *predicted));
            }
        }
    }
    Ok(pairs)
}
