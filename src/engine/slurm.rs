//! Stages as Slurm jobs: submitted once, found again after a restart, believed by what they leave in their folder.
//!
//! Each stage that runs has a thread that waits for its job's `done.json`. One clerk submits for all, and asks the
//! controller after all of them at once. That a question gets no answer says nothing about any job.

mod board;
mod clerk;
mod commands;
mod script;
mod sighting;

pub(super) use script::Request;

use super::interrupt::Interrupt;
use super::job::Message;
use super::placed::{Done, Note, Placed, Started};
use super::printed;
use super::process::Control;
use super::tail::Tail;
use crate::site;
use board::{Board, Wanted, Watched};
use clerk::Clerk;
use commands::Commands;
use sighting::{Sighting, Verdict};
use std::io;
use std::time::{Duration, Instant};

/// How often a job is submitted again that the machine ended.
const RETRIES: u32 = 3;

/// How long a job may be gone without a trace: Nextflow's patience, long enough for slow network disks.
const LOST: Duration = Duration::from_secs(270);

/// How long the last word of a job that has ended may be on its way.
const LATE: Duration = Duration::from_secs(60);

/// How often the folder of a job that runs is looked at, and of one that waits.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_SELDOM: Duration = Duration::from_secs(3);

/// What a user is told of the queue no sooner than this.
const QUIET: Duration = Duration::from_secs(60);

/// Slurm, for one run.
#[derive(Debug)]
pub(super) struct Slurm {
    site: site::Slurm,
    run: String,
    board: Board,
    commands: Commands,
    interrupt: Interrupt,
}

/// Whose job it is, for its name and comment.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// Without the matrix branch.
    pub base: String,
    pub stage: String,
    pub key: String,
}

/// What is heard of a job while it goes on.
pub(super) enum News<'a> {
    /// The stage says something.
    Message(Message),
    /// It was started on a node.
    Started(&'a Started),
    /// It printed a line.
    Printed(String),
    /// Something that a user wants to know.
    Note(String),
}

/// Why there is nothing to read.
#[derive(Debug)]
pub(super) enum Fate {
    /// It ended, one way or another.
    Done(Box<Done>),
    /// Slurm ended it, or never started it; says what happened.
    Failed(String),
    /// The run was interrupted: the job was cancelled.
    Cancelled,
    /// The run was interrupted: the job goes on, and the next run finds it.
    Left,
}

impl Slurm {
    pub(super) fn new(site: site::Slurm, run: &str, interrupt: Interrupt) -> Self {
        Self { site, run: run.to_owned(), board: Board::default(), commands: Commands::default(), interrupt }
    }

    /// The clerk's work; returns after `close`.
    pub(super) fn serve(&self) {
        Clerk::new(&self.board, &self.commands, &self.site, self.run.clone()).work();
    }

    /// Lets the clerk go home, after what was asked of it last.
    pub(super) fn close(&self) {
        self.board.wish(|content| content.closed = true);
    }

    /// Has every stage that waits for news look up: it is asked to stop.
    pub(super) fn wake(&self) {
        self.board.tell(|_| ());
    }

