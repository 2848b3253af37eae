//! Ctrl-C, as a request to stop.

use super::run::OnInterrupt;
use crate::engine::Interrupt;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{BufRead, IsTerminal, Write};

/// From now on SIGINT and SIGTERM raise what is given here.
pub(super) fn on_signals() -> std::io::Result<Interrupt> {
    listen(false, Interrupt::default())
}

/// The same where jobs of a batch system are about: does with them what the user has said, or asks at the terminal.
pub(super) fn on_signals_with_jobs(said: Option<OnInterrupt>) -> std::io::Result<Interrupt> {
    let interrupt = Interrupt::default();
    interrupt.keep_jobs(said != Some(OnInterrupt::Cancel));
    listen(said.is_none() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal(), interrupt)
}

fn listen(asks: bool, interrupt: Interrupt) -> std::io::Result<Interrupt> {
    let handler = interrupt.clone();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        let mut first = asks;
        for signal in signals.forever() {
            if std::mem::take(&mut first) && signal == SIGINT {
                // Another Ctrl-C while the question stands answers it: stop now.
                let asked = handler.clone();
                std::thread::spawn(move || {
                    asked.keep_jobs(wants_to_keep());
                    asked.raise();
                });
                continue;
            }
            handler.raise();
        }
    });
    Ok(interrupt)
}

/// Asks at the terminal; whatever is not `c` leaves the jobs.
fn wants_to_keep() -> bool {
    let mut err = std::io::stderr().lock();
    let _ = write!(
        err,
        "\nJobs of this run are in Slurm: leave them, for the same command to find again, or cancel them? [L/c] "
    );
    let _ = err.flush();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    !answer.trim().to_ascii_lowercase().starts_with('c')
}
