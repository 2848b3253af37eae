//! `audit --rerun`: executes again what made an artifact, and says whether it came out with the same bytes.

use super::App;
use super::exit::CliError;
use super::printer::{Style, bytes, duration};
use super::reporter::TerminalReporter;
use crate::engine::{self, Again, Reporter, Rerun};
use crate::event::Event;
use crate::provenance::{Audit, SourceState};

/// Beside JSON on stdout nothing else may stand there.
struct Silent;

impl Reporter for Silent {
    fn event(&self, _: &Event) {}
}

/// Executes again what made the artifacts of an answer.
pub(super) fn execute(app: &App, audit: &Audit) -> Result<Rerun, CliError> {
    let cache = app.open_cache()?;
    let interrupt = super::interrupt::on_signals()?;
    if app.printer.json {
        return Ok(engine::rerun(&cache, audit.lineages(), &Silent, &interrupt)?);
    }
    let reporter = TerminalReporter::new(app.printer.clone(), app.verbose);
    let answer = engine::rerun(&cache, audit.lineages(), &reporter, &interrupt);
    reporter.finish()?;
    Ok(answer?)
}

pub(super) fn print(app: &App, rerun: &Rerun) -> Result<(), CliError> {
    let printer = &app.printer;
    for source in &rerun.missing {
        let state = match source.state {
            SourceState::Missing => "is not there",
            SourceState::Changed => "has other bytes now",
            SourceState::Unreadable | SourceState::Same => "can't be read",
        };
        printer.line(&format!(
            "{} {} {state}: {} ({}) it was on {} in run {}",
            printer.paint("MISSING", Style::Bad),
            source.path,
            source.digest,
            bytes(source.bytes),
            source.host,
            source.run
        ))?;
    }
    for problem in &rerun.problems {
        printer.line(&format!("{} {problem}", printer.paint("problem:", Style::Bad)))?;
    }
    for again in &rerun.actions {
        one(app, again)?;
    }
    let verdict = if rerun.reproduced {
        printer.paint("reproduced", Style::Good)
    } else {
        printer.paint("NOT reproduced", Style::Bad)
    };
    let why = match (rerun.reproduced, rerun.missing.len(), rerun.problems.len()) {
        (true, ..) => "the same bytes came out again",
        (false, 0, 0) => "other bytes came out, or none",
        (false, 0, _) => "it can't be executed again here",
        (false, ..) => "put the missing source files back where they were, and nothing was executed for now",
    };
    printer.line(&format!("{verdict}: {why}"))
}

fn one(app: &App, again: &Again) -> Result<(), CliError> {
    let printer = &app.printer;
    for (port, output) in &again.outputs {
        let (word, rest) = if output.same {
            (printer.paint("same", Style::Good), format!("{}", output.recorded))
        } else {
            (printer.paint("OTHER", Style::Bad), format!("{} now, {} then", output.found, output.recorded))
        };
        printer.line(&format!("  {word:<6} {}.{port}  {rest}", again.stage))?;
    }
    if let Some(error) = &again.error {
        printer.line(&format!("  {} {}: {error}", printer.paint("FAILED", Style::Bad), again.stage))?;
    }
    for note in &again.notes {
        printer.line(&format!("  {} {}: {note}", printer.paint("note:", Style::Note), again.stage))?;
    }
    let (now, then) = (duration(again.seconds), duration(again.seconds_then));
    printer.line(&format!("  {}: {now} now, {then} then", again.stage))
}