    /// Calls of Slurm's commands, and submissions among them.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.commands.counts()
    }

    /// Sees a job to its end: finds it again, or submits it. What it prints is heard where `follows` says so.
    pub(super) fn see_through(
        &self,
        placed: &Placed,
        subject: &Subject,
        request: &Request,
        control: &Control,
        follows: bool,
        hear: &mut dyn FnMut(News<'_>),
    ) -> io::Result<Fate> {
        self.join(placed, subject, request, hear);
        let mut wait = Wait {
            slurm: self,
            placed,
            subject,
            request,
            messages: Tail::default(),
            printed: follows.then(Tail::default),
            started: None,
            told: String::new(),
            since: Instant::now(),
            asked: false,
        };
        let fate = wait.until_the_end(control, hear);
        let mut content = self.board.lock();
        content.wanted.retain(|wanted| wanted.placed != *placed);
        content.watched.remove(placed);
        fate
    }

    /// Takes up a job that an earlier run submitted, or submits it.
    fn join(&self, placed: &Placed, subject: &Subject, request: &Request, hear: &mut dyn FnMut(News<'_>)) {
        let note = placed.note();
        let id = note.as_ref().and_then(|note| note.id.clone().or_else(|| self.find(note)));
        match id {
            Some(id) => {
                hear(News::Note(format!("takes up job {id}, which an earlier run submitted")));
                if let Some(note) = note {
                    // What can't be written now is asked for by name the next time again.
                    let _ = placed.set_note(&Note { id: Some(id.clone()), ..note });
                }
                let watched = Watched { id: Some(id), seen: Some(Instant::now()), ..Watched::default() };
                self.board.wish(|content| content.watched.insert(placed.clone(), watched));
            }
            None if placed.done().is_some_and(|done| !done.was_stopped()) => {}
            None => self.submit(placed, subject, request),
        }
    }

    /// Ends a job that nobody wants any more.
    pub(super) fn give_up(&self, placed: &Placed) {
        let note = placed.note();
        if let Some(id) = note.as_ref().and_then(|note| note.id.clone().or_else(|| self.find(note))) {
            self.commands.cancel(&[id]);
        }
    }

    fn submit(&self, placed: &Placed, subject: &Subject, request: &Request) {
        let wanted = Wanted {
            placed: placed.clone(),
            request: request.clone(),
            stage: subject.base.clone(),
            about: format!("stage={} key={}", subject.stage, subject.key),
            since: Instant::now(),
        };
        self.board.wish(|content| {
            content.watched.insert(placed.clone(), Watched::default());
            content.wanted.push(wanted);
        });
    }

    /// The number of a job whose submission was cut short, where Slurm had taken it.
    fn find(&self, note: &Note) -> Option<String> {
        let jobs = self.commands.jobs().ok()?;
        let mut named = jobs.iter().filter(|(_, job)| job.name == note.name).map(|(id, _)| id);
        match note.index {
            None => named.next().cloned(),
            Some(index) => named.find(|id| id.ends_with(&format!("_{index}"))).cloned(),
        }
    }
}

/// The user's name, by the number that the kernel knows.
fn user() -> String {
    // SAFETY: takes nothing, and gives a number.
    unsafe { libc::geteuid() }.to_string()
}

/// One stage's wait for its job.
struct Wait<'a> {
    slurm: &'a Slurm,
    placed: &'a Placed,
    subject: &'a Subject,
    request: &'a Request,
    messages: Tail,
    /// Of what it prints, where anybody wants to see that.
    printed: Option<Tail>,
    started: Option<Started>,
    /// What the user was told last.
    told: String,
    /// Since when it is as it is.
    since: Instant,
    /// The job was asked to stop.
    asked: bool,
}

