//! The inside of a worker process: reads a job, runs the stage, says how it went.

use super::job::{Failure, Job, Made, Message};
use super::ranks::{self, Meeting};
use crate::collective::{self, Collective, Lost, Single};
use crate::huge_pages;
use crate::model::device::target;
use crate::stage::{Reached, Resources, Sink, StageContext, StageError};
use crate::stages::StageKind;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Progress is said no more often than this.
const PROGRESS: Duration = Duration::from_millis(100);

/// Runs one job file, or the job that is the first line of standard input (`-`): the body of the hidden command `worker`.
pub fn worker(job: &Path) -> u8 {
    let Ok(sink) = Lines::new() else { return 1 };
    let message = outcome(|| work(read(job)?, &sink, None));
    let failed = matches!(message, Message::Failed { .. });
    sink.say(&message);
    u8::from(failed)
}

/// Runs one job file as one of several ranks, which a launcher started: the body of the hidden command `rank`.
pub fn rank(job: &Path) -> u8 {
    let Ok(mut sink) = Lines::new() else { return 1 };
    let meeting = Meeting::of_job(job);
    let met = read(job).map_err(|error| error.to_string()).and_then(|job| {
        let (together, device) = collective::meet(job.device, meeting.folder())?;
        Ok((together, Job { device, ..job }))
    });
    let (together, job) = match met {
        Ok(met) => met,
        Err(message) => {
            sink.say(&Message::Failed { why: Failure::Failed, message });
            return 1;
        }
    };
    let rank = together.rank();
    // The word for SIGTERM, which launchers of MPI do not hand on as it is.
    sink.stop = (rank == 0).then(|| meeting.stop());
    sink.quiet = rank > 0;
    ranks::name_in_panics(rank);
    let message = outcome(|| work(job, &sink, Some(&*together)));
    sink.say(&message);
    // All ranks end alike, or the first of them to fail ends all.
    if matches!(message, Message::Done(_) | Message::Failed { why: Failure::Cancelled, .. }) {
        return 0;
    }
    meeting.note(rank, &message);
    if rank > 0 {
        // What fails on all ranks is told by the first of them.
        std::thread::sleep(ranks::FIRST_SPEAKS);
    }
    together.abort()
}

/// What a stage's end is in words.
fn outcome(work: impl FnOnce() -> Result<Made, StageError>) -> Message {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(made)) => Message::Done(made),
        Ok(Err(StageError::Input(message))) => Message::Failed { why: Failure::Input, message },
        Ok(Err(StageError::Failed(message))) => Message::Failed { why: Failure::Failed, message },
        Ok(Err(StageError::Cancelled)) => {
            Message::Failed { why: Failure::Cancelled, message: StageError::Cancelled.to_string() }
        }
        Err(panic) => {
            if let Some(Lost(message)) = panic.downcast_ref() {
                return Message::Failed { why: Failure::Failed, message: message.clone() };
            }
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Message::Failed { why: Failure::Failed, message: format!("internal error, please report it: {said}") }
        }
    }
}

/// Reads a job file, or the first line of standard input.
fn read(job: &Path) -> Result<Job, StageError> {
    let mut text = Vec::new();
    if job == Path::new("-") {
        std::io::stdin().lock().read_until(b'\n', &mut text)?;
    } else {
        text = fs_err::read(job)?;
    }
    serde_json::from_slice(&text)
        .map_err(|e| StageError::Failed(format!("{} is not a job of this version: {e}", job.display())))
}

/// Does the work, alone or as one of several ranks.
fn work(job: Job, sink: &Lines, together: Option<&dyn Collective>) -> Result<Made, StageError> {
    leave_the_terminal();
    if job.lifeline {
        die_with_the_run();
    }
    if let Some(wanted) = &job.target
        && let here = target(job.device)
        && here != *wanted
    {
        return Err(StageError::Failed(format!(
            "its key says that it computes on {wanted}, and this machine is {here}: have it run on machines like the one that \
             plans (with Slurm, `flags = [\"--constraint=…\"]` in cistage.toml)"
        )));
    }
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&sink.cancelled))?;
    let kind = StageKind::parse(&job.kind, &job.params)
        .ok_or_else(|| StageError::Failed(format!("there is no stage `{}` in this version", job.kind)))?
        .map_err(|problems| {
            let text = problems.iter().map(|p| format!("{}: {}", p.param, p.message)).collect::<Vec<_>>();
            StageError::Failed(text.join("; "))
        })?;
    let count = kind.stage().ranks();
    if count > 1 && together.is_none() {
        // It has children of its own, and has to live long enough to end them.
        return ranks::launch(&job, count, sink);
    }
    if let Some(engine) = job.engine {
        die_with(engine);
    }
    let is_command = matches!(kind, StageKind::Command(_));
    // A user's program has threads of its own.
    if !is_command {
        rayon::ThreadPoolBuilder::new()
            .num_threads(job.threads)
            .build_global()
            .map_err(|e| StageError::Failed(format!("can't start {} threads: {e}", job.threads)))?;
    }
    let mut ctx = StageContext {
        inputs: job.inputs,
        labels: job.labels,
        output_dir: job.output_dir,
        outputs: BTreeMap::new(),
        seals: BTreeMap::new(),
        scratch: job.scratch,
        prior: job.prior,
        threads: job.threads,
        device: job.device,
        trace: job.trace,
        together: together.unwrap_or(&Single),
        sink,
    };
    if is_command || kind.stage().needs() == Resources::ALL_CPUS {
        huge_pages::allow();
    }
    kind.stage().run(&mut ctx)?;
    Ok(Made { outputs: ctx.outputs, seals: ctx.seals })
}

