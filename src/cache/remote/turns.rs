//! One thread at a time brings an object: the others wait, and find it here.

use crate::digest::Digest;
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The objects that are on their way here.
#[derive(Default)]
pub struct Turns {
    coming: Mutex<BTreeSet<Digest>>,
    ended: Condvar,
}

/// Until it is dropped, nobody else brings this object.
pub struct Turn<'a> {
    turns: &'a Turns,
    object: Digest,
}

impl Turns {
    /// Waits until nobody brings this object any more; whether it came then has to be seen.
    pub fn take(&self, object: Digest) -> Turn<'_> {
        let mut coming = self.lock();
        while !coming.insert(object) {
            coming = self.ended.wait(coming).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { turns: self, object }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.object);
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn of_one_object_one_thread_has_the_turn_and_others_bring_others() {
        let (turns, at_once, most) = (Turns::default(), AtomicU32::new(0), AtomicU32::new(0));
        let other = turns.take(Digest::of(b"other"));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _turn = turns.take(Digest::of(b"one"));
                    most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    at_once.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        drop(other);
        assert_eq!((most.into_inner(), turns.lock().len()), (1, 0));
    }
}
