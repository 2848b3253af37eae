//! `cistage runs`: the history.

use super::App;
use super::exit::CliError;
use super::printer::{Style, duration, table};
use super::select::is_same_path;
use super::underway;
use crate::cache::{RunRecord, Underway};
use crate::event::{Outcome, RunOutcome};
use crate::name::RunId;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cistage runs --pipeline dream2022 --outcome failed\n  cistage runs -n 1000 --csv > runs.csv"
)]
pub(super) struct Args {
    /// Show this many
    #[arg(short, long, value_name = "N", default_value_t = 20,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    number: usize,
    /// Those of this pipeline alone: its name or its file
    #[arg(long, value_name = "PIPELINE")]
    pipeline: Option<String>,
    /// Those that ended so alone
    #[arg(long, value_enum, value_name = "OUTCOME")]
    outcome: Option<Ending>,
    /// Those that began on this day or later (UTC)
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    since: Option<String>,
    /// Those whose profiles, --set or published paths hold this text
    #[arg(long, value_name = "TEXT")]
    with: Option<String>,
    /// Print a table for spreadsheets
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ending {
    Succeeded,
    Failed,
    Cancelled,
}

impl Args {
    fn is_narrowed(&self) -> bool {
        self.pipeline.is_some() || self.outcome.is_some() || self.since.is_some() || self.with.is_some()
    }

    fn wants(&self, run: &RunRecord) -> bool {
        let ending = match run.outcome {
            RunOutcome::Succeeded => Ending::Succeeded,
            RunOutcome::Failed => Ending::Failed,
            RunOutcome::Cancelled => Ending::Cancelled,
        };
        let has = |text: &str| {
            run.profiles.iter().chain(&run.sets).chain(run.published.keys()).any(|word| word.contains(text))
        };
        self.pipeline.as_ref().is_none_or(|name| *name == run.pipeline || is_same_path(name, &run.file))
            && self.outcome.is_none_or(|wanted| wanted == ending)
            && self.since.as_ref().is_none_or(|day| run.started[..] >= day[..])
            && self.with.as_ref().is_none_or(|text| has(text))
    }
}

/// A day, as times are recorded: the two compare as texts.
fn day(text: &str) -> Result<String, String> {
    let is_day = text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok();
    if is_day { Ok(text.to_owned()) } else { Err("write a day as in 2026-11-25".to_owned()) }
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    app.printer.one_form(args.csv)?;
    let mut records: Vec<RunRecord> = Vec::new();
    let mut unreadable: Vec<(RunId, Underway)> = Vec::new();
    for id in cache.runs()?.into_iter().rev() {
        if records.len() + unreadable.len() >= args.number {
            break;
        }
        match cache.run(&id)? {
            Some(record) if args.wants(&record) => records.push(record),
            None if !args.is_narrowed() => {
                let known = cache.underway(&id).unwrap_or_default();
                unreadable.push((id, known));
            }
            _ => {}
        }
    }
    if args.csv {
        return app.printer.csv(&spreadsheet(&records));
    }
    if app.printer.json {
        let runs: Vec<_> = records.iter().map(summary).collect();
        let unfinished: Vec<_> = unreadable.iter().map(|(id, _)| id).collect();
        let living = unreadable.iter().filter(|(_, known)| known.lives);
        let under_way: Vec<_> = living.map(|(id, known)| underway::json(id, known)).collect();
        return app.printer.json(&json!({ "runs": runs, "unfinished": unfinished, "under_way": under_way }));
    }
    if records.is_empty() && unreadable.is_empty() {
        let such = if args.is_narrowed() { "such run" } else { "run" };
        app.printer.note(&format!("no {such} is recorded in {}", cache.root().display()));
        return Ok(());
    }
    let header = ["run", "pipeline", "outcome", "ran", "hit", "failed", "took", "where", "profiles, --set"];
    let mut rows = vec![header.iter().map(|h| app.printer.paint(h, Style::Dim)).collect::<Vec<_>>()];
    for (id, known) in &unreadable {
        let counts = [Outcome::Ran, Outcome::Hit, Outcome::Failed].map(|outcome| known.count(outcome).to_string());
        let look = if known.lives { Style::Note } else { Style::Bad };
        let mut row = vec![id.to_string(), known.pipeline.clone(), app.printer.paint(underway::word(known), look)];
        row.extend(counts);
        row.extend([String::new(), places(known.running().map(|(_, stage)| stage.place.as_deref())), String::new()]);
        rows.push(row);
    }
    for record in &records {
        let style = if record.outcome == RunOutcome::Succeeded { Style::Good } else { Style::Bad };
        rows.push(vec![
            record.run.to_string(),
            record.pipeline.clone(),
            app.printer.paint(record.outcome.word(), style),
            count(record, Outcome::Ran).to_string(),
            count(record, Outcome::Hit).to_string(),
            count(record, Outcome::Failed).to_string(),
            duration(record.seconds),
            where_it_ran(record),
            shown(&record.profiles, &record.sets),
        ]);
    }
    app.printer.document(&table(&rows, &[3, 4, 5, 6]))?;
    for (id, known) in unreadable.iter().filter(|(_, known)| known.lives) {
        underway::running(app, id, known)?;
    }
    Ok(())
}

/// Where those of a run's stages ran that did.
fn where_it_ran(record: &RunRecord) -> String {
    let ran = record.steps.iter().filter(|step| matches!(step.outcome, Outcome::Ran | Outcome::Failed));
    places(ran.map(|step| step.place.as_deref()))
}

/// The kinds of places, each once: `here`, `Slurm`.
fn places<'a>(of_stages: impl Iterator<Item = Option<&'a str>>) -> String {
    let kinds: BTreeSet<&str> =
        of_stages.map(|place| place.and_then(|place| place.split(' ').next()).unwrap_or(underway::HERE)).collect();
    kinds.into_iter().collect::<Vec<_>>().join(", ")
}

