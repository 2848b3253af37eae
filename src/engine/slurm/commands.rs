//! Slurm's commands: each call is counted, and none is waited for without end.

use super::sighting::{SACCT, SQUEUE, Sighting, listing, table};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A controller that is away lets its clients wait for ten to twenty seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Talks to the controller.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// `sacct` said that there is no accounting: it is not asked again.
    no_accounting: AtomicBool,
    calls: AtomicU64,
    submissions: AtomicU64,
}

impl Commands {
    /// How often Slurm's commands were called, and how many of these calls were submissions.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.submissions.load(Ordering::Relaxed))
    }

    /// Submits a script in this environment; gives the job's number.
    pub(super) fn submit(&self, script: &str, environment: Vec<(OsString, OsString)>) -> Result<String, String> {
        self.submissions.fetch_add(1, Ordering::Relaxed);
        let mut sbatch = Command::new("sbatch");
        sbatch.arg("--parsable").env_clear().envs(environment);
        let answer = self.answer(sbatch, script)?;
        let id = answer.trim().split(';').next().unwrap_or_default();
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("sbatch answered {answer:?}"));
        }
        Ok(id.to_owned())
    }

    /// All jobs of this user that the controller knows, by id; `Err` is no answer, and says nothing about any job.
    pub(super) fn jobs(&self) -> Result<BTreeMap<String, Sighting>, String> {
        let user = super::user();
        let squeue = ["--noheader", "--array", "--states=all", "--user", &user, "--format", SQUEUE];
        self.call("squeue", &squeue).map(|text| table(&text)).or_else(|error| {
            // Some sites keep `squeue` from answering for all states; where the controller is away, this fails the same way.
            self.call("scontrol", &["show", "job", "--oneliner"]).map(|text| listing(&text)).map_err(|_| error)
        })
    }

    /// What accounting remembers of jobs that the controller has forgotten; nothing where there is none.
    pub(super) fn remembered(&self, ids: &[&str]) -> BTreeMap<String, Sighting> {
        if ids.is_empty() || self.no_accounting.load(Ordering::Relaxed) {
            return BTreeMap::new();
        }
        let list = ids.join(",");
        match self.call("sacct", &["--allocations", "--noheader", "--parsable2", "--jobs", &list, "--format", SACCT]) {
            Ok(text) => table(&text),
            Err(error) => {
                let none = error.contains("disabled") || error.contains("can't be started");
                self.no_accounting.store(none, Ordering::Relaxed);
                BTreeMap::new()
            }
        }
    }

    /// Asks a job to end: it saves its state, and says so in its folder.
    pub(super) fn ask_to_stop(&self, id: &str) {
        let _ = self.call("scancel", &["--batch", "--signal=TERM", id]);
    }

    /// Ends a job, or takes it from the queue. Of one that has ended already nothing is said.
    pub(super) fn cancel(&self, ids: &[String]) {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let _ = self.call("scancel", &[&["--quiet"], &ids[..]].concat());
    }

    fn call(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program);
        command.args(args);
        // What a user has set for their own listings would change ours.
        for variable in
            ["SQUEUE_FORMAT", "SQUEUE_STATES", "SQUEUE_USERS", "SQUEUE_PARTITION", "SACCT_FORMAT", "SLURM_TIME_FORMAT"]
        {
            command.env_remove(variable);
        }
        self.answer(command, "")
    }

    fn answer(&self, mut command: Command, input: &str) -> Result<String, String> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let program = command.get_program().display().to_string();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("{program} can't be started: {e}"))?;
        if let Some(mut pipe) = child.stdin.take() {
            // A program that reads nothing says by its exit why.
            let _ = pipe.write_all(input.as_bytes());
        }
        let read = |pipe: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    let _ = pipe.read_to_end(&mut bytes);
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let out = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
        let err = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
        let began = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if began.elapsed() > PATIENCE => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("{program} gave no answer in {} s", PATIENCE.as_secs()));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(e) => return Err(format!("{program}: {e}")),
            }
        };
        let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        if status.success() { Ok(out) } else { Err(format!("{program}: {}", err.trim())) }
    }
}
