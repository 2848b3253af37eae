//! Action records: what each key produced, one sealed JSON file each.

use super::ledger::{Generation, Ledger, set_aside};
use super::stamp::{self, Stamp, now};
use super::store::Store;
use super::{durable, seal};
use crate::action::{ActionKey, ActionRecord, Cost};
use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::name::{PortName, RunId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The folder `actions/`.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    quarantine: PathBuf,
}

/// What a record serves. A run of many hits reads nothing else of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Served {
    pub outputs: BTreeMap<PortName, Artifact>,
    pub log: Option<Artifact>,
    pub run: RunId,
    pub started: String,
    pub cost: Cost,
}

impl From<ActionRecord> for Served {
    fn from(ActionRecord { outputs, log, run, started, cost, .. }: ActionRecord) -> Self {
        Self { outputs, log, run, started, cost }
    }
}

/// What is at a record's path.
#[derive(Debug)]
pub enum Found<T> {
    Record(T),
    Missing,
    /// And what is wrong with it.
    Damaged(String),
}

impl Records {
    pub fn new(root: &Path) -> Self {
        Self { dir: root.join("actions"), quarantine: root.join("quarantine") }
    }

    pub fn path(&self, key: ActionKey) -> PathBuf {
        let hex = key.0.hex();
        self.dir.join(&hex[..2]).join(format!("{}.json", &hex[2..]))
    }

    /// The bytes of a record's file.
    pub fn bytes(&self, key: ActionKey) -> io::Result<Option<Vec<u8>>> {
        match fs_err::read(self.path(key)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads a record, or a part of it; bytes that were checked before are not checked again.
    pub fn read<T>(&self, key: ActionKey, ledger: &Ledger) -> io::Result<Found<T>>
    where
        T: DeserializeOwned + From<ActionRecord>,
    {
        let began = now();
        let (bytes, stamp) = match self.stamped(key) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(e) => return Err(e),
        };
        let (name, digest) = (memo_name(key), Digest::of(&bytes));
        if ledger.recall(&name, stamp) == Some(digest)
            && let Some(record) = seal::reopen(&bytes)
        {
            return Ok(Found::Record(record));
        }
        Ok(match check(&bytes, key) {
            Ok(record) => {
                ledger.remember(&name, stamp, began, digest);
                Found::Record(record.into())
            }
            Err(what) => Found::Damaged(what),
        })
    }

    fn stamped(&self, key: ActionKey) -> io::Result<(Vec<u8>, Stamp)> {
        let mut file = fs_err::File::open(self.path(key))?;
        let metadata = file.metadata()?;
        let stamp = Stamp::of(&metadata);
        // One byte more than there are, so that the end is met without growing: a run of hits reads thousands of these.
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).saturating_add(1));
        file.read_to_end(&mut bytes)?;
        Ok((bytes, stamp))
    }

    /// Writes a record in one step, after all that it relies on; gives the change of the generation.
    pub fn publish(
        &self,
        temp: &Path,
        record: &ActionRecord,
        store: &Store,
        ledger: &Ledger,
    ) -> io::Result<Generation> {
        self.publish_bytes(temp, record.key, &seal::seal(record), store, ledger)
    }

    /// Writes the bytes of a record's file in one step, after all that it relies on; gives the change of the generation.
    pub fn publish_bytes(
        &self,
        temp: &Path,
        key: ActionKey,
        bytes: &[u8],
        store: &Store,
        ledger: &Ledger,
    ) -> io::Result<Generation> {
        let path = self.path(key);
        let mut change = Generation::default();
        if let Ok(old) = fs_err::symlink_metadata(&path) {
            change.subtract(key, Stamp::of(&old));
        }
        let file = durable::write_unsynced(temp, bytes)?;
        let modified = stamp::set_modified_now(&file)?;
        let place = || {
            // Bytes before record: a crash here leaves garbage, not a lie.
            store.sync_with(&[file.try_clone()?])?;
            durable::place(temp, &path)
        };
        place().inspect_err(|_| {
            let _ = fs_err::remove_file(temp);
        })?;
        // The file that we hold, if it still is the one at that name: it was private until now.
        let (ours, there) = (Stamp::of(&file.metadata()?), Stamp::of(&fs_err::symlink_metadata(&path)?));
        if ours == there {
            ledger.vouch(&memo_name(key), there, modified, Digest::of(bytes));
        }
        change.add(key, there);
        Ok(change)
    }

    pub fn set_aside(&self, key: ActionKey) {
        set_aside(&self.path(key), &self.quarantine);
    }

    /// The keys that there is a file for, sorted.
    pub fn keys(&self) -> io::Result<Vec<ActionKey>> {
        let mut keys: Vec<ActionKey> = sharded(&self.dir)?.into_iter().filter_map(|(name, _)| key_of(&name)).collect();
        keys.sort();
        Ok(keys)
    }

    /// Tells whether an index belongs to these records; costs a look at each file, not its reading.
    pub fn generation(&self) -> io::Result<Generation> {
        let mut generation = Generation::default();
        for (name, path) in sharded(&self.dir)? {
            if let (Some(key), Ok(metadata)) = (key_of(&name), fs_err::symlink_metadata(&path)) {
                generation.add(key, Stamp::of(&metadata));
            }
        }
        Ok(generation)
    }
}

/// How the ledger calls a record: no path of a user's begins so.
fn memo_name(key: ActionKey) -> Vec<u8> {
    [b"record ", &key.0.as_bytes()[..]].concat()
}

/// The key of a record's file, shard and name together.
pub fn key_of(name: &str) -> Option<ActionKey> {
    Digest::from_hex(name.strip_suffix(".json")?).ok().map(ActionKey)
}

/// Reads a record, and checks that it is that of `key`.
pub fn check(bytes: &[u8], key: ActionKey) -> Result<ActionRecord, String> {
    let record: ActionRecord = seal::open(bytes)?;
    if record.key != key || record.manifest.key() != key {
        return Err("is the record of another action".to_owned());
    }
    Ok(record)
}

/// The files of a folder of shards, as `(shard name + file name, path)`; none where there is no folder.
pub fn sharded(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for shard in list(dir)? {
        if !shard.file_type()?.is_dir() {
            continue;
        }
        let prefix = shard.file_name();
        for file in list(&shard.path())? {
            let name = format!("{}{}", prefix.to_string_lossy(), file.file_name().to_string_lossy());
            found.push((name, file.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The entries of a folder; none where there is no folder.
pub fn list(dir: &Path) -> io::Result<Vec<fs_err::DirEntry>> {
    match fs_err::read_dir(dir) {
        Ok(entries) => entries.collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}
