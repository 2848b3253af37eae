//! `cistage logs`: what a stage printed, or prints at this moment.

use super::App;
use super::exit::CliError;
use super::printer::Printer;
use super::select::{no_runs, no_such_run, run_id};
use crate::artifact::Artifact;
use crate::cache::{Cache, StepRecord};
use crate::engine::printed_so_far;
use crate::event::Outcome;
use crate::name::{RunId, StageName};
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

/// How often a log that grows is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// So many branches are listed.
const MOST_LISTED: usize = 20;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cistage logs count\n  cistage logs finetune@100 --follow\n  cistage logs count --run 20261125-0940 > count.log\n\n\
                  What a stage with secrets prints is there when it has ended."
)]
pub(super) struct Args {
    /// The stage; of one with branches, NAME@BRANCH
    #[arg(value_name = "STAGE")]
    stage: String,
    /// In this run: its id, or the start or the end of it [default: the newest in which the stage began]
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Go on as it grows, until the stage has ended
    #[arg(short, long)]
    follow: bool,
}

/// What there is to read of a stage in a run.
enum Found {
    Ended(Option<Artifact>),
    /// It runs; the file grows, once there is one.
    Grows(Option<PathBuf>),
    /// It ran when its run was killed.
    CutShort(Option<PathBuf>),
    /// Its turn has not come.
    Waits,
    /// The run does not have it, or never came to it; these are branches of it.
    Not(Vec<StageName>),
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    let stage = StageName::parse(&args.stage).map_err(|error| CliError::input(error.to_string()))?;
    let (run, mut found) = pick(&cache, args, &stage)?;
    let mut file: Option<Growing> = None;
    loop {
        match &found {
            Found::Grows(Some(path)) | Found::CutShort(Some(path)) => {
                if file.as_ref().is_none_or(|open| open.path != *path) {
                    file = Growing::open(path)?;
                }
                file.as_mut().map_or(Ok(()), Growing::copy)?;
            }
            // What came since it was looked at last: the open file is there even where its name is gone.
            Found::Ended(_) if file.is_some() => file.as_mut().map_or(Ok(()), Growing::copy)?,
            Found::Ended(Some(log)) => whole(&cache, log)?,
            _ => {}
        }
        if !args.follow || matches!(found, Found::Ended(_) | Found::CutShort(_) | Found::Not(_)) {
            told(&app.printer, &run, &stage, &found);
            return Ok(());
        }
        std::thread::sleep(LOOK);
        if file.as_ref().is_none_or(|open| !open.path.exists()) {
            found = find(&cache, &run, &stage)?;
        }
    }
}

/// The run that is meant, and what there is.
fn pick(cache: &Cache, args: &Args, stage: &StageName) -> Result<(RunId, Found), CliError> {
    let runs = match &args.run {
        Some(text) => vec![run_id(cache, text)?.ok_or_else(|| no_such_run(text))?],
        None => cache.runs()?.into_iter().rev().collect(),
    };
    if runs.is_empty() {
        return Err(no_runs(cache));
    }
    let mut branches = Vec::new();
    for run in runs {
        match find(cache, &run, stage)? {
            Found::Not(named) if branches.is_empty() => branches = named,
            Found::Not(_) => {}
            Found::Waits if !args.follow && args.run.is_none() => {}
            found => return Ok((run, found)),
        }
    }
    let place = args.run.as_ref().map_or("any run".to_owned(), |run| format!("run {run}"));
    let message = format!("stage {stage} did not run in {place}");
    Err(match branches.len() {
        0 => CliError::input_with_help(message, "`cistage show RUN` lists the stages of a run"),
        n => {
            let listed: Vec<String> = branches.iter().take(MOST_LISTED).map(ToString::to_string).collect();
            let more = if n > MOST_LISTED { format!(" and {} more", n - MOST_LISTED) } else { String::new() };
            CliError::input_with_help(message, format!("name one of {}{more}", listed.join(", ")))
        }
    })
}

fn find(cache: &Cache, run: &RunId, stage: &StageName) -> Result<Found, CliError> {
    let is_branch = |name: &&StageName| stage.branch().is_none() && name.base() == stage.base();
    if let Some(record) = cache.run(run)? {
        let Some(step) = record.steps.iter().find(|step| step.stage == *stage) else {
            let names = record.steps.iter().map(|step| &step.stage);
            return Ok(Found::Not(names.filter(is_branch).cloned().collect()));
        };
        return Ok(match step.outcome {
            Outcome::Skipped => Found::Not(Vec::new()),
            _ => Found::Ended(log(cache, step)?),
        });
    }
    let known = cache.underway(run)?;
    let Some(begun) = known.stages.get(stage) else {
        return Ok(match known.order.contains(stage) {
            true if known.lives => Found::Waits,
            _ => Found::Not(known.order.iter().filter(is_branch).cloned().collect()),
        });
    };
    let Some(key) = begun.key else { return Ok(Found::Waits) };
    Ok(match begun.outcome {
        None if known.lives => Found::Grows(printed_so_far(cache, key)?),
        None => Found::CutShort(printed_so_far(cache, key)?),
        // What it printed is in its record already, or in that of the run, which is to come.
        Some(_) => match cache.record(key)? {
            Some(record) => Found::Ended(record.log),
            None => Found::Grows(None),
        },
    })
}

/// What a step printed; of a hit, what the execution printed that it stands for.
fn log(cache: &Cache, step: &StepRecord) -> Result<Option<Artifact>, CliError> {
    if step.log.is_some() {
        return Ok(step.log.clone());
    }
    let record = step.key.map(|key| cache.record(key)).transpose()?.flatten();
    Ok(record.filter(|_| step.outcome == Outcome::Hit).and_then(|record| record.log))
}

fn whole(cache: &Cache, log: &Artifact) -> Result<(), CliError> {
    if !cache.verify_object(log.digest)? {
        return Err(CliError::Unchecked(format!(
            "the log ({}) is missing or damaged in the cache",
            log.digest.short()
        )));
    }
    Growing::open(&cache.object_path(log.digest))?.as_mut().map_or(Ok(()), Growing::copy)
}

/// Says why nothing stands there, or that there may be more.
fn told(printer: &Printer, run: &RunId, stage: &StageName, found: &Found) {
    match found {
        Found::Ended(log) if log.as_ref().is_none_or(|log| log.bytes == 0) => {
            printer.note(&format!("stage {stage} printed nothing (run {run})"))
        }
        Found::Grows(None) => printer.note(&format!("stage {stage} has printed nothing yet (run {run})")),
        Found::Waits => printer.note(&format!("stage {stage} has not begun yet (run {run})")),
        Found::CutShort(_) => printer.note(&format!("run {run} was killed while stage {stage} ran")),
        _ => {}
    }
}

/// A file that is shown as it grows.
struct Growing {
    path: PathBuf,
    file: fs_err::File,
}

impl Growing {
    /// `None` where it is gone.
    fn open(path: &std::path::Path) -> io::Result<Option<Self>> {
        match fs_err::File::open(path) {
            Ok(file) => Ok(Some(Self { path: path.to_owned(), file })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Prints what was not printed yet: as it is, but that a terminal gets nothing that would steer it.
    fn copy(&mut self) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        if !io::stdout().is_terminal() {
            io::copy(&mut self.file, &mut out)?;
            return Ok(out.flush()?);
        }
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        out.write_all(super::printer::clean(&String::from_utf8_lossy(&bytes)).as_bytes())?;
        Ok(out.flush()?)
    }
}
