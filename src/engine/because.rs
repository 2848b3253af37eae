//! Why a step executes: its manifest against that of the newest earlier execution of the stage.

use crate::action::ActionManifest;
use crate::cache::{Cache, CacheError};
use crate::digest::Digest;
use crate::name::{PortName, StageName};
use crate::pipeline::{Source, Step};
use crate::provenance::{self, Because, Earlier, GIVEN_UP, differences};
use serde_json::Value;
use std::collections::BTreeMap;

/// Why a step executes, and what it took the last time, in seconds, where it did the same then.
#[derive(Default)]
pub(super) struct Explained {
    pub because: Vec<Because>,
    pub last: Option<f64>,
}

/// The newest execution of each stage of a pipeline, read when first asked for: a run of hits never asks.
pub(super) struct History<'a> {
    pipeline: &'a str,
    past: provenance::History<'a>,
}

impl<'a> History<'a> {
    pub(super) fn of(cache: &'a Cache, pipeline: &'a str) -> Self {
        Self { pipeline, past: provenance::History::new(cache) }
    }

    /// Why a step with known inputs has to execute.
    pub(super) fn explain(
        &self,
        step: &Step,
        manifest: &ActionManifest,
        damage: &[String],
        given_up: bool,
        forced: bool,
    ) -> Result<Explained, CacheError> {
        let earlier = self.earlier(step, manifest)?;
        let differs = earlier.as_ref().map(|earlier| differences(&earlier.manifest, manifest));
        let last = earlier.zip(differs.as_ref()).and_then(|(earlier, differs)| as_last_time(&earlier, differs));
        let one = |what, name: &str| vec![because(what, name, Value::Null, Value::Null)];
        let because = match differs {
            _ if forced => one("forced", step.name.as_str()),
            _ if !damage.is_empty() => damage.iter().flat_map(|what| one("missing-object", what)).collect(),
            _ if given_up => one("missing-object", GIVEN_UP),
            None => one("new", step.name.as_str()),
            // The same manifest, and yet a miss: its record is gone.
            Some(none) if none.is_empty() => one("missing-object", "the record of this action"),
            Some(differs) => placed(step, differs),
        };
        Ok(Explained { because, last })
    }

    /// Why a step may have to execute, as far as `known` inputs tell; `upstream` stages make the others.
    pub(super) fn explain_waiting(
        &self,
        step: &Step,
        known: &BTreeMap<PortName, Digest>,
        upstream: &[StageName],
        forced: bool,
    ) -> Result<Explained, CacheError> {
        let mut reasons = Vec::new();
        if forced {
            reasons.push(because("forced", step.name.as_str(), Value::Null, Value::Null));
        }
        let so_far = super::manifest::manifest(step, known.clone());
        let mut last = None;
        match self.earlier(step, &so_far)? {
            None => reasons.push(because("new", step.name.as_str(), Value::Null, Value::Null)),
            Some(earlier) => {
                // Inputs that aren't known yet are taken as they were, so that only known differences show.
                let mut inputs = earlier.manifest.inputs.clone();
                inputs.retain(|port, _| step.inputs.contains_key(port));
                inputs.extend(known.iter().map(|(port, digest)| (port.clone(), *digest)));
                let now = super::manifest::manifest(step, inputs);
                let differs = differences(&earlier.manifest, &now);
                last = as_last_time(&earlier, &differs);
                reasons.extend(placed(step, differs));
            }
        }
        reasons.extend(upstream.iter().map(|name| because("upstream", name.as_str(), Value::Null, Value::Null)));
        Ok(Explained { because: reasons, last })
    }

    fn earlier(&self, step: &Step, now: &ActionManifest) -> Result<Option<Earlier>, CacheError> {
        self.past.newest_execution(self.pipeline, &step.name, now)
    }
}

/// What an execution took, where another may be expected to take about as long: not with other parameters or code.
fn as_last_time(earlier: &Earlier, differs: &[Because]) -> Option<f64> {
    earlier.seconds.filter(|_| differs.iter().all(|difference| difference.what == "input"))
}

/// Says of inputs that differ where a step has them from.
fn placed(step: &Step, mut reasons: Vec<Because>) -> Vec<Because> {
    for reason in reasons.iter_mut().filter(|reason| reason.what == "input") {
        let source = PortName::parse(&reason.name).ok().and_then(|port| step.inputs.get(&port));
        reason.from = source.map(|source| match source {
            Source::Step { step, port } => format!("{step}.{port}"),
            Source::Path { path, .. } => path.display().to_string(),
        });
    }
    reasons
}

fn because(what: &str, name: &str, old: Value, new: Value) -> Because {
    Because { what: what.to_owned(), name: name.to_owned(), old, new, from: None }
}
