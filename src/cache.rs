//! What has happened: objects by digest, records of actions and of runs, claims on work under way.
//!
//! Plain files are the truth; the index is derived from them and may be lost at any time.

use crate::action::{ActionKey, ActionRecord};
use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::name::RunId;
use std::path::{Path, PathBuf};

pub mod run_record;

pub use run_record::{RunRecord, StepRecord};

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A cache that can't be used as it is; says what to do.
    #[error("{0}")]
    Unusable(String),
}

/// An opened cache folder.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
}

/// What looking up a key found.
#[derive(Debug)]
pub enum Lookup {
    /// Every output object and the log are there, with the right bytes.
    Hit(Box<ActionRecord>),
    /// No record, or one whose outputs are not all there any more: `damage` says which.
    Miss { damage: Vec<String> },
}

/// What asking for the right to execute a key gave: somebody else may have finished it meanwhile.
#[derive(Debug)]
pub enum Claimed {
    Hit(Box<ActionRecord>),
    Claim(Claim),
}

/// The right to execute one action; released when dropped (a kernel lock, so it dies with the process).
#[derive(Debug)]
pub struct Claim {
    key: ActionKey,
}

impl Cache {
    /// Opens a cache for writing; makes its folders where they are missing.
    pub fn open(_root: &Path) -> Result<Self, CacheError> {
        todo!()
    }

    /// Opens a cache for reading alone: makes nothing, takes no lock, works on a read-only mount.
    /// A folder that does not exist reads as an empty cache.
    pub fn open_read_only(_root: &Path) -> Result<Self, CacheError> {
        todo!()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Looks a key up; a hit is complete, or it is a miss. Damaged objects are quarantined when the cache is open for
    /// writing.
    pub fn lookup(&self, _key: ActionKey) -> Result<Lookup, CacheError> {
        todo!()
    }

    /// Waits for the right to execute `key` (`waiting` is told who holds it, once), then looks again.
    /// `force` gives a claim even where there is a hit.
    pub fn claim(&self, _key: ActionKey, _force: bool, _waiting: &mut dyn FnMut(&str)) -> Result<Claimed, CacheError> {
        todo!()
    }

    /// The record of a key, without looking at its objects.
    pub fn record(&self, _key: ActionKey) -> Result<Option<ActionRecord>, CacheError> {
        todo!()
    }

    /// The path of an object's bytes (it may not exist).
    pub fn object_path(&self, _digest: Digest) -> PathBuf {
        todo!()
    }

    /// Whether an object is there with the right bytes (stat memo first, full hash on any doubt).
    pub fn verify_object(&self, _digest: Digest) -> Result<bool, CacheError> {
        todo!()
    }

    /// Stores bytes held in memory.
    pub fn put_bytes(&self, _bytes: &[u8]) -> Result<Digest, CacheError> {
        todo!()
    }

    /// Moves (rename, else copy) a file or a folder of a private work folder into the store. Refuses symlinks,
    /// sockets, and names with control characters.
    pub fn absorb(&self, _path: &Path, _format: crate::artifact::Format) -> Result<Artifact, CacheError> {
        todo!()
    }

    /// Makes an artifact appear at `to` as a private, writable copy (reflink, else copy). Fails if bytes don't match.
    pub fn copy_out(&self, _artifact: &Artifact, _to: &Path) -> Result<(), CacheError> {
        todo!()
    }

    /// A path where a built-in stage can read an artifact in place: the object itself, or, for a folder, links to
    /// objects made below `work`.
    pub fn read_path(&self, _artifact: &Artifact, _work: &Path) -> Result<PathBuf, CacheError> {
        todo!()
    }

    /// The digest of a user's file or folder, through the stat memo; with its size, and whether it is a folder.
    pub fn digest_source(&self, _path: &Path, _format: crate::artifact::Format) -> Result<Artifact, CacheError> {
        todo!()
    }

    /// The folder of unfinished work on a key; survives failed attempts.
    pub fn scratch(&self, _key: ActionKey) -> PathBuf {
        todo!()
    }

    /// All run ids, oldest first.
    pub fn runs(&self) -> Result<Vec<RunId>, CacheError> {
        todo!()
    }

    /// Reads a run's record; `None` where there is none or it is damaged (`problems` of verify names it).
    pub fn run(&self, _run: &RunId) -> Result<Option<RunRecord>, CacheError> {
        todo!()
    }

    /// The folder of a run: `run.json`, `events.jsonl`.
    pub fn run_dir(&self, _run: &RunId) -> PathBuf {
        todo!()
    }

    /// Writes a finished run's record, chained to the one before it.
    pub fn commit_run(&self, _record: RunRecord) -> Result<(), CacheError> {
        todo!()
    }

    /// All action records, in no particular order; unreadable ones are left out.
    pub fn records(&self) -> Result<Vec<ActionRecord>, CacheError> {
        todo!()
    }

    /// The keys of the actions that made these bytes, newest first.
    pub fn makers(&self, _digest: Digest) -> Result<Vec<ActionKey>, CacheError> {
        todo!()
    }
}

impl Claim {
    /// Bytes are already stored: stores the manifest, publishes the record (temp, sync, rename, sync the folder), then
    /// the index; removes the scratch folder.
    pub fn commit(self, _cache: &Cache, _record: ActionRecord) -> Result<(), CacheError> {
        todo!()
    }

    pub fn key(&self) -> ActionKey {
        self.key
    }
}
