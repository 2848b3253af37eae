//! `cistage diff`: what differs between two runs, stage by stage, from the records alone.

use super::App;
use super::exit::CliError;
use super::printer::Style;
use super::select::two_runs;
use crate::cache::{RunRecord, StepRecord};
use crate::engine;
use crate::provenance;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cistage diff\n  cistage diff 20261125-0940 20261125-1012")]
pub(super) struct Args {
    /// The earlier run [default: the one of the same pipeline before the later]
    #[arg(value_name = "RUN")]
    old: Option<String>,
    /// The later run [default: the newest]
    #[arg(value_name = "RUN")]
    new: Option<String>,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    let (old, new) = two_runs(&cache, args.old.as_deref(), args.new.as_deref(), |_| true)?;
    let again = |run: &RunRecord, step: &StepRecord| engine::manifest_again(&cache, run, step);
    let found = provenance::compared(&cache, &old, &new, &again)?;
    if app.printer.json {
        let stages: Vec<Value> = found.iter().map(|(s, b)| json!({ "stage": s, "because": b })).collect();
        return app.printer.json(&json!({ "old": old.run, "new": new.run, "stages": stages }));
    }
    if found.is_empty() {
        return app.printer.line(&format!("{} and {} executed the same actions", old.run, new.run));
    }
    let new_run = app.printer.paint(new.run.as_str(), Style::Bold);
    app.printer.line(&format!("{} -> {new_run}  {}", old.run, new.pipeline))?;
    for (stage, differences) in &found {
        let alone = differences.first().filter(|because| because.what == "stage");
        let alone = alone.map_or_else(String::new, |because| format!(" {}", provenance::in_words(because)));
        app.printer.line(&format!("{stage}:{alone}"))?;
        for because in differences.iter().filter(|because| because.what != "stage") {
            let line = match because.what.as_str() {
                "outcome" => {
                    let (before, now) = (provenance::ending(&because.old), provenance::ending(&because.new));
                    format!("{before} in {}, {now} in {}", old.run, new.run)
                }
                _ => provenance::in_words(because),
            };
            app.printer.line(&format!("  {line}"))?;
        }
    }
    Ok(())
}
