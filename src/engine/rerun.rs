//! `audit --rerun`: what made an artifact is executed again, apart from everything, and its bytes are compared.
//!
//! The recipe is the record's alone: parameters from its manifest, inputs by digest. An input whose bytes are gone from
//! the cache is made again the same way; nothing that comes out is kept. `audit --undeclared` executes the commands of a
//! lineage so, each under strace.

use super::access::Access;
use super::capacity::cores;
use super::interrupt::{Interrupt, Urgency};
use super::job::{JOB_SCHEMA, Job, Made, Message};
use super::process::{self, Control};
use super::secrets::Secrets;
use super::{EngineError, Reporter, clock, outputs, sources, strace};
use crate::action::{ActionKey, ActionRecord};
use crate::cache::{Cache, CacheError};
use crate::device::Device;
use crate::digest::Digest;
use crate::event::{Event, EventKind, Outcome, OutputSummary};
use crate::model::device;
use crate::name::{PortName, RunId, StageName};
use crate::provenance::{Lineage, Made as Origin, SourceState, source_state};
use crate::stages::StageKind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What strace notes, by process.
const NOTES: &str = "strace";

/// How often a request to stop is looked for.
const HEED: Duration = Duration::from_millis(100);

/// Why something is executed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To compare the bytes of the artifacts asked for.
    Compare,
    /// To see what each command behind them touches.
    Trace,
}

/// What executing again showed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rerun {
    /// Every artifact asked for came out with the recorded bytes.
    pub reproduced: bool,
    /// What was executed, in that order.
    pub actions: Vec<Again>,
    /// Files that it would take, and where they were. While one is missing nothing is executed.
    pub missing: Vec<MissingSource>,
    /// What else kept an action from being executed.
    pub problems: Vec<String>,
}

/// One action, executed again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Again {
    pub stage: StageName,
    pub kind: String,
    pub key: ActionKey,
    /// Asked for; else its bytes were needed and not in the cache.
    pub asked: bool,
    pub seconds: f64,
    /// What the recorded execution took.
    pub seconds_then: f64,
    pub outputs: BTreeMap<PortName, Compared>,
    /// Why its bytes may differ: another version of the stage, another numeric target.
    pub notes: Vec<String>,
    /// What a command touched beside what it declares, where that was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Why it made nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Compared {
    pub recorded: Digest,
    pub found: Digest,
    pub same: bool,
}

/// A source file that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MissingSource {
    pub path: String,
    pub digest: Digest,
    pub bytes: u64,
    pub state: SourceState,
    /// The machine that read it, and the run that did.
    pub host: String,
    pub run: RunId,
}

/// Executes again what made these artifacts. Paths of sources are relative to the working directory.
///
/// # Errors
///
/// An interruption, and a cache that can't be read; what keeps an action from being executed is part of the answer.
pub fn rerun<'l>(
    cache: &Cache,
    lineages: impl Iterator<Item = &'l Lineage>,
    purpose: Purpose,
    reporter: &dyn Reporter,
    interrupt: &Interrupt,
) -> Result<Rerun, EngineError> {
    let mut work = Work {
        cache,
        reporter,
        interrupt,
        purpose,
        dir: cache.private_path()?,
        needed: Vec::new(),
        seen: BTreeSet::new(),
        made: BTreeMap::new(),
        answer: Rerun::default(),
    };
    let mut roots = Vec::new();
    for lineage in lineages {
        match lineage {
            Lineage::Made(_) if purpose == Purpose::Trace => roots.extend(commands(lineage)),
            Lineage::Made(made) => roots.push(made),
            Lineage::Source(source) => work.problem(format!("{} is a source file: no stage made it", source.path)),
            Lineage::Lost { artifact, problem } => work.problem(format!("{}: {problem}", artifact.digest)),
        }
    }
    let keys: Vec<ActionKey> = roots.iter().flat_map(|made| behind(made)).collect();
    // Until it is clear what is needed nothing may be given up, and of what is found there nothing after it.
    let passage = cache.rely_on(&keys)?;
    for made in &roots {
        work.need(made, true)?;
    }
    drop(passage);
    fs_err::create_dir(&work.dir).map_err(CacheError::Io)?;
    if work.answer.missing.is_empty() && work.answer.problems.is_empty() {
        for (made, asked) in std::mem::take(&mut work.needed) {
            if !work.execute(made, asked)? {
                break;
            }
        }
    }
    let _ = fs_err::remove_dir_all(&work.dir);
    let same = |root: &&Arc<Origin>| {
        let again = work.answer.actions.iter().find(|again| again.key == root.record.key);
        again.is_some_and(|again| again.outputs.values().any(|o| o.same && o.recorded == root.artifact.digest))
    };
    work.answer.reproduced = !roots.is_empty() && work.answer.problems.is_empty() && roots.iter().all(same);
    Ok(work.answer)
}

