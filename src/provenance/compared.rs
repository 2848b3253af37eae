//! What differs between two runs, stage by stage.

use super::{Because, differences};
use crate::action::{Input, Origin};
use crate::cache::{Cache, CacheError, RunRecord, StepRecord};
use crate::name::PortName;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// By stage: what differs between its actions in two runs. Stages that executed the same action are left out.
pub fn compared(cache: &Cache, old: &RunRecord, new: &RunRecord) -> Result<BTreeMap<String, Vec<Because>>, CacheError> {
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
        let mut differences = differences(&a.manifest, &b.manifest);
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
