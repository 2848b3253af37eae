//! Why a step executes: its manifest against that of the newest earlier execution of the stage.

use crate::action::ActionManifest;
use crate::cache::{Cache, CacheError};
use crate::digest::Digest;
use crate::name::{PortName, StageName};
use crate::pipeline::{Source, Step};
use crate::provenance::{self, Because, Earlier, differences};
use serde_json::Value;
use std::collections::BTreeMap;

/// Why a step executes, and what that took the last time, in seconds.
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
        forced: bool,
    ) -> Result<Explained, CacheError> {
        let earlier = self.earlier(step, manifest)?;
        let last = earlier.as_ref().and_then(|earlier| earlier.seconds);
        let one = |what, name: &str| vec![because(what, name, Value::Null, Value::Null)];
        let because = match earlier {
            _ if forced => one("forced", step.name.as_str()),
            _ if !damage.is_empty() => damage.iter().flat_map(|what| one("missing-object", what)).collect(),
            None => one("new", step.name.as_str()),
            Some(earlier) => match placed(step, differences(&earlier.manifest, manifest)) {
                // The same manifest, and yet a miss: its record is gone.
                same if same.is_empty() => one("missing-object", "the record of this action"),
                reasons => reasons,
            },
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
        let earlier = self.earlier(step, &so_far)?;
        let last = earlier.as_ref().and_then(|earlier| earlier.seconds);
        match earlier {
            None => reasons.push(because("new", step.name.as_str(), Value::Null, Value::Null)),
            Some(earlier) => {
                // Inputs that aren't known yet are taken as they were, so that only known differences show.
                let mut inputs = earlier.manifest.inputs.clone();
                inputs.retain(|port, _| step.inputs.contains_key(port));
                inputs.extend(known.iter().map(|(port, digest)| (port.clone(), *digest)));
                let now = super::manifest::manifest(step, inputs);
                reasons.extend(placed(step, differences(&earlier.manifest, &now)));
            }
        }
        reasons.extend(upstream.iter().map(|name| because("upstream", name.as_str(), Value::Null, Value::Null)));
        Ok(Explained { because: reasons, last })
    }

    fn earlier(&self, step: &Step, now: &ActionManifest) -> Result<Option<Earlier>, CacheError> {
        self.past.newest_execution(self.pipeline, &step.name, now)
    }
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
