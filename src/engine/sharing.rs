//! What a run asks a shared cache for, and adds to it, beside everything else.

use super::interrupt::Interrupt;
use super::recorder::Recorder;
use crate::action::ActionKey;
use crate::cache::remote::Tally;
use crate::cache::{Cache, Remote, Served};
use crate::event::EventKind;
use crate::name::StageName;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::Scope;

/// Results that are sent at once; each sends several objects.
const SENDERS: usize = 2;

pub(super) struct Sharing<'a> {
    remote: &'a Remote,
    cache: &'a Cache,
    recorder: &'a Recorder<'a>,
    interrupt: &'a Interrupt,
    tally: Tally,
    /// All stages are done: who still sends says so.
    is_over: AtomicBool,
    queue: Mutex<Option<mpsc::Receiver<(StageName, ActionKey)>>>,
}

/// Where finished results are handed in. Once it is dropped, the run waits for what is left to be sent.
pub(super) struct Uploads<'a> {
    queue: Option<mpsc::Sender<(StageName, ActionKey)>>,
    sharing: &'a Sharing<'a>,
}

impl<'a> Sharing<'a> {
    pub(super) fn new(
        remote: &'a Remote,
        cache: &'a Cache,
        recorder: &'a Recorder<'a>,
        interrupt: &'a Interrupt,
    ) -> Self {
        let (tally, is_over) = (Tally::default(), AtomicBool::new(false));
        Self { remote, cache, recorder, interrupt, tally, is_over, queue: Mutex::new(None) }
    }

    pub(super) fn is_left_alone(&self) -> bool {
        self.remote.is_left_alone()
    }

    /// Asks for the result of a step.
    pub(super) fn ask(&self, stage: &StageName, key: ActionKey) -> Option<Served> {
        let answer = self.remote.serve(self.cache, key, &|| self.interrupt.is_raised());
        self.warn(stage, answer.warnings);
        if answer.served.is_some() && answer.fetched.objects > 0 {
            let (objects, bytes) = (answer.fetched.objects, answer.fetched.bytes);
            let things = if objects == 1 { "object" } else { "objects" };
            let megabytes = bytes as f64 / 1e6;
            let message = format!("fetched {objects} {things}, {megabytes:.1} MB, from {}", self.remote.address());
            self.recorder.emit(EventKind::Note { stage: stage.clone(), message });
        }
        answer.served
    }

    /// Starts the threads that add results, where they are to be added.
    pub(super) fn start_adding<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Option<Uploads<'scope>> {
        if !self.remote.adds() {
            return None;
        }
        let (send, receive) = mpsc::channel();
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = Some(receive);
        for _ in 0..SENDERS {
            scope.spawn(|| self.add_all());
        }
        Some(Uploads { queue: Some(send), sharing: self })
    }

    fn next(&self) -> Option<(StageName, ActionKey)> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.recv().ok()
    }

    fn add_all(&self) {
        while let Some((stage, key)) = self.next() {
            if self.is_over.load(Ordering::Relaxed) && !self.is_left_alone() && !self.interrupt.is_raised() {
                let message = format!("is being sent to {}", self.remote.address());
                self.recorder.emit(EventKind::Note { stage: stage.clone(), message });
            }
            let stop = || self.interrupt.is_raised();
            self.warn(&stage, self.remote.add(self.cache, key, &self.tally, &stop));
        }
    }

    fn warn(&self, stage: &StageName, warnings: Vec<String>) {
        for message in warnings {
            self.recorder.emit(EventKind::Warning { stage: Some(stage.clone()), message });
        }
    }
}

impl Uploads<'_> {
    pub(super) fn add(&self, stage: &StageName, key: ActionKey) {
        // All senders may have ended by a panic, which the scope passes on.
        let _ = self.queue.as_ref().expect("taken by drop alone").send((stage.clone(), key));
    }
}

impl Drop for Uploads<'_> {
    fn drop(&mut self) {
        self.sharing.is_over.store(true, Ordering::Relaxed);
        self.queue = None;
    }
}
