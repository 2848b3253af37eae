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
}
