//! What this process knows beside the files: digests of unchanged files, and which actions made which bytes.
//!
//! Read when first needed and written back when a run ends; without an index it starts empty.

use super::index::{self, Table, Unavailable};
use super::memo::{Memo, MemoFile, Memos};
use super::stamp::{Stamp, now};
use crate::action::{ActionKey, ActionRecord};
use crate::digest::Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memory of file digests and of makers.
#[derive(Debug)]
pub struct Ledger {
    /// `None`: there is no index to read or write.
    index: Option<PathBuf>,
    memo: Option<MemoFile>,
    aside: PathBuf,
    /// What earlier processes remembered is not believed: every file is read once.
    reads_all: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    loaded: bool,
    memos: Memos,
    /// Entries in the memo's file, and whether its end is torn.
    held: (usize, bool),
    changed: BTreeMap<Vec<u8>, Memo>,
    made: Vec<(Digest, ActionKey)>,
    /// Change of the generation: see `Generation`.
    committed: Generation,
}

/// A figure that tells whether index and record files belong together: how many records, and a sum over their stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Generation {
    count: u64,
    sum: u64,
}

impl Generation {
    /// Takes a record file in.
    pub fn add(&mut self, key: ActionKey, stamp: Stamp) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(Self::term(key, stamp));
    }

    /// Takes a record file out that is about to be replaced.
    pub fn subtract(&mut self, key: ActionKey, stamp: Stamp) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(Self::term(key, stamp));
    }

    fn term(key: ActionKey, stamp: Stamp) -> u64 {
        let hash = Digest::of(format!("{key} {} {} {}", stamp.size, stamp.modified, stamp.inode).as_bytes());
        u64::from_str_radix(&hash.hex()[..16], 16).expect("hex digits")
    }

    fn plus(self, other: Self) -> Self {
        Self { count: self.count.wrapping_add(other.count), sum: self.sum.wrapping_add(other.sum) }
    }

    fn to_bytes(self) -> Vec<u8> {
        [self.count.to_le_bytes(), self.sum.to_le_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (count, sum) = bytes.split_at_checked(8)?;
        Some(Self { count: u64::from_le_bytes(count.try_into().ok()?), sum: u64::from_le_bytes(sum.try_into().ok()?) })
    }
}

/// When an object was hashed whose bytes were private until it got its place: see `vouch`.
const WHILE_PRIVATE: i64 = i64::MAX;
const MADE: u8 = b'k';
const GENERATION: &[u8] = b"generation";

