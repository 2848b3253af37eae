//! What a run would do, and why, without doing it.

use super::because::{Explained, History};
use super::sources::Sources;
use super::{EngineError, Interrupt, RunOptions, attempts, capacity::Capacity, estimate, force, manifest, prefix};
use crate::action::{ActionKey, ActionManifest};
use crate::artifact::Artifact;
use crate::cache::{Cache, Lookup};
use crate::digest::Digest;
use crate::name::{PortName, StageName};
use crate::pipeline::{Plan, Source, Step};
use crate::provenance::Because;
use crate::stage::Estimate;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a run would do about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Serve it from the cache.
    Hit,
    /// Execute it.
    Run,
    /// That depends on what the stages upstream make.
    Waits,
}

/// What a run would do about one step, why, and at what cost.
#[derive(Debug, Clone, PartialEq)]
pub struct StepPlan {
    pub step: StageName,
    pub kind: String,
    pub verdict: Verdict,
    /// Known unless it waits.
    pub key: Option<ActionKey>,
    pub because: Vec<Because>,
    /// What an execution would go on from, or why it starts anew.
    pub note: Option<String>,
    /// The share of the work that is left.
    pub left: f64,
    pub estimate: Estimate,
    /// In seconds, what its newest earlier execution took if that did the same on whatever inputs, or the one that made what
    /// a hit serves.
    pub last: Option<f64>,
    /// `None` for what isn't made yet.
    pub inputs: BTreeMap<PortName, Option<Artifact>>,
}

/// Foretells a run; executes nothing and writes no record.
pub fn plan(plan: &Plan, cache: &Cache, force: &[String], interrupt: &Interrupt) -> Result<Vec<StepPlan>, EngineError> {
    let capacity = Capacity::of_machine(&RunOptions::default());
    if plan.verify_always {
        cache.verify_always();
    }
    let forced = force::forced(plan, force)?;
    let sources = Sources::read(plan, cache, interrupt)?;
    let history = History::of(cache, &plan.name);
    let mut made: BTreeMap<(&StageName, &PortName), Artifact> = BTreeMap::new();
    let mut steps = Vec::with_capacity(plan.steps.len());
    for (step, &forced) in plan.steps.iter().zip(&forced) {
        let inputs: BTreeMap<PortName, Option<Artifact>> = step
            .inputs
            .iter()
            .map(|(port, source)| {
                let artifact = match source {
                    Source::Step { step, port } => made.get(&(step, port)),
                    Source::Path { path, format, .. } => Some(sources.get(path, *format)),
                };
                (port.clone(), artifact.cloned())
            })
            .collect();
        let (foretold, outputs) = foretell(step, inputs, forced, cache, &history)?;
        made.extend(step.outputs.keys().filter_map(|port| Some(((&step.name, port), outputs.get(port)?.clone()))));
        steps.push(foretold);
    }
    estimate::fill_in(plan, cache, &capacity, &mut steps);
    Ok(steps)
}

/// The plan of one step, and its outputs where it is a hit.
fn foretell(
    step: &Step,
    inputs: BTreeMap<PortName, Option<Artifact>>,
    forced: bool,
    cache: &Cache,
    history: &History<'_>,
) -> Result<(StepPlan, BTreeMap<PortName, Artifact>), EngineError> {
    let known: BTreeMap<PortName, Digest> =
        inputs.iter().filter_map(|(port, artifact)| Some((port.clone(), artifact.as_ref()?.digest))).collect();
    let mut outputs = BTreeMap::new();
    let (mut note, mut left) = (None, 1.0);
    let (verdict, key, Explained { because, last }) = if known.len() < inputs.len() {
        let upstream = missing(step, &inputs);
        (Verdict::Waits, None, history.explain_waiting(step, &known, &upstream, forced)?)
    } else {
        let manifest = manifest::manifest(step, known);
        let key = manifest.key();
        match if forced { Lookup::NONE } else { cache.lookup(key)? } {
            Lookup::Hit(record) => {
                outputs = record.outputs;
                (Verdict::Hit, Some(key), Explained { last: Some(record.cost.wall_seconds), ..Explained::default() })
            }
            Lookup::Miss { damage, given_up } => {
                let explained = history.explain(step, &manifest, &damage, given_up, forced)?;
                if !forced {
                    (note, left) = goes_on(step, &manifest, &explained.because, cache)?;
                }
                (Verdict::Run, Some(key), explained)
            }
        }
    };
    let kind = step.kind.name().to_owned();
    let estimate = Estimate::default();
    let step = step.name.clone();
    Ok((StepPlan { step, kind, verdict, key, because, note, left, estimate, last, inputs }, outputs))
}

/// What an execution would go on from, or why it can't where one would expect it; and the share of the work that is left.
fn goes_on(
    step: &Step,
    manifest: &ActionManifest,
    because: &[Because],
    cache: &Cache,
) -> Result<(Option<String>, f64), EngineError> {
    let scratch = cache.scratch(manifest.key());
    if fs_err::read_dir(scratch.join(attempts::STATE)).is_ok_and(|mut entries| entries.next().is_some()) {
        return Ok((Some("goes on from what an interrupted run left".to_owned()), 1.0));
    }
    if let Some((point, _)) = prefix::newest(&prefix::points(step, manifest), cache)? {
        return Ok((Some(format!("goes on from {}, which is cached", point.what)), 1.0 - point.share));
    }
    let stage = step.kind.stage();
    let why = because.iter().filter(|b| b.what == "param").find_map(|b| stage.starts_anew(&b.name));
    let attempt = || {
        let last = attempts::read(&scratch).pop()?;
        Some(format!("an attempt in run {} {}", last.run, last.ending()))
    };
    Ok((why.map(ToOwned::to_owned).or_else(attempt), 1.0))
}

/// The stages whose outputs aren't known yet.
fn missing(step: &Step, inputs: &BTreeMap<PortName, Option<Artifact>>) -> Vec<StageName> {
    let mut stages: Vec<StageName> = step
        .inputs
        .iter()
        .filter(|(port, _)| inputs.get(*port).is_some_and(Option::is_none))
        .filter_map(|(_, source)| match source {
            Source::Step { step, .. } => Some(step.clone()),
            Source::Path { .. } => None,
        })
        .collect();
    stages.sort();
    stages.dedup();
    stages
}