/// What overlaid the pipeline, on one line: a value may hold line breaks and terminal escapes.
pub(super) fn shown(profiles: &[String], sets: &[String]) -> String {
    let text = profiles.iter().chain(sets).cloned().collect::<Vec<_>>().join(" ");
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn count(record: &RunRecord, outcome: Outcome) -> usize {
    record.steps.iter().filter(|step| step.outcome == outcome).count()
}

fn spreadsheet(records: &[RunRecord]) -> Vec<Vec<String>> {
    let header = [
        "run", "pipeline", "file", "started", "outcome", "seconds", "ran", "hit", "failed", "skipped", "given", "where",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for record in records {
        let mut row = vec![
            record.run.to_string(),
            record.pipeline.clone(),
            record.file.clone(),
            record.started.clone(),
            record.outcome.word().to_owned(),
            record.seconds.to_string(),
        ];
        let counted = [Outcome::Ran, Outcome::Hit, Outcome::Failed, Outcome::Skipped];
        row.extend(counted.map(|outcome| count(record, outcome).to_string()));
        row.extend([shown(&record.profiles, &record.sets), where_it_ran(record)]);
        rows.push(row);
    }
    rows
}

fn summary(record: &RunRecord) -> serde_json::Value {
    let places: BTreeMap<_, _> =
        record.steps.iter().filter_map(|step| Some((&step.stage, step.place.as_ref()?))).collect();
    json!({
        "run": record.run, "pipeline": record.pipeline, "file": record.file, "started": record.started,
        "outcome": record.outcome, "seconds": record.seconds, "profiles": record.profiles, "sets": record.sets,
        "ran": count(record, Outcome::Ran), "hit": count(record, Outcome::Hit),
        "failed": count(record, Outcome::Failed), "skipped": count(record, Outcome::Skipped), "places": places,
    })
}
