//! The loop that looks steps up, starts misses, and settles each step once.

use super::because::History;
use super::capacity::Capacity;
use super::execute::{Action, Completion, Ending, execute};
use super::interrupt::{Interrupt, Urgency};
use super::process::Control;
use super::recorder::Recorder;
use super::scheduler::Scheduler;
use super::sharing::Sharing;
use super::slurm::Slurm;
use super::sources::Sources;
use super::{RunOptions, manifest, publish, run};
use crate::action::{ActionKey, ActionManifest, Cost, Input, Origin};
use crate::artifact::Artifact;
use crate::cache::{Cache, CacheError, Lookup, Maker, Served, StepRecord};
use crate::digest::Digest;
use crate::event::{EventKind, Outcome, OutputSummary};
use crate::name::{PortName, StageName};
use crate::pipeline::{Plan, Source, Step};
use crate::provenance::in_words;
use crate::site::Executor;
use crate::stage::Resources;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Jobs elsewhere at once, where a site does not say.
const ELSEWHERE: usize = 1000;

/// How often a request to stop is looked for while stages run.
const HEED: Duration = Duration::from_millis(50);
/// Steps that the shared cache is asked for at once.
const AT_ONCE: usize = 16;

/// A step under way.
#[derive(Default)]
struct Track {
    inputs: BTreeMap<PortName, Input>,
    key: Option<ActionKey>,
    manifest: Option<ActionManifest>,
    /// What is wrong with the result that is recorded here, and whether `cache gc` gave some of it up.
    damage: (Vec<String>, bool),
    because: Vec<String>,
    control: Arc<Control>,
    settled: Option<StepRecord>,
}

/// A step that was looked up.
struct Ahead {
    inputs: BTreeMap<PortName, Input>,
    manifest: ActionManifest,
    key: ActionKey,
    lookup: Result<Lookup, CacheError>,
    seconds: f64,
}

/// The inputs of a step whose upstream steps are all settled.
fn inputs(
    step: &Step,
    sources: &Sources,
    tracks: &[Track],
    places: &BTreeMap<&StageName, usize>,
) -> BTreeMap<PortName, Input> {
    let input = |source: &Source| match source {
        Source::Path { path, format, .. } => Input {
            artifact: sources.get(path, *format).clone(),
            origin: Origin::Source { path: path.display().to_string() },
        },
        Source::Step { step, port } => {
            let made = tracks[places[step]].settled.as_ref().expect("upstream is settled first");
            Input {
                artifact: made.outputs[port].clone(),
                origin: Origin::Action { key: made.key.expect("it has outputs"), port: port.clone() },
            }
        }
    };
    step.inputs.iter().map(|(port, source)| (port.clone(), input(source))).collect()
}

pub(super) struct Coordinator<'a> {
    plan: &'a Plan,
    cache: &'a Cache,
    recorder: &'a Recorder<'a>,
    interrupt: &'a Interrupt,
    sources: &'a Sources,
    forced: &'a [bool],
    keep_going: bool,
    no_wait: bool,
    sharing: Option<&'a Sharing<'a>>,
    /// Steps that the shared cache is to be asked for, and how many it is being asked for.
    to_ask: VecDeque<usize>,
    asking: usize,
    history: History<'a>,
    places: BTreeMap<&'a StageName, usize>,
    grants: Vec<Resources>,
    /// Steps that Slurm runs.
    is_elsewhere: Vec<bool>,
    slurm: Option<&'a Slurm>,
    scheduler: Scheduler,
    tracks: Vec<Track>,
    /// Steps that were looked up together and not dealt with yet.
    ahead: BTreeMap<usize, Ahead>,
    /// Keys that are queued or execute, and the steps that wait for their outcome.
    under_way: BTreeMap<ActionKey, Vec<usize>>,
    /// The first step that failed.
    failed: Option<usize>,
    /// Every failure so far was the user's data.
    input_error: bool,
    heeded: Urgency,
}

/// What a thread tells the coordinator.
enum Told {
    /// What the shared cache has of a step, and the seconds that asking took.
    Asked(usize, Option<Served>, f64),
    /// A step holds no processor any more.
    Released(usize),
    Completed(usize, Completion),
}

