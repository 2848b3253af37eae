//! One execution: claim the key, prepare the inputs, watch the worker, keep what it made.

mod running;

use super::job::{Failure, JOB_SCHEMA, Job, Made, Message};
use super::log::Log;
use super::placed::Placed;
use super::prefix::Prefixes;
use super::process::{self, Control};
use super::recorder::Recorder;
use super::secrets::Secrets;
use super::slurm::Slurm;
use super::work_dir::{self, WorkDir};
use super::{attempts, clock, detached, environment, outputs};
use crate::action::{ActionKey, ActionManifest, ActionRecord, Cost, Environment, FailedAttempt, Input, RECORD_SCHEMA};
use crate::artifact::{Artifact, Format, Layout};
use crate::cache::{Cache, CacheError, Claimed, Served};
use crate::event::EventKind;
use crate::name::PortName;
use crate::pipeline::{Source, Step};
use crate::stages::{Command, StageKind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often the lock of another process is looked at.
const POLL: Duration = Duration::from_millis(100);

/// A step with all that its execution needs.
#[derive(Debug)]
pub(super) struct Action<'a> {
    pub step: &'a Step,
    pub manifest: ActionManifest,
    pub key: ActionKey,
    pub inputs: BTreeMap<PortName, Input>,
    /// Why it executes, in words.
    pub because: Vec<String>,
    pub force: bool,
    /// Fail where another process works on it already.
    pub no_wait: bool,
    pub threads: u32,
    /// Runs it, where it does not run here.
    pub slurm: Option<&'a Slurm>,
}

/// What became of an execution.
#[derive(Debug)]
pub(super) enum Ending {
    /// Another process made it meanwhile.
    Hit(Served),
    Ran(Served),
    Failed {
        message: String,
        /// The user's data is at fault.
        input: bool,
    },
    Cancelled,
}

/// An execution that has ended: a failed one has a cost and a log worth keeping, too.
#[derive(Debug)]
pub(super) struct Completion {
    pub ending: Ending,
    pub log: Option<Artifact>,
    pub cost: Cost,
    pub seconds: f64,
    /// The job and the node that it ran on, where that was not here.
    pub place: Option<String>,
}

/// Why an execution goes no further.
enum Stop {
    Failed {
        message: String,
        input: bool,
    },
    Cancelled,
    /// The run was interrupted; its job goes on.
    Left,
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Self::Failed { message, input: false }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        error.to_string().into()
    }
}

impl From<CacheError> for Stop {
    fn from(error: CacheError) -> Self {
        format!("the cache failed: {error}").into()
    }
}

/// Executes an action, from claim to commit; `released` is called when its worker has ended.
pub(super) fn execute(
    action: &Action<'_>,
    cache: &Cache,
    recorder: &Recorder<'_>,
    control: &Control,
    released: &dyn Fn(),
) -> Completion {
    let began = Instant::now();
    let mut attempt = Attempt {
        action,
        cache,
        recorder,
        control,
        released,
        log: None,
        cost: Cost::default(),
        environment: None,
        place: None,
    };
    let ending = attempt.claim_and_run().unwrap_or_else(|stop| match stop {
        Stop::Failed { message, input } => Ending::Failed { message, input },
        Stop::Cancelled | Stop::Left => Ending::Cancelled,
    });
    let seconds = began.elapsed().as_secs_f64();
    Completion { ending, log: attempt.log, cost: attempt.cost, seconds, place: attempt.place }
}

struct Attempt<'a> {
    action: &'a Action<'a>,
    cache: &'a Cache,
    recorder: &'a Recorder<'a>,
    control: &'a Control,
    released: &'a dyn Fn(),
    log: Option<Artifact>,
    cost: Cost,
    /// Of the node, where it did not run here.
    environment: Option<Environment>,
    place: Option<String>,
}