/// The commands among an action and all behind it.
fn commands(lineage: &Lineage) -> Vec<&Arc<Origin>> {
    let mut commands = Vec::new();
    lineage.visit(&mut |lineage| {
        if let Lineage::Made(made) = lineage
            && made.record.manifest.stage == "command"
        {
            commands.push(made);
        }
    });
    commands
}

/// The keys of an action and of all behind it.
fn behind(made: &Arc<Origin>) -> Vec<ActionKey> {
    let mut keys = Vec::new();
    Lineage::Made(Arc::clone(made)).visit(&mut |lineage| {
        if let Lineage::Made(made) = lineage {
            keys.push(made.record.key);
        }
    });
    keys
}

struct Work<'a, 'l> {
    cache: &'a Cache,
    reporter: &'a dyn Reporter,
    interrupt: &'a Interrupt,
    purpose: Purpose,
    dir: PathBuf,
    /// What has to be executed, inputs before what is made of them, and whether it was asked for.
    needed: Vec<(&'l Arc<Origin>, bool)>,
    seen: BTreeSet<(ActionKey, Digest)>,
    /// Where the bytes are that were made again.
    made: BTreeMap<Digest, PathBuf>,
    answer: Rerun,
}

impl<'l> Work<'_, 'l> {
    fn problem(&mut self, what: String) {
        self.answer.problems.push(what);
    }

    /// Finds out what executing an action takes.
    fn need(&mut self, made: &'l Arc<Origin>, asked: bool) -> Result<(), EngineError> {
        if !self.seen.insert((made.record.key, made.artifact.digest)) {
            return Ok(());
        }
        if let Err(problem) = kind(&made.record) {
            self.problem(problem);
            return Ok(());
        }
        for (port, input) in &made.inputs {
            match input {
                Lineage::Made(input) if self.cache.holds(&input.artifact)? => {}
                Lineage::Made(input) => self.need(input, false)?,
                Lineage::Source(source) => {
                    let state = source_state(self.cache, Path::new(&source.path), source.digest);
                    if state != SourceState::Same {
                        let missing = MissingSource {
                            path: source.path.clone(),
                            digest: source.digest,
                            bytes: source.bytes,
                            state,
                            host: made.record.environment.host.clone(),
                            run: made.record.run.clone(),
                        };
                        if !self.answer.missing.contains(&missing) {
                            self.answer.missing.push(missing);
                        }
                    }
                }
                Lineage::Lost { artifact, problem } => {
                    let (stage, digest) = (&made.record.stage, artifact.digest);
                    self.problem(format!("the input `{port}` of {stage} ({digest}): {problem}"));
                }
            }
        }
        let again = self.needed.iter_mut().find(|(other, _)| other.record.key == made.record.key);
        match again {
            // Two outputs of one action: it is executed once.
            Some((_, before)) => *before |= asked,
            None => self.needed.push((made, asked)),
        }
        Ok(())
    }

    /// Executes one action; false where what comes after it can't be executed.
    fn execute(&mut self, made: &'l Arc<Origin>, asked: bool) -> Result<bool, EngineError> {
        let record = &made.record;
        let kind = kind(record).map_err(EngineError::Other)?;
        let (stage, name) = (record.stage.clone(), record.manifest.stage.clone());
        let because = if asked { "asked for" } else { "its bytes are needed, and are not in the cache" };
        self.emit(EventKind::StageStarted {
            stage: stage.clone(),
            kind: name.clone(),
            key: record.key,
            because: vec![because.to_owned()],
        });
        let began = Instant::now();
        let found = self.found(made, &kind)?;
        let seconds = began.elapsed().as_secs_f64();
        let mut again = Again {
            stage: stage.clone(),
            kind: name.clone(),
            key: record.key,
            asked,
            seconds,
            seconds_then: record.cost.wall_seconds,
            outputs: BTreeMap::new(),
            notes: notes(record, &kind),
            access: None,
            error: None,
        };
        if self.purpose == Purpose::Trace && asked {
            again.access = Some(self.access()?);
        }
        match found {
            Ok(found) => {
                for (port, path) in found {
                    let Some(recorded) = record.outputs.get(&port).map(|output| output.digest) else { continue };
                    let digest = sources::digest(&path).map_err(CacheError::Io)?;
                    let same = digest == recorded;
                    if same {
                        self.made.insert(digest, path);
                    }
                    again.outputs.insert(port, Compared { recorded, found: digest, same });
                }
            }
            Err(error) => again.error = Some(error),
        }
        // What is made of other bytes says nothing about the record.
        let goes_on = again.error.is_none() && (asked || again.outputs.values().all(|output| output.same));
        let outcome = if again.error.is_none() { Outcome::Ran } else { Outcome::Failed };
        let outputs = again.outputs.iter().map(|(port, compared)| {
            let recorded = &record.outputs[port];
            (port.clone(), OutputSummary { digest: compared.found, bytes: recorded.bytes, format: recorded.format })
        });
        let outputs = outputs.collect();
        let (key, error) = (Some(record.key), again.error.clone());
        self.emit(EventKind::StageFinished { stage, kind: name, outcome, key, seconds, outputs, error });
        self.answer.actions.push(again);
        Ok(goes_on)
    }