/// How a step ended.
#[derive(Default)]
struct End {
    outputs: BTreeMap<PortName, Artifact>,
    log: Option<Artifact>,
    error: Option<String>,
    cost: Option<Cost>,
    from: Option<Maker>,
    seconds: f64,
    place: Option<String>,
}

impl<'a> Coordinator<'a> {
    #[expect(clippy::too_many_arguments, reason = "all that one run is made of, gathered once")]
    pub(super) fn new(
        plan: &'a Plan,
        cache: &'a Cache,
        recorder: &'a Recorder<'a>,
        interrupt: &'a Interrupt,
        sources: &'a Sources,
        capacity: Capacity,
        forced: &'a [bool],
        options: &RunOptions,
        slurm: Option<&'a Slurm>,
        sharing: Option<&'a Sharing<'a>>,
    ) -> Self {
        let places: BTreeMap<&StageName, usize> = plan.steps.iter().enumerate().map(|(i, s)| (&s.name, i)).collect();
        let is_elsewhere: Vec<bool> =
            plan.steps.iter().map(|step| run::place(step, options) == Executor::Slurm).collect();
        let grant = |(step, &elsewhere): (&Step, &bool)| match elsewhere {
            // It takes nothing of this machine.
            true => Resources { cpus: 0, memory: 0, gpus: 0, time: step.resources.time },
            false => capacity.grant(step.resources),
        };
        let grants: Vec<Resources> = plan.steps.iter().zip(&is_elsewhere).map(grant).collect();
        let capacity = match slurm {
            Some(_) => capacity.and_elsewhere(options.slurm.jobs.unwrap_or(ELSEWHERE)),
            None => capacity,
        };
        let upstream = |inputs: &BTreeMap<PortName, Source>| -> BTreeSet<usize> {
            let place = |source: &Source| match source {
                Source::Step { step, .. } => Some(places[step]),
                Source::Path { .. } => None,
            };
            inputs.values().filter_map(place).collect()
        };
        let upstream = plan.steps.iter().map(|step| upstream(&step.inputs)).collect();
        Self {
            plan,
            cache,
            recorder,
            interrupt,
            sources,
            forced,
            keep_going: options.keep_going,
            no_wait: options.no_wait,
            sharing,
            to_ask: VecDeque::new(),
            asking: 0,
            history: History::of(cache, &plan.name),
            scheduler: Scheduler::new(capacity, grants.clone(), upstream),
            places,
            grants,
            is_elsewhere,
            slurm,
            tracks: plan.steps.iter().map(|_| Track::default()).collect(),
            ahead: BTreeMap::new(),
            under_way: BTreeMap::new(),
            failed: None,
            input_error: true,
            heeded: Urgency::None,
        }
    }

    /// Settles every step.
    pub(super) fn walk(&mut self) {
        let (cache, recorder) = (self.cache, self.recorder);
        thread::scope(|scope| {
            let (send, receive) = mpsc::channel();
            let uploads = self.sharing.and_then(|sharing| sharing.start_adding(scope));
            loop {
                self.heed();
                self.look_up_all();
                while let (Some(sharing), true) = (self.sharing, self.asking < AT_ONCE && !self.is_stopping()) {
                    let Some(i) = self.to_ask.pop_front() else { break };
                    self.asking += 1;
                    let (send, stage, key) = (send.clone(), &self.plan.steps[i].name, self.key(i));
                    scope.spawn(move || {
                        let began = Instant::now();
                        let served = sharing.ask(stage, key);
                        send.send(Told::Asked(i, served, began.elapsed().as_secs_f64()))
                            .expect("the coordinator listens until all threads have answered");
                    });
                }
                while let Some(i) = (!self.is_stopping()).then(|| self.scheduler.admit()).flatten() {
                    let (send, action, control) = (send.clone(), self.action(i), Arc::clone(&self.tracks[i].control));
                    scope.spawn(move || {
                        let released = || drop(send.send(Told::Released(i)));
                        let completion = execute(&action, cache, recorder, &control, &released);
                        send.send(Told::Completed(i, completion))
                            .expect("the coordinator listens until all threads have answered");
                    });
                }
                if self.scheduler.under_way() == 0 && self.asking == 0 {
                    break;
                }
                match receive.recv_timeout(HEED) {
                    Ok(Told::Completed(i, completion)) => {
                        if let (Some(uploads), Ending::Ran(_)) = (&uploads, &completion.ending) {
                            uploads.add(&self.plan.steps[i].name, self.key(i));
                        }
                        self.complete(i, completion);
                    }
                    Ok(Told::Released(i)) => self.scheduler.release(i),
                    Ok(Told::Asked(i, served, seconds)) => self.asked(i, served, seconds),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => unreachable!("this function holds a sender"),
                }
            }
        });
        self.skip_the_rest();
    }

