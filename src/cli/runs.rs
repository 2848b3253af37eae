//! `cistage runs`: the history.

use super::App;
use super::exit::CliError;
use super::printer::{Style, duration, table};
use crate::cache::RunRecord;
use crate::event::{Outcome, RunOutcome};
use serde_json::json;

/// List the runs, newest first
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show this many [default: 20]
    #[arg(short, long, value_name = "N", default_value_t = 20)]
    number: usize,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    let mut records: Vec<RunRecord> = Vec::new();
    let mut unreadable = Vec::new();
    for id in cache.runs()?.into_iter().rev().take(args.number) {
        match cache.run(&id)? {
            Some(record) => records.push(record),
            None => unreadable.push(id),
        }
    }
    if app.printer.json {
        let runs: Vec<_> = records.iter().map(summary).collect();
        return app.printer.json(&json!({ "runs": runs, "unfinished": unreadable }));
    }
    if records.is_empty() && unreadable.is_empty() {
        app.printer.note(&format!("no run is recorded in {}", cache.root().display()));
        return Ok(());
    }
    let header = ["run", "pipeline", "outcome", "ran", "hit", "failed", "took", "profiles"];
    let mut rows = vec![header.iter().map(|h| app.printer.paint(h, Style::Dim)).collect::<Vec<_>>()];
    for record in &records {
        let style = if record.outcome == RunOutcome::Succeeded { Style::Good } else { Style::Bad };
        rows.push(vec![
            record.run.to_string(),
            record.pipeline.clone(),
            app.printer.paint(outcome(record.outcome), style),
            count(record, Outcome::Ran).to_string(),
            count(record, Outcome::Hit).to_string(),
            count(record, Outcome::Failed).to_string(),
            duration(record.seconds),
            shown(&record.profiles, &record.sets),
        ]);
    }
    app.printer.document(&table(&rows, &[3, 4, 5, 6]))?;
    for id in unreadable {
        app.printer.line(&format!("{id}  under way, killed, or damaged: it has no readable record"))?;
    }
    Ok(())
}

pub(super) fn outcome(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::Failed => "failed",
        RunOutcome::Cancelled => "cancelled",
    }
}

/// What overlaid the pipeline, on one line: a value may hold line breaks and terminal escapes.
pub(super) fn shown(profiles: &[String], sets: &[String]) -> String {
    let text = profiles.iter().chain(sets).cloned().collect::<Vec<_>>().join(" ");
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn count(record: &RunRecord, outcome: Outcome) -> usize {
    record.steps.iter().filter(|step| step.outcome == outcome).count()
}

fn summary(record: &RunRecord) -> serde_json::Value {
    json!({
        "run": record.run, "pipeline": record.pipeline, "file": record.file, "started": record.started,
        "outcome": record.outcome, "seconds": record.seconds, "profiles": record.profiles, "sets": record.sets,
        "ran": count(record, Outcome::Ran), "hit": count(record, Outcome::Hit),
        "failed": count(record, Outcome::Failed), "skipped": count(record, Outcome::Skipped),
    })
}