    fn emit(&self, kind: EventKind) {
        self.reporter.event(&Event { at: clock::now(), kind });
    }

    /// Runs the worker; gives where its outputs are, or why there are none.
    fn found(
        &self,
        made: &Arc<Origin>,
        kind: &StageKind,
    ) -> Result<Result<BTreeMap<PortName, PathBuf>, String>, EngineError> {
        let record = &made.record;
        let dir = self.own_dir();
        let (out, scratch) = (dir.join("out"), dir.join("state"));
        for folder in [&dir, &out, &scratch] {
            fs_err::create_dir(folder).map_err(CacheError::Io)?;
        }
        let secrets = match Secrets::of(kind) {
            Ok(secrets) => secrets,
            Err(what) => return Ok(Err(what)),
        };
        let is_command = matches!(kind, StageKind::Command(_));
        let (mut inputs, mut labels) = (BTreeMap::new(), BTreeMap::new());
        for (port, input) in &made.inputs {
            labels.insert(port.clone(), label(port, input));
            let ending = match kind {
                StageKind::Command(command) => command.endings.get(port.as_str()).map_or("", String::as_str),
                _ => "",
            };
            let place = if is_command { &out } else { &dir }.join("in").join(format!("{port}{ending}"));
            fs_err::create_dir_all(place.parent().expect("joined above")).map_err(CacheError::Io)?;
            match self.input(input, is_command, &place) {
                Ok(path) => inputs.insert(port.clone(), path),
                Err(CacheError::Io(error)) => return Err(CacheError::Io(error).into()),
                Err(CacheError::Unusable(what)) => return Ok(Err(format!("its input `{port}`: {what}"))),
            };
        }
        let job = Job {
            schema: JOB_SCHEMA.to_owned(),
            kind: record.manifest.stage.clone(),
            params: record.manifest.params.clone().into_iter().collect(),
            inputs,
            labels,
            output_dir: out.clone(),
            scratch,
            prior: None,
            threads: cores() as usize,
            device: device_for(record),
            target: None,
            trace: (self.purpose == Purpose::Trace && is_command).then(|| dir.join(NOTES)),
            lifeline: true,
            engine: (!is_command).then(std::process::id),
        };
        let made =
            self.run_worker(&serde_json::to_vec(&job).expect("a job is plain data"), &dir, &record.stage, &secrets)?;
        let formats = record.outputs.iter().map(|(port, output)| (port.clone(), output.format)).collect();
        Ok(made.and_then(|made| outputs::find(kind, &formats, &out, &made.outputs)))
    }

    /// What the command that was just executed touched.
    fn access(&self) -> Result<Access, EngineError> {
        let dir = self.own_dir();
        let read = || {
            let dir = fs_err::canonicalize(&dir)?;
            Ok(Access::of(&strace::read(&dir.join(NOTES), &dir.join("out"))?, &dir))
        };
        read().map_err(|e| CacheError::Io(e).into())
    }

    /// The folder of the action that is executed now, or was last.
    fn own_dir(&self) -> PathBuf {
        self.dir.join(self.answer.actions.len().to_string())
    }

