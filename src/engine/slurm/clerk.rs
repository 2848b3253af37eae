//! The one who talks to Slurm: submits what is wanted, in arrays where jobs are alike, and asks after all jobs at once.

use super::board::{Board, Content, Wanted, Watched};
use super::commands::Commands;
use super::script;
use super::sighting::Sighting;
use crate::engine::placed::{Note, Placed};
use crate::site;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Jobs that become wanted within this time go to Slurm together.
const GATHER: Duration = Duration::from_millis(300);

/// Between two questions at first, and at most.
const SOON: Duration = Duration::from_secs(2);
const SELDOM: Duration = Duration::from_secs(30);

/// Between two submissions.
const PACE: Duration = Duration::from_millis(100);

/// An array of more jobs than this is refused by many sites (MaxArraySize is 1001 where nobody has changed it).
const LARGEST: usize = 1000;

/// How long the clerk sleeps where nothing is to be done.
const NAP: Duration = Duration::from_millis(100);

pub(super) struct Clerk<'a> {
    board: &'a Board,
    commands: &'a Commands,
    site: &'a site::Slurm,
    /// Of this run: names of submissions begin with it.
    run: String,
    batches: usize,
    asked: Instant,
    pause: Duration,
    submitted: Option<Instant>,
}

impl<'a> Clerk<'a> {
    pub(super) fn new(board: &'a Board, commands: &'a Commands, site: &'a site::Slurm, run: String) -> Self {
        let pause = site.poll_seconds.map_or(SOON, Duration::from_secs);
        Self { board, commands, site, run, batches: 0, asked: Instant::now(), pause, submitted: None }
    }

    /// Works until the board is closed.
    pub(super) fn work(&mut self) {
        loop {
            let (closed, stopped, cancelled) = {
                let mut content = self.board.lock();
                (content.closed, std::mem::take(&mut content.asked), std::mem::take(&mut content.cancelled))
            };
            stopped.iter().for_each(|id| self.commands.ask_to_stop(id));
            if !cancelled.is_empty() {
                self.commands.cancel(&cancelled);
            }
            if closed {
                return;
            }
            self.submit();
            self.ask();
            self.board.wait_for_wishes(NAP);
        }
    }

    /// Submits the jobs of one kind that have waited long enough for others like them.
    fn submit(&mut self) {
        if self.submitted.is_some_and(|at| at.elapsed() < PACE) {
            return;
        }
        let take = |content: &mut Content| {
            let first = content.wanted.iter().find(|wanted| wanted.since.elapsed() >= GATHER)?;
            let (stage, request) = (first.stage.clone(), first.request.clone());
            let alike = |wanted: &Wanted| wanted.stage == stage && wanted.request == request;
            let mut batch = Vec::new();
            let mut others = Vec::new();
            for wanted in content.wanted.drain(..) {
                if batch.len() < LARGEST && alike(&wanted) { batch.push(wanted) } else { others.push(wanted) }
            }
            // Nobody waits any more for one whose folder is gone.
            batch.retain(|wanted| wanted.placed.has_job());
            content.wanted = others;
            Some(batch)
        };
        let batch = take(&mut self.board.lock());
        let Some(batch) = batch.filter(|batch| !batch.is_empty()) else { return };
        let name = format!("cistage.{}.{}.{}", self.run, self.batches, batch[0].stage);
        self.batches += 1;
        let answer = self.send(&batch, &name);
        self.submitted = Some(Instant::now());
        // What was just submitted may end at once.
        self.pause = self.site.poll_seconds.map_or(SOON, Duration::from_secs);
        self.board.tell(|content| {
            for (index, wanted) in batch.iter().enumerate() {
                // It may have ended before Slurm gave its number.
                let Some(watched) = content.watched.get_mut(&wanted.placed) else { continue };
                match &answer {
                    Ok(id) => {
                        let id = task(id, index, batch.len());
                        *watched = Watched { id: Some(id), seen: Some(Instant::now()), ..Watched::default() };
                    }
                    Err(why) => watched.refused = Some(why.clone()),
                }
            }
        });
    }

