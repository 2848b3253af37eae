//! The folder of runs: one sealed record each, chained, so that one that is removed or altered shows.

use super::chain::Chain;
use super::records::list;
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
                self.follow_chain(together)?;
            }
        }
        Ok(ids)
    }

    /// Orders runs as they are chained; those without a record come last.
    fn follow_chain(&self, ids: &mut [RunId]) -> io::Result<()> {
        let (mut next, mut starts, mut unended, mut digests) = (BTreeMap::new(), Vec::new(), Vec::new(), Vec::new());
        for id in ids.iter() {
            match self.bytes(id)? {
                Some(bytes) => {
                    let previous = check(&bytes, id).ok().and_then(|record| record.previous);
                    digests.push((Digest::of(&bytes), previous, id.clone()));
                }
                None => unended.push(id.clone()),
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
        Ok(())
    }

    /// The bytes of a run's record; `None` where the run has none, as when it was killed.
    pub fn bytes(&self, run: &RunId) -> io::Result<Option<Vec<u8>>> {
        match fs_err::read(self.file(run)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads a run's record; an error says what is wrong with it.
    pub fn read(&self, run: &RunId) -> io::Result<Option<Result<RunRecord, String>>> {
        Ok(self.bytes(run)?.map(|bytes| check(&bytes, run)))
    }

    /// Writes a run's record, chained to the one recorded before it.
    pub fn commit(&self, mut record: RunRecord, temp: impl Fn() -> PathBuf) -> Result<(), CacheError> {
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
        let bytes = if record.steps.len() >= MANY_STEPS { seal::seal_large(&record) } else { seal::seal(&record) };
        let dir = self.dir(&record.run);
        durable::make_dir(&dir)?;
        let head = Head { run: record.run, digest: Digest::of(&bytes) };
        let (record, named) = (temp(), temp());
        durable::write_new(&record, &bytes)?;
        durable::write_new(&named, &seal::seal(&head))?;
        // Both are on the disk: they get their names in this order, and the disk is waited for once.
        fs_err::rename(&record, self.file(&head.run))?;
        fs_err::rename(&named, self.head_file())?;
        durable::sync_dir(&dir)?;
        Ok(durable::sync_dir(&self.dir)?)
    }

    /// The end of the chain, from the file that names it and the run that was noted last; `None` where they don't go
    /// together, because the file was put back to an older one.
    fn end_near(&self, head: &Head, last: &RunId) -> io::Result<Option<Digest>> {
        // A writer may be killed before it wrote its record, or before it named it in that file.
        let unnamed = if *last == head.run { None } else { self.bytes(last)? };
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
            if let Some(bytes) = self.bytes(&id)? {
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

/// Notes in the lock's file, durably, whose record is about to be written: what is found after a kill or a power cut.
fn note(lock: &mut File, run: &RunId) -> io::Result<()> {
    let name = run.as_str().as_bytes();
    // Names are of one length: written over the one before, it costs no change of the file's size.
    if lock.metadata()?.len() > name.len() as u64 {
        lock.set_len(0)?;
    }
    lock.rewind()?;
    lock.write_all(name)?;
    lock.sync_data()
}

/// Reads a run record, and checks that it is that of `run`.
pub fn check(bytes: &[u8], run: &RunId) -> Result<RunRecord, String> {
    let record: RunRecord = seal::open(bytes)?;
    if record.run == *run { Ok(record) } else { Err("is the record of another run".to_owned()) }
}
