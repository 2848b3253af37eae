//! Ctrl-C, as a request to stop.

use super::run::OnInterrupt;
use crate::engine::Interrupt;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{BufRead, IsTerminal, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

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
        let (mut asks, mut pressed) = (asks, None);
        for signal in signals.forever() {
            if std::mem::take(&mut asks) && signal == SIGINT {
                let (send, answers) = channel();
                pressed = Some(send.clone());
                let asked = handler.clone();
                std::thread::spawn(move || {
                    asked.keep_jobs(wants_to_keep(send, &answers));
                    asked.raise();
                });
                continue;
            }
            // While the question stands, this answers it: the run ends, and leaves its jobs.
            if pressed.take().is_none_or(|question| question.send(String::new()).is_err()) {
                handler.raise();
            }
        }
    });
    Ok(interrupt)
}

/// Asks at the terminal; whatever is not `c` leaves the jobs, also another signal.
fn wants_to_keep(typed: Sender<String>, answers: &Receiver<String>) -> bool {
    // Held until there is an answer: nothing is drawn over the question.
    let mut err = std::io::stderr().lock();
    let _ = write!(
        err,
        "\nJobs of this run are in Slurm: leave them, for the same command to find again, or cancel them? [L/c] "
    );
    let _ = err.flush();
    std::thread::spawn(move || {
        let mut answer = String::new();
        let _ = std::io::stdin().lock().read_line(&mut answer);
        // Somebody may have pressed Ctrl-C meanwhile.
        let _ = typed.send(answer);
    });
    let answer = answers.recv().unwrap_or_default();
    !answer.trim().to_ascii_lowercase().starts_with('c')
}