    /// Where a stage finds an input. A user's program gets a private copy at `place`, checked while it is made.
    fn input(&self, input: &Lineage, is_command: bool, place: &Path) -> Result<PathBuf, CacheError> {
        let (from, artifact) = match input {
            Lineage::Source(source) => (std::path::absolute(&source.path)?, None),
            Lineage::Made(made) => match self.made.get(&made.artifact.digest) {
                Some(path) => (path.clone(), None),
                None => (place.to_owned(), Some(&made.artifact)),
            },
            Lineage::Lost { problem, .. } => return Err(CacheError::Unusable(problem.clone())),
        };
        match artifact {
            Some(artifact) if is_command => self.cache.copy_out(artifact, place)?,
            Some(artifact) => return self.cache.read_path(artifact, place),
            None if is_command => {
                if sources::copy(&from, place)? != input.digest() {
                    return Err(CacheError::Unusable(format!("{} changed meanwhile", from.display())));
                }
            }
            None => return Ok(from),
        }
        Ok(place.to_owned())
    }

    fn run_worker(
        &self,
        job: &[u8],
        dir: &Path,
        stage: &StageName,
        secrets: &Secrets,
    ) -> Result<Result<Made, String>, EngineError> {
        let mut end = None;
        let mut hear = |message: Message| {
            let stage = stage.clone();
            match message {
                Message::Progress { done, total, unit } => {
                    self.emit(EventKind::Progress { stage, done, total, unit });
                }
                Message::Metric { name, step, value } => {
                    self.emit(EventKind::Metric { stage, name, step, value: value.unwrap_or(f64::NAN) });
                }
                // They were said when it was executed first.
                Message::Warning { .. } | Message::Note { .. } | Message::Reached { .. } => {}
                last @ (Message::Done(_) | Message::Failed { .. }) => end = Some(last),
            }
        };
        let (control, ended) = (Control::default(), AtomicBool::new(false));
        let exit = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    if self.interrupt.urgency() > Urgency::None {
                        control.stop(self.interrupt.urgency());
                    }
                    std::thread::sleep(HEED);
                }
            });
            let exit = process::run(job, dir, &control, &mut hear, None);
            ended.store(true, Ordering::Relaxed);
            exit
        });
        let mut exit =
            exit.map_err(|e| EngineError::Other(format!("can't start a worker process for `{stage}`: {e}")))?;
        exit.log.hide(secrets);
        if self.interrupt.is_raised() {
            return Err(EngineError::Interrupted);
        }
        Ok(match end {
            Some(Message::Done(made)) if exit.status.success() => Ok(made),
            Some(Message::Failed { message, .. }) => Err(exit.log.after(secrets.hidden_text(message))),
            _ => Err(process::signal_message(exit.status)
                .unwrap_or_else(|| format!("the worker process ended early, {}", exit.status))),
        })
    }
}

/// The stage of a record, as this version of the program has it.
fn kind(record: &ActionRecord) -> Result<StageKind, String> {
    let (stage, name) = (&record.stage, &record.manifest.stage);
    let params = record.manifest.params.clone().into_iter().collect();
    match StageKind::parse(name, &params) {
        Some(Ok(kind)) => Ok(kind),
        Some(Err(problems)) => {
            let what = problems.iter().map(|p| format!("{}: {}", p.param, p.message)).collect::<Vec<_>>().join("; ");
            Err(format!("this version of cistage can't read the parameters of {stage} (`{name}`): {what}"))
        }
        None => Err(format!("this version of cistage has no stage `{name}` to make {stage} with")),
    }
}

/// Where to execute a record's action again.
fn device_for(record: &ActionRecord) -> Device {
    record.manifest.target.as_deref().map_or(Device::Cpu, device::suited_to)
}

fn notes(record: &ActionRecord, kind: &StageKind) -> Vec<String> {
    let mut notes = Vec::new();
    let (then, now) = (record.manifest.version, kind.stage().version());
    if then != now {
        notes.push(format!("made by version {then} of `{}`; this program has version {now}", kind.name()));
    }
    let here = device::target(device_for(record));
    if let Some(target) = record.manifest.target.as_ref().filter(|target| **target != here) {
        notes.push(format!("made on {target}; this machine is {here}"));
    }
    if let Some(accepted) = &record.accepted {
        notes.push(format!("an earlier result was accepted in its place: {}", accepted.reason));
    }
    notes
}

/// How messages of a stage name an input.
fn label(port: &PortName, input: &Lineage) -> String {
    match input {
        Lineage::Source(source) => source.path.clone(),
        Lineage::Made(made) => format!("{} ({port})", made.record.stage),
        Lineage::Lost { artifact, .. } => artifact.digest.to_string(),
    }
}
