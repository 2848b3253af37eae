//! Prefixes: an execution that ends where a shorter one went on from, and what it leaves for longer ones.
//!
//! The end of a shorter execution is an action like any other: `epochs: 3` is what `epochs: 5` makes on its way. What the
//! longer one needs beyond the shorter one's outputs, its state, is an action record of its own, under the same manifest but
//! for the stage's name. Users see one step.

use super::execute::Action;
use super::recorder::Recorder;
use super::{clock, environment, outputs};
use crate::action::{ActionKey, ActionManifest, ActionRecord, Cost, RECORD_SCHEMA};
use crate::artifact::{Artifact, Format};
use crate::cache::{Cache, CacheError, Claimed, Lookup};
use crate::event::EventKind;
use crate::name::PortName;
use crate::pipeline::Step;
use crate::stage::Reached;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The end of a shorter execution.
#[derive(Debug)]
pub(super) struct Point {
    pub what: String,
    /// The share of the whole work before it.
    pub share: f64,
    /// The shorter execution.
    shorter: ActionManifest,
    /// Its state, as an action of its own.
    state: ActionManifest,
}

/// The prefixes of a step, in order; the last one is the step itself.
pub(super) fn points(step: &Step, manifest: &ActionManifest) -> Vec<Point> {
    let point = |prefix: crate::stage::Prefix| {
        let shorter = ActionManifest { params: prefix.params, ..manifest.clone() };
        let state = ActionManifest { stage: format!("{}-state", manifest.stage), ..shorter.clone() };
        Point { what: prefix.what, share: prefix.share, shorter, state }
    };
    step.kind.stage().prefixes().into_iter().map(point).collect()
}

/// The last point whose state is there.
pub(super) fn newest<'a>(points: &'a [Point], cache: &Cache) -> Result<Option<(&'a Point, Artifact)>, CacheError> {
    let keys: Vec<ActionKey> = points.iter().map(|point| point.state.key()).collect();
    let _passage = cache.rely_on(&keys)?;
    for point in points.iter().rev() {
        if let Lookup::Hit(record) = cache.lookup(point.state.key())?
            && let Some(state) = record.outputs.get(&port())
        {
            return Ok(Some((point, state.clone())));
        }
    }
    Ok(None)
}

fn port() -> PortName {
    PortName::parse("state").expect("a valid name")
}

/// The prefixes of an action that executes.
pub(super) struct Prefixes<'a> {
    action: &'a Action<'a>,
    cache: &'a Cache,
    recorder: &'a Recorder<'a>,
    points: Vec<Point>,
    started: String,
    began: Instant,
}

impl<'a> Prefixes<'a> {
    pub(super) fn of(action: &'a Action<'a>, cache: &'a Cache, recorder: &'a Recorder<'a>) -> Self {
        let points = points(action.step, &action.manifest);
        Self { action, cache, recorder, points, started: clock::now(), began: Instant::now() }
    }

    /// The state to go on from.
    pub(super) fn prior(&self) -> Result<Option<PathBuf>, CacheError> {
        Ok(newest(&self.points, self.cache)?.map(|(_, state)| self.cache.object_path(state.digest)))
    }

    /// Keeps what a shorter execution would have made, and its state; the execution goes on whether that succeeds or not.
    pub(super) fn keep(&self, reached: Reached, out: &Path) {
        let Some(point) = self.points.get(reached.prefix) else { return };
        if let Err(why) = self.commit(point, &reached, out) {
            let message = format!("{} can't be kept for other runs: {why}", point.what);
            self.recorder.emit(EventKind::Warning { stage: Some(self.action.step.name.clone()), message });
        }
    }

    fn commit(&self, point: &Point, reached: &Reached, out: &Path) -> Result<(), String> {
        let failed = |e: CacheError| e.to_string();
        if !reached.outputs.is_empty() {
            let found = outputs::find(&self.action.step.kind, &self.action.step.outputs, out, &reached.outputs)?;
            let formats = &self.action.step.outputs;
            let files = found.into_iter().map(|(port, path)| (path, formats[&port], port)).collect();
            self.record(&point.shorter, files).map_err(failed)?;
        }
        if let Some(state) = &reached.state {
            self.record(&point.state, vec![(out.join(state), Format::Raw, port())]).map_err(failed)?;
        }
        Ok(())
    }

    /// Commits one action, unless it is there already or somebody else is at it.
    fn record(&self, manifest: &ActionManifest, files: Vec<(PathBuf, Format, PortName)>) -> Result<(), CacheError> {
        let key = manifest.key();
        // Never waits: the worker's messages would be waiting, too.
        if self.cache.holder(key)?.is_some() {
            return Ok(());
        }
        let Claimed::Claim(claim) = self.cache.claim(key, false, &mut |_| {})? else { return Ok(()) };
        let mut kept = BTreeMap::new();
        for (path, format, port) in files {
            kept.insert(port, self.cache.absorb(&path, format)?);
        }
        // The kernel counts processor time and memory when a process has ended: this one goes on.
        let cost = Cost { wall_seconds: self.began.elapsed().as_secs_f64(), ..Cost::default() };
        let record = ActionRecord {
            schema: RECORD_SCHEMA.to_owned(),
            key,
            manifest: manifest.clone(),
            outputs: kept,
            log: None,
            inputs: self.action.inputs.clone(),
            run: self.recorder.run().clone(),
            stage: self.action.step.name.clone(),
            started: self.started.clone(),
            cost,
            environment: environment(self.action.threads, self.action.step.device.unwrap_or_default()),
            attempts: Vec::new(),
            parent: None,
            accepted: None,
        };
        claim.commit(self.cache, record)
    }
}
