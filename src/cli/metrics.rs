//! `cistage metrics`: the numbers of a run.

use super::App;
use super::exit::CliError;
use super::metrics_diff;
use super::printer::{Style, table};
use super::select::{newest_run, run_named};
use super::tensorboard;
use crate::artifact::Format;
use crate::cache::{Cache, RunRecord, StepRecord};
use crate::event::RunOutcome;
use crate::name::PortName;
use crate::report::Comparison;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cistage metrics\n  cistage metrics diff\n  cistage metrics --csv > numbers.csv")]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    /// A run id, the start or the end of one, a pipeline file or name [default: the newest run]
    #[arg(value_name = "RUN|PIPELINE")]
    run: Option<String>,
    /// This stage alone; without a branch, all branches of it
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Print a table for spreadsheets
    #[arg(long)]
    csv: bool,
    /// Write the curves of the run's trainings as event files for TensorBoard: DIR/RUN/STAGE
    #[arg(long, value_name = "DIR", conflicts_with = "csv")]
    tensorboard: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Diff(metrics_diff::Args),
}

/// Numbers by stage and dotted name.
pub(super) type Metrics = BTreeMap<String, BTreeMap<String, Value>>;

/// Numbers beyond this many in one array are curves: `report` draws them, a table of them helps nobody.
const CURVE: usize = 32;

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    if let Some(Command::Diff(args)) = &args.command {
        return metrics_diff::run(app, args);
    }
    let cache = app.read_cache()?;
    let record = run_named(&cache, args.run.as_deref())?;
    if let Some(dir) = &args.tensorboard {
        return tensorboard::write(app, &cache, &record, dir);
    }
    let mut values = values(&cache, &record)?;
    if let Some(stage) = &args.stage {
        values = of_stage(values, stage)?;
    }
    let metrics = flat(&values);
    app.printer.one_form(args.csv)?;
    if values.is_empty() {
        app.printer.note(&without_numbers(&cache, &record)?);
    }
    if app.printer.json {
        return app.printer.json(&json!({ "run": record.run, "stages": metrics }));
    }
    if args.csv {
        let mut rows = vec![["stage", "name", "value"].map(str::to_owned).to_vec()];
        for (stage, numbers) in &metrics {
            rows.extend(numbers.iter().map(|(name, value)| vec![stage.clone(), name.clone(), full(value)]));
        }
        return app.printer.csv(&rows);
    }
    app.printer.line(&format!("{}  {}", app.printer.paint(record.run.as_str(), Style::Bold), record.pipeline))?;
    print(app, &values)
}

/// Those of one stage, or of all of its branches.
fn of_stage<'r>(values: Vec<Found<'r>>, stage: &str) -> Result<Vec<Found<'r>>, CliError> {
    let names: BTreeSet<String> = values.iter().map(|(step, ..)| step.stage.to_string()).collect();
    let is_meant = |step: &StepRecord| step.stage.as_str() == stage || step.stage.base() == stage;
    let chosen: Vec<Found<'r>> = values.into_iter().filter(|(step, ..)| is_meant(step)).collect();
    if chosen.is_empty() {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let help = if names.is_empty() { "no stage of it has".to_owned() } else { format!("those that have: {names}") };
        return Err(CliError::input_with_help(format!("the run has no numbers of a stage {stage:?}"), help));
    }
    Ok(chosen)
}

/// Whether a run made or was served metrics.
pub(super) fn has_numbers(run: &RunRecord) -> bool {
    run.steps.iter().any(|step| step.outputs.values().any(|artifact| artifact.format == Format::Metrics))
}

/// Why a run has no numbers, and which of its pipeline has.
fn without_numbers(cache: &Cache, record: &RunRecord) -> Result<String, CliError> {
    let why = match record.outcome {
        RunOutcome::Succeeded => "no stage of this run makes metrics",
        RunOutcome::Failed => "the run failed before a stage made any",
        RunOutcome::Cancelled => "the run was interrupted before a stage made any",
    };
    let other = newest_run(cache, |run| run.pipeline == record.pipeline && has_numbers(run))?;
    let other = other.map(|run| format!("; the newest run of {} that has some: {}", run.pipeline, run.run));
    Ok(format!("no numbers: {why}{}", other.unwrap_or_default()))
}

/// The numbers of every metrics artifact that the run made or was served.
pub(super) fn of_run(cache: &Cache, record: &RunRecord) -> Result<Metrics, CliError> {
    Ok(flat(&values(cache, record)?))
}

/// A metrics artifact, with its step and port.
type Found<'r> = (&'r StepRecord, &'r PortName, Value);

