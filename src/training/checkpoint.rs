//! Checkpoints of one training: when to save, which to keep, which to go on from.
//!
//! A checkpoint is written under another name, synced, and renamed: under its own name it is whole. Should a disk break that
//! promise, its checksum tells, and the one before is used.

pub mod file;

use super::course::Course;
use crate::digest::Digest;
use file::Unusable;
use fs_err::File;
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use file::Saved;

/// A first checkpoint comes this soon: what can go wrong at the start of a long training goes wrong here.
const FIRST: Duration = Duration::from_secs(2);
/// No checkpoint follows another sooner.
const LEAST: Duration = Duration::from_secs(5);
/// Between two checkpoints pass this many times what the last one took: their cost stays near 0.5 %.
const SPARING: u32 = 200;
/// How many are kept: the second is for the day on which the newest turns out to be damaged.
const KEPT: usize = 2;
const BEGINNING: &str = "step-";
const ENDING: &str = ".checkpoint";

/// The step of the newest checkpoint in a folder, by its name alone.
pub fn newest_step(folder: &Path) -> Option<u64> {
    let step = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(BEGINNING)?.strip_suffix(ENDING)?.parse().ok();
    list(folder).ok()?.first().and_then(step)
}

/// All checkpoints of a folder, newest first.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING)) {
            found.push(path);
        }
    }
    // Steps have a fixed number of digits: the order of names is theirs.
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// The folder of a training's checkpoints, held by a lock as long as this lives.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    training: Digest,
    /// The step of the newest one that was saved or read.
    newest: Option<u64>,
    since: Instant,
    pause: Duration,
    _lock: File,
}

impl Checkpoints {
    /// Opens the folder for the training that this digest names. A killed predecessor may need a moment to be gone: its lock
    /// is waited for.
    pub fn open(folder: &Path, training: Digest) -> io::Result<Self> {
        fs_err::create_dir_all(folder)?;
        // The folder itself is locked: no file of its own would have to be told from the checkpoints.
        let lock = File::open(folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => lock.lock()?,
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let folder = folder.to_owned();
        Ok(Self { folder, training, newest: None, since: Instant::now(), pause: FIRST, _lock: lock })
    }

    /// Whether the newest one that was saved or read is of this step.
    pub fn holds(&self, step: u64) -> bool {
        self.newest == Some(step)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The newest checkpoint that is whole and of this training; others are set aside, and `warn` is told.
    pub fn read(&mut self, warn: &mut dyn FnMut(&str)) -> io::Result<Option<Saved>> {
        let mut passed_over = false;
        for path in list(&self.folder)? {
            match file::read(&path, self.training) {
                Ok(saved) => {
                    if passed_over {
                        warn(&format!("the checkpoint of step {} is used instead", saved.course.step));
                    }
                    self.newest = Some(saved.course.step);
                    return Ok(Some(saved));
                }
                Err(Unusable::Io(e)) if e.kind() == io::ErrorKind::NotFound => {}
                Err(why) => {
                    passed_over = true;
                    let aside = path.with_extension("damaged");
                    fs_err::rename(&path, &aside)?;
                    warn(&format!("the checkpoint {} {why}; it is set aside as {}", path.display(), aside.display()));
                }
            }
        }
        if passed_over {
            warn("no checkpoint is left: the training starts again");
        }
        Ok(None)
    }

    /// Whether it is time to save.
    pub fn is_due(&self) -> bool {
        self.since.elapsed() >= self.pause
    }

    /// Saves, unless this very step is saved already; gives the time that it took.
    pub fn save(&mut self, course: &Course, sections: &[&[f32]]) -> io::Result<Option<Duration>> {
        if self.newest == Some(course.step) {
            return Ok(None);
        }
        let began = Instant::now();
        let temp = self.folder.join("unfinished");
        let path = self.folder.join(format!("{BEGINNING}{:012}{ENDING}", course.step));
        let saved = file::write(&temp, self.training, course, sections)
            .and_then(|()| fs_err::rename(&temp, &path))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        let took = began.elapsed();
        (self.since, self.pause) = (Instant::now(), LEAST.max(took * SPARING));
        if let Err(error) = saved {
            // Half a checkpoint may be what filled the disk.
            let _ = fs_err::remove_file(&temp);
            return Err(error);
        }
        self.newest = Some(course.step);
        for old in list(&self.folder)?.into_iter().skip(KEPT) {
            fs_err::remove_file(old)?;
        }
        Ok(Some(took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64) -> Course {
        Course { step, ..Course::default() }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs_err::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").file_name());
        let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_two_are_kept_and_a_damaged_one_gives_way_to_the_one_before() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let training = Digest::of(b"this");
        let mut checkpoints = Checkpoints::open(dir.path(), training).expect("opens");
        for step in [5, 900, 1000] {
            checkpoints.save(&at(step), &[&[step as f32]]).expect("saves");
        }
        let [older, newest] = ["step-000000000900.checkpoint", "step-000000001000.checkpoint"];
        assert_eq!(names(dir.path()), [older, newest]);
        assert_eq!(checkpoints.save(&at(1000), &[&[0.0]]).expect("nothing to do"), None);
        assert_eq!(newest_step(dir.path()), Some(1000));
        drop(checkpoints);

        let path = dir.path().join(newest);
        let bytes = fs_err::read(&path).expect("there");
        fs_err::write(&path, &bytes[..bytes.len() - 1]).expect("written");
        let mut checkpoints = Checkpoints::open(dir.path(), training).expect("opens");
        let mut said = Vec::new();
        let saved = checkpoints.read(&mut |text| said.push(text.to_owned())).expect("reads").expect("one is whole");
        assert_eq!((saved.course.step, saved.sections), (900, vec![vec![900.0]]));
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("is damaged: it is cut short") && said[1].contains("step 900"), "{said:?}");
        assert_eq!(names(dir.path()), [older, "step-000000001000.damaged"]);
    }

    #[test]
    fn a_checkpoint_of_another_training_is_no_beginning() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut checkpoints = Checkpoints::open(dir.path(), Digest::of(b"this")).expect("opens");
        checkpoints.save(&at(5), &[]).expect("saves");
        drop(checkpoints);
        let mut checkpoints = Checkpoints::open(dir.path(), Digest::of(b"other")).expect("opens");
        let mut said = String::new();
        assert_eq!(checkpoints.read(&mut |text| said += text).expect("reads"), None);
        assert!(said.contains("belongs to another training"), "{said}");
    }
}
