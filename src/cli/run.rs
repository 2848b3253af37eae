//! `cistage run`: says what it will cost, runs what is not cached, reports.

use super::App;
use super::exit::CliError;
use super::keys::KeyArg;
use super::plan;
use super::printer::duration;
use super::remote::{self, RemoteArgs};
use super::reporter::TerminalReporter;
use super::select::PipelineArgs;
use crate::cache::Cache;
use crate::cache::remote::Tally;
use crate::engine::{self, EngineError, Interrupt, RunOptions};
use crate::event::RunOutcome;
use crate::provenance;
use crate::site::Executor;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cistage run pipeline.yaml\n  cistage run pipeline.yaml --profile demo --set per_bin=200\n  cistage run pipeline.yaml --to evaluate --keep-going"
)]
pub(super) struct Args {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Stop after this stage: run it and what it needs alone
    #[arg(long, value_name = "STAGE")]
    to: Option<String>,
    /// Execute this stage even where its result is cached (repeatable)
    #[arg(long, value_name = "STAGE")]
    force: Vec<String>,
    /// How many stages may run side by side [default: the processors]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    jobs: Option<u64>,
    /// Processors that stages may use in all [default: those of the machine]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    threads: Option<u64>,
    /// After a failure, go on with stages that do not depend on it
    #[arg(long)]
    keep_going: bool,
    /// Fail where another run works on the same stage already, and don't wait for its result
    #[arg(long)]
    no_wait: bool,
    /// Where stages run that do not say [default: as cistage.toml says, else local]
    #[arg(long, value_enum)]
    executor: Option<ExecutorArg>,
    /// What Ctrl-C does with jobs in Slurm; a terminal is asked without it [default elsewhere: leave]
    #[arg(long, value_enum, value_name = "WHAT")]
    on_interrupt: Option<OnInterrupt>,
    /// Show the plan and run nothing (as `cistage plan`)
    #[arg(long)]
    dry_run: bool,
    /// Sign what the run rests on: `audit --verify --trusted-key` checks it, at any time and place
    #[arg(long)]
    sign: bool,
    #[command(flatten)]
    key: KeyArg,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Start even where more than a day of work lies ahead
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ExecutorArg {
    /// On this machine
    Local,
    /// As jobs of Slurm
    Slurm,
}

/// What becomes of jobs when their run is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OnInterrupt {
    /// They go on, and the same command finds them again
    Leave,
    /// They are cancelled; a training saves its state
    Cancel,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let plan = args.pipeline.load(args.to.as_deref())?;
    if args.dry_run {
        return plan::show(app, &plan, &args.force);
    }
    app.warn_of(&plan);
    let key = args.sign.then(|| args.key.secret()).transpose()?;
    let site = app.site()?;
    let executor = args.executor.map_or(site.executor.unwrap_or_default(), |executor| match executor {
        ExecutorArg::Local => Executor::Local,
        ExecutorArg::Slurm => Executor::Slurm,
    });
    let has_jobs = plan.steps.iter().any(|step| step.executor.unwrap_or(executor) == Executor::Slurm);
    let remote = remote::of_run(app, &args.remote, &args.key)?.map(Arc::new);
    let cache = app.open_cache()?;
    let interrupt = match has_jobs {
        true => super::interrupt::on_signals_with_jobs(args.on_interrupt)?,
        false => super::interrupt::on_signals()?,
    };
    announce_cost(app, &plan, &cache, args, &interrupt)?;
    let options = RunOptions {
        force: args.force.clone(),
        jobs: args.jobs.map(|n| n as usize),
        threads: args.threads.map(|n| n as usize),
        keep_going: args.keep_going,
        no_wait: args.no_wait,
        executor,
        slurm: site.slurm,
        remote: remote.clone(),
        argv: std::env::args().collect(),
        profiles: args.pipeline.profile.clone(),
        sets: args.pipeline.set.clone(),
    };
    let reporter = TerminalReporter::new(app.printer.clone(), app.verbose);
    let summary =
        engine::run(&plan, &cache, &options, &reporter, &interrupt).map_err(|error| ended_early(app, error))?;
    reporter.finish()?;
    if let Some(key) = &key {
        // The run stands in any case; unsigned, it is not what was asked for.
        provenance::sign_run(&cache, &summary.run, key)
            .map_err(|error| CliError::Failed(format!("run {} can't be signed: {error}", summary.run)))?;
        app.printer.note(&format!("signed run {} with key {}", summary.run, &key.public().id()[..12]));
    }
    if let Some(remote) = remote.filter(|remote| remote.adds() && summary.ran > 0) {
        for warning in remote.add_run(&cache, &summary.run, &Tally::default(), &|| interrupt.is_raised()) {
            app.printer.warning(&warning);
        }
    }
    match summary.outcome {
        RunOutcome::Succeeded => Ok(()),
        RunOutcome::Cancelled => {
            app.printer.note("interrupted: finished stages are kept; the same command goes on from here");
            Err(CliError::Interrupted)
        }
        RunOutcome::Failed if summary.input_error => Err(CliError::InputQuietly),
        RunOutcome::Failed => Err(CliError::FailedQuietly),
    }
}

/// Prints what lies ahead, where it is worth a line, and refuses to start days of work unasked.
fn announce_cost(
    app: &App,
    plan: &crate::pipeline::Plan,
    cache: &Cache,
    args: &Args,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    // Looks every step up, as the run does again: only where there is something to say.
    if !engine::can_be_estimated(plan) {
        return Ok(());
    }
    let steps = engine::plan(plan, cache, &args.force, interrupt).map_err(|error| ended_early(app, error))?;
    let seconds: f64 = plan::pending(&steps).filter_map(|step| step.estimate.seconds).sum();
    if seconds >= 10.0 {
        app.printer.note(&format!("ahead, on this machine: about {}", duration(seconds)));
        for line in plan::cost_lines(&steps) {
            app.printer.note(&format!("  {line}"));
        }
    }
    if seconds > plan::LONG && !args.yes {
        return Err(CliError::input_with_help(
            format!("this run would take about {} on this machine", duration(seconds)),
            "add --yes to start it all the same, or make it smaller: `--profile sample` trains a small model on a real file, \
             `--profile demo` needs no data (where the pipeline has them)",
        ));
    }
    Ok(())
}

/// Says that nothing was started where that is all there is to say.
fn ended_early(app: &App, error: EngineError) -> CliError {
    if matches!(error, EngineError::Interrupted) {
        app.printer.note("interrupted while files were read: nothing was started");
    }
    error.into()
}
