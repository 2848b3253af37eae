//! What this process knows beside the files: digests of unchanged files, and which actions made which bytes.
//!
//! Read from the index when first needed and written back when a run ends; without an index it starts empty.

use super::index::{self, Table, Unavailable};
use super::stamp::{Stamp, now};
use crate::action::{ActionKey, ActionRecord};
use crate::digest::Digest;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The bytes of a file when it looked like `stamp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memo {
    stamp: Stamp,
    /// When its hashing began, nanoseconds since 1970.
    hashed: i64,
    digest: Digest,
}

/// Memory of file digests and of makers.
#[derive(Debug)]
pub struct Ledger {
    /// `None`: there is no index to read or write.
    index: Option<PathBuf>,
    aside: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    loaded: bool,
    // Looked up by path only, and may be large: order is of no use.
    memos: HashMap<Vec<u8>, Memo>,
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

const MEMO: u8 = b'm';
const MADE: u8 = b'k';
const GENERATION: &[u8] = b"generation";

impl Ledger {
    /// `index`: the folder of the index, unless there is to be none; a broken one is moved to `aside`.
    pub fn new(index: Option<PathBuf>, aside: PathBuf) -> Self {
        Self { index, aside, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.loaded {
            state.loaded = true;
            let known = self.exchange(|table| table.scan(&[MEMO])).map(|(entries, _)| entries).unwrap_or_default();
            state.memos = known.into_iter().filter_map(|(key, value)| Some((key, Memo::from_bytes(&value)?))).collect();
        }
        state
    }

    /// The digest of the file called `name`, if it was hashed when it looked like that, and long enough after.
    pub fn recall(&self, name: &[u8], stamp: Stamp) -> Option<Digest> {
        let key = [&[MEMO], name].concat();
        self.state().memos.get(&key).filter(|m| m.stamp == stamp && !stamp.is_racy(m.hashed)).map(|m| m.digest)
    }

    /// Remembers what a hashing begun at `hashed` gave.
    pub fn remember(&self, name: &[u8], stamp: Stamp, hashed: i64, digest: Digest) {
        let key = [&[MEMO], name].concat();
        let memo = Memo { stamp, hashed, digest };
        let mut state = self.state();
        state.memos.insert(key.clone(), memo);
        if !stamp.is_racy(hashed) {
            state.changed.insert(key, memo);
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

    /// Writes the makers anew from all records.
    pub fn rebuild(&self, made: &[(Digest, ActionKey)], records: Generation) {
        {
            let mut state = self.state();
            state.made.clear();
            state.committed = Generation::default();
        }
        self.exchange(|table| {
            for (key, _) in table.scan(&[MADE])?.0 {
                table.remove(&key)?;
            }
            put_made(table, made)?;
            table.put(GENERATION, &records.to_bytes())
        });
    }

    /// Writes what is new to the index. Where that fails nothing is lost but time.
    pub fn flush(&self) {
        let (changed, made, committed) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.changed.is_empty() && state.made.is_empty() && state.committed == Generation::default() {
                return;
            }
            (std::mem::take(&mut state.changed), std::mem::take(&mut state.made), std::mem::take(&mut state.committed))
        };
        self.exchange(|table| {
            for (key, memo) in &changed {
                table.put(key, &memo.to_bytes())?;
            }
            put_made(table, &made)?;
            let before = table.get(GENERATION)?.and_then(|bytes| Generation::from_bytes(&bytes)).unwrap_or_default();
            table.put(GENERATION, &before.plus(committed).to_bytes())
        });
    }

    /// How many entries the index holds, and how many of them are damaged; `None` where it can't be read.
    pub fn check(&self) -> Option<(usize, usize)> {
        self.exchange(|table| table.scan(&[])).map(|(entries, damaged)| (entries.len() + damaged, damaged))
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

impl Memo {
    fn to_bytes(self) -> Vec<u8> {
        let Stamp { size, modified, changed, inode } = self.stamp;
        let numbers = [size, modified as u64, changed as u64, inode, self.hashed as u64];
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.extend_from_slice(self.digest.hex().as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, hex) = bytes.split_at_checked(40)?;
        let number = |n: usize| Some(u64::from_le_bytes(numbers[8 * n..8 * n + 8].try_into().ok()?));
        Some(Self {
            stamp: Stamp {
                size: number(0)?,
                modified: number(1)? as i64,
                changed: number(2)? as i64,
                inode: number(3)?,
            },
            hashed: number(4)? as i64,
            digest: Digest::from_hex(std::str::from_utf8(hex).ok()?).ok()?,
        })
    }
}
