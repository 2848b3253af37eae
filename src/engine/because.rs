//! Why a step executes: its manifest against that of the newest earlier execution of the stage.

use crate::action::ActionManifest;
use crate::cache::{Cache, CacheError};
use crate::digest::Digest;
use crate::name::{PortName, StageName};
use crate::pipeline::Step;
use crate::provenance::{self, Because, Earlier, differences};
use serde_json::Value;
use std::collections::BTreeMap;

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
    ) -> Result<Vec<Because>, CacheError> {
        if forced {
            return Ok(vec![because("forced", step.name.as_str(), Value::Null, Value::Null)]);
        }
        if !damage.is_empty() {
            return Ok(damage.iter().map(|what| because("missing-object", what, Value::Null, Value::Null)).collect());
        }
        let Some(earlier) = self.earlier(step, manifest)? else {
            return Ok(vec![because("new", step.name.as_str(), Value::Null, Value::Null)]);
        };
        let reasons = differences(&earlier.manifest, manifest);
        // The same manifest, and yet a miss: its record is gone.
        let gone = || vec![because("missing-object", "the record of this action", Value::Null, Value::Null)];
        Ok(if reasons.is_empty() { gone() } else { reasons })
    }

    /// Why a step may have to execute, as far as `known` inputs tell; `upstream` stages make the others.
    pub(super) fn explain_waiting(
        &self,
        step: &Step,
        known: &BTreeMap<PortName, Digest>,
        upstream: &[StageName],
        forced: bool,
    ) -> Result<Vec<Because>, CacheError> {
        let mut reasons = Vec::new();
        if forced {
            reasons.push(because("forced", step.name.as_str(), Value::Null, Value::Null));
        }
        let so_far = super::manifest::manifest(step, known.clone());
        match self.earlier(step, &so_far)? {
            None => reasons.push(because("new", step.name.as_str(), Value::Null, Value::Null)),
            Some(earlier) => {
                // Inputs that aren't known yet are taken as they were, so that only known differences show.
                let mut inputs = earlier.manifest.inputs.clone();
                inputs.retain(|port, _| step.inputs.contains_key(port));
                inputs.extend(known.iter().map(|(port, digest)| (port.clone(), *digest)));
                reasons.extend(differences(&earlier.manifest, &super::manifest::manifest(step, inputs)));
            }
        }
        reasons.extend(upstream.iter().map(|name| because("upstream", name.as_str(), Value::Null, Value::Null)));
        Ok(reasons)
    }

    fn earlier(&self, step: &Step, now: &ActionManifest) -> Result<Option<Earlier>, CacheError> {
        self.past.newest_execution(self.pipeline, &step.name, now)
    }
}

fn because(what: &str, name: &str, old: Value, new: Value) -> Because {
    Because { what: what.to_owned(), name: name.to_owned(), old, new }
}

/// Says a reason in words.
pub fn in_words(reason: &Because) -> String {
    let Because { what, name, old, new } = reason;
    match what.as_str() {
        "new" => "it never ran before".to_owned(),
        "param" => format!("{name}: {} -> {}", short(old), short(new)),
        "input" => format!("input {name}: {} -> {}", short(old), short(new)),
        "code" => format!("code of {name}: {} -> {}", short(old), short(new)),
        "device" => format!("device: {} -> {}", short(old), short(new)),
        "forced" => "forced".to_owned(),
        "missing-object" => format!("missing or damaged: {name}"),
        "upstream" => format!("waits for {name}"),
        other => format!("{other} {name}: {} -> {}", short(old), short(new)),
    }
}

/// A value that fits a line: digests and long texts are cut.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => match text.parse::<Digest>() {
            Ok(digest) => digest.short(),
            Err(_) if text.chars().count() > 60 => {
                format!("{:?}", text.chars().take(57).chain("...".chars()).collect::<String>())
            }
            Err(_) => text.chars().flat_map(visible).collect(),
        },
        other => other.to_string(),
    }
}

/// A terminal obeys control characters: they are shown as escapes.
fn visible(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_as_words() {
        let digest = |text: &str| Value::String(Digest::of(text.as_bytes()).to_string());
        assert_eq!(in_words(&because("param", "per_bin", 3000.into(), 25000.into())), "per_bin: 3000 -> 25000");
        let input = in_words(&because("input", "rows", digest("a"), digest("b")));
        assert_eq!(input, format!("input rows: {} -> {}", Digest::of(b"a").short(), Digest::of(b"b").short()));
    }
}
