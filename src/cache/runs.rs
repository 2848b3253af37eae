//! The folder of runs: one sealed record each, chained, so that one that is removed or altered shows.

use super::chain::Chain;
use super::records::list;
use super::store::Store;
use super::{CacheError, RunRecord, durable, lock, seal};
use crate::digest::Digest;
use crate::name::RunId;
use fs_err::File;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// From here on a run's record takes milliseconds to seal, and a second processor is worth waking.
const MANY_STEPS: usize = 64;
/// What a step takes in a run's record, about.
const STEP_BYTES: usize = 1536;

/// The folder `runs/`.
#[derive(Debug)]
pub struct Runs {
    dir: PathBuf,
    lock: PathBuf,
}

/// The end of the chain: the run recorded last, and the digest of its `run.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub run: RunId,
    pub digest: Digest,
}

impl Runs {
    pub fn new(root: &Path) -> Self {
        Self { dir: root.join("runs"), lock: root.join("locks").join("runs.lock") }
    }

    pub fn dir(&self, run: &RunId) -> PathBuf {
        self.dir.join(run.as_str())
    }

    pub fn file(&self, run: &RunId) -> PathBuf {
        self.dir(run).join("run.json")
    }

    pub fn signature(&self, run: &RunId) -> PathBuf {
        self.dir(run).join("provenance.dsse.json")
    }

    /// All run ids, oldest first; those of one second in the order in which they ended.
    pub fn ids(&self) -> io::Result<Vec<RunId>> {
        let names = list(&self.dir)?;
        let mut ids: Vec<RunId> = names.iter().filter_map(|e| RunId::parse(e.file_name().to_str()?).ok()).collect();
        ids.sort();
        let second = |id: &RunId| id.as_str()[..15].to_owned();
        for together in ids.chunk_by_mut(|a, b| second(a) == second(b)) {
            if together.len() > 1 {
                self.follow_chain(together);
            }
        }
        Ok(ids)
    }

    /// Orders runs as they are chained; those without a record come last.
    fn follow_chain(&self, ids: &mut [RunId]) {
        let (mut next, mut starts, mut unended, mut digests) = (BTreeMap::new(), Vec::new(), Vec::new(), Vec::new());
        for id in ids.iter() {
            // What can't be read has no place in the chain, and hides none of the others.
            match self.bytes(id) {
                Ok(Some(bytes)) => {
                    let previous = check(&bytes, id).ok().and_then(|record| record.previous);
                    digests.push((Digest::of(&bytes), previous, id.clone()));
                }
                Ok(None) | Err(_) => unended.push(id.clone()),
            }
        }
        for (digest, previous, id) in &digests {
            // One of this second's runs follows another, or begins.
            match previous.filter(|previous| digests.iter().any(|(other, ..)| other == previous)) {
                Some(previous) => next.entry(previous).or_insert_with(Vec::new).push((*digest, id.clone())),
                None => starts.push((*digest, id.clone())),
            }
        }
        starts.reverse();
        let mut ordered = Vec::new();
        while let Some((digest, id)) = starts.pop() {
            ordered.push(id);
            starts.extend(next.remove(&digest).unwrap_or_default().into_iter().rev());
        }
        ordered.extend(unended);
        ids.clone_from_slice(&ordered);
    }

