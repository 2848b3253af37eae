//! What differs between two runs, stage by stage.

use super::history::succeeded;
use super::{Because, differences};
use crate::action::{ActionKey, ActionManifest, Input, Origin};
use crate::cache::{Cache, CacheError, RunRecord, StepRecord};
use crate::name::PortName;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Makes the manifest of a step's action again.
pub type Again<'a> = &'a dyn Fn(&RunRecord, &StepRecord) -> Option<ActionManifest>;

/// By stage: what differs between its actions in two runs, and how it ended. Stages that executed the same action, and
/// ended alike, are left out. A stage that one run has alone is compared with the one that it is a branch of, or was.
///
/// `again` makes the manifest of an action that left no record because it failed.
pub fn compared(
    cache: &Cache,
    old: &RunRecord,
    new: &RunRecord,
    again: Again<'_>,
) -> Result<BTreeMap<String, Vec<Because>>, CacheError> {
    let between = Between { cache, old, new, again };
    let mut found = BTreeMap::new();
    for step in &new.steps {
        let differences = match step_of(old, step.stage.as_str()) {
            Some(earlier) => {
                let mut differences = between.manifests(earlier, step)?;
                differences.extend(outcomes(earlier, step));
                differences
            }
            None => {
                let base = step.stage.branch().and_then(|_| step_of(old, step.stage.base()));
                let mut differences = vec![alone(Value::Null, json!(step.kind), base)];
                differences.extend(base.map(|base| between.manifests(base, step)).transpose()?.unwrap_or_default());
                differences
            }
        };
        if !differences.is_empty() {
            found.insert(step.stage.to_string(), differences);
        }
    }
    for step in old.steps.iter().filter(|step| step_of(new, step.stage.as_str()).is_none()) {
        let base = step.stage.branch().and_then(|_| step_of(new, step.stage.base()));
        let mut differences = vec![alone(json!(step.kind), Value::Null, base)];
        differences.extend(base.map(|base| between.manifests(step, base)).transpose()?.unwrap_or_default());
        found.insert(step.stage.to_string(), differences);
    }
    Ok(found)
}

fn step_of<'r>(run: &'r RunRecord, stage: &str) -> Option<&'r StepRecord> {
    run.steps.iter().find(|step| step.stage.as_str() == stage)
}

/// A stage that one run has alone.
fn alone(old: Value, new: Value, base: Option<&StepRecord>) -> Because {
    let from = base.map(|base| base.stage.to_string());
    Because { what: "stage".to_owned(), name: "stage".to_owned(), old, new, from }
}

/// How it ended, where that differs: a hit is as good as an execution.
fn outcomes(old: &StepRecord, new: &StepRecord) -> Option<Because> {
    let differs = old.outcome != new.outcome && !(succeeded(old) && succeeded(new));
    differs.then(|| Because {
        what: "outcome".to_owned(),
        name: "stage".to_owned(),
        old: json!(old.outcome),
        new: json!(new.outcome),
        from: None,
    })
}

/// Two runs, and where manifests are found.
struct Between<'a> {
    cache: &'a Cache,
    old: &'a RunRecord,
    new: &'a RunRecord,
    again: Again<'a>,
}

impl Between<'_> {
    /// What differs between the actions of a step of each run; a skipped one has none.
    fn manifests(&self, old: &StepRecord, new: &StepRecord) -> Result<Vec<Because>, CacheError> {
        let (Some(a), Some(b)) = (old.key, new.key) else { return Ok(Vec::new()) };
        if a == b {
            return Ok(Vec::new());
        }
        let (Some(before), Some(after)) = (self.manifest(self.old, old, a)?, self.manifest(self.new, new, b)?) else {
            let (old, new) = (json!(a), json!(b));
            return Ok(vec![Because { what: "key".to_owned(), name: "stage".to_owned(), old, new, from: None }]);
        };
        let mut differences = differences(&before, &after);
        for one in differences.iter_mut().filter(|one| one.what == "input") {
            one.from = PortName::parse(&one.name).ok().and_then(|port| origin(self.new, new.inputs.get(&port)?));
        }
        Ok(differences)
    }

    fn manifest(
        &self,
        run: &RunRecord,
        step: &StepRecord,
        key: ActionKey,
    ) -> Result<Option<ActionManifest>, CacheError> {
        let stored = self.cache.manifest(key)?;
        Ok(stored.or_else(|| (self.again)(run, step)))
    }
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
