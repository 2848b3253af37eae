//! Several threads that take one item after another.

use super::store::Fault;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Does `work` for each item, so many at once; stops at the first fault, and gives it.
pub fn each<T: Sync>(items: &[T], at_once: usize, work: impl Fn(&T) -> Result<(), Fault> + Sync) -> Result<(), Fault> {
    let (next, fault) = (AtomicUsize::new(0), Mutex::new(None));
    let take = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                next.store(items.len(), Ordering::Relaxed);
                fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        // This thread is one of them.
        for _ in 1..at_once.min(items.len()) {
            // Where the system gives no thread, the others do it.
            let _ = thread::Builder::new().spawn_scoped(scope, take);
        }
        take();
    });
    fault.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Does two things at once; gives the first one's fault where both have one.
pub fn both(
    one: impl FnOnce() -> Result<(), Fault> + Send,
    other: impl FnOnce() -> Result<(), Fault>,
) -> Result<(), Fault> {
    let one = Mutex::new(Some(one));
    let take = || one.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), |one| one());
    thread::scope(|scope| {
        let beside = thread::Builder::new().spawn_scoped(scope, take);
        let other = other();
        match beside {
            Ok(beside) => beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // The system gave no thread.
            Err(_) => take(),
        }
        .and(other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_items_are_done_and_none_after_a_fault() {
        let sum = AtomicUsize::new(0);
        let items: Vec<usize> = (1..=100).collect();
        each(&items, 8, |n| {
            sum.fetch_add(*n, Ordering::Relaxed);
            Ok(())
        })
        .expect("none fails");
        assert_eq!(sum.into_inner(), 5050);
        let done = AtomicUsize::new(0);
        let fault = each(&items, 1, |n| {
            done.fetch_add(1, Ordering::Relaxed);
            if *n == 3 { Err(Fault::Down("gone".into())) } else { Ok(()) }
        });
        assert_eq!((fault.expect_err("it failed").to_string(), done.into_inner()), ("gone".to_owned(), 3));
    }
    #[test]
    fn two_things_are_done_and_either_fault_is_told() {
        let fault = |what: &str| Err(Fault::Down(what.to_owned()));
        let met = std::sync::Barrier::new(2);
        let meet = || {
            met.wait();
            Ok(())
        };
        both(meet, meet).expect("they meet, so both are under way at once");
        let told = |fault: Result<(), Fault>| fault.expect_err("it failed").to_string();
        assert_eq!(told(both(|| fault("one"), || Ok(()))), "one");
        assert_eq!(told(both(|| Ok(()), || fault("other"))), "other");
        assert_eq!(told(both(|| fault("one"), || fault("other"))), "one");
    }
}
