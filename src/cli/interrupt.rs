//! Ctrl-C, as a request to stop.

use crate::engine::Interrupt;
use signal_hook::consts::{SIGINT, SIGTERM};

/// From now on SIGINT and SIGTERM raise what is given here.
pub(super) fn on_signals() -> std::io::Result<Interrupt> {
    let interrupt = Interrupt::default();
    let handler = interrupt.clone();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            handler.raise();
        }
    });
    Ok(interrupt)
}
