//! `cistage metrics --tensorboard DIR`: the curves of a run's trainings, for TensorBoard.

use super::App;
use super::exit::CliError;
use super::export::in_one_step;
use super::metrics::values;
use crate::cache::{Cache, RunRecord};
use crate::report::{curves, tensorboard::event_file};
use serde_json::json;
use std::path::Path;

/// TensorBoard looks for `tfevents` in the names of files.
const FILE: &str = "events.out.tfevents.0.cistage";

/// Writes `DIR/RUN/STAGE/`, one file for each training: a second time the same bytes.
pub(super) fn write(app: &App, cache: &Cache, record: &RunRecord, dir: &Path) -> Result<(), CliError> {
    let began = record.started.parse::<jiff::Timestamp>().map_or(0.0, |at| at.as_millisecond() as f64 / 1000.0);
    let mut written = Vec::new();
    for (step, _, value) in values(cache, record)? {
        let curves = curves(&value);
        if curves.is_empty() {
            continue;
        }
        let folder = dir.join(record.run.as_str()).join(step.stage.as_str());
        fs_err::create_dir_all(&folder)
            .map_err(|error| CliError::input(format!("can't make {}: {error}", folder.display())))?;
        in_one_step(&folder.join(FILE), &event_file(began, &curves))?;
        written.push(json!({ "stage": step.stage, "folder": folder.display().to_string(), "curves": curves.len() }));
        app.printer.note(&format!("{}: {} curves -> {}", step.stage, curves.len(), folder.display()));
    }
    if written.is_empty() {
        let help = "`train` stages write them; `cistage metrics` shows the numbers of all stages";
        return Err(CliError::input_with_help(format!("no stage of run {} has curves", record.run), help));
    }
    if app.printer.json {
        return app.printer.json(&json!({ "run": record.run, "written": written }));
    }
    app.printer.note(&format!("look at them with `tensorboard --logdir {}`", dir.display()));
    Ok(())
}