impl Ledger {
    /// `index`: the folder of the index, unless there is to be none; a broken one is moved to `aside`.
    pub fn new(index: Option<PathBuf>, root: &Path) -> Self {
        let memo = index.as_ref().map(|index| MemoFile::new(index.join("memo"), root.join("locks").join("memo.lock")));
        // Beside it, so that a move is within one file system.
        let aside = index.as_ref().and_then(|index| index.parent()).unwrap_or(root).join("quarantine");
        Self { index, memo, aside, reads_all: AtomicBool::new(false), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.loaded {
            state.loaded = true;
            let held = self.memo.as_ref().map(MemoFile::read).unwrap_or_default();
            state.memos = held.memos;
            state.held = (held.entries, held.torn);
        }
        state
    }

    /// From now on recalls only what this process has read itself.
    pub fn read_all(&self) {
        self.reads_all.store(true, Ordering::Relaxed);
    }

    /// The digest of the file called `name`, if it was hashed when it looked like that, and long enough after.
    pub fn recall(&self, name: &[u8], stamp: Stamp) -> Option<Digest> {
        let state = self.state();
        let memo = if self.reads_all.load(Ordering::Relaxed) { state.changed.get(name) } else { state.memos.get(name) };
        memo.filter(|m| m.stamp == stamp && !stamp.is_racy(m.hashed)).map(|m| m.digest)
    }

    /// Remembers what a hashing begun at `hashed` gave.
    pub fn remember(&self, name: &[u8], stamp: Stamp, hashed: i64, digest: Digest) {
        let memo = Memo { stamp, hashed, digest };
        let mut state = self.state();
        state.memos.insert(name.to_vec(), memo);
        if !stamp.is_racy(hashed) {
            state.changed.insert(name.to_vec(), memo);
        }
    }

    /// Remembers an object that this process hashed while nobody else could reach it, and that looked like `stamp` when
    /// it got its name; `set` is the time of modification that was set just before.
    ///
    /// The racy rule is for files that others may write to: a write in the same tick of the kernel's clock as the last
    /// change leaves the times as they are. Here it can't. The time of modification was set by us, to the nanosecond,
    /// and lies between two ticks: any write at all, also one in the same tick, puts a tick's time in its place. Who sets
    /// it back moves the time of change, which nobody can set. Where the file system keeps coarser times than it was
    /// given, that does not hold, and the object is hashed once more when it is old enough, as any other file.
    pub fn vouch(&self, name: &[u8], stamp: Stamp, set: i64, digest: Digest) {
        let is_fine = |time: i64| time % 1_000_000 != 0;
        if stamp.modified == set && is_fine(set) && is_fine(stamp.changed) {
            self.remember(name, stamp, WHILE_PRIVATE, digest);
        }
    }

    /// Remembers what an action made; `committed` is the change of the generation.
    pub fn made(&self, record: &ActionRecord, committed: Generation) {
        let mut state = self.state();
        state.made.extend(record.outputs.values().map(|output| (output.digest, record.key)));
        state.committed = state.committed.plus(committed);
    }

    /// The keys of the actions that made these bytes, if the index belongs to the records there are.
    pub fn makers(&self, digest: Digest, records: Generation) -> Option<Vec<ActionKey>> {
        self.flush();
        let prefix = [&[MADE], digest.hex().as_bytes()].concat();
        let (generation, (entries, damaged)) =
            self.exchange(|table| Ok((table.get(GENERATION)?, table.scan(&prefix)?)))?;
        let current = generation.and_then(|bytes| Generation::from_bytes(&bytes)) == Some(records);
        (current && damaged == 0).then(|| {
            let keys = entries.iter().filter_map(|(key, _)| std::str::from_utf8(key.get(prefix.len()..)?).ok());
            keys.filter_map(|hex| Digest::from_hex(hex).ok()).map(ActionKey).collect()
        })
    }

    /// Writes the makers anew from all records; false where the index can't be written now.
    pub fn rebuild(&self, made: &[(Digest, ActionKey)], records: Generation) -> bool {
        {
            let mut state = self.state();
            state.made.clear();
            state.committed = Generation::default();
        }
        let write = |table: &Table| {
            for (key, _) in table.scan(&[MADE])?.0 {
                table.remove(&key)?;
            }
            put_made(table, made)?;
            table.put(GENERATION, &records.to_bytes())
        };
        // The first exchange with a broken index moves it out of the way.
        self.exchange(write).or_else(|| self.exchange(write)).is_some()
    }

    /// Writes what is new to the index. Where that fails nothing is lost but time.
    pub fn flush(&self) {
        let (changed, made, committed, held, live) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.changed.is_empty() && state.made.is_empty() && state.committed == Generation::default() {
                return;
            }
            let held = state.held;
            state.held = (held.0 + state.changed.len(), false);
            let live = state.memos.len().min(held.0);
            (
                std::mem::take(&mut state.changed),
                std::mem::take(&mut state.made),
                std::mem::take(&mut state.committed),
                held,
                live,
            )
        };
        if let Some(memo) = self.memo.as_ref().filter(|_| !changed.is_empty()) {
            let changed: Vec<_> = changed.into_iter().collect();
            let _ = memo.add(&changed, held.0, live, held.1);
        }
        if made.is_empty() && committed == Generation::default() {
            return;
        }
        self.exchange(|table| {
            put_made(table, &made)?;
            let before = table.get(GENERATION)?.and_then(|bytes| Generation::from_bytes(&bytes)).unwrap_or_default();
            table.put(GENERATION, &before.plus(committed).to_bytes())
        });
    }

    /// How many entries the index holds, and how many of them are damaged; `None` where it can't be read.
    pub fn check(&self) -> Option<(usize, usize)> {
        let held = self.memo.as_ref().map(MemoFile::read).unwrap_or_default();
        let torn = usize::from(held.torn);
        let (entries, damaged) = self.exchange(|table| table.scan(&[]))?;
        Some((entries.len() + damaged + held.memos.len() + torn, damaged + torn))
    }

    fn exchange<T>(&self, work: impl FnOnce(&Table) -> Result<T, String>) -> Option<T> {
        let dir = self.index.as_deref()?;
        match index::with(dir, work) {
            Ok(result) => Some(result),
            Err(Unavailable::Busy) => None,
            Err(Unavailable::Broken(_)) => {
                set_aside(dir, &self.aside);
                None
            }
        }
    }
}

fn put_made(table: &Table, made: &[(Digest, ActionKey)]) -> Result<(), String> {
    made.iter().try_for_each(|(digest, key)| {
        table.put(&[&[MADE], digest.hex().as_bytes(), key.0.hex().as_bytes()].concat(), &[])
    })
}

/// Moves what is broken out of the way, under a name that is free.
pub fn set_aside(what: &Path, aside: &Path) {
    let name = what.file_name().unwrap_or_default().to_string_lossy();
    let _ = fs_err::create_dir_all(aside);
    let _ = fs_err::rename(what, aside.join(format!("{name}-{}", now())));
}
