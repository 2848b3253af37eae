//! `cistage metrics diff`: the numbers of two runs beside one another.

use super::App;
use super::exit::CliError;
use super::metrics::{self, MORE, Metrics, full, is_detail, number};
use super::printer::{Style, table};
use super::select::two_runs;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Show the numbers in which two runs differ
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The earlier run [default: the one of the same pipeline before the later that has numbers]
    #[arg(value_name = "OLD")]
    old: Option<String>,
    /// The later run [default: the newest that has numbers]
    #[arg(value_name = "NEW")]
    new: Option<String>,
    /// Print a table for spreadsheets, with the equal numbers too
    #[arg(long)]
    csv: bool,
}

/// A number of either run.
struct Pair {
    stage: String,
    name: String,
    old: Value,
    new: Value,
}

impl Pair {
    fn change(&self) -> Option<f64> {
        Some(self.new.as_f64()? - self.old.as_f64()?)
    }
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    let (old, new) = two_runs(&cache, args.old.as_deref(), args.new.as_deref(), metrics::has_numbers)?;
    let pairs = pairs(&metrics::of_run(&cache, &old)?, &metrics::of_run(&cache, &new)?);
    app.printer.one_form(args.csv)?;
    if args.csv {
        let mut rows = vec![["stage", "name", "old", "new", "change"].map(str::to_owned).to_vec()];
        for pair in &pairs {
            let change = pair.change().map_or(String::new(), |change| change.to_string());
            rows.push(vec![pair.stage.clone(), pair.name.clone(), full(&pair.old), full(&pair.new), change]);
        }
        return app.printer.csv(&rows);
    }
    let differ: Vec<&Pair> = pairs.iter().filter(|pair| pair.old != pair.new).collect();
    if app.printer.json {
        let numbers: Vec<Value> = differ
            .iter()
            .map(|pair| {
                let change = pair.change();
                json!({ "stage": pair.stage, "name": pair.name, "old": pair.old, "new": pair.new, "change": change })
            })
            .collect();
        return app.printer.json(&json!({ "old": old.run, "new": new.run, "numbers": numbers }));
    }
    app.printer.line(&format!(
        "{} -> {}  {}",
        old.run,
        app.printer.paint(new.run.as_str(), Style::Bold),
        new.pipeline
    ))?;
    let shown: Vec<&&Pair> = differ.iter().filter(|pair| app.verbose || !is_detail(&pair.name)).collect();
    let header = ["stage", "name", "old", "new", "change"].map(|text| app.printer.paint(text, Style::Dim));
    let mut rows = vec![header.to_vec()];
    for pair in &shown {
        let digits = if pair.old.is_f64() || pair.new.is_f64() { 4 } else { 0 };
        let change = pair.change().map_or(String::new(), |change| format!("{change:+.digits$}"));
        rows.push(vec![pair.stage.clone(), pair.name.clone(), number(&pair.old), number(&pair.new), change]);
    }
    if differ.is_empty() {
        return app.printer.line(&format!("all {} numbers are equal", pairs.len()));
    }
    if !shown.is_empty() {
        app.printer.document(&table(&rows, &[2, 3, 4]))?;
    }
    app.printer.note(&format!("{} of {} numbers differ", differ.len(), pairs.len()));
    if shown.len() < differ.len() {
        app.printer.note(MORE);
    }
    Ok(())
}

/// Every number of either run; null where one has it not.
fn pairs(old: &Metrics, new: &Metrics) -> Vec<Pair> {
    let names = |metrics: &Metrics| -> BTreeSet<(String, String)> {
        metrics.iter().flat_map(|(stage, all)| all.keys().map(|name| (stage.clone(), name.clone()))).collect()
    };
    let of = |metrics: &Metrics, stage: &str, name: &str| {
        metrics.get(stage).and_then(|all| all.get(name)).cloned().unwrap_or(Value::Null)
    };
    let all: BTreeSet<_> = names(old).into_iter().chain(names(new)).collect();
    all.into_iter()
        .map(|(stage, name)| Pair { old: of(old, &stage, &name), new: of(new, &stage, &name), stage, name })
        .collect()
}
