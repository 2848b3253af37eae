//! `cistage diff`: what differs between two runs, stage by stage, from the records alone.

use super::App;
use super::exit::CliError;
use super::select::two_runs;
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
    let (old, new) = two_runs(&cache, args.old.as_deref(), args.new.as_deref())?;
    let found = provenance::compared(&cache, &old, &new)?;
    if app.printer.json {
        let stages: Vec<Value> = found.iter().map(|(s, b)| json!({ "stage": s, "because": b })).collect();
        return app.printer.json(&json!({ "old": old.run, "new": new.run, "stages": stages }));
    }
    if found.is_empty() {
        return app.printer.line(&format!("{} and {} executed the same actions", old.run, new.run));
    }
    for (stage, differences) in found {
        app.printer.line(&format!("{stage}:"))?;
        for because in &differences {
            app.printer.line(&format!("  {}", provenance::in_words(because)))?;
        }
    }
    Ok(())
}