    /// The bytes of a run's record; `None` where the run has none, as when it was killed.
    pub fn bytes(&self, run: &RunId) -> io::Result<Option<Vec<u8>>> {
        match fs_err::read(self.file(run)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The bytes of a record that the next one may follow. Where a folder stands in place of its file, there is none, as
    /// if it had been removed; a file that can't be read now may be the end of the chain, and is an error.
    fn standing(&self, run: &RunId) -> io::Result<Option<Vec<u8>>> {
        match self.bytes(run) {
            Err(e) if matches!(e.kind(), io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory) => Ok(None),
            bytes => bytes,
        }
    }

    /// Reads a run's record; an error says what is wrong with it, also where another's file can't be read: one such
    /// record must not hide all others.
    pub fn read(&self, run: &RunId) -> Option<Result<RunRecord, String>> {
        match self.bytes(run) {
            Ok(bytes) => bytes.map(|bytes| check(&bytes, run)),
            Err(e) => Some(Err(unreadable(&e))),
        }
    }

    /// Writes a run's record, after all that it relies on, chained to the one recorded before it.
    pub fn commit(&self, mut record: RunRecord, temp: impl Fn() -> PathBuf, store: &Store) -> Result<(), CacheError> {
        // One at a time, so that the chain has no forks.
        let mut lock = lock::take(&self.lock)?;
        record.previous = match (self.head()?, noted(&mut lock)?) {
            (Some(Ok(head)), Some(last)) => match self.end_near(&head, &last)? {
                Some(end) => Some(end),
                None => self.end()?,
            },
            // The file that names the end was lost or damaged, or the note was.
            _ => self.end()?,
        };
        note(&mut lock, &record.run)?;
        let bytes = match record.steps.len() {
            few if few < MANY_STEPS => seal::seal(&record),
            many => seal::seal_large(&record, many * STEP_BYTES),
        };
        let dir = self.dir(&record.run);
        durable::make_dir(&dir)?;
        let head = Head { run: record.run, digest: Digest::of(&bytes) };
        let (record, named) = (temp(), temp());
        let written = durable::write_unsynced(&record, &bytes)?;
        let head_written = durable::write_unsynced(&named, &seal::seal(&head))?;
        store.sync_with(&[written, head_written, lock.try_clone()?])?;
        // All are on the disk, the note too: they get their names in this order.
        fs_err::rename(&record, self.file(&head.run))?;
        durable::sync_dir(&dir)?;
        fs_err::rename(&named, self.head_file())?;
        Ok(durable::sync_dir(&self.dir)?)
    }

    /// The end of the chain, from the file that names it and the run that was noted last; `None` where they don't go
    /// together, because the file was put back to an older one.
    fn end_near(&self, head: &Head, last: &RunId) -> io::Result<Option<Digest>> {
        // A writer may be killed before it wrote its record, or before it named it in that file.
        let unnamed = if *last == head.run { None } else { self.standing(last)? };
        Ok(match unnamed {
            None => Some(head.digest),
            Some(bytes) => {
                let follows = check(&bytes, last).is_ok_and(|record| record.previous == Some(head.digest));
                follows.then(|| Digest::of(&bytes))
            }
        })
    }

    /// The end of the chain, found without the file that names it.
    fn end(&self) -> io::Result<Option<Digest>> {
        let mut chain = Chain::default();
        for id in self.ids()? {
            if let Some(bytes) = self.standing(&id)? {
                chain.add(&id, Digest::of(&bytes), check(&bytes, &id).ok().as_ref());
            }
        }
        Ok(chain.end())
    }

    /// The end of the chain as it was last written; an error says what is wrong with its file.
    pub fn head(&self) -> io::Result<Option<Result<Head, String>>> {
        match fs_err::read(self.head_file()) {
            Ok(bytes) => Ok(Some(seal::open(&bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn head_file(&self) -> PathBuf {
        self.dir.join("head.json")
    }
}

/// The run whose record was written last, or was about to be.
fn noted(lock: &mut File) -> io::Result<Option<RunId>> {
    let mut bytes = Vec::new();
    lock.rewind()?;
    lock.take(64).read_to_end(&mut bytes)?;
    Ok(std::str::from_utf8(&bytes).ok().and_then(|run| RunId::parse(run).ok()))
}

/// Notes in the lock's file whose record is about to be written. On the disk before that record has its name, it is found
/// after a kill or a power cut.
fn note(lock: &mut File, run: &RunId) -> io::Result<()> {
    let name = run.as_str().as_bytes();
    // Names are of one length: written over the one before, it costs no change of the file's size.
    if lock.metadata()?.len() > name.len() as u64 {
        lock.set_len(0)?;
    }
    lock.rewind()?;
    lock.write_all(name)
}

/// Reads a run record, and checks that it is that of `run`.
pub fn check(bytes: &[u8], run: &RunId) -> Result<RunRecord, String> {
    let record: RunRecord = seal::open(bytes)?;
    if record.run == *run { Ok(record) } else { Err("is the record of another run".to_owned()) }
}

/// What is wrong with a record that the system doesn't let us read.
pub fn unreadable(error: &io::Error) -> String {
    format!("can't be read ({})", error.kind())
}
