//! The body of `cistage worker --detached FOLDER`: runs a job where a batch system put it, without the run that asked for it.
//!
//! It watches the worker as a run does, and leaves in the job's folder what a run would have heard. So a worker that dies of
//! a lack of memory, or of a bug, still has its end told.

use super::job::{Failure, Job, Message};
use super::placed::{Done, Placed, Started};
use super::process::{self, Control};
use super::secrets::Secrets;
use super::{capacity, environment, out_of_memory, sources};
use crate::engine::interrupt::Urgency;
use crate::stages::StageKind;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR2};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a signal to all processes of a job may be on its way to this one.
const HEARSAY: Duration = Duration::from_millis(200);

/// How long Slurm may take to end a job that it was asked to queue again.
const REQUEUE: Duration = Duration::from_secs(60);

/// Runs the job of a folder; gives the exit status for the batch system, which decides nothing.
pub fn detached(folder: &Path) -> u8 {
    match std::path::absolute(folder).and_then(|folder| run(&Placed(folder))) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            // Standard error is a file in the folder, which an error of the run quotes.
            let _ = writeln!(io::stderr(), "the job could not be done here: {error}");
            1
        }
    }
}

fn run(placed: &Placed) -> io::Result<bool> {
    if let Some(done) = placed.done() {
        if !done.was_stopped() {
            return Ok(true);
        }
        placed.forget_done()?;
    }
    let started = this_start();
    let mut job = placed.job()?;
    prepare(placed, &started.start, &mut job)?;
    placed.set_started(&started)?;

    let kind = StageKind::parse(&job.kind, &job.params).and_then(Result::ok);
    let secrets = kind.as_ref().map_or_else(|| Ok(Secrets::default()), Secrets::of).map_err(io::Error::other)?;
    let control = Arc::new(Control::default());
    let warned = Arc::new(AtomicBool::new(false));
    heed_signals(&control, &warned, kind.as_ref().is_some_and(|kind| kind.stage().saves_state()))?;

    let mut messages = fs_err::OpenOptions::new().create(true).append(true).open(placed.messages(&started.start))?;
    let mut end = None;
    let mut hear = |message: Message| {
        // A full disk must not end the stage: what it made may still find room.
        let line = serde_json::to_string(&message).expect("plain data") + "\n";
        let _ = messages.write_all(secrets.hidden_text(line).as_bytes());
        if matches!(message, Message::Done(_) | Message::Failed { .. }) {
            end = Some(message);
        }
    };
    let line = serde_json::to_vec(&job).expect("a job is plain data");
    let before = out_of_memory::kills();
    // What may hold a secret is written when it is known to hold none.
    let log = secrets.is_empty().then(|| fs_err::File::create(placed.log(&started.start))).transpose()?;
    let mut exit = process::run(&line, &placed.0, &control, &mut hear, log)?;
    exit.log.hide(&secrets);
    fs_err::write(placed.log(&started.start), exit.log.bytes())?;

    if out_of_memory::kills() > before {
        let message = "the kernel killed a process of it, which needed more memory than the job has: give it more with \
                       `resources: { memory: … }`";
        end = Some(Message::Failed { why: Failure::Failed, message: message.to_owned() });
    }
    let expired = warned.load(Ordering::SeqCst) && matches!(end, Some(Message::Failed { why: Failure::Cancelled, .. }));
    if expired && is_queued_again() {
        return Ok(false);
    }
    if let Some(Message::Failed { message, .. }) = &mut end {
        *message = secrets.hidden_text(std::mem::take(message));
    }
    // A batch system signals every process of a job: the program may have died of it before this one has heard.
    if exit.status.code() != Some(0) {
        std::thread::sleep(HEARSAY);
    }
    let stopped = control.is_stopped();
    let succeeded = matches!(end, Some(Message::Done(_))) && exit.status.success();
    let environment = environment(job.threads as u32, job.device);
    let status = exit.status.into_raw();
    placed.set_done(&Done { started, status, end, stopped, expired, cost: exit.cost, environment })?;
    Ok(succeeded)
}

/// Names this start: Slurm gives a job that it starts again the number that it had.
fn this_start() -> Started {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let raw = variable("SLURM_JOB_ID").unwrap_or_else(|| std::process::id().to_string());
    let job = match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
        (Some(array), Some(task)) => format!("{array}_{task}"),
        _ => raw.clone(),
    };
    let restarts = variable("SLURM_RESTART_COUNT").unwrap_or_else(|| "0".to_owned());
    let host = || fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let node = variable("SLURMD_NODENAME").unwrap_or_else(host);
    Started { start: format!("{raw}-{restarts}"), job, node }
}

/// Gives this start an output folder of its own, with copies of what a command reads, and the processors that there are.
fn prepare(placed: &Placed, start: &str, job: &mut Job) -> io::Result<()> {
    let out = placed.out(start);
    if out.exists() {
        fs_err::remove_dir_all(&out)?;
    }
    fs_err::create_dir(&out)?;
    let given = placed.given();
    let inputs = given.join("in");
    if inputs.is_dir() {
        fs_err::create_dir(out.join("in"))?;
        for entry in fs_err::read_dir(&inputs)? {
            let entry = entry?;
            sources::copy(&entry.path(), &out.join("in").join(entry.file_name()))?;
        }
    }
    for path in job.inputs.values_mut() {
        *path = moved(path, &given, &out);
    }
    if job.scratch.starts_with(&given) {
        job.scratch = placed.0.join(format!("private-{start}"));
        fs_err::create_dir_all(&job.scratch)?;
    }
    job.output_dir = out;
    if job.threads == 0 {
        job.threads = processors();
    }
    job.lifeline = true;
    job.engine = job.engine.map(|_| std::process::id());
    Ok(())
}

/// A path below `from` as one below `to`; others stay.
pub(super) fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    path.strip_prefix(from).map_or_else(|_| path.to_owned(), |rest| to.join(rest))
}

/// The processors that this job was given.
fn processors() -> usize {
    let given = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok().filter(|&n| n > 0);
    let all = capacity::cores() as usize;
    given("SLURM_CPUS_PER_TASK").into_iter().chain(given("SLURM_CPUS_ON_NODE")).max().unwrap_or(all).min(all)
}

/// SIGTERM stops the worker, as does the warning that its time is nearly over, where it saves its state.
fn heed_signals(control: &Arc<Control>, warned: &Arc<AtomicBool>, saves: bool) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGUSR2])?;
    let (control, warned) = (Arc::clone(control), Arc::clone(warned));
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGUSR2 {
                if !saves || control.is_stopped() {
                    continue;
                }
                warned.store(true, Ordering::SeqCst);
            }
            control.stop(Urgency::Stop);
        }
    });
    Ok(())
}

/// Has Slurm start this job again, so that a long training goes on where no run waits for it. Slurm then ends this process.
fn is_queued_again() -> bool {
    let Ok(job) = std::env::var("SLURM_JOB_ID") else { return false };
    let asked = Command::new("scontrol").args(["requeue", &job]).status();
    if !asked.is_ok_and(|status| status.success()) {
        return false;
    }
    std::thread::sleep(REQUEUE);
    true
}
