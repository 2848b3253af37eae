//! Where a worker runs: as a child of the run, or as a job of Slurm.

use super::{Attempt, Stop};
use crate::action::Cost;
use crate::device::Device;
use crate::engine::job::{Job, Message};
use crate::engine::log::Log;
use crate::engine::placed::Placed;
use crate::engine::prefix::Prefixes;
use crate::engine::printed;
use crate::engine::process;
use crate::engine::secrets::Secrets;
use crate::engine::slurm::{Fate, News, Request, Slurm, Subject};
use crate::engine::work_dir::WorkDir;
use crate::event::EventKind;
use crate::stages::StageKind;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a stage past its time may take to end itself; longer than a worker gives the program it runs.
const GRACE: Duration = Duration::from_secs(15);

/// How a worker ended, here or elsewhere.
pub(super) struct Ran {
    pub(super) end: Option<Message>,
    pub(super) status: ExitStatus,
    pub(super) log: Log,
    pub(super) cost: Cost,
    /// Its output folder.
    pub(super) out: PathBuf,
}

impl Attempt<'_> {
    /// Runs the worker as a child of this process.
    pub(super) fn run_here(
        &self,
        job: &Job,
        work: &WorkDir,
        prefixes: &Prefixes<'_>,
        secrets: &Secrets,
    ) -> Result<Ran, Stop> {
        let step = self.action.step;
        let line = serde_json::to_vec(job).expect("a job is plain data");
        let mut end = None;
        let mut hear = |message: Message| match message {
            Message::Reached { reached } => prefixes.keep(reached, &work.out),
            last @ (Message::Done(_) | Message::Failed { .. }) => end = Some(last),
            other => self.pass_on(other),
        };
        let (limit, control) = (Duration::from_secs(step.resources.time), self.control);
        let printed = printed::of_attempt(&work.dir);
        // What may hold a secret is seen when it is known to hold none: in the log.
        let copy = secrets.is_empty().then(|| fs_err::File::create(&printed)).transpose()?;
        let exit = thread::scope(|scope| {
            // Dropped when the worker has ended, which ends the watches.
            let (_ended, watch) = mpsc::channel();
            let (_over, listen) = mpsc::channel();
            if copy.is_some() && self.recorder.shows_output() {
                let (recorder, printed) = (self.recorder, printed);
                scope.spawn(move || printed::follow(printed, &listen, &|line| recorder.show(&step.name, line)));
            }
            if !limit.is_zero() {
                scope.spawn(move || control.stop_after(limit, GRACE, &watch));
            }
            process::run(&line, &work.dir, control, &mut hear, copy)
        })
        .map_err(|e| Stop::from(format!("can't start a worker process for stage `{}`: {e}", step.name)))?;
        Ok(Ran { end, status: exit.status, log: exit.log, cost: exit.cost, out: work.out.clone() })
    }

    /// Has Slurm run the worker.
    pub(super) fn run_elsewhere(
        &mut self,
        slurm: &Slurm,
        placed: &Placed,
        job: &Job,
        work: &WorkDir,
        prefixes: &Prefixes<'_>,
    ) -> Result<Ran, Stop> {
        let step = self.action.step;
        if !placed.has_job() {
            placed.set_job(job)?;
        }
        // From here on a job may be under way: should this run die, the next one finds it.
        work.leave();
        let name = step.name.as_str();
        let base = name.split('@').next().unwrap_or(name).to_owned();
        let subject = Subject { base, stage: name.to_owned(), key: self.action.key.0.short() };
        let secrets = match &step.kind {
            StageKind::Command(command) => command.secrets.keys().cloned().collect(),
            _ => Vec::new(),
        };
        let (ranks, resumes) = (step.kind.stage().ranks(), step.kind.stage().saves_state());
        let on_gpu = step.device.is_some_and(|device| device != Device::Cpu);
        let request = Request { resources: step.resources, secrets, ranks, on_gpu, resumes };
        let stage = &step.name;
        let mut hear = |news: News<'_>| match news {
            News::Message(Message::Reached { reached }) => {
                if let Some(started) = placed.started() {
                    prefixes.keep(reached, &placed.out(&started.start));
                }
            }
            News::Message(Message::Done(_) | Message::Failed { .. }) => {}
            News::Message(other) => self.pass_on(other),
            News::Started(started) => {
                self.recorder.emit(EventKind::Placed { stage: stage.clone(), place: started.place() });
            }
            News::Printed(line) => self.recorder.show(stage, line),
            News::Note(message) => self.recorder.emit(EventKind::Note { stage: stage.clone(), message }),
        };
        let follows = self.recorder.shows_output();
        let fate = slurm.see_through(placed, &subject, &request, self.control, follows, &mut hear)?;
        if let Some(started) = placed.started() {
            self.place = Some(started.place());
        }
        match fate {
            Fate::Left => Err(Stop::Left),
            Fate::Cancelled => {
                work.take_back();
                Err(Stop::Cancelled)
            }
            Fate::Failed(message) => {
                work.take_back();
                Err(message.into())
            }
            Fate::Done(done) => {
                work.take_back();
                let start = &done.started.start;
                let mut log = Log::default();
                log.push(&fs_err::read(placed.log(start)).unwrap_or_default());
                self.environment = Some(done.environment);
                let status = ExitStatus::from_raw(done.status);
                Ok(Ran { end: done.end, status, log, cost: done.cost, out: placed.out(start) })
            }
        }
    }

    /// Tells of a message what others want to know.
    fn pass_on(&self, message: Message) {
        let stage = self.action.step.name.clone();
        self.recorder.emit(match message {
            Message::Progress { done, total, unit } => EventKind::Progress { stage, done, total, unit },
            Message::Metric { name, step, value } => {
                EventKind::Metric { stage, name, step, value: value.unwrap_or(f64::NAN) }
            }
            Message::Warning { message } => EventKind::Warning { stage: Some(stage), message },
            Message::Note { message } => EventKind::Note { stage, message },
            Message::Reached { .. } | Message::Done(_) | Message::Failed { .. } => return,
        });
    }
}
