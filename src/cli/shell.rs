//! `cistage shell`: into the work directory of a command stage, as a run gave it to its program.

use super::App;
use super::exit::CliError;
use super::select::{newest_run, run_named};
use crate::cache::{Cache, RunRecord, StepRecord};
use crate::engine::{Reproduced, reproduce};
use crate::event::Outcome;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Make the work directory of a command stage again, and open a shell in it
///
/// It holds what a run gave to the stage's program: copies of its inputs in `in/`, its environment and nothing else.
/// `run.sh` above it starts the program as the stage did. Nothing that is done there changes the cache.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cistage shell summarize\n  cistage shell summarize -- ../run.sh\n  cistage shell fit@seed=2 --run 20261125-0940 --dir /tmp/fit"
)]
pub(super) struct Args {
    /// The stage; of one with branches, NAME@BRANCH
    #[arg(value_name = "STAGE")]
    stage: String,
    /// The run: its id or the start of it, or a pipeline [default: the newest run that has it]
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// The new folder to make [default: STAGE.shell]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Remove the folder first, where an earlier `cistage shell` made it
    #[arg(long)]
    replace: bool,
    /// A program to run there, in place of the shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    let (run, step) = step_named(&cache, args)?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(format!("{}.shell", step.stage)));
    let aside = make_way(&dir, args.replace)?;
    let made = reproduce(&cache, &run, &step, &dir);
    if let Some(aside) = &aside {
        // What could not be made again leaves the older one in its place.
        if made.is_ok() { fs_err::remove_dir_all(aside)? } else { fs_err::rename(aside, &dir)? }
    }
    let made = made?;
    let marker = serde_json::json!({ "run": run.run, "stage": step.stage });
    fs_err::write(dir.join(MARKER), format!("{marker}\n"))?;
    for difference in &made.differences {
        app.printer.warning(difference);
    }
    let what = format!("{} of run {} -> {}", step.stage, run.run, dir.display());
    if app.printer.json {
        let (work, script) = (made.work.display().to_string(), made.script.display().to_string());
        app.printer
            .json(&serde_json::json!({ "run": run.run, "stage": step.stage, "work": work, "script": script }))?;
    } else {
        app.printer.note(&format!("{what}: `{}` starts its program", shown(&made.script)));
    }
    if args.command.is_empty() && (app.printer.json || !std::io::stdin().is_terminal()) {
        return Ok(());
    }
    enter(&step, &made, &args.command)
}

/// Tells a folder that `cistage shell` made: it holds run and stage.
const MARKER: &str = ".cistage-shell.json";

/// Refuses a folder that holds something, or moves one of ours aside, and says where to.
fn make_way(dir: &Path, replace: bool) -> Result<Option<PathBuf>, CliError> {
    if fs_err::read_dir(dir).map_or(dir.symlink_metadata().is_err(), |mut entries| entries.next().is_none()) {
        return Ok(None);
    }
    let message = format!("{} is there already", dir.display());
    let is_folder = dir.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let name = dir.file_name().filter(|_| is_folder && is_marked(dir));
    let Some(name) = name else {
        let help = "it is not one that `cistage shell` made: remove it, or name another folder with --dir";
        return Err(CliError::input_with_help(message, help));
    };
    if !replace {
        let help = "--replace makes it anew, without what was changed in it; --dir names another folder";
        return Err(CliError::input_with_help(message, help));
    }
    let aside = dir.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    fs_err::rename(dir, &aside)?;
    Ok(Some(aside))
}

fn is_marked(dir: &Path) -> bool {
    let text = fs_err::read(dir.join(MARKER)).unwrap_or_default();
    let marker = serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default();
    marker["run"].is_string() && marker["stage"].is_string()
}

/// The path as one would write it here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).map_or_else(|_| path.display().to_string(), |below| format!("./{}", below.display()))
}

/// Runs a program, or a shell for a person, with the stage's environment in its work directory.
fn enter(step: &StepRecord, made: &Reproduced, command: &[OsString]) -> Result<(), CliError> {
    let mut program = match command {
        [] => {
            let mut shell = Command::new("bash");
            shell.args(["--noprofile", "--norc", "-i"]);
            shell
        }
        [name, arguments @ ..] => {
            let mut program = Command::new(name);
            program.args(arguments);
            program
        }
    };
    program.current_dir(&made.work).env_clear().envs(&made.invocation.variables);
    if command.is_empty() {
        program.env("PS1", format!("({}) \\w$ ", step.stage));
        program.envs(std::env::var_os("TERM").map(|term| ("TERM", term)));
    }
    // In place of this process: keys and the exit code are the program's.
    let error = program.exec();
    Err(CliError::input(format!("can't start {}: {error}", program.get_program().display())))
}

/// The step that is meant, in the run that is.
fn step_named(cache: &Cache, args: &Args) -> Result<(RunRecord, StepRecord), CliError> {
    let is_meant = |step: &&StepRecord| step.stage.as_str() == args.stage;
    let run = if args.run.is_some() {
        run_named(cache, args.run.as_deref())?
    } else {
        // A run that left it out, or was skipped before it, says nothing of it. One that has it in branches does.
        let began = |step: &StepRecord| {
            (is_meant(&step) || step.stage.base() == args.stage) && !matches!(step.outcome, Outcome::Skipped)
        };
        match newest_run(cache, |run| run.steps.iter().any(began))? {
            Some(run) => run,
            None => run_named(cache, None)?,
        }
    };
    if let Some(step) = run.steps.iter().find(is_meant).cloned() {
        return Ok((run, step));
    }
    let is_branch = |step: &&StepRecord| step.stage.base() == args.stage;
    let has_branches = run.steps.iter().any(|step| is_branch(&step));
    let commands = run.steps.iter().filter(|step| if has_branches { is_branch(step) } else { step.kind == "command" });
    let commands: Vec<&str> = commands.map(|step| step.stage.as_str()).take(20).collect();
    let help = if commands.is_empty() {
        format!("run {} has no command stages", run.run)
    } else {
        format!("the command stages of run {}: {}", run.run, commands.join(", "))
    };
    Err(CliError::input_with_help(format!("run {} has no stage {:?}", run.run, args.stage), help))
}