    fn is_stopping(&self) -> bool {
        self.heeded > Urgency::None || (self.failed.is_some() && !self.keep_going)
    }

    /// Hands a request to stop on to the stages that run.
    fn heed(&mut self) {
        let urgency = self.interrupt.urgency();
        if urgency > self.heeded {
            self.heeded = urgency;
            self.tracks.iter().for_each(|track| track.control.stop(urgency));
            self.slurm.inspect(|slurm| slurm.wake());
        }
    }

    /// Looks up all steps whose inputs are known; each hit may make further inputs known.
    fn look_up_all(&mut self) {
        while let Some(i) = (!self.is_stopping()).then(|| self.scheduler.known()).flatten() {
            if let Err(error) = self.look_up(i) {
                self.fail(i, format!("the cache failed: {error}"), false, End::default());
            }
        }
    }

    fn look_up(&mut self, i: usize) -> Result<(), CacheError> {
        if !self.ahead.contains_key(&i) {
            self.look_ahead();
        }
        let Ahead { inputs, manifest, key, lookup, seconds } =
            self.ahead.remove(&i).expect("a known step is looked up");
        self.tracks[i].inputs = inputs;
        self.tracks[i].key = Some(key);
        // Two steps of one key: the second waits for the first, and is then a hit.
        if let Some(parked) = self.under_way.get_mut(&key) {
            parked.push(i);
            self.scheduler.park(i);
            return Ok(());
        }
        let forced = self.forced[i];
        let damage = match lookup? {
            Lookup::Hit(record) => {
                self.hit(i, record, seconds);
                return Ok(());
            }
            Lookup::Miss { damage, given_up } => (damage, given_up),
        };
        self.tracks[i].manifest = Some(manifest);
        self.tracks[i].damage = damage;
        self.under_way.insert(key, Vec::new());
        if !forced && self.sharing.is_some_and(|sharing| !sharing.is_left_alone()) {
            self.scheduler.park(i);
            self.to_ask.push_back(i);
            return Ok(());
        }
        self.miss(i)
    }

    /// Queues a step whose result is nowhere.
    fn miss(&mut self, i: usize) -> Result<(), CacheError> {
        let step = &self.plan.steps[i];
        let (damage, given_up) = std::mem::take(&mut self.tracks[i].damage);
        for what in &damage {
            let message = format!("{what}: making it again");
            self.recorder.emit(EventKind::Warning { stage: Some(step.name.clone()), message });
        }
        let manifest = self.tracks[i].manifest.as_ref().expect("set by look_up");
        let because = self.history.explain(step, manifest, &damage, given_up, self.forced[i])?.because;
        self.tracks[i].because = because.iter().map(in_words).collect();
        self.scheduler.queue(i);
        Ok(())
    }

    /// Deals with what the shared cache has of a step.
    fn asked(&mut self, i: usize, served: Option<Served>, seconds: f64) {
        self.asking -= 1;
        if let Some(served) = served {
            let parked = self.under_way.remove(&self.key(i)).unwrap_or_default();
            self.hit(i, served, seconds);
            self.scheduler.unpark(&parked);
        } else if !self.is_stopping()
            && let Err(error) = self.miss(i)
        {
            self.fail(i, format!("the cache failed: {error}"), false, End::default());
        }
    }

