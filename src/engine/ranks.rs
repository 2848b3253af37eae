//! Several processes that share one stage: a worker starts them with a launcher, hands on what the first of them says, and
//! tells which of them failed.
//!
//! They meet in a folder of the attempt: the job, a file that asks them to stop, what a rank says that fails and is not the
//! first, and how ranks on GPUs find each other (`collective/rendezvous.rs`). That needs nothing of the launcher but to start processes and to end all of them when one dies.

use super::job::{Failure, Job, Made, Message};
use super::log::Log;
use super::worker::Lines;
use crate::device::Device;
use crate::stage::{Sink, StageError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Names another launcher, with arguments; `-n RANKS` and the program are added.
const OVERRIDE: &str = "CISTAGE_MPIRUN";

/// What is wrong on all ranks is told by the first within this time.
pub(super) const FIRST_SPEAKS: Duration = Duration::from_secs(2);

/// How often a request to stop is looked for.
const HEED: Duration = Duration::from_millis(50);

/// The folder in which the ranks of one attempt meet.
pub(super) struct Meeting(PathBuf);

impl Meeting {
    /// The meeting whose job file this is.
    pub(super) fn of_job(job: &Path) -> Self {
        Self(job.parent().unwrap_or(Path::new(".")).to_owned())
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    fn job(&self) -> PathBuf {
        self.0.join("job.json")
    }

    /// The file that asks the ranks to stop.
    pub(super) fn stop(&self) -> PathBuf {
        self.0.join("stop")
    }

    fn failure(&self, rank: usize) -> PathBuf {
        self.0.join(format!("failure-{rank}.json"))
    }

    /// Leaves how a rank failed.
    pub(super) fn note(&self, rank: usize, message: &Message) {
        let (path, unfinished) = (self.failure(rank), self.0.join(format!("unfinished-{rank}")));
        // Where it can't be written the launcher's own words have to do.
        let text = serde_json::to_vec(message).expect("messages are plain data");
        let _ = fs_err::write(&unfinished, text).and_then(|()| fs_err::rename(&unfinished, path));
    }

    /// The failure of the lowest rank that left one.
    fn noted(&self, ranks: u32) -> Option<(usize, Message)> {
        (0..ranks as usize).find_map(|rank| {
            let text = fs_err::read(self.failure(rank)).ok()?;
            Some((rank, serde_json::from_slice(&text).ok()?))
        })
    }
}

/// Lets a panic say on which rank it happened.
pub(super) fn name_in_panics(rank: usize) {
    std::panic::set_hook(Box::new(move |panic| {
        let _ = writeln!(io::stderr(), "rank {rank}: {panic}");
    }));
}

/// Runs a job on so many ranks to their end.
pub(super) fn launch(job: &Job, ranks: u32, sink: &Lines) -> Result<Made, StageError> {
    // Two starts of a job have output folders of their own, and meet apart.
    let name = job.output_dir.file_name().unwrap_or_default().to_string_lossy();
    let folder = job.output_dir.with_file_name(format!("ranks-{name}"));
    fs_err::create_dir_all(&folder)?;
    let meeting = Meeting(folder);
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let threads = threads(job.threads, ranks, &variable);
    let shared = Job { threads, lifeline: false, engine: None, ..job.clone() };
    fs_err::write(meeting.job(), serde_json::to_vec(&shared).expect("a job is plain data"))?;

    let words = launcher(ranks, job.device, &variable);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(std::env::current_exe()?).arg("rank").arg(meeting.job());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: takes nothing and gives a number.
    if unsafe { libc::geteuid() } == 0 {
        // Open MPI wants to be told twice that root means it.
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    let child = command.spawn().map_err(|error| {
        StageError::Input(format!(
            "{ranks} ranks need a launcher: `srun` within an allocation of Slurm, else `mpirun` of Open MPI; and `{}` can't be \
             started: {error}; {OVERRIDE} may name another",
            words[0]
        ))
    })?;
    let (last, status, log) = attend(child, &meeting, sink)?;
    let (rank, message) = match last {
        Some(message) => (None, message),
        None => match meeting.noted(ranks) {
            Some((rank, message)) => (Some(rank), message),
            None => {
                let text = String::from_utf8_lossy(&log.bytes()).into_owned();
                let mut what = culprit(&text)
                    .unwrap_or_else(|| log.after(format!("`{}` ended before the training did, {status}", words[0])));
                if fs_err::read_dir(&job.scratch).is_ok_and(|mut entries| entries.next().is_some()) {
                    what += "; what was saved is kept: the same command again goes on from it";
                }
                return Err(StageError::Failed(what));
            }
        },
    };
    let from = |message: String| match rank {
        Some(rank) => format!("rank {rank}: {message}"),
        None => message,
    };
    match message {
        Message::Done(made) => Ok(made),
        Message::Failed { why: Failure::Input, message } => Err(StageError::Input(from(message))),
        Message::Failed { why: Failure::Cancelled, .. } => Err(StageError::Cancelled),
        Message::Failed { message, .. } => Err(StageError::Failed(from(message))),
        _ => Err(StageError::Failed("the ranks ended in the middle of their words".to_owned())),
    }
}

/// Hands on what the ranks say until they end; gives the last word of the first of them, if there was one.
fn attend(mut child: Child, meeting: &Meeting, sink: &Lines) -> io::Result<(Option<Message>, ExitStatus, Log)> {
    let (out, err) = (child.stdout.take().expect("piped above"), child.stderr.take().expect("piped above"));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let log = scope.spawn(move || copied(err));
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                if sink.is_cancelled() {
                    // Whoever can't be asked is killed when patience ends.
                    let _ = fs_err::write(meeting.stop(), "");
                    return;
                }
                std::thread::sleep(HEED);
            }
        });
        let mut last = None;
        for line in BufReader::new(out).lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str(&line) {
                Ok(message @ (Message::Done(_) | Message::Failed { .. })) => last = last.or(Some(message)),
                Ok(message) => sink.say(&message),
                Err(_) => {
                    let _ = writeln!(io::stderr(), "{line}");
                }
            }
        }
        let status = child.wait();
        ended.store(true, Ordering::Relaxed);
        Ok((last, status?, log.join().expect("copying does not panic")))
    })
}