impl Attempt<'_> {
    fn claim_and_run(&mut self) -> Result<Ending, Stop> {
        let step = self.action.step;
        let mut waiting = |who: &str| {
            let message = format!("waiting: {who} works on this already");
            self.recorder.emit(EventKind::Warning { stage: Some(step.name.clone()), message });
        };
        // The wait for a lock can't be interrupted: looked at from afar first, so that Ctrl-C ends it.
        if let Some(who) = self.cache.holder(self.action.key)? {
            if self.action.no_wait {
                return Err(format!("{who} works on this already, and --no-wait says not to wait for it").into());
            }
            waiting(&who);
            while self.cache.holder(self.action.key)?.is_some() {
                if self.control.is_stopped() {
                    return Err(Stop::Cancelled);
                }
                thread::sleep(POLL);
            }
        }
        let claim = match self.cache.claim(self.action.key, self.action.force, &mut waiting)? {
            Claimed::Hit(record) => return Ok(Ending::Hit(record)),
            Claimed::Claim(claim) => claim,
        };
        if self.control.is_stopped() {
            return Err(Stop::Cancelled);
        }
        self.recorder.emit(EventKind::StageStarted {
            stage: step.name.clone(),
            kind: step.kind.name().to_owned(),
            key: self.action.key,
            because: self.action.because.clone(),
        });
        let started = clock::now();
        let scratch = std::path::absolute(self.cache.scratch(self.action.key))?;
        let work = self.work_dir(&scratch)?;
        let began = Instant::now();
        let outputs = self.run_in(&work).inspect_err(|stop| {
            let error = match stop {
                Stop::Failed { message, .. } => message.clone(),
                Stop::Cancelled => FailedAttempt::INTERRUPTED.to_owned(),
                Stop::Left => return,
            };
            let attempt = FailedAttempt {
                run: self.recorder.run().clone(),
                started: started.clone(),
                seconds: Some(began.elapsed().as_secs_f64()),
                error,
                log: self.log.as_ref().map(|log| log.digest),
            };
            attempts::note(&scratch, attempt);
        })?;
        self.compare_with_before(&outputs)?;
        let record = ActionRecord {
            schema: RECORD_SCHEMA.to_owned(),
            key: self.action.key,
            manifest: self.action.manifest.clone(),
            outputs,
            log: self.log.clone(),
            inputs: self.action.inputs.clone(),
            run: self.recorder.run().clone(),
            stage: step.name.clone(),
            started,
            cost: self.cost.clone(),
            environment: self
                .environment
                .take()
                .unwrap_or_else(|| environment(self.action.threads, step.device.unwrap_or_default())),
            attempts: attempts::read(&scratch),
            parent: None,
            accepted: None,
        };
        drop(work);
        claim.commit(self.cache, record.clone())?;
        Ok(Ending::Ran(record.into()))
    }

    /// Says where an action that was executed before made other bytes then.
    fn compare_with_before(&self, outputs: &BTreeMap<PortName, Artifact>) -> Result<(), Stop> {
        let Some(before) = self.cache.record(self.action.key)? else { return Ok(()) };
        for (port, old) in &before.outputs {
            let Some(new) = outputs.get(port).filter(|new| new.digest != old.digest) else { continue };
            let message = format!(
                "`{port}` has other bytes than the same action made in run {} ({} -> {}): this stage is not deterministic",
                before.run,
                old.digest.short(),
                new.digest.short()
            );
            self.recorder.emit(EventKind::Warning { stage: Some(self.action.step.name.clone()), message });
        }
        Ok(())
    }

    /// From the prepared inputs to the stored outputs.
    fn run_in(&mut self, work: &WorkDir) -> Result<BTreeMap<PortName, Artifact>, Stop> {
        let step = self.action.step;
        let secrets = Secrets::of(&step.kind).map_err(|message| Stop::Failed { message, input: true })?;
        let (made, out, inputs) = self.run_worker(work, &secrets)?;
        (self.released)();
        self.check_inputs(&inputs)?;
        let found = outputs::find(&step.kind, &step.outputs, &out, &made.outputs)
            .map_err(|what| Stop::from(format!("stage `{}` {what}", step.name)))?;
        let mut kept = BTreeMap::new();
        for (port, path) in found {
            if let Some(file) = secrets.found_in(&path)? {
                let file = file.strip_prefix(&out).unwrap_or(&file).display().to_string();
                let what = format!("output `{port}` of stage `{}` can't be kept: {file:?} holds a secret", step.name);
                return Err(secrets.hidden_text(what).into());
            }
            let format = step.outputs[&port];
            // A user's program hands nothing in: what it leaves is always read.
            let seal = made.seals.get(&port).filter(|_| !self.is_command());
            let kept_as = match seal {
                Some(seal) => self.cache.absorb_sealed(&path, format, seal.digest, seal.bytes),
                None => self.cache.absorb(&path, format),
            };
            let artifact = kept_as
                .map_err(|e| Stop::from(format!("output `{port}` of stage `{}` can't be kept: {e}", step.name)))?;
            kept.insert(port, artifact);
        }
        Ok(kept)
    }

    fn is_command(&self) -> bool {
        matches!(self.action.step.kind, StageKind::Command(_))
    }

    /// Where the stage finds each input: in place for our own stages, a private copy for a user's program.
    fn inputs(&self, work: &WorkDir) -> Result<BTreeMap<PortName, PathBuf>, Stop> {
        let mut paths = BTreeMap::new();
        for (port, source) in &self.action.step.inputs {
            let artifact = &self.action.inputs[port].artifact;
            let path = if let StageKind::Command(command) = &self.action.step.kind {
                let copy = work.out.join(command.input_path(port));
                if paths.is_empty() {
                    fs_err::create_dir(work.out.join("in"))?;
                }
                match source {
                    Source::Step { .. } => self.cache.copy_out(artifact, &copy)?,
                    Source::Path { path, .. } => {
                        if super::sources::copy(path, &copy)? != artifact.digest {
                            return Err(self.changed(path));
                        }
                    }
                }
                copy
            } else {
                match source {
                    Source::Step { .. } => {
                        let links = work.dir.join("in");
                        fs_err::create_dir_all(&links)?;
                        self.cache.read_path(artifact, &links.join(port.as_str()))?
                    }
                    Source::Path { path, .. } => std::path::absolute(path)?,
                }
            };
            paths.insert(port.clone(), std::path::absolute(path)?);
        }
        Ok(paths)
    }

    /// What the stage read must be what its key says.
    fn check_inputs(&self, paths: &BTreeMap<PortName, PathBuf>) -> Result<(), Stop> {
        for (port, source) in &self.action.step.inputs {
            let artifact = &self.action.inputs[port].artifact;
            if self.is_command() {
                if super::sources::digest(&paths[port]).ok() != Some(artifact.digest) {
                    return Err(format!(
                        "stage `{}` changed its input `{port}`: a program must leave its inputs as they are",
                        self.action.step.name
                    )
                    .into());
                }
            } else if let Source::Path { path, .. } = source
                && !self.is_still(path, artifact)?
            {
                return Err(self.changed(path));
            }
        }
        Ok(())
    }

    fn is_still(&self, path: &Path, artifact: &Artifact) -> Result<bool, Stop> {
        let now = self.cache.digest_source(path, artifact.format)?;
        Ok(now.digest == artifact.digest && now.layout == artifact.layout)
    }

    fn changed(&self, path: &Path) -> Stop {
        let message = format!("{} changed while stage `{}` used it: run again", path.display(), self.action.step.name);
        Stop::Failed { message, input: true }
    }

    /// The folder to work in: of this attempt, or of its job.
    fn work_dir(&self, scratch: &Path) -> std::io::Result<WorkDir> {
        let run = self.recorder.run();
        let Some(slurm) = self.action.slurm else { return WorkDir::create(scratch, run, self.is_command()) };
        if self.action.force {
            // Who forces an execution wants all of it.
            for placed in work_dir::jobs(scratch)? {
                slurm.give_up(&placed);
                fs_err::remove_dir_all(&placed.0)?;
            }
        }
        WorkDir::place(scratch, run, self.is_command())
    }

    /// What the worker is to do.
    fn job(&self, work: &WorkDir, prefixes: &Prefixes<'_>) -> Result<Job, Stop> {
        let step = self.action.step;
        Ok(Job {
            schema: JOB_SCHEMA.to_owned(),
            kind: step.kind.name().to_owned(),
            params: step.kind.params().into_iter().collect(),
            inputs: self.inputs(work)?,
            labels: labels(step),
            output_dir: work.out.clone(),
            scratch: work.scratch.clone(),
            // Who forces an execution wants all of it.
            prior: if self.action.force { None } else { prefixes.prior()? },
            threads: self.action.threads as usize,
            device: step.device.unwrap_or_default(),
            target: self.action.manifest.target.clone(),
            trace: None,
            lifeline: true,
            engine: (!self.is_command()).then(std::process::id),
        })
    }

    /// Runs the worker process to its end; gives what it says of its outputs, where they are, and what it read.
    fn run_worker(
        &mut self,
        work: &WorkDir,
        secrets: &Secrets,
    ) -> Result<(Made, PathBuf, BTreeMap<PortName, PathBuf>), Stop> {
        let step = self.action.step;
        let prefixes = Prefixes::of(self.action, self.cache, self.recorder);
        let placed = Placed(work.dir.clone());
        let job = match self.action.slurm {
            Some(_) if placed.has_job() => placed.job()?,
            _ => self.job(work, &prefixes)?,
        };
        let mut ran = match self.action.slurm {
            Some(slurm) => self.run_elsewhere(slurm, &placed, &job, work, &prefixes)?,
            None => self.run_here(&job, work, &prefixes, secrets)?,
        };
        ran.log.hide(secrets);
        self.cost = ran.cost.clone();
        self.keep_log(&ran.log);
        let inputs =
            job.inputs.into_iter().map(|(port, path)| (port, detached::moved(&path, &work.out, &ran.out))).collect();
        match ran.end {
            Some(Message::Done(made)) if ran.status.success() => Ok((made, ran.out, inputs)),
            _ if self.control.is_expired() => {
                let what = format!(
                    "stopped when its time was over: `resources: {{ time: {} }}`; give it more time, or less to do",
                    in_words(step.resources.time)
                );
                Err(if self.is_command() { ran.log.after(what) } else { what }.into())
            }
            Some(Message::Failed { why: Failure::Cancelled, .. }) => Err(Stop::Cancelled),
            Some(Message::Failed { why, message }) => {
                let message = secrets.hidden_text(message);
                let message = match &step.kind {
                    StageKind::Command(command) => with_hint(ran.log.after(message), command, &ran.out),
                    _ => message,
                };
                Err(Stop::Failed { message, input: why == Failure::Input })
            }
            _ if self.control.is_stopped() => Err(Stop::Cancelled),
            _ => {
                let mut what = process::signal_message(ran.status)
                    .unwrap_or_else(|| format!("the worker process ended early, {}", ran.status));
                if !self.is_command() && !is_empty(&work.scratch) {
                    what += "; what it had saved is kept: the same command again goes on from it";
                }
                Err(ran.log.after(what).into())
            }
        }
    }

    /// Stores what was printed: always for a user's program, else where there is anything.
    fn keep_log(&mut self, log: &Log) {
        if log.is_empty() && !self.is_command() {
            return;
        }
        let bytes = log.bytes();
        match self.cache.put_bytes(&bytes) {
            Ok(digest) => {
                let bytes = bytes.len() as u64;
                self.log = Some(Artifact { digest, bytes, layout: Layout::File, format: Format::Raw });
            }
            // Its loss must not hide how the stage ended; keeping the outputs will fail the same way.
            Err(error) => self.recorder.emit(EventKind::Warning {
                stage: Some(self.action.step.name.clone()),
                message: format!("the log can't be kept: {error}"),
            }),
        }
    }
}

/// A command's failure with the file that it may have missed.
fn with_hint(message: String, command: &Command, work: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match super::undeclared::hint(command, &message, &here, work) {
        Some(hint) => format!("{message}\nhelp: {hint}"),
        None => message,
    }
}

/// Seconds as a pipeline file has them: `1h30m`.
fn in_words(seconds: u64) -> String {
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect()
}

/// How messages of a stage name its inputs.
fn labels(step: &Step) -> BTreeMap<PortName, String> {
    let label = |source: &Source| match source {
        Source::Step { step, port } => format!("{step}.{port}"),
        Source::Path { path, .. } => path.display().to_string(),
    };
    step.inputs.iter().map(|(port, source)| (port.clone(), label(source))).collect()
}

fn is_empty(folder: &Path) -> bool {
    fs_err::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_reads_as_it_is_written() {
        for (seconds, text) in [(1, "1s"), (90, "1m30s"), (3600, "1h"), (90_061, "25h1m1s")] {
            assert_eq!(in_words(seconds), text);
        }
    }
}
