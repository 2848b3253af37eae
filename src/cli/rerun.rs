//! `audit --rerun` and `--undeclared`: executes again what made an artifact, and says whether it came out with the same
//! bytes, or what its commands touched.

use super::App;
use super::exit::CliError;
use super::printer::{Style, bytes, duration};
use super::reporter::TerminalReporter;
use crate::engine::{self, Access, Again, Purpose, Reporter, Rerun};
use crate::event::Event;
use crate::provenance::{Audit, SourceState};

/// Beside JSON on stdout nothing else may stand there.
struct Silent;

impl Reporter for Silent {
    fn event(&self, _: &Event) {}
}

/// Executes again what made the artifacts of an answer.
pub(super) fn execute(app: &App, audit: &Audit, purpose: Purpose) -> Result<Rerun, CliError> {
    let cache = app.open_cache()?;
    let interrupt = super::interrupt::on_signals()?;
    if app.printer.json {
        return Ok(engine::rerun(&cache, audit.lineages(), purpose, &Silent, &interrupt)?);
    }
    let reporter = TerminalReporter::new(app.printer.clone(), app.verbose);
    let answer = engine::rerun(&cache, audit.lineages(), purpose, &reporter, &interrupt);
    reporter.finish()?;
    Ok(answer?)
}

pub(super) fn print(app: &App, rerun: &Rerun) -> Result<(), CliError> {
    let printer = &app.printer;
    print_obstacles(app, rerun)?;
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
        (false, ..) => "nothing was executed: put the missing source files back where they were, and ask again",
    };
    printer.line(&format!("{verdict}: {why}"))
}

/// Whether each command could be watched, and touched nothing that it does not declare.
pub(super) fn is_declared(rerun: &Rerun) -> bool {
    let is_clean = |again: &Again| again.error.is_none() && again.access.as_ref().is_none_or(|a| !a.is_undeclared());
    rerun.missing.is_empty() && rerun.problems.is_empty() && rerun.actions.iter().all(is_clean)
}

pub(super) fn print_access(app: &App, rerun: &Rerun) -> Result<(), CliError> {
    let printer = &app.printer;
    print_obstacles(app, rerun)?;
    for again in &rerun.actions {
        if let Some(access) = &again.access {
            access_of(app, again, access)?;
        }
        if let Some(error) = &again.error {
            printer.line(&format!("  {} {}: {error}", printer.paint("FAILED", Style::Bad), again.stage))?;
        }
    }
    let watched = rerun.actions.iter().filter(|again| again.access.is_some()).count();
    let failed = rerun.actions.iter().any(|again| again.error.is_some());
    let verdict = if failed || !rerun.missing.is_empty() || !rerun.problems.is_empty() {
        format!("{}: not every command could be executed again", printer.paint("NOT known", Style::Bad))
    } else if !is_declared(rerun) {
        let help = "name such a file under `in:` (or `out:`), where the key holds its bytes";
        format!("{}: {help}", printer.paint("NOT all declared", Style::Bad))
    } else if watched == 0 {
        "no command is in this lineage; built-in stages read their inputs alone".to_owned()
    } else {
        let what = "read its inputs and software, and wrote its own folder alone";
        let who = if watched == 1 { "the command".to_owned() } else { format!("each of {watched} commands") };
        format!("{}: {who} {what}", printer.paint("all declared", Style::Good))
    };
    printer.line(&verdict)
}

fn access_of(app: &App, again: &Again, access: &Access) -> Result<(), CliError> {
    let printer = &app.printer;
    for (what, touched) in [("read", &access.reads), ("wrote", &access.writes), ("reached for", &access.network)] {
        for one in touched {
            let word = printer.paint("UNDECLARED", Style::Bad);
            printer.line(&format!("  {word} {} {what} {one}", again.stage))?;
        }
    }
    for (dir, files) in &access.software {
        let word = printer.paint("note:", Style::Note);
        printer
            .line(&format!("  {word} {} read {files} files of software in {dir}: not part of its key", again.stage))?;
    }
    Ok(())
}

/// What keeps actions from being executed.
fn print_obstacles(app: &App, rerun: &Rerun) -> Result<(), CliError> {
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
    Ok(())
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
