//! What a person sees of a run, and what a program reads of it: JSON lines, progress bars, or a line per event.

use super::exit::CliError;
use super::live::Live;
use super::printer::{Printer, Style, bytes, counted, duration};
use super::progress::Pace;
use crate::engine::Reporter;
use crate::event::{Event, EventKind, Outcome, RunOutcome};
use crate::provenance::brief;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

pub(super) struct TerminalReporter {
    printer: Printer,
    verbose: bool,
    /// Where stderr is a terminal.
    live: Option<Live>,
    running: Mutex<BTreeMap<String, Running>>,
    /// The first command stage that failed.
    failed_command: OnceLock<String>,
    /// Why an event could not be written to stdout.
    unwritten: OnceLock<String>,
}

#[derive(Default)]
struct Running {
    is_command: bool,
    numbers: BTreeMap<String, f64>,
    pace: Pace,
}

impl TerminalReporter {
    pub(super) fn new(printer: Printer, verbose: bool) -> Self {
        let live = !printer.json && !printer.quiet && std::io::stderr().is_terminal();
        Self {
            printer,
            verbose,
            live: live.then(Live::default),
            running: Mutex::default(),
            failed_command: OnceLock::new(),
            unwritten: OnceLock::new(),
        }
    }

    /// Leaves the terminal as it was; fails if events could not be written.
    pub(super) fn finish(&self) -> Result<(), CliError> {
        if let Some(live) = &self.live {
            live.clear();
        }
        self.unwritten.get().map_or(Ok(()), |error| Err(CliError::Failed(format!("can't write events: {error}"))))
    }

    fn say(&self, text: &str) {
        self.aside(|| self.printer.note(text));
    }

    /// Calls `work`, which writes to the terminal.
    fn aside(&self, work: impl FnOnce()) {
        match &self.live {
            Some(live) => live.suspend(work),
            None => work(),
        }
    }

    fn people(&self, kind: &EventKind) {
        let mut running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match kind {
            EventKind::RunStarted { run, pipeline, stages } => {
                self.say(&format!("run {run}: {pipeline}, {}", counted(stages.len(), "stage")));
                if let Some(live) = &self.live {
                    live.begin(stages.iter().map(ToString::to_string).collect());
                }
            }
            EventKind::StageStarted { stage, kind, because, .. } => {
                let state = Running { is_command: kind == "command", ..Running::default() };
                running.insert(stage.to_string(), state);
                if let Some(live) = &self.live {
                    live.start(stage.as_str());
                }
                drop(running);
                if self.live.is_none() || self.verbose {
                    let reason = brief(because).map_or(String::new(), |why| format!("  ({why})"));
                    self.say(&format!("  {:<7} {stage}{reason}", "start"));
                }
            }
            EventKind::Progress { stage, done, total, unit } => {
                let Some(state) = running.get_mut(stage.as_str()) else { return };
                if let Some(live) = &self.live {
                    live.progress(stage.as_str(), *done, *total, unit);
                } else if let Some(line) = state.pace.line(*done, *total, unit, Instant::now()) {
                    let numbers = training_line(&state.numbers);
                    drop(running);
                    self.say(&format!(
                        "  {:<7} {stage:<18} {line}{}{numbers}",
                        "at",
                        if numbers.is_empty() { "" } else { ", " }
                    ));
                }
            }
            EventKind::Metric { stage, name, value, .. } => {
                if let Some(state) = running.get_mut(stage.as_str()) {
                    // The loss of one batch jumps about: people see a running mean.
                    let smoothed = state
                        .numbers
                        .get(name)
                        .map_or(*value, |old| if name == "loss" { 0.98 * old + 0.02 * value } else { *value });
                    state.numbers.insert(name.clone(), smoothed);
                    if let Some(live) = &self.live {
                        live.numbers(stage.as_str(), training_line(&state.numbers));
                    }
                }
            }
            EventKind::Warning { stage, message } => {
                let text = stage.as_ref().map_or_else(|| message.clone(), |s| format!("{s}: {message}"));
                self.aside(|| self.printer.warning(&text));
            }
            EventKind::Note { stage, message } => self.say(&format!("  {:<7} {stage:<18} {message}", "note")),
            EventKind::Placed { stage, place } => self.say(&format!("  {:<7} {stage:<18} runs as {place}", "note")),
            EventKind::Printed { stage, line } => self.say(&format!("  {stage} | {line}")),
            EventKind::StageFinished { stage, outcome, seconds, outputs, error, .. } => {
                let state = running.remove(stage.as_str()).unwrap_or_default();
                drop(running);
                if let Some(live) = &self.live {
                    live.end(stage.as_str());
                }
                if state.is_command && *outcome == Outcome::Failed {
                    self.failed_command.get_or_init(|| stage.to_string());
                }
                self.finished(
                    stage.as_str(),
                    *outcome,
                    *seconds,
                    outputs.values().map(|o| o.bytes).sum(),
                    error.as_deref(),
                );
            }
            EventKind::Slurm { calls, submissions } if self.verbose => {
                self.say(&format!("  Slurm was called {calls} times, {submissions} of them to submit"));
            }
            EventKind::Slurm { .. } => {}
            EventKind::Published { path, digest, text } => {
                let (file, of) = match text {
                    Some(text) => (text, format!(" (text of {})", digest.short())),
                    None => (digest, String::new()),
                };
                self.say(&format!("  published {path}  {}{of}", file.short()));
            }
            EventKind::PublishFailed { output, error, .. } => {
                let text = unpublished(output, error);
                self.aside(|| self.printer.error(&text, Some(PUBLISH_AGAIN)));
            }
            EventKind::RunFinished {
                outcome, ran, hit, failed, skipped, unpublished, seconds, saved_seconds, ..
            } => {
                if let Some(live) = &self.live {
                    live.clear();
                }
                let (text, look) = match outcome {
                    RunOutcome::Succeeded => ("done", Style::Good),
                    RunOutcome::Failed => ("failed", Style::Bad),
                    RunOutcome::Cancelled => ("interrupted", Style::Note),
                };
                // Less is not worth a word.
                let saved =
                    if *saved_seconds < 1.0 { String::new() } else { format!(", saving {}", duration(*saved_seconds)) };
                let mut counts = vec![format!("{ran} ran"), format!("{hit} hit{saved}")];
                for (count, name) in [(failed, "failed"), (skipped, "skipped")] {
                    if *count > 0 {
                        counts.push(format!("{count} {name}"));
                    }
                }
                if !unpublished.is_empty() {
                    counts.push(format!("not published: {}", unpublished.join(", ")));
                }
                let word = self.printer.paint_err(text, look);
                self.say(&format!("{word}: {} in {}", counts.join(", "), duration(*seconds)));
                if let Some(stage) = self.failed_command.get() {
                    self.say(&format!(
                        "  `cistage shell {stage}` makes its work directory again, for you to look into"
                    ));
                }
            }
        }
    }