/// Copies to standard error, and keeps a copy.
fn copied(mut from: impl Read) -> Log {
    let (mut log, mut buffer) = (Log::default(), [0_u8; 16 << 10]);
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        log.push(&buffer[..n]);
        let _ = io::stderr().write_all(&buffer[..n]);
    }
    log
}

/// What starts so many ranks: what the user names, `srun` within an allocation of Slurm, else `mpirun`.
fn launcher(ranks: u32, device: Device, variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut words: Vec<String> = if let Some(named) = variable(OVERRIDE) {
        named.split_whitespace().map(ToOwned::to_owned).collect()
    } else if variable("SLURM_JOB_ID").is_some() {
        // Ranks on GPUs meet without MPI. Which GPUs they see is Slurm's to say: unbound, they might see those of other jobs.
        let mpi = if device == Device::Cpu { "--mpi=pmix" } else { "--mpi=none" };
        ["srun", mpi, "--kill-on-bad-exit=1", "--export=ALL"].map(ToOwned::to_owned).to_vec()
    } else {
        // Ranks have threads: bound to one core each they would share it. More ranks than cores are the user's to want.
        ["mpirun", "--oversubscribe", "--bind-to", "none"].map(ToOwned::to_owned).to_vec()
    };
    words.extend(["-n".to_owned(), ranks.to_string()]);
    words
}

/// Why ranks can't have a GPU each, from this one on, if all of them are started on a machine with so many.
pub(super) fn too_few_gpus(ranks: u32, first: u8, gpus: usize) -> Option<String> {
    let variable = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let elsewhere = variable(OVERRIDE) || variable("SLURM_JOB_ID");
    (!elsewhere && ranks as usize + usize::from(first) > gpus).then(|| {
        let here = if gpus == 1 { "is 1 GPU".to_owned() } else { format!("are {gpus} GPUs") };
        format!("has {ranks} ranks, which want a GPU each from cuda:{first} on, and there {here}")
    })
}

/// The threads of each rank: its part of what the stage was given, or what Slurm gives each task.
fn threads(given: usize, ranks: u32, variable: &dyn Fn(&str) -> Option<String>) -> usize {
    let of_task = variable("SLURM_JOB_ID").and_then(|_| variable("SLURM_CPUS_PER_TASK")?.parse().ok());
    of_task.unwrap_or(given / ranks as usize).max(1)
}

