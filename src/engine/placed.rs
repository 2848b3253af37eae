//! A job's folder on a disk that the run and the node share: what is asked for, and what became of it.
//!
//! The folder tells the truth; what a batch system says of the job only tells how long to wait for it. Each start of the job
//! has files of its own, so that two copies of it (a node was given up and yet went on) write past one another; the first
//! to end leaves `done.json`.
//!
//! ```text
//! job.json          what is to be done
//! given/in/         copies of a command's inputs
//! note.json         how it was submitted
//! started.json      the newest start, and where
//! messages-<start>  what the stage says, a line of JSON each
//! log-<start>       what it printed
//! out-<start>/      what it makes
//! done.json         how it ended
//! slurm.out         what came before the worker: lines of set-up
//! ```

use super::job::{Job, Message};
use crate::action::{Cost, Environment};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// The folder of one job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Placed(pub PathBuf);

/// How a job was submitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    /// The name under which it was submitted: no other submission has it.
    pub name: String,
    /// Its place in a job array; none of a job alone.
    pub index: Option<usize>,
    /// As the batch system names it; unknown until it has answered.
    pub id: Option<String>,
    /// How often it was submitted.
    pub tries: u32,
}

/// A start of a job on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Started {
    /// Names the files of this start.
    pub start: String,
    pub job: String,
    pub node: String,
}

impl Started {
    /// Where it runs, in words.
    pub(super) fn place(&self) -> String {
        format!("Slurm job {} on {}", self.job, self.node)
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    pub started: Started,
    /// The worker's exit status, as `wait` gives it.
    pub status: i32,
    /// The worker's last words.
    pub end: Option<Message>,
    /// It was asked to stop.
    pub stopped: bool,
    /// It was told that its time was nearly over, and saved what it had.
    pub expired: bool,
    pub cost: Cost,
    pub environment: Environment,
}

impl Done {
    /// It was asked to stop before it was ready. A program may have heard the request itself, and have failed by it.
    pub(super) fn was_stopped(&self) -> bool {
        self.stopped && !matches!(self.end, Some(Message::Done(_)))
    }
}

impl Placed {
    pub(super) fn job(&self) -> io::Result<Job> {
        read(&self.0.join("job.json"))?
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no job", self.0.display())))
    }

    pub(super) fn set_job(&self, job: &Job) -> io::Result<()> {
        self.write("job.json", job)
    }

    pub(super) fn has_job(&self) -> bool {
        self.0.join("job.json").is_file()
    }

    /// Where a command's inputs lie.
    pub(super) fn given(&self) -> PathBuf {
        self.0.join("given")
    }

    pub(super) fn note(&self) -> Option<Note> {
        read(&self.0.join("note.json")).ok().flatten()
    }

    pub(super) fn set_note(&self, note: &Note) -> io::Result<()> {
        self.write("note.json", note)
    }

    pub(super) fn started(&self) -> Option<Started> {
        read(&self.0.join("started.json")).ok().flatten()
    }

    pub(super) fn set_started(&self, started: &Started) -> io::Result<()> {
        self.write("started.json", started)
    }

    pub(super) fn done(&self) -> Option<Done> {
        read(&self.0.join("done.json")).ok().flatten()
    }

    /// Says how the job ended, unless another copy of it has said so.
    pub(super) fn set_done(&self, done: &Done) -> io::Result<bool> {
        let own = self.0.join(format!("done-{}", done.started.start));
        fs_err::write(&own, serde_json::to_vec(done).expect("plain data"))?;
        fs_err::File::open(&own)?.sync_all()?;
        match fs_err::hard_link(&own, self.0.join("done.json")) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes room for another submission: how the last one ended was read.
    pub(super) fn forget_done(&self) -> io::Result<()> {
        match fs_err::remove_file(self.0.join("done.json")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    pub(super) fn out(&self, start: &str) -> PathBuf {
        self.0.join(format!("out-{start}"))
    }

    pub(super) fn messages(&self, start: &str) -> PathBuf {
        self.0.join(format!("messages-{start}"))
    }

    pub(super) fn log(&self, start: &str) -> PathBuf {
        self.0.join(format!("log-{start}"))
    }

    /// What was printed before the worker began.
    pub(super) fn set_up(&self) -> PathBuf {
        self.0.join("slurm.out")
    }

    /// The end of what was printed before the worker began, for an error.
    pub(super) fn before(&self) -> String {
        let text = fs_err::read(self.set_up()).unwrap_or_default();
        let end = &text[text.len().saturating_sub(2000)..];
        String::from_utf8_lossy(end).trim().to_owned()
    }

    /// Reads the folder's listing, which wakes a network file system that remembers that a file was not there.
    pub(super) fn refresh(&self) {
        let _ = fs_err::read_dir(&self.0).map(Iterator::count);
    }

    fn write<T: Serialize>(&self, name: &str, content: &T) -> io::Result<()> {
        let temp = self.0.join(format!("{name}.{}", std::process::id()));
        fs_err::write(&temp, serde_json::to_vec(content).expect("plain data"))?;
        fs_err::rename(&temp, self.0.join(name))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs_err::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;

    fn done(start: &str) -> Done {
        Done {
            started: Started { start: start.to_owned(), job: "7".to_owned(), node: "n1".to_owned() },
            status: 0,
            end: None,
            stopped: false,
            expired: false,
            cost: Cost::default(),
            environment: crate::engine::environment(1, Device::Cpu),
        }
    }

    #[test]
    fn the_first_copy_to_end_decides() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let placed = Placed(dir.path().to_owned());
        assert_eq!(placed.done(), None);
        assert!(placed.set_done(&done("7-0")).expect("writes"));
        assert!(!placed.set_done(&done("7-1")).expect("writes"));
        assert_eq!(placed.done(), Some(done("7-0")));
        placed.forget_done().expect("removes");
        placed.forget_done().expect("is gone already");
        assert!(placed.set_done(&done("7-1")).expect("writes"));
    }
}