    fn key(&self, i: usize) -> ActionKey {
        self.tracks[i].key.expect("set by look_up")
    }

    /// Looks up every step whose inputs are known, side by side: a run of many hits is nothing else.
    fn look_ahead(&mut self) {
        let ahead = &self.ahead;
        let known: Vec<usize> = self.scheduler.all_known().filter(|i| !ahead.contains_key(i)).collect();
        let (plan, cache, sources, forced) = (self.plan, self.cache, self.sources, self.forced);
        let (tracks, places) = (&self.tracks, &self.places);
        let name = |&i: &usize| {
            let began = Instant::now();
            let step = &plan.steps[i];
            let inputs = inputs(step, sources, tracks, places);
            let digests = inputs.iter().map(|(port, input)| (port.clone(), input.artifact.digest)).collect();
            let manifest = manifest::manifest(step, digests);
            let key = manifest.key();
            let unseen = Ok(Lookup::NONE);
            (i, Ahead { inputs, manifest, key, lookup: unseen, seconds: began.elapsed().as_secs_f64() })
        };
        // A chain has one at a time, which other threads would not make faster.
        let many = known.len() >= 8;
        let mut named: Vec<(usize, Ahead)> =
            if many { known.par_iter().map(name).collect() } else { known.iter().map(name).collect() };
        let keys: Vec<ActionKey> = named.iter().map(|(_, ahead)| ahead.key).collect();
        let passage = cache.rely_on(&keys);
        let look = |(i, ahead): &mut (usize, Ahead)| {
            let began = Instant::now();
            ahead.lookup = match &passage {
                Err(error) => Err(CacheError::Unusable(error.to_string())),
                Ok(_) if forced[*i] => return,
                Ok(_) => cache.lookup(ahead.key),
            };
            ahead.seconds += began.elapsed().as_secs_f64();
        };
        if many {
            named.par_iter_mut().for_each(look)
        } else {
            named.iter_mut().for_each(look)
        }
        self.ahead.extend(named);
    }