    /// Notes the name before Slurm hears it and the number after: a run that dies between the two finds the job by its name.
    fn send(&self, batch: &[Wanted], name: &str) -> Result<String, String> {
        let several = batch.len() > 1;
        let note = |index: usize, wanted: &Wanted, id: Option<&str>| {
            let tries = wanted.placed.note().map_or(0, |note| note.tries) + u32::from(id.is_none());
            let id = id.map(|id| task(id, index, batch.len()));
            wanted.placed.set_note(&Note { name: name.to_owned(), index: several.then_some(index), id, tries })
        };
        for (index, wanted) in batch.iter().enumerate() {
            note(index, wanted, None).map_err(|e| format!("the note of a job can't be written: {e}"))?;
        }
        let folders: Vec<&Path> = batch.iter().map(|wanted| wanted.placed.0.as_path()).collect();
        let program = script::program(self.site).map_err(|e| format!("where this program is can't be told: {e}"))?;
        let more = if several { format!(" and {} more", batch.len() - 1) } else { String::new() };
        let comment = format!("cistage run={} {}{more}", self.run, batch[0].about);
        let script = batch[0].request.script(name, &comment, &folders, self.site, &program);
        let id = match self.commands.submit(&script, batch[0].request.environment()) {
            Ok(id) => id,
            // It may have come through all the same: asked for by its name before it is called refused.
            Err(why) => self.found(name).ok_or(why)?,
        };
        for (index, wanted) in batch.iter().enumerate() {
            // A job that has ended meanwhile may have no folder any more; any other is found by its name.
            let _ = note(index, wanted, Some(&id));
        }
        Ok(id)
    }

    /// The number of a submission, by its name.
    fn found(&self, name: &str) -> Option<String> {
        let jobs = self.commands.jobs().ok()?;
        let (id, _) = jobs.iter().find(|(_, job)| job.name == name)?;
        Some(id.split('_').next().unwrap_or(id).to_owned())
    }

    /// Asks after all jobs at once, when it is time to.
    fn ask(&mut self) {
        let nobody = |watched: &BTreeMap<Placed, Watched>| watched.values().all(|job| job.id.is_none());
        if self.asked.elapsed() < self.pause || nobody(&self.board.lock().watched) {
            return;
        }
        let answer = self.commands.jobs();
        self.asked = Instant::now();
        match answer {
            Err(what) => self.board.tell(|content| {
                let since = content.away.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                content.away = Some((since, what));
            }),
            Ok(mut jobs) => {
                let missing: Vec<String> = {
                    let content = self.board.lock();
                    let ids = content.watched.values().filter_map(|job| job.id.clone());
                    ids.filter(|id| !jobs.contains_key(id)).collect()
                };
                jobs.extend(self.commands.remembered(&missing.iter().map(String::as_str).collect::<Vec<_>>()));
                let changed = self.board.tell(|content| {
                    content.away = None;
                    content
                        .watched
                        .values_mut()
                        .filter(|job| job.id.is_some())
                        .map(|job| saw(job, &jobs))
                        .fold(false, |a, b| a | b)
                });
                let least = self.site.poll_seconds.map_or(SOON, Duration::from_secs);
                self.pause = if changed { least } else { (self.pause * 3 / 2).min(SELDOM.max(least)) };
            }
        }
    }
}

/// Takes an answer in; gives whether a job's state is another than before.
fn saw(job: &mut Watched, jobs: &BTreeMap<String, Sighting>) -> bool {
    let now = job.id.as_ref().and_then(|id| jobs.get(id));
    match now {
        Some(sighting) => {
            let changed = job.sighting.as_ref().map(|old| &old.state) != Some(&sighting.state);
            if changed {
                job.changed = Some(Instant::now());
            }
            job.sighting = Some(sighting.clone());
            (job.seen, job.missing_since) = (Some(Instant::now()), None);
            changed
        }
        None => {
            job.missing_since.get_or_insert_with(Instant::now);
            false
        }
    }
}

/// The name of one job of a submission.
fn task(id: &str, index: usize, jobs: usize) -> String {
    if jobs > 1 { format!("{id}_{index}") } else { id.to_owned() }
}