/// Which rank a launcher says has died, in our words.
fn culprit(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |word: &str| word.trim_end_matches([':', ',', '.']).parse::<usize>().ok();
    for (at, pair) in words.windows(3).enumerate() {
        let rest = &words[at + 3..words.len().min(at + 30)];
        match *pair {
            // Open MPI: "mpirun noticed that process rank 1 with PID 7 on node n exited on signal 9 (Killed)."
            ["process", "rank", rank] => {
                let rank = number(rank)?;
                let signal = rest.windows(2).find(|pair| pair[0] == "signal").and_then(|pair| number(pair[1]));
                return Some(match signal {
                    Some(signal) => format!("rank {rank} was killed by signal {signal}"),
                    None => format!("rank {rank} ended early"),
                });
            }
            // Open MPI, of an exit code: "Process name: [[43423,1],1] Exit code: 3".
            ["Process", "name:", name] => {
                let rank = name.trim_end_matches(']').rsplit(',').next().and_then(number)?;
                let code = rest.windows(2).find(|pair| pair[0] == "code:").map_or("", |pair| pair[1]);
                return Some(format!("rank {rank} ended early, exit code {code}"));
            }
            // Slurm: "srun: error: n1: task 1: Killed".
            ["task", rank, how] if number(rank).is_some() => {
                return Some(format!("rank {} ended early: {how}", number(rank)?));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn ranks_are_started_by_what_is_there() {
        let words = |variables: &[(&str, &str)]| launcher(4, Device::Cpu, &with(variables)).join(" ");
        assert_eq!(words(&[]), "mpirun --oversubscribe --bind-to none -n 4");
        assert_eq!(words(&[("SLURM_JOB_ID", "7")]), "srun --mpi=pmix --kill-on-bad-exit=1 --export=ALL -n 4");
        assert_eq!(words(&[("SLURM_JOB_ID", "7"), (OVERRIDE, "mpiexec  -hosts a,b")]), "mpiexec -hosts a,b -n 4");
        let on_gpus = |variables: &[(&str, &str)]| launcher(4, Device::Cuda(0), &with(variables)).join(" ");
        assert_eq!(on_gpus(&[]), words(&[]), "mpirun starts any program");
        let slurm = on_gpus(&[("SLURM_JOB_ID", "7")]);
        assert_eq!(slurm, "srun --mpi=none --kill-on-bad-exit=1 --export=ALL -n 4");
    }

    #[test]
    fn ranks_share_the_threads_of_their_stage() {
        assert_eq!(threads(8, 4, &with(&[])), 2);
        assert_eq!(threads(2, 4, &with(&[])), 1);
        assert_eq!(threads(2, 4, &with(&[("SLURM_JOB_ID", "7"), ("SLURM_CPUS_PER_TASK", "6")])), 6);
    }

    #[test]
    fn the_rank_that_died_is_found_in_a_launchers_words() {
        let killed =
            "-----\nmpirun noticed that process rank 1 with PID 0 on node host exited on signal 9 (Killed).\n----";
        assert_eq!(culprit(killed).as_deref(), Some("rank 1 was killed by signal 9"));
        let ended = "The first process to do so was:\n\n  Process name: [[43423,1],2]\n  Exit code:    3\n---";
        assert_eq!(culprit(ended).as_deref(), Some("rank 2 ended early, exit code 3"));
        let slurm = "slurmstepd: error: *** STEP 3.0 ON n1 CANCELLED ***\nsrun: error: n2: task 3: Killed\n";
        assert_eq!(culprit(slurm).as_deref(), Some("rank 3 ended early: Killed"));
        assert_eq!(culprit("There are not enough slots available"), None);
    }

    #[test]
    fn the_lowest_rank_that_failed_is_heard() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let meeting = Meeting::of_job(&dir.path().join("job.json"));
        assert_eq!(meeting.noted(4), None);
        let failed = |message: &str| Message::Failed { why: Failure::Input, message: message.to_owned() };
        meeting.note(3, &failed("third"));
        meeting.note(2, &failed("second"));
        assert_eq!(meeting.noted(4), Some((2, failed("second"))));
    }
}