/// Gives the terminal up, for this process and its children: a program that would ask something there fails, and does
/// not wait for ever in the background.
fn leave_the_terminal() {
    // SAFETY: these calls take and give numbers and a constant text; the descriptor is open for as long as it is used.
    unsafe {
        // Whoever runs a job file by hand keeps it.
        if libc::getpgrp() != libc::getpid() || libc::getsid(0) == libc::getpid() {
            return;
        }
        let terminal = libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if terminal != -1 {
            libc::ioctl(terminal, libc::TIOCNOTTY);
            libc::close(terminal);
        }
    }
}

/// Ties this process to `engine` by the kernel.
fn die_with(engine: u32) {
    #[cfg(target_os = "linux")]
    // SAFETY: these calls take and give numbers alone.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // It may have died before the line above.
        if libc::getppid().cast_unsigned() != engine {
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = engine;
}

/// Ends this process and its children when the run that started it is gone.
fn die_with_the_run() {
    std::thread::spawn(|| {
        let mut nothing = [0_u8; 64];
        while let Ok(1..) = std::io::stdin().read(&mut nothing) {}
        // SAFETY: these take and give numbers alone; group 0 is our own, and as we lead it, all others in it are our
        // children. Whoever runs a job file by hand is left in peace.
        unsafe {
            if libc::getpgrp() == libc::getpid() {
                libc::kill(0, libc::SIGKILL);
            }
        }
    });
}

/// Says what happens as lines of JSON.
pub(super) struct Lines {
    out: Mutex<File>,
    last_progress: Mutex<Option<Instant>>,
    cancelled: Arc<AtomicBool>,
    /// A file that asks to stop once it is there.
    stop: Option<PathBuf>,
    /// Only one of several ranks is heard.
    quiet: bool,
}

impl Lines {
    /// Takes standard output for itself: whatever else prints goes to the log.
    fn new() -> std::io::Result<Self> {
        // SAFETY: both calls take and give descriptor numbers; the new one is owned by nobody else.
        let out = unsafe {
            let copy = libc::fcntl(libc::STDOUT_FILENO, libc::F_DUPFD_CLOEXEC, 3);
            if copy == -1 || libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) == -1 {
                return Err(std::io::Error::last_os_error());
            }
            File::from_raw_fd(copy)
        };
        let last_progress = Mutex::new(None);
        Ok(Self { out: Mutex::new(out), last_progress, cancelled: Arc::default(), stop: None, quiet: false })
    }

    pub(super) fn say(&self, message: &Message) {
        if self.quiet {
            return;
        }
        let mut line = serde_json::to_vec(message).expect("messages are plain data");
        line.push(b'\n');
        // Where nobody reads any more, the run is gone, and this process about to follow.
        let _ = self.out.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
    }
}

impl Sink for Lines {
    fn progress(&self, done: u64, total: u64, unit: &str) {
        let mut last = self.last_progress.lock().unwrap_or_else(PoisonError::into_inner);
        if done < total && last.is_some_and(|last| last.elapsed() < PROGRESS) {
            return;
        }
        *last = Some(Instant::now());
        self.say(&Message::Progress { done, total, unit: unit.to_owned() });
    }

    fn metric(&self, name: &str, step: u64, value: f64) {
        let value = value.is_finite().then_some(value);
        self.say(&Message::Metric { name: name.to_owned(), step, value });
    }

    fn warning(&self, message: &str) {
        self.say(&Message::Warning { message: message.to_owned() });
    }

    fn note(&self, message: &str) {
        self.say(&Message::Note { message: message.to_owned() });
    }

    fn reached(&self, reached: Reached) {
        self.say(&Message::Reached { reached });
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst) || self.stop.as_ref().is_some_and(|stop| stop.exists())
    }
}
