//! A person's decision that a change of code or text does not matter: the old result is served for the new key.
//!
//! The decision is a record of its own kind: it makes the new key a hit, and every lineage that passes through it says
//! who decided, when, why, and in place of what.

use super::interrupt::Interrupt;
use super::planner::{self, StepPlan, Verdict};
use super::{EngineError, clock, environment, manifest};
use crate::action::{Accepted, ActionRecord, Input, Origin};
use crate::cache::{Cache, Claimed, Lookup};
use crate::device::Device;
use crate::name::PortName;
use crate::pipeline::{Plan, Source, Step};
use crate::provenance::{Because, History, differences, in_words};
use crate::stages::StageKind;
use std::collections::BTreeMap;

/// Lets the newest earlier result of the step `stage` stand for what it would make now; gives the new record.
///
/// # Errors
///
/// Where there is nothing to accept, and where more than code and text has changed: that is another experiment.
pub fn accept(
    plan: &Plan,
    cache: &Cache,
    stage: &str,
    reason: &str,
    interrupt: &Interrupt,
) -> Result<ActionRecord, EngineError> {
    let refuse = |message: String| Err(EngineError::Input(message));
    let steps = planner::plan(plan, cache, &[], interrupt)?;
    let Some((step, planned)) = plan.steps.iter().zip(&steps).find(|(step, _)| step.name.as_str() == stage) else {
        let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
        return refuse(format!("the plan has no stage {stage:?}; it has: {}", names.join(", ")));
    };
    match planned.verdict {
        Verdict::Hit => return refuse(format!("{stage} is served from the cache already: there is nothing to accept")),
        Verdict::Waits => {
            return refuse(format!("{stage} waits for stages before it: accept or run those first"));
        }
        Verdict::Run => {}
    }
    let inputs: BTreeMap<PortName, Input> = inputs(step, planned, &steps);
    let now = manifest::manifest(step, inputs.iter().map(|(port, i)| (port.clone(), i.artifact.digest)).collect());
    let Some(earlier) = History::new(cache).newest_execution(&plan.name, &step.name, &now)? else {
        return refuse(format!("{stage} never ran before: there is no result to keep"));
    };
    let differs = differences(&earlier.manifest, &now);
    let matters: Vec<String> = differs.iter().filter(|b| !is_text(b, step)).map(in_words).collect();
    if !matters.is_empty() {
        return refuse(format!(
            "more than code and text has changed since {stage} ran, and only those can be accepted: {}",
            matters.join("; ")
        ));
    }
    let (Lookup::Hit(_), Some(old)) = (cache.lookup(earlier.key)?, cache.record(earlier.key)?) else {
        return refuse(format!("the earlier result of {stage} is not whole in the cache any more: run it instead"));
    };
    let record = ActionRecord {
        key: now.key(),
        manifest: now,
        inputs,
        stage: step.name.clone(),
        attempts: Vec::new(),
        parent: None,
        accepted: Some(Accepted {
            reason: reason.to_owned(),
            by: environment(0, Device::Cpu).user,
            host: environment(0, Device::Cpu).host,
            at: clock::now(),
            instead_of: earlier.key,
            differs: differs.iter().map(in_words).collect(),
        }),
        ..old
    };
    match cache.claim(record.key, false, &mut |_| {})? {
        Claimed::Claim(claim) => claim.commit(cache, record.clone())?,
        Claimed::Hit(_) => return refuse(format!("{stage} was made meanwhile: there is nothing to accept")),
    }
    Ok(record)
}

/// Whether a difference is one of code or of text, which a person can judge.
fn is_text(because: &Because, step: &Step) -> bool {
    let is_command = matches!(step.kind, StageKind::Command(_));
    match because.what.as_str() {
        "code" => because.name == "version",
        "param" => is_command && ["run", "argv"].contains(&because.name.as_str()),
        // A script is an input that is a file of the user's.
        "input" => {
            let port = PortName::parse(&because.name).ok();
            let source = port.and_then(|port| step.inputs.get(&port));
            is_command && matches!(source, Some(Source::Path { .. }))
        }
        _ => false,
    }
}

/// The inputs of a step whose makers are all hits.
fn inputs(step: &Step, planned: &StepPlan, steps: &[StepPlan]) -> BTreeMap<PortName, Input> {
    let input = |(port, source): (&PortName, &Source)| {
        let artifact = planned.inputs.get(port)?.clone()?;
        let origin = match source {
            Source::Path { path, .. } => Origin::Source { path: path.display().to_string() },
            Source::Step { step, port } => {
                let maker = steps.iter().find(|other| other.step == *step)?;
                Origin::Action { key: maker.key?, port: port.clone() }
            }
        };
        Some((port.clone(), Input { artifact, origin }))
    };
    step.inputs.iter().filter_map(input).collect()
}
