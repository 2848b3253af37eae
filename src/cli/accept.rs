//! `cistage accept`: records a decision, so that an old result is served.

use super::App;
use super::exit::CliError;
use super::select::newest_run;
use crate::engine;
use crate::pipeline::{self, Options};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The stage, as `plan` names it
    #[arg(value_name = "STAGE")]
    stage: String,
    /// Why the change does not matter; kept for ever
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The pipeline file [default: that of the newest run, with its profiles and parameters]
    #[arg(long, value_name = "PIPELINE")]
    pipeline: Option<PathBuf>,
    /// Use this profile's parameters (repeatable; later ones win)
    #[arg(long, value_name = "NAME", requires = "pipeline")]
    profile: Vec<String>,
    /// Set a parameter: dotted name, value as in YAML (repeatable)
    #[arg(long, value_name = "KEY=VALUE", requires = "pipeline")]
    set: Vec<String>,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    if args.reason.trim().is_empty() {
        return Err(CliError::input("--reason is empty: whoever reads the audit in a year wants to know why"));
    }
    let cache = app.open_cache()?;
    let (file, profiles, sets) = match &args.pipeline {
        Some(file) => (file.clone(), args.profile.clone(), args.set.clone()),
        None => match newest_run(&cache, |_| true)? {
            Some(run) => (Path::new(&run.file).to_owned(), run.profiles, run.sets),
            None => return Err(CliError::input("nothing ran yet, so there is no result to keep")),
        },
    };
    let plan = pipeline::load(&file, &Options { profiles, sets, to: None })?;
    let interrupt = super::interrupt::on_signals()?;
    let record = engine::accept(&plan, &cache, &args.stage, args.reason.trim(), &interrupt)?;
    let accepted = record.accepted.as_ref().expect("that is what it is");
    if app.printer.json {
        return app
            .printer
            .json(&serde_json::json!({ "stage": record.stage, "key": record.key, "accepted": accepted }));
    }
    app.printer.line(&format!("{}: the result of run {} is served from now on", record.stage, record.run))?;
    for difference in &accepted.differs {
        app.printer.line(&format!("  accepted: {difference}"))?;
    }
    app.printer.note(&format!("`cistage run --force {}` executes it all the same", record.stage));
    Ok(())
}
