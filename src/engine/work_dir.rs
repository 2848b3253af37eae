//! The folder of one attempt, below the action's scratch folder; removed with all it holds, unless a job goes on in it.

use super::attempts;
use super::placed::Placed;
use crate::name::RunId;
use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};

/// Where a job of a batch system lives: its folder outlives the run that made it.
const JOB: &str = "job-";

pub(super) struct WorkDir {
    pub dir: PathBuf,
    /// Where outputs go; a user's program works in it.
    pub out: PathBuf,
    /// What survives a failed attempt of our own stages; a user's program starts anew each time, in a folder that goes with the
    /// attempt.
    pub scratch: PathBuf,
    keep: Cell<bool>,
}

impl WorkDir {
    /// For an execution by this very run.
    pub(super) fn create(base: &Path, run: &RunId, is_command: bool) -> io::Result<Self> {
        fs_err::create_dir_all(base)?;
        attempts::clear(base)?;
        let dir = base.join(attempts::folder(run));
        let out = dir.join("out");
        fs_err::create_dir(&dir)?;
        fs_err::create_dir(&out)?;
        let scratch = if is_command { dir.clone() } else { base.join(attempts::STATE) };
        Self::finish(dir, out, scratch, is_command)
    }

    /// For a job: the folder of one that an earlier run submitted, else a new one.
    pub(super) fn place(base: &Path, run: &RunId, is_command: bool) -> io::Result<Self> {
        fs_err::create_dir_all(base)?;
        attempts::clear(base)?;
        remove_unfinished(base)?;
        let dir = match jobs(base)?.pop() {
            Some(placed) => placed.0,
            None => base.join(format!("{JOB}{run}")),
        };
        let out = Placed(dir.clone()).given();
        fs_err::create_dir_all(&out)?;
        let scratch = if is_command { out.clone() } else { base.join(attempts::STATE) };
        Self::finish(dir, out, scratch, is_command)
    }

    fn finish(dir: PathBuf, out: PathBuf, scratch: PathBuf, is_command: bool) -> io::Result<Self> {
        if !is_command {
            fs_err::create_dir_all(&scratch)?;
        }
        Ok(Self { dir, out, scratch, keep: Cell::new(false) })
    }

    /// Leaves the folder to the job that goes on in it.
    pub(super) fn leave(&self) {
        self.keep.set(true);
    }

    /// The job has ended: its folder goes with this.
    pub(super) fn take_back(&self) {
        self.keep.set(false);
    }
}

/// The jobs of an action that were handed over whole, oldest first.
pub(super) fn jobs(base: &Path) -> io::Result<Vec<Placed>> {
    Ok(placed(base)?.into_iter().filter(Placed::has_job).collect())
}

/// Removes jobs that were never handed over: their run died before.
fn remove_unfinished(base: &Path) -> io::Result<()> {
    placed(base)?.iter().filter(|placed| !placed.has_job()).try_for_each(|placed| fs_err::remove_dir_all(&placed.0))
}

fn placed(base: &Path) -> io::Result<Vec<Placed>> {
    let mut found = Vec::new();
    let entries = match fs_err::read_dir(base) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(JOB)) {
            found.push(Placed(entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if self.keep.get() {
            return;
        }
        // What can't be removed now is removed by the next attempt.
        let _ = fs_err::remove_dir_all(&self.dir);
        // These go where nothing was left in them.
        if !self.scratch.starts_with(&self.dir) {
            let _ = fs_err::remove_dir(&self.scratch);
        }
        if let Some(base) = self.dir.parent() {
            let _ = fs_err::remove_dir(base);
        }
    }
}
