//! `cistage diff`: what differs between two runs, stage by stage, from the records alone.

use super::App;
use super::exit::CliError;
use super::select::run_named;
use crate::action::{Input, Origin};
use crate::cache::{Cache, RunRecord, StepRecord};
use crate::engine;
use crate::name::PortName;
use crate::provenance::{self, Because};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Show what differs between two runs
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The earlier run
    #[arg(value_name = "RUN")]
    old: String,
    /// The later run
    #[arg(value_name = "RUN")]
    new: String,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    let old = run_named(&cache, Some(&args.old))?;
    let new = run_named(&cache, Some(&args.new))?;
    let found = stages(&cache, &old, &new)?;
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
            app.printer.line(&format!("  {}", engine::in_words(because)))?;
        }
    }
    Ok(())
}

/// Where a run had an input from: `split.train`, or the path of the user's file.
fn origin(run: &RunRecord, input: &Input) -> Option<String> {
    match &input.origin {
        Origin::Source { path } => Some(path.clone()),
        Origin::Action { key, port } => {
            let made = run.steps.iter().find(|step| step.key == Some(*key))?;
            Some(format!("{}.{port}", made.stage))
        }
    }
}

fn stages(cache: &Cache, old: &RunRecord, new: &RunRecord) -> Result<BTreeMap<String, Vec<Because>>, CliError> {
    let by_name = |run: &RunRecord| -> BTreeMap<String, StepRecord> {
        run.steps.iter().map(|s| (s.stage.to_string(), s.clone())).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    let only = |what: &str, old: Value, new: Value| {
        vec![Because { what: what.to_owned(), name: "stage".to_owned(), old, new, from: None }]
    };
    let mut found = BTreeMap::new();
    for (name, step) in &after {
        let Some(earlier) = before.get(name) else {
            found.insert(name.clone(), only("stage", Value::Null, json!(step.kind)));
            continue;
        };
        let (Some(a), Some(b)) = (earlier.key, step.key) else {
            if earlier.key != step.key {
                found.insert(name.clone(), only("outcome", json!(earlier.outcome), json!(step.outcome)));
            }
            continue;
        };
        if a == b {
            continue;
        }
        let (Some(a), Some(b)) = (cache.record(a)?, cache.record(b)?) else {
            found.insert(name.clone(), only("key", json!(a), json!(b)));
            continue;
        };
        let mut differences = provenance::differences(&a.manifest, &b.manifest);
        for one in differences.iter_mut().filter(|one| one.what == "input") {
            one.from = PortName::parse(&one.name).ok().and_then(|port| origin(new, step.inputs.get(&port)?));
        }
        found.insert(name.clone(), differences);
    }
    for (name, step) in &before {
        if !after.contains_key(name) {
            found.insert(name.clone(), only("stage", json!(step.kind), Value::Null));
        }
    }
    Ok(found)
}
