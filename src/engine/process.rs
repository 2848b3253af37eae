//! A worker as the kernel sees it: started in a process group of its own, watched, stopped, accounted for.

use super::interrupt::Urgency;
use super::job::Message;
use super::log::Log;
use crate::action::Cost;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Stops one worker, whether it has started yet or not.
#[derive(Debug, Default)]
pub(super) struct Control(Mutex<Target>);

#[derive(Debug, Default)]
struct Target {
    urgency: Option<Urgency>,
    /// Its time was over.
    expired: bool,
    /// While this is set the process is not reaped, so its number can't be another's.
    worker: Option<libc::pid_t>,
}

impl Control {
    /// Asks the worker to stop; a worker that starts later is asked when it does.
    pub(super) fn stop(&self, urgency: Urgency) {
        let mut target = self.lock();
        if target.urgency.is_none_or(|before| before < urgency) {
            target.urgency = Some(urgency);
            target.signal();
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().urgency.is_some()
    }

    /// There is no time left to save anything.
    pub(super) fn is_urgent(&self) -> bool {
        self.lock().urgency == Some(Urgency::Kill)
    }

    /// Stops the worker when `limit` is over: politely, and after `grace` with all that it started. Returns when the
    /// sender of `ended` is dropped, or after that.
    pub(super) fn stop_after(&self, limit: Duration, grace: Duration, ended: &mpsc::Receiver<()>) {
        for (wait, urgency) in [(limit, Urgency::Stop), (grace, Urgency::Kill)] {
            if ended.recv_timeout(wait) != Err(mpsc::RecvTimeoutError::Timeout) {
                return;
            }
            let mut target = self.lock();
            // Whoever was asked to stop before is not past its time.
            target.expired |= target.urgency.is_none();
            drop(target);
            self.stop(urgency);
        }
    }

    /// Whether the worker was stopped because its time was over.
    pub(super) fn is_expired(&self) -> bool {
        self.lock().expired
    }

    fn attach(&self, worker: libc::pid_t) {
        let mut target = self.lock();
        target.worker = Some(worker);
        target.signal();
    }

    fn detach(&self) {
        self.lock().worker = None;
    }

    fn lock(&self) -> MutexGuard<'_, Target> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target {
    fn signal(&self) {
        match (self.worker, self.urgency) {
            (Some(worker), Some(Urgency::Stop)) => kill(worker, libc::SIGTERM),
            (Some(worker), Some(Urgency::Kill)) => kill(-worker, libc::SIGKILL),
            _ => {}
        }
    }
}

/// How a worker ended.
#[derive(Debug)]
pub(super) struct Exit {
    pub status: ExitStatus,
    pub cost: Cost,
    /// All that it and its children wrote to standard error.
    pub log: Log,
}

/// Runs `cistage worker -` in the folder `dir` until it ends, handing its messages on as they come. It gets the job as
/// the first line of its standard input, which then stays open. What it prints is also written to `copy` as it comes.
pub(super) fn run(
    job: &[u8],
    dir: &Path,
    control: &Control,
    hear: &mut dyn FnMut(Message),
    copy: Option<fs_err::File>,
) -> io::Result<Exit> {
    let began = Instant::now();
    let mut command = Command::new(this_program()?);
    command.arg("worker").arg("-").current_dir(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: Ctrl-C at the terminal reaches the engine alone, which then decides. The worker does the rest
    // for itself, so that nothing has to be done between fork and exec: then the engine's memory is not copied.
    command.process_group(0);
    let mut child = command.spawn()?;
    let worker = child.id().cast_signed();
    control.attach(worker);
    let mut lifeline = child.stdin.take();
    // A worker that ended before it read its job says so by its exit; one that got a part of it would wait for the rest.
    if let Some(pipe) = &mut lifeline
        && pipe.write_all(&[job, b"\n"].concat()).is_err()
    {
        lifeline = None;
    }
    let log = Arc::new(Mutex::new(Log::default()));
    let log_ended = drain(child.stderr.take().expect("piped above"), Arc::clone(&log), copy);
    for line in BufReader::new(child.stdout.take().expect("piped above")).lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(message) => hear(message),
            Err(_) => log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{line}\n").as_bytes()),
        }
    }
    wait_without_reaping(worker)?;
    // What a program left running in the background must not outlive its stage.
    kill(-worker, libc::SIGKILL);
    control.detach();
    drop(lifeline);
    let (status, mut cost) = reap(worker)?;
    cost.wall_seconds = began.elapsed().as_secs_f64();
    // A child that made a session of its own may hold the pipe open; its words are not waited for.
    let _ = log_ended.recv_timeout(Duration::from_secs(2));
    let log = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Exit { status, cost, log })
}

/// Says which signal ended a worker.
pub(super) fn signal_message(status: ExitStatus) -> Option<String> {
    let signal = status.signal()?;
    let note = match signal {
        libc::SIGKILL => " (out of memory?)",
        libc::SIGSEGV => " (SIGSEGV, a crash)",
        libc::SIGBUS => " (SIGBUS: a file was cut short while it was read?)",
        libc::SIGABRT => " (SIGABRT)",
        _ => "",
    };
    Some(format!("killed by signal {signal}{note}"))
}

/// This very program, even where its file was replaced since.
fn this_program() -> io::Result<std::path::PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() { Ok(link.to_owned()) } else { std::env::current_exe() }
}

/// Reads a pipe to its end on a thread of its own; the receiver hears when it is there.
fn drain(
    mut pipe: impl Read + Send + 'static,
    log: Arc<Mutex<Log>>,
    mut copy: Option<fs_err::File>,
) -> mpsc::Receiver<()> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 16 << 10];
        while let Ok(n @ 1..) = pipe.read(&mut buffer) {
            log.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..n]);
            // For whoever looks on; what counts is the log itself.
            if let Some(file) = &mut copy {
                let _ = file.write_all(&buffer[..n]);
            }
        }
        // Nobody listens any more where the wait was given up.
        let _ = send.send(());
    });
    receive
}

fn kill(process: libc::pid_t, signal: libc::c_int) {
    // SAFETY: kill takes two numbers; a process that is gone gives ESRCH, which is what was wanted.
    unsafe {
        libc::kill(process, signal);
    }
}

fn wait_without_reaping(worker: libc::pid_t) -> io::Result<()> {
    loop {
        // SAFETY: siginfo_t is plain data for which zeros are valid, and waitid writes to it alone.
        let ended = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, worker.cast_unsigned(), &raw mut info, libc::WEXITED | libc::WNOWAIT)
        };
        if ended == 0 {
            return Ok(());
        }
        retry_if_interrupted()?;
    }
}

fn reap(worker: libc::pid_t) -> io::Result<(ExitStatus, Cost)> {
    loop {
        let mut status = 0;
        // SAFETY: rusage is plain data for which zeros are valid; wait4 writes to the two pointers alone.
        let (pid, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(worker, &raw mut status, 0, &raw mut usage), usage)
        };
        if pid == worker {
            let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
            // Linux counts peak memory in KiB, macOS in bytes.
            let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
            let cost = Cost {
                wall_seconds: 0.0,
                cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
                peak_memory: usage.ru_maxrss.cast_unsigned() * unit,
            };
            return Ok((ExitStatus::from_raw(status), cost));
        }
        retry_if_interrupted()?;
    }
}

fn retry_if_interrupted() -> io::Result<()> {
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}
