//! What the stages that wait and the one clerk who talks to Slurm tell each other.

use super::script::Request;
use super::sighting::Sighting;
use crate::engine::placed::Placed;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A job to be submitted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub placed: Placed,
    pub request: Request,
    /// The stage, without its branch: jobs of one stage go together.
    pub stage: String,
    /// For the job's comment.
    pub about: String,
    pub since: Instant,
}

/// A job that somebody waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    /// As Slurm names it, once it has answered.
    pub id: Option<String>,
    pub sighting: Option<Sighting>,
    /// When its state became what it is.
    pub changed: Option<Instant>,
    /// When it was last seen, or submitted.
    pub seen: Option<Instant>,
    /// Slurm took it, and then an answer came in which it was not: only then silence means anything.
    pub missing_since: Option<Instant>,
    /// Why Slurm refused it.
    pub refused: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Content {
    pub wanted: Vec<Wanted>,
    pub watched: BTreeMap<Placed, Watched>,
    /// Since when the controller gives no answer, and what it says.
    pub away: Option<(Instant, String)>,
    /// To be cancelled.
    pub cancelled: Vec<String>,
    /// To be asked to stop.
    pub asked: Vec<String>,
    /// Nobody will add anything any more.
    pub closed: bool,
    /// How often the stages were told something.
    news: u64,
}

/// The board itself.
///
/// The two sides sleep on different bells: a thousand stages must not wake each time that one of them has a wish.
#[derive(Debug, Default)]
pub(super) struct Board {
    content: Mutex<Content>,
    wishes: Condvar,
    news: Condvar,
}

impl Board {
    pub(super) fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that the clerk is to see to.
    pub(super) fn wish<T>(&self, work: impl FnOnce(&mut Content) -> T) -> T {
        let result = work(&mut self.lock());
        self.wishes.notify_all();
        result
    }

    /// Changes something that the stages wait for.
    pub(super) fn tell<T>(&self, work: impl FnOnce(&mut Content) -> T) -> T {
        let mut content = self.lock();
        content.news += 1;
        let result = work(&mut content);
        drop(content);
        self.news.notify_all();
        result
    }

    /// Waits for a wish, no longer than this.
    pub(super) fn wait_for_wishes(&self, limit: Duration) {
        let content = self.lock();
        drop(self.wishes.wait_timeout(content, limit));
    }

    /// The news so far: `wait_for_news` waits for more than these.
    pub(super) fn news(&self) -> u64 {
        self.lock().news
    }

    pub(super) fn wait_for_news(&self, heard: u64, limit: Duration) {
        let content = self.lock();
        drop(self.news.wait_timeout_while(content, limit, |content| content.news == heard));
    }

    /// Takes back what the clerk has not taken up yet; gives whether there was anything to take back.
    pub(super) fn withdraw(&self, placed: &Placed) -> bool {
        let mut content = self.lock();
        let before = content.wanted.len();
        content.wanted.retain(|wanted| wanted.placed != *placed);
        content.wanted.len() < before
    }

    pub(super) fn view(&self, placed: &Placed) -> Watched {
        self.lock().watched.get(placed).cloned().unwrap_or_default()
    }

    pub(super) fn away(&self) -> Option<(Duration, String)> {
        self.lock().away.as_ref().map(|(since, what)| (since.elapsed(), what.clone()))
    }
}
