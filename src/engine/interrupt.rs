//! Asking a run to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// A handle to stop a run with; clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    raised: Arc<AtomicU8>,
    keeps_jobs: Arc<AtomicBool>,
}

/// How urgently to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Go on.
    None,
    /// Start nothing new; running stages save what they have.
    Stop,
    /// Kill what runs.
    Kill,
}

impl Interrupt {
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the run: the first time gently, from the second time on at once.
    pub fn raise(&self) {
        let more = |level: u8| Some(level.saturating_add(1));
        self.raised.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).expect("the closure always gives a value");
    }

    /// Whether anybody asked to stop.
    pub fn is_raised(&self) -> bool {
        self.urgency() > Urgency::None
    }

    /// Jobs of a batch system go on, and the next run finds them; else they are cancelled.
    pub fn keep_jobs(&self, keep: bool) {
        self.keeps_jobs.store(keep, Ordering::SeqCst);
    }

    pub(super) fn cancels_jobs(&self) -> bool {
        !self.keeps_jobs.load(Ordering::SeqCst)
    }

    pub(super) fn urgency(&self) -> Urgency {
        match self.raised.load(Ordering::SeqCst) {
            0 => Urgency::None,
            1 => Urgency::Stop,
            _ => Urgency::Kill,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_request_is_urgent() {
        let (interrupt, other) = {
            let i = Interrupt::new();
            (i.clone(), i)
        };
        assert!(!interrupt.is_raised());
        other.raise();
        assert_eq!(interrupt.urgency(), Urgency::Stop);
        other.raise();
        assert_eq!(interrupt.urgency(), Urgency::Kill);
    }
}