impl Wait<'_> {
    fn until_the_end(&mut self, control: &Control, hear: &mut dyn FnMut(News<'_>)) -> io::Result<Fate> {
        loop {
            let heard = self.slurm.board.news();
            self.listen(hear)?;
            // Stopped by another hand: Slurm tells whose.
            let stopped = |done: &Done| done.was_stopped() && !self.asked && !done.expired;
            if let Some(done) = self.placed.done().filter(|done| !stopped(done)) {
                // What it said last came before its end.
                self.listen(hear)?;
                if let Some(printed) = &mut self.printed {
                    printed.finish(&mut |line| hear(News::Printed(printed::readable(line))));
                }
                if done.expired && !control.is_stopped() {
                    self.again("its time was over; it goes on from what it saved", false, hear)?;
                    continue;
                }
                self.tidy();
                return Ok(if self.asked { self.cancelled(Some(done)) } else { Fate::Done(Box::new(done)) });
            }
            let watched = self.slurm.board.view(self.placed);
            if let Some(fate) = self.heed(control, &watched) {
                return Ok(fate);
            }
            if let Some(why) = &watched.refused {
                return Ok(Fate::Failed(format!("Slurm refused it: {why}")));
            }
            if let Some(fate) = self.judge(&watched, hear)? {
                return Ok(fate);
            }
            let is_running = |sighting: Sighting| sighting.state == "RUNNING";
            let runs = self.started.is_some() || control.is_stopped() || watched.sighting.is_some_and(is_running);
            self.slurm.board.wait_for_news(heard, if runs { LOOK } else { LOOK_SELDOM });
        }
    }

    /// Takes a job from the queue that Slurm would start again although it has ended: its controller was away meanwhile.
    fn tidy(&self) {
        let watched = self.slurm.board.view(self.placed);
        let is_held = watched.sighting.is_some_and(|sighting| matches!(sighting.verdict(), Verdict::Again(_)));
        if let Some(id) = watched.id.filter(|_| is_held) {
            self.slurm.board.wish(|content| content.cancelled.push(id));
        }
    }

    /// Passes on what the job says.
    fn listen(&mut self, hear: &mut dyn FnMut(News<'_>)) -> io::Result<()> {
        let Some(started) = self.placed.started() else { return Ok(()) };
        if self.started.as_ref() != Some(&started) {
            hear(News::Started(&started));
            self.since = Instant::now();
            self.messages = Tail::new(self.placed.messages(&started.start));
            self.printed = self.printed.take().map(|_| Tail::new(self.placed.log(&started.start)));
        }
        self.started = Some(started);
        if let Some(printed) = &mut self.printed {
            printed.read(&mut |line| hear(News::Printed(printed::readable(line))))?;
        }
        self.messages.read(&mut |line| {
            if let Ok(message) = serde_json::from_slice(line) {
                hear(News::Message(message));
            }
        })
    }

    /// Does what an interrupted run is to do with its jobs.
    fn heed(&mut self, control: &Control, watched: &Watched) -> Option<Fate> {
        if !control.is_stopped() {
            return None;
        }
        let Some(id) = &watched.id else {
            // One that is on its way to Slurm has to arrive before it can be left there, or cancelled.
            let stays = self.slurm.board.withdraw(self.placed) || control.is_urgent();
            return stays.then_some(Fate::Cancelled);
        };
        if !self.slurm.interrupt.cancels_jobs() {
            return Some(Fate::Left);
        }
        if !self.asked {
            self.asked = true;
            self.since = Instant::now();
            let runs = self.started.is_some();
            self.slurm.board.wish(|content| {
                let list = if runs { &mut content.asked } else { &mut content.cancelled };
                list.push(id.clone());
            });
            if !runs {
                return Some(Fate::Cancelled);
            }
        }
        // A worker gives a user's program ten seconds.
        let patience = if control.is_urgent() { Duration::ZERO } else { Duration::from_secs(20) };
        (self.since.elapsed() > patience).then(|| {
            self.slurm.board.wish(|content| content.cancelled.push(id.clone()));
            Fate::Cancelled
        })
    }

    fn cancelled(&self, done: Option<Done>) -> Fate {
        match done {
            // It was ready before it heard.
            Some(done) if matches!(done.end, Some(Message::Done(_))) => Fate::Done(Box::new(done)),
            _ => Fate::Cancelled,
        }
    }

    /// Weighs what Slurm says against what the folder does not say.
    fn judge(&mut self, watched: &Watched, hear: &mut dyn FnMut(News<'_>)) -> io::Result<Option<Fate>> {
        let job = watched.id.as_deref().unwrap_or("?");
        if let Some((gone, what)) = self.slurm.board.away()
            && gone > QUIET
        {
            self.tell(
                format!(
                    "Slurm has not answered for {} s ({what}); the job goes on, and so does the wait",
                    gone.as_secs() / 60 * 60
                ),
                hear,
            );
        }
        let lost = self.slurm.site.lost_seconds.map_or(LOST, Duration::from_secs);
        let Some(sighting) = &watched.sighting else {
            return match watched.missing_since {
                Some(since) if since.elapsed() > lost => {
                    self.gone(format!("Slurm knows nothing of job {job} any more, and it left no word"), hear)
                }
                _ => Ok(None),
            };
        };
        match sighting.verdict() {
            Verdict::Wait => {
                if sighting.state == "PENDING" && self.since.elapsed() > QUIET && !sighting.reason.is_empty() {
                    self.tell(format!("job {job} waits ({})", sighting.reason), hear);
                }
                // Known once, and then no more: forgotten after its end, whose word may be late.
                match watched.missing_since {
                    Some(since) if since.elapsed() > lost => {
                        self.gone(format!("job {job} vanished, and left no word"), hear)
                    }
                    _ => Ok(None),
                }
            }
            Verdict::Stuck(why) => {
                self.tell(format!("job {job}: {why}"), hear);
                Ok(None)
            }
            Verdict::Never(why) => {
                self.slurm.board.wish(|content| content.cancelled.push(job.to_owned()));
                Ok(Some(Fate::Failed(format!("job {job}: {why}: ask for less, or change `[slurm]` in cistage.toml"))))
            }
            Verdict::Again(why) => {
                if self.last_word() {
                    return Ok(None);
                }
                self.slurm.board.wish(|content| content.cancelled.push(job.to_owned()));
                self.gone(format!("job {job}: {why}"), hear)
            }
            Verdict::Ended => {
                // Its word may be on the way over a network disk.
                let ended = watched.changed.map_or(Duration::ZERO, |at| at.elapsed());
                if self.last_word() || ended < lost.min(LATE) {
                    return Ok(None);
                }
                let before = self.placed.before();
                let said = if before.is_empty() {
                    "it left nothing in its folder: does the node see the cache's disk?".to_owned()
                } else {
                    format!("before the stage began: {before}")
                };
                Ok(Some(Fate::Failed(format!("job {job} ended ({}) without a word; {said}", sighting.state))))
            }
            Verdict::Killed(why) => {
                if self.last_word() {
                    return Ok(None);
                }
                if sighting.state == "TIMEOUT" && self.request.resumes {
                    return self.gone(format!("job {job}: {why}; it goes on from what it saved"), hear);
                }
                let more = match sighting.state.as_str() {
                    "OUT_OF_MEMORY" => ": give it more with `resources: { memory: … }`",
                    "TIMEOUT" | "DEADLINE" => ": give it more with `resources: { time: … }`, or less to do",
                    _ => "",
                };
                Ok(Some(Fate::Failed(format!("job {job}{}: {why}{more}", self.place()))))
            }
        }
    }

    /// Looks once more, past what a network disk remembers, whether the job has said how it ended.
    fn last_word(&self) -> bool {
        self.placed.refresh();
        self.placed.done().is_some_and(|done| !done.was_stopped())
    }

    fn place(&self) -> String {
        self.started.as_ref().map_or(String::new(), |started| format!(" on {}", started.node))
    }

    /// Submits again what the machine lost, as often as the site allows.
    fn gone(&mut self, what: String, hear: &mut dyn FnMut(News<'_>)) -> io::Result<Option<Fate>> {
        let retries = self.slurm.site.retries.unwrap_or(RETRIES);
        let tries = self.placed.note().map_or(1, |note| note.tries);
        if tries > retries {
            return Ok(Some(Fate::Failed(format!("{what} (submitted {tries} times)"))));
        }
        self.again(&what, true, hear)?;
        Ok(None)
    }

    /// Submits it again; `counts` where that is a retry.
    fn again(&mut self, why: &str, counts: bool, hear: &mut dyn FnMut(News<'_>)) -> io::Result<()> {
        hear(News::Note(format!("{why}: submitted again")));
        self.placed.forget_done()?;
        if !counts && let Some(note) = self.placed.note() {
            self.placed.set_note(&Note { tries: note.tries.saturating_sub(1), ..note })?;
        }
        self.since = Instant::now();
        self.told.clear();
        self.slurm.submit(self.placed, self.subject, self.request);
        Ok(())
    }

    fn tell(&mut self, what: String, hear: &mut dyn FnMut(News<'_>)) {
        if self.told != what {
            hear(News::Note(what.clone()));
            self.told = what;
        }
    }
}
