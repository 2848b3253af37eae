//! One run, from the first hash to its record.

use super::capacity::Capacity;
use super::coordinator::Coordinator;
use super::interrupt::Interrupt;
use super::recorder::Recorder;
use super::sharing::Sharing;
use super::slurm::Slurm;
use super::sources::Sources;
use super::{EngineError, Reporter, RunOptions, RunSummary, clock, environment, force, leakage, publish};
use crate::cache::run_record::RUN_SCHEMA;
use crate::cache::{Cache, RunRecord, Verify};
use crate::device::Device;
use crate::event::{EventKind, Outcome, RunOutcome};
use crate::pipeline::{Plan, Step};
use crate::site::Executor;
use std::thread;
use std::time::Instant;

/// Where a step runs.
pub(super) fn place(step: &Step, options: &RunOptions) -> Executor {
    step.executor.unwrap_or(options.executor)
}

/// Sends the clerk home, however the walk ends.
struct Closing<'a>(&'a Slurm);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Runs a plan: serves what the cache has, executes the rest, publishes, and records all of it.
///
/// `Err` means that nothing was started, or that the run could not be recorded; a failed stage is a failed run.
pub fn run(
    plan: &Plan,
    cache: &Cache,
    options: &RunOptions,
    reporter: &dyn Reporter,
    interrupt: &Interrupt,
) -> Result<RunSummary, EngineError> {
    let began = Instant::now();
    let started = clock::now();
    if plan.verify_always {
        cache.verify_always();
    }
    let forced = force::forced(plan, &options.force)?;
    let capacity = Capacity::of_machine(options);
    capacity.check(plan, options)?;
    publish::check(plan, cache)?;
    let sources = Sources::read(plan, cache, interrupt)?;
    let text = cache.put_bytes(plan.text.as_bytes())?;
    let recorder = Recorder::start(cache, reporter)?;
    recorder.emit(EventKind::RunStarted {
        run: recorder.run().clone(),
        pipeline: plan.name.clone(),
        stages: plan.steps.iter().map(|step| step.name.clone()).collect(),
    });
    let sharing = options.remote.as_ref().map(|remote| Sharing::new(remote, cache, &recorder, interrupt));
    let on_slurm = plan.steps.iter().any(|step| place(step, options) == Executor::Slurm);
    let slurm = on_slurm.then(|| Slurm::new(options.slurm.clone(), recorder.run().as_str(), interrupt.clone()));
    let mut coordinator = Coordinator::new(
        plan,
        cache,
        &recorder,
        interrupt,
        &sources,
        capacity,
        &forced,
        options,
        slurm.as_ref(),
        sharing.as_ref(),
    );
    thread::scope(|scope| {
        let closing = slurm.as_ref().map(|slurm| {
            scope.spawn(|| slurm.serve());
            Closing(slurm)
        });
        coordinator.walk();
        drop(closing);
    });
    if let Some((calls, submissions)) = slurm.as_ref().map(Slurm::counts).filter(|(calls, _)| *calls > 0) {
        recorder.emit(EventKind::Slurm { calls, submissions });
    }
    let (published, unpublished) = coordinator.publish();
    let (steps, input_error) = coordinator.finish();
    let leakage = if interrupt.is_raised() { Vec::new() } else { leakage::of_run(cache, &steps, &recorder) };

    let count = |outcome| steps.iter().filter(|step| step.outcome == outcome).count() as u64;
    let cut_short = count(Outcome::Cancelled) + count(Outcome::Skipped) > 0;
    let outcome = if interrupt.is_raised() && cut_short {
        RunOutcome::Cancelled
    } else if cut_short || count(Outcome::Failed) > 0 || !unpublished.is_empty() {
        RunOutcome::Failed
    } else {
        RunOutcome::Succeeded
    };
    let mut summary = RunSummary {
        run: recorder.run().clone(),
        outcome,
        input_error,
        ran: count(Outcome::Ran),
        hit: count(Outcome::Hit),
        failed: count(Outcome::Failed),
        skipped: count(Outcome::Skipped),
        unpublished: unpublished.len() as u64,
        seconds: began.elapsed().as_secs_f64(),
    };
    let saved_seconds = steps.iter().filter_map(|step| step.from.as_ref()).map(|from| from.seconds).sum();
    let committed = cache.commit_run(RunRecord {
        schema: RUN_SCHEMA.to_owned(),
        run: summary.run.clone(),
        pipeline: plan.name.clone(),
        file: plan.file.display().to_string(),
        text,
        profiles: options.profiles.clone(),
        sets: options.sets.clone(),
        argv: options.argv.clone(),
        params: plan.params.clone(),
        started,
        seconds: summary.seconds,
        outcome,
        steps,
        published,
        unpublished: unpublished.clone(),
        leakage,
        environment: environment(capacity.cpus, Device::Cpu),
        verify: if plan.verify_always { Verify::Always } else { Verify::Changed },
        imported: None,
        previous: None,
    });
    if committed.is_err() {
        summary.outcome = RunOutcome::Failed;
    }
    recorder.emit(EventKind::RunFinished {
        run: summary.run.clone(),
        outcome: summary.outcome,
        ran: summary.ran,
        hit: summary.hit,
        failed: summary.failed,
        skipped: summary.skipped,
        unpublished: unpublished.into_keys().collect(),
        seconds: summary.seconds,
        saved_seconds,
    });
    committed?;
    recorder.finish()?;
    Ok(summary)
}
