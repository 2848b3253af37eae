//! Whether a store keeps a new name for who comes first.
//!
//! Two puts one after the other would not tell: some stores look first and write then, so that of many at once several
//! succeed. So many race for one name.

use super::crew::each;
use super::store::{Fault, Put, Stop, Store};
use std::sync::atomic::{AtomicUsize, Ordering};

const RACERS: usize = 16;
/// A store that looks first has luck now and then.
const RACES: usize = 3;

/// Whether each race for a new name has one winner.
pub fn keeps_names(store: &Store, stop: Stop<'_>) -> Result<bool, Fault> {
    for _ in 0..RACES {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|e| Fault::Local(std::io::Error::other(e.to_string())))?;
        let name = format!("probes/{}", random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let (winners, racers) = (AtomicUsize::new(0), (0..RACERS).collect::<Vec<_>>());
        let raced = each(&racers, RACERS, |racer| {
            // Some stores refuse both of two that come at once: that is no winner too many.
            let won = match store.put(&name, racer.to_string().into_bytes(), Put::New, stop) {
                Err(Fault::Down(what)) if what.contains("onflict") => false,
                won => won?,
            };
            winners.fetch_add(usize::from(won), Ordering::Relaxed);
            Ok(())
        });
        let _ = store.delete(&name, stop);
        raced?;
        if winners.into_inner() != 1 {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::in_memory;
    use super::*;

    #[test]
    fn a_store_in_memory_keeps_them_and_nothing_is_left_of_the_probe() {
        let store = in_memory();
        assert!(keeps_names(&store, &|| false).expect("asks"));
        assert_eq!(store.list("probes", &|| false).expect("lists"), []);
    }
}