    fn action(&mut self, i: usize) -> Action<'a> {
        let (track, step) = (&mut self.tracks[i], &self.plan.steps[i]);
        Action {
            step,
            manifest: track.manifest.take().expect("queued by look_up, which sets it"),
            key: track.key.expect("queued by look_up, which sets it"),
            inputs: track.inputs.clone(),
            because: track.because.clone(),
            force: self.forced[i],
            no_wait: self.no_wait,
            threads: match self.is_elsewhere[i] {
                // All that the node gives.
                true if step.resources.cpus == u32::MAX => 0,
                true => step.resources.cpus,
                false => self.grants[i].cpus,
            },
            slurm: self.slurm.filter(|_| self.is_elsewhere[i]),
        }
    }

    fn complete(&mut self, i: usize, completion: Completion) {
        let Completion { ending, log, cost, seconds, place } = completion;
        let key = self.tracks[i].key.expect("it executed");
        let parked = self.under_way.remove(&key).unwrap_or_default();
        match ending {
            Ending::Hit(record) => self.hit(i, record, seconds),
            Ending::Ran(Served { outputs, log, .. }) => {
                self.settle(i, Outcome::Ran, End { outputs, log, cost: Some(cost), seconds, place, ..End::default() });
            }
            Ending::Failed { message, input } => {
                self.fail(i, message, input, End { log, cost: Some(cost), seconds, place, ..End::default() });
            }
            Ending::Cancelled => {
                self.settle(i, Outcome::Cancelled, End { log, cost: Some(cost), seconds, place, ..End::default() });
                self.input_error = false;
            }
        }
        self.scheduler.unpark(&parked);
    }

    /// Settles a failed step, and all that need it.
    fn fail(&mut self, i: usize, message: String, input: bool, end: End) {
        self.input_error &= input;
        self.failed.get_or_insert(i);
        self.settle(i, Outcome::Failed, End { error: Some(message), ..end });
        let reason = format!("needs {}, which failed", self.plan.steps[i].name);
        for dependent in self.scheduler.dependents(i) {
            self.skip(dependent, &reason);
        }
    }

    /// Settles a step whose outputs an earlier execution made.
    fn hit(&mut self, i: usize, served: Served, seconds: f64) {
        let Served { outputs, log, run, started, cost } = served;
        let from = Some(Maker { run, started, seconds: cost.wall_seconds });
        self.settle(i, Outcome::Hit, End { outputs, log, from, seconds, ..End::default() });
    }

    fn skip(&mut self, i: usize, reason: &str) {
        self.tracks[i].because = vec![reason.to_owned()];
        let error = Some(reason.to_owned());
        self.settle(i, Outcome::Skipped, End { error, ..End::default() });
    }

    fn skip_the_rest(&mut self) {
        let reason = match self.failed {
            _ if self.heeded > Urgency::None => "the run was interrupted before it".to_owned(),
            Some(failed) => format!("not started: {} failed", self.plan.steps[failed].name),
            None => "not started".to_owned(),
        };
        for i in self.scheduler.unsettled() {
            self.skip(i, &reason);
        }
    }

    fn settle(&mut self, i: usize, outcome: Outcome, end: End) {
        let End { outputs, log, error, cost, from, seconds, place } = end;
        let step = &self.plan.steps[i];
        let track = &mut self.tracks[i];
        match outcome {
            Outcome::Ran | Outcome::Hit => self.scheduler.done(i),
            Outcome::Failed | Outcome::Skipped | Outcome::Cancelled => self.scheduler.end(i),
        }
        let summary = |artifact: &Artifact| OutputSummary {
            digest: artifact.digest,
            bytes: artifact.bytes,
            format: artifact.format,
        };
        self.recorder.emit(EventKind::StageFinished {
            stage: step.name.clone(),
            kind: step.kind.name().to_owned(),
            outcome,
            key: track.key,
            seconds,
            outputs: outputs.iter().map(|(port, artifact)| (port.clone(), summary(artifact))).collect(),
            error: error.clone(),
        });
        track.settled = Some(StepRecord {
            stage: step.name.clone(),
            kind: step.kind.name().to_owned(),
            outcome,
            key: track.key,
            because: std::mem::take(&mut track.because),
            inputs: std::mem::take(&mut track.inputs),
            outputs,
            log,
            error,
            seconds,
            cost,
            from,
            place,
        });
    }

    /// After a complete success, places the results in the working directory. Gives the artifacts that are there now,
    /// and what kept others from it, by path.
    pub(super) fn publish(&self) -> (BTreeMap<String, Digest>, BTreeMap<String, String>) {
        let (mut published, mut unpublished) = (BTreeMap::new(), BTreeMap::new());
        let complete = |track: &Track| {
            track.settled.as_ref().is_some_and(|record| matches!(record.outcome, Outcome::Ran | Outcome::Hit))
        };
        if !self.tracks.iter().all(complete) {
            return (published, unpublished);
        }
        for (path, (stage, port)) in &self.plan.publish {
            let made = self.tracks[self.places[stage]].settled.as_ref().expect("all are settled");
            let artifact = &made.outputs[port];
            match publish::publish(self.cache, artifact, Path::new(path)) {
                Ok(placed) => {
                    if placed.written {
                        let (path, digest) = (path.clone(), artifact.digest);
                        self.recorder.emit(EventKind::Published { path, digest, text: placed.text });
                    }
                    published.insert(path.clone(), artifact.digest);
                }
                Err(error) => {
                    let output = format!("{stage}.{port}");
                    self.recorder.emit(EventKind::PublishFailed { path: path.clone(), output, error: error.clone() });
                    unpublished.insert(path.clone(), error);
                }
            }
        }
        (published, unpublished)
    }

    /// The records of all steps, in the plan's order, and whether every failure was the user's data.
    pub(super) fn finish(self) -> (Vec<StepRecord>, bool) {
        let input_error = self.failed.is_some() && self.input_error;
        let records = self.tracks.into_iter().map(|track| track.settled.expect("walk settles every step")).collect();
        (records, input_error)
    }
}
