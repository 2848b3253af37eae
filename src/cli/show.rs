//! `cistage show`: one run's stages, times, metrics.

use super::App;
use super::exit::CliError;
use super::leakage;
use super::metrics;
use super::printer::{Style, bytes, duration, table};
use super::runs;
use super::select::{run_id, run_named};
use super::underway;
use crate::cache::StepRecord;
use crate::event::Outcome;
use crate::provenance::{Leakage, brief};
use serde::Deserialize;
use serde_json::json;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cistage show\n  cistage show 20261125-0940\n\nOf a run under way it shows which stages run, where, and how far they are."
)]
pub(super) struct Args {
    /// A run id, the start or the end of one, a pipeline [default: the newest run]
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    if let Some(text) = &args.run
        && let Some(id) = run_id(&cache, text)?
        && cache.run(&id)?.is_none()
    {
        let known = cache.underway(&id)?;
        if !known.order.is_empty() {
            return if app.printer.json {
                app.printer.json(&underway::json(&id, &known))
            } else {
                underway::show(app, &id, &known)
            };
        }
    }
    let record = run_named(&cache, args.run.as_deref())?;
    let values = metrics::values(&cache, &record)?;
    if app.printer.json {
        return app.printer.json(&json!({ "record": record, "metrics": metrics::flat(&values) }));
    }
    let printer = &app.printer;
    printer.line(&format!(
        "{}  {}  {}  {}",
        printer.paint(record.run.as_str(), Style::Bold),
        record.pipeline,
        record.outcome.word(),
        duration(record.seconds)
    ))?;
    printer.line(&format!("began {}  file {}", record.started, record.file))?;
    if !record.profiles.is_empty() || !record.sets.is_empty() {
        printer.line(&format!("profiles and parameters: {}", runs::shown(&record.profiles, &record.sets)))?;
    }
    printer.line("")?;
    let mut rows = Vec::new();
    for step in &record.steps {
        let style = match step.outcome {
            Outcome::Ran | Outcome::Hit => Style::Good,
            Outcome::Failed => Style::Bad,
            Outcome::Skipped | Outcome::Cancelled => Style::Note,
        };
        let size: u64 = step.outputs.values().map(|a| a.bytes).sum();
        rows.push(vec![
            printer.paint(step.outcome.word(), style),
            step.stage.to_string(),
            duration(step.seconds),
            bytes(size),
            step.cost
                .as_ref()
                .filter(|cost| cost.peak_memory > 0)
                .map(|cost| bytes(cost.peak_memory))
                .unwrap_or_default(),
            remark(step),
        ]);
    }
    printer.document(&table(&rows, &[2, 3, 4]))?;
    if !record.published.is_empty() {
        printer.line("\npublished")?;
        let rows: Vec<Vec<String>> =
            record.published.iter().map(|(path, digest)| vec![format!("  {path}"), digest.short()]).collect();
        printer.document(&table(&rows, &[]))?;
    }
    if !record.unpublished.is_empty() {
        printer.line("\nnot published")?;
        for why in record.unpublished.values() {
            printer.line(&format!("  {why}"))?;
        }
    }
    if !values.is_empty() {
        printer.line("")?;
        metrics::print(app, &values)?;
    }
    // What a newer version wrote may read otherwise: the record holds it all the same.
    let leakage = record.leakage.iter().filter_map(|found| Leakage::deserialize(found).ok());
    let leakage: Vec<Leakage> = leakage.collect();
    if !leakage.is_empty() {
        printer.line("")?;
        leakage::print(app, &leakage)?;
    }
    Ok(())
}

/// Why a step ran or failed, or where a hit came from.
fn remark(step: &StepRecord) -> String {
    match (&step.error, &step.from) {
        (Some(error), _) => {
            let place = step.place.as_ref().map_or(String::new(), |place| format!("{place}: "));
            place + error.lines().next().unwrap_or_default()
        }
        (None, Some(from)) => format!("made in run {}, saves {}", from.run, duration(from.seconds)),
        (None, None) => step.place.iter().cloned().chain(brief(&step.because)).collect::<Vec<_>>().join("; "),
    }
}