    fn finished(&self, stage: &str, outcome: Outcome, seconds: f64, size: u64, error: Option<&str>) {
        let look = match outcome {
            Outcome::Ran | Outcome::Hit => Style::Good,
            Outcome::Failed => Style::Bad,
            Outcome::Skipped | Outcome::Cancelled => Style::Note,
        };
        let word = if outcome == Outcome::Cancelled { "stopped" } else { outcome.word() };
        let word = self.printer.paint_err(&format!("{word:<7}"), look);
        let detail = match (outcome, error) {
            (Outcome::Ran, _) => format!("{}, {}", duration(seconds), bytes(size)),
            (Outcome::Hit, _) => bytes(size),
            (_, error) => error.unwrap_or("").replace('\n', "\n          "),
        };
        // A failure is said even when quiet.
        if outcome == Outcome::Failed && self.printer.quiet {
            self.printer.error(&format!("{stage}: {detail}"), None);
        } else {
            self.say(&format!("  {word} {stage:<18} {detail}"));
        }
    }
}

impl Reporter for TerminalReporter {
    fn wants_output(&self) -> bool {
        self.verbose
    }

    fn event(&self, event: &Event) {
        if self.printer.json {
            // A reader that went away must not stop the run; a stream cut short by a full disk fails it at the end.
            if let Err(CliError::Failed(error)) = self.printer.document(&format!("{}\n", event.to_json_line())) {
                self.unwritten.get_or_init(|| error);
            }
            match &event.kind {
                EventKind::Warning { message, .. } => self.printer.warning(message),
                EventKind::PublishFailed { output, error, .. } => {
                    self.printer.error(&unpublished(output, error), Some(PUBLISH_AGAIN));
                }
                EventKind::Note { stage, message } => self.printer.note(&format!("{stage}: {message}")),
                EventKind::StageFinished { stage, outcome: Outcome::Failed, error: Some(error), .. } => {
                    self.printer.error(&format!("{stage}: {error}"), None);
                }
                _ => {}
            }
        } else {
            self.people(&event.kind);
        }
    }
}

const PUBLISH_AGAIN: &str = "all stages are done and cached: remove the cause, and the same command publishes at once";

fn unpublished(output: &str, error: &str) -> String {
    format!("{error} ({output}; `cistage get {output} PATH` copies it elsewhere)")
}

fn training_line(numbers: &BTreeMap<String, f64>) -> String {
    let mut parts = Vec::new();
    if let Some(loss) = numbers.get("loss") {
        parts.push(format!("loss {loss:.3}"));
    }
    if let Some(rate) = numbers.get("learning_rate") {
        parts.push(format!("lr {rate:.1e}"));
    }
    if let Some(speed) = numbers.get("samples_per_second") {
        parts.push(format!("{speed:.0}/s"));
    }
    parts.join("  ")
}
