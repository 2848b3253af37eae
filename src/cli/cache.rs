//! `cistage cache`: what the cache holds, and whether it is whole.

use super::App;
use super::exit::CliError;
use super::printer::{Style, bytes, table};

/// Measure, check and clean the cache
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show how much disk the cache uses, per kind of stage and per run
    Du,
    /// Hash every object and read every record again; changes nothing, exit code 3 where something is damaged
    Verify,
    /// Make the index anew from the records: nothing is lost with it, and queries are quick again
    RebuildIndex,
    Gc(super::gc::Args),
    /// Keep an artifact, or all that a run was for, whatever `cache gc` is told
    Pin(super::pins::Args),
    /// Bring a run, an artifact or all to the shared cache, as far as it lacks them
    Push(super::transfer::PushArgs),
    /// Bring a run, an artifact or all from the shared cache here, as far as they are not here yet
    Pull(super::transfer::PullArgs),
    /// Let a pinned artifact go again when `cache gc` wants it
    Unpin(super::pins::Args),
}

pub(super) fn run(app: &App, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Du => du(app),
        Command::Verify => verify(app),
        Command::RebuildIndex => rebuild_index(app),
        Command::Gc(args) => super::gc::run(app, args),
        Command::Pin(args) => super::pins::pin(app, args),
        Command::Push(args) => super::transfer::push(app, args),
        Command::Pull(args) => super::transfer::pull(app, args),
        Command::Unpin(args) => super::pins::unpin(app, args),
    }
}

fn du(app: &App) -> Result<(), CliError> {
    let usage = app.read_cache()?.usage()?;
    if app.printer.json {
        return app.printer.json(&usage);
    }
    let row =
        |name: &str, total: &crate::cache::Total| vec![name.to_owned(), bytes(total.bytes), total.files.to_string()];
    let mut rows = vec![vec![String::new(), "size".to_owned(), "files".to_owned()]];
    rows.push(row("in all", &usage.total));
    rows.push(row("objects", &usage.objects));
    rows.push(row("  that no record names", &usage.unreferenced));
    rows.push(row("unfinished work", &usage.scratch));
    rows.push(row("quarantine", &usage.quarantine));
    rows.push(vec!["by stage kind".to_owned()]);
    rows.extend(usage.kinds.iter().map(|(kind, total)| row(&format!("  {kind}"), total)));
    rows.push(vec!["by stage".to_owned()]);
    rows.extend(usage.stages.iter().map(|(stage, total)| row(&format!("  {stage}"), total)));
    rows.push(vec!["by run".to_owned()]);
    rows.extend(usage.runs.iter().rev().map(|(run, total)| row(&format!("  {run}"), total)));
    app.printer.document(&table(&rows, &[1, 2]))
}

fn rebuild_index(app: &App) -> Result<(), CliError> {
    let outputs = app.open_cache()?.rebuild_index()?;
    if app.printer.json {
        return app.printer.json(&serde_json::json!({ "outputs": outputs }));
    }
    app.printer.line(&format!("the index knows {outputs} outputs"))
}

fn verify(app: &App) -> Result<(), CliError> {
    if !app.cache.is_dir() {
        // A mistyped path must not pass for a whole cache.
        return Err(CliError::input(format!("{} is no cache folder", app.cache.display())));
    }
    let found = app.read_cache()?.verify()?;
    if app.printer.json {
        app.printer.json(&found)?;
    } else {
        for problem in &found.problems {
            let word = app.printer.paint("DAMAGED", Style::Bad);
            app.printer.line(&format!("{word} {}: {}", problem.file, problem.what))?;
        }
        app.printer.line(&format!(
            "{} objects ({}), {} action records, {} run records: {}",
            found.objects,
            bytes(found.bytes),
            found.records,
            found.runs,
            if found.problems.is_empty() {
                "all whole".to_owned()
            } else {
                let count = found.problems.len();
                let problems = if count == 1 { "problem" } else { "problems" };
                format!("{count} {problems}; `cistage run` makes anew what it meets")
            }
        ))?;
        if found.given_up > 0 {
            app.printer.line(&format!(
                "{} further objects were given up by `cache gc`, or left in a shared cache",
                found.given_up
            ))?;
        }
    }
    if found.problems.is_empty() { Ok(()) } else { Err(CliError::Integrity) }
}
