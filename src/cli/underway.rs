//! Runs that have no record yet: which of their stages run, and where.

use super::App;
use super::exit::CliError;
use super::printer::{Style, counted, duration, table};
use crate::cache::{Progressing, Underway};
use crate::event::Outcome;
use crate::name::RunId;
use serde_json::{Value, json};

/// Where a stage runs that runs on this machine.
pub(super) const HERE: &str = "here";

/// What a run without a record is.
pub(super) fn word(known: &Underway) -> &'static str {
    match known {
        Underway { lives: true, .. } => "under way",
        Underway { order, .. } if order.is_empty() => "damaged",
        Underway { .. } => "killed",
    }
}

/// The run's stages as `cistage show` has them: what each does, since when, where, and how far it is.
pub(super) fn show(app: &App, run: &RunId, known: &Underway) -> Result<(), CliError> {
    let printer = &app.printer;
    let look = if known.lives { Style::Note } else { Style::Bad };
    printer.line(&format!(
        "{}  {}  {}",
        printer.paint(run.as_str(), Style::Bold),
        known.pipeline,
        printer.paint(word(known), look)
    ))?;
    let silent =
        known.silent.map_or(String::new(), |since| format!(", last heard of {} ago", duration(since.as_secs_f64())));
    printer.line(&format!("began {}, {}{silent}\n", known.started, counted(known.order.len(), "stage")))?;
    let mut rows = Vec::new();
    for name in &known.order {
        let stage = known.stages.get(name);
        let (word, style) = state(known, stage);
        let took = stage.and_then(|stage| stage.seconds.or_else(|| since(&stage.started).filter(|_| known.lives)));
        rows.push(vec![
            printer.paint(word, style),
            name.to_string(),
            took.map_or(String::new(), duration),
            stage.map_or(String::new(), remark),
        ]);
    }
    printer.document(&table(&rows, &[2]))?;
    if known.lives && known.running().next().is_some() {
        printer.line("\n`cistage logs STAGE --follow` shows what a stage prints")?;
    }
    Ok(())
}

/// The stages that run at this moment, a line each.
pub(super) fn running(app: &App, run: &RunId, known: &Underway) -> Result<(), CliError> {
    let rows: Vec<Vec<String>> = known
        .running()
        .map(|(name, stage)| {
            let took = since(&stage.started).map_or(String::new(), duration);
            vec![format!("  {name}"), took, remark(stage)]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    app.printer.line(&format!("\nrunning in {run}"))?;
    app.printer.document(&table(&rows, &[1]))
}

/// As JSON.
pub(super) fn json(run: &RunId, known: &Underway) -> Value {
    let stages = known.order.iter().map(|name| {
        let stage = known.stages.get(name);
        let progress = stage.and_then(|stage| stage.progress.as_ref());
        json!({
            "stage": name,
            "state": state(known, stage).0,
            "key": stage.and_then(|stage| stage.key),
            "started": stage.map(|stage| &stage.started).filter(|started| !started.is_empty()),
            "seconds": stage.and_then(|stage| stage.seconds),
            "place": stage.and_then(|stage| stage.place.as_ref()),
            "progress": progress.map(|(done, total, unit)| json!({ "done": done, "total": total, "unit": unit })),
        })
    });
    json!({
        "run": run, "pipeline": known.pipeline, "started": known.started, "state": word(known),
        "stages": stages.collect::<Vec<_>>(),
    })
}

fn state(known: &Underway, stage: Option<&Progressing>) -> (&'static str, Style) {
    match stage.map(|stage| stage.outcome) {
        None => ("waits", Style::Dim),
        Some(None) if known.lives => ("runs", Style::Note),
        Some(None) => ("killed", Style::Bad),
        Some(Some(outcome @ (Outcome::Ran | Outcome::Hit))) => (outcome.word(), Style::Good),
        Some(Some(outcome @ Outcome::Failed)) => (outcome.word(), Style::Bad),
        Some(Some(outcome)) => (outcome.word(), Style::Note),
    }
}

/// Where it runs and how far it is; why it failed.
fn remark(stage: &Progressing) -> String {
    match stage.outcome {
        None => {
            let place = stage.place.as_deref().unwrap_or(HERE).to_owned();
            let progress = stage.progress.as_ref().map(|(done, total, unit)| match total {
                0 => format!("{done} {unit}"),
                _ => format!("{done} of {total} {unit} ({:.0} %)", 100.0 * *done as f64 / *total as f64),
            });
            std::iter::once(place).chain(progress).collect::<Vec<_>>().join(", ")
        }
        Some(Outcome::Failed) => stage.why.lines().next().unwrap_or_default().to_owned(),
        Some(_) => stage.place.clone().unwrap_or_default(),
    }
}

/// Seconds since a recorded time.
fn since(started: &str) -> Option<f64> {
    let began: jiff::Timestamp = started.parse().ok()?;
    Some(jiff::Timestamp::now().duration_since(began).as_secs_f64().max(0.0))
}