pub(super) fn flat(values: &[Found<'_>]) -> Metrics {
    let mut stages = Metrics::new();
    for (step, port, value) in values {
        flatten(prefix(step, port), value, stages.entry(step.stage.to_string()).or_default());
    }
    stages
}

/// Of several outputs the port tells which.
fn prefix<'p>(step: &StepRecord, port: &'p PortName) -> &'p str {
    let several = step.outputs.values().filter(|a| a.format == Format::Metrics).count() > 1;
    if several { port.as_str() } else { "" }
}

/// The metrics artifacts of a run.
pub(super) fn values<'r>(cache: &Cache, record: &'r RunRecord) -> Result<Vec<Found<'r>>, CliError> {
    let mut values = Vec::new();
    for step in &record.steps {
        for (port, artifact) in step.outputs.iter().filter(|(_, a)| a.format == Format::Metrics) {
            if !cache.verify_object(artifact.digest)? {
                return Err(CliError::Unchecked(format!(
                    "the metrics of {} ({}) are missing or damaged in the cache: run the pipeline again to rebuild them",
                    step.stage,
                    artifact.digest.short()
                )));
            }
            let text = fs_err::read(cache.object_path(artifact.digest))?;
            // A command's metrics may be any JSON; what is not JSON holds no numbers to show.
            values.extend(serde_json::from_slice::<Value>(&text).ok().map(|value| (step, port, value)));
        }
    }
    Ok(values)
}

fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    let name = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&name(key), value, into)),
        Value::Array(items) if items.len() <= CURVE => {
            for (i, item) in items.iter().enumerate() {
                // Bins and epochs are named by their number, other entries by their place.
                let number = if prefix.ends_with("epochs") { item.get("epoch") } else { item.get("bin") };
                let key = number.map_or_else(|| i.to_string(), ToString::to_string);
                flatten(&name(&key), item, into);
            }
        }
        Value::Number(_) | Value::Bool(_) => {
            into.insert(prefix.to_owned(), value.clone());
        }
        // A correlation that does not exist (constant predictions) is null.
        Value::Null => {
            into.insert(prefix.to_owned(), Value::Null);
        }
        Value::Array(_) | Value::String(_) => {}
    }
}

pub(super) fn print(app: &App, values: &[Found<'_>]) -> Result<(), CliError> {
    let mut hidden = false;
    for (step, port, value) in values {
        app.printer.line(&app.printer.paint(step.stage.as_str(), Style::Bold))?;
        if let Some(comparison) = Comparison::of(value) {
            // Of bins it has only their summary.
            app.printer.document(&beside(&comparison))?;
            continue;
        }
        let mut numbers = BTreeMap::new();
        flatten(prefix(step, port), value, &mut numbers);
        let last = numbers.keys().filter_map(|name| epoch(name)).max();
        let shown = |name: &str| app.verbose || (!is_detail(name) && epoch(name).is_none_or(|at| Some(at) == last));
        hidden |= !numbers.keys().all(|name| shown(name));
        let rows: Vec<Vec<String>> = numbers
            .iter()
            .filter(|(name, _)| shown(name))
            .map(|(name, value)| vec![format!("  {name}"), number(value)])
            .collect();
        app.printer.document(&table(&rows, &[1]))?;
    }
    if hidden {
        app.printer.note(MORE);
    }
    Ok(())
}

/// A comparison as a table: a column for each branch.
fn beside(comparison: &Comparison<'_>) -> String {
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(comparison.branches.iter().map(ToString::to_string));
    for name in &comparison.names {
        let cells =
            comparison.branches.iter().map(|branch| comparison.number(branch, name).map_or(String::new(), number));
        rows.push(std::iter::once(format!("  {name}")).chain(cells).collect());
    }
    let right: Vec<usize> = (1..=comparison.branches.len()).collect();
    table(&rows, &right)
}

/// A value with all its digits; empty where there is none.
pub(super) fn full(value: &Value) -> String {
    if value.is_null() { String::new() } else { value.to_string() }
}

/// Said where details are left out.
pub(super) const MORE: &str = "(-v shows the others, too: of each bin, third and epoch)";

/// Numbers that are many, beside the ones that sum them up.
pub(super) fn is_detail(name: &str) -> bool {
    let is_third =
        name.starts_with("models.") && [".low.", ".middle.", ".high."].iter().any(|part| name.contains(part));
    is_third || ["bins.", "steps.", "intervals.", "dropped_rows.", "values."].iter().any(|part| name.contains(part))
}

/// The epoch that a number of a training belongs to.
fn epoch(name: &str) -> Option<usize> {
    name.split_once("curves.epochs.")?.1.split('.').next()?.parse().ok()
}

pub(super) fn number(value: &Value) -> String {
    match value.as_f64() {
        // No number of a paper is so large: its digits would fill the line.
        Some(x) if value.is_f64() && x.abs() >= 1e15 => format!("{x:.4e}"),
        Some(x) if value.is_f64() => format!("{x:.4}"),
        _ if value.is_null() => "none".to_owned(),
        _ => value.to_string(),
    }
}
