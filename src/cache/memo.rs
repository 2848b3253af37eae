//! The stat memo: digests of files that need not be read again while they look the same.
//!
//! One file, read whole and appended to, beside sled's: a run of hits needs nothing else from the index, and opening sled
//! costs more than such a run may. Each batch carries a checksum, so nothing has to be synced: what a crash tears, or a
//! disk flips, reads as absent, and the next batch writes the file anew.

use super::stamp::Stamp;
use super::{durable, lock};
use crate::digest::Digest;
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The bytes of a file when it looked like `stamp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memo {
    pub stamp: Stamp,
    /// When its hashing began, nanoseconds since 1970.
    pub hashed: i64,
    pub digest: Digest,
}

// Looked up by name only, and may be large: order is of no use.
pub type Memos = HashMap<Vec<u8>, Memo>;

/// Changes when batches mean something else.
const MAGIC: &[u8] = b"cistage memo 1\n";
const CHECKSUM: usize = 16;
const NUMBERS: usize = 5 * 8;
/// The file is written anew when this many of its entries, and half of all, are out of date.
const SLACK: usize = 4096;
/// Others hold the lock for milliseconds only.
const PATIENCE: Duration = Duration::from_millis(300);

/// The file of the memo.
#[derive(Debug)]
pub struct MemoFile {
    path: PathBuf,
    lock: PathBuf,
}

/// What the file holds.
#[derive(Debug, Default)]
pub struct Held {
    pub memos: Memos,
    /// Entries in the file, those that later ones replace too.
    pub entries: usize,
    /// It ends in something that is no batch.
    pub torn: bool,
}

impl MemoFile {
    pub fn new(path: PathBuf, lock: PathBuf) -> Self {
        Self { path, lock }
    }

    /// Reads the file; one that is not there, or can't be read, holds nothing.
    pub fn read(&self) -> Held {
        fs_err::read(&self.path).map(|bytes| parse(&bytes)).unwrap_or_default()
    }

    /// Adds memos; `held` is what was read before. Where another process keeps the file busy they are not kept.
    pub fn add(&self, new: &[(Vec<u8>, Memo)], held_entries: usize, held_live: usize, torn: bool) -> io::Result<()> {
        let Some(_lock) = self.lock()? else { return Ok(()) };
        let stale = held_entries.saturating_sub(held_live);
        let result = if torn || (stale > SLACK && stale > held_live) { self.write_anew(new) } else { self.append(new) };
        // Removed while it is held: whoever waits on it sees that it is gone, and takes a new one.
        let _ = fs_err::remove_file(&self.lock);
        result
    }

    fn lock(&self) -> io::Result<Option<fs_err::File>> {
        let begun = Instant::now();
        loop {
            match lock::try_take(&self.lock)? {
                None if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
                taken => return Ok(taken),
            }
        }
    }

    fn append(&self, new: &[(Vec<u8>, Memo)]) -> io::Result<()> {
        let folder = self.path.parent().expect("the memo lies in the index's folder");
        durable::make_dir(folder)?;
        let mut file = fs_err::OpenOptions::new().create(true).append(true).open(&self.path)?;
        let start = if file.metadata()?.len() == 0 { MAGIC } else { &[] };
        file.write_all(&[start, &batch(new)].concat())
    }

    /// Writes all that is in the file by now, and what is new, to another file that takes its place.
    fn write_anew(&self, new: &[(Vec<u8>, Memo)]) -> io::Result<()> {
        let mut memos = self.read().memos;
        memos.extend(new.iter().cloned());
        let all: Vec<(Vec<u8>, Memo)> = memos.into_iter().collect();
        let temp = self.path.with_extension("new");
        fs_err::write(&temp, [MAGIC, &batch(&all)].concat())?;
        fs_err::rename(temp, &self.path)
    }
}

fn batch(memos: &[(Vec<u8>, Memo)]) -> Vec<u8> {
    let mut entries = Vec::with_capacity(memos.len() * 128);
    for (name, Memo { stamp: Stamp { size, modified, changed, inode }, hashed, digest }) in memos {
        // A path is at most 4096 bytes long.
        entries.extend_from_slice(&(name.len() as u16).to_le_bytes());
        entries.extend_from_slice(name);
        for number in [*size, *modified as u64, *changed as u64, *inode, *hashed as u64] {
            entries.extend_from_slice(&number.to_le_bytes());
        }
        entries.extend_from_slice(digest.as_bytes());
    }
    [&(entries.len() as u64).to_le_bytes(), &checksum(&entries)[..], &entries].concat()
}

fn parse(bytes: &[u8]) -> Held {
    let mut held = Held::default();
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        held.torn = !bytes.is_empty();
        return held;
    };
    while !rest.is_empty() {
        match parse_batch(rest, &mut held) {
            Some(after) => rest = after,
            None => {
                held.torn = true;
                break;
            }
        }
    }
    held
}

/// Takes in the first batch, and gives what follows it.
fn parse_batch<'b>(bytes: &'b [u8], held: &mut Held) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk::<CHECKSUM>()?;
    let (mut entries, after) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    if checksum(entries) != *sum {
        return None;
    }
    while let Some((length, rest)) = entries.split_first_chunk::<2>() {
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (numbers, rest) = rest.split_first_chunk::<NUMBERS>()?;
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let number = |n: usize| u64::from_le_bytes(numbers[8 * n..8 * n + 8].try_into().expect("eight bytes"));
        let stamp = Stamp { size: number(0), modified: number(1) as i64, changed: number(2) as i64, inode: number(3) };
        let memo = Memo { stamp, hashed: number(4) as i64, digest: Digest::from_bytes(*digest) };
        held.memos.insert(name.to_vec(), memo);
        held.entries += 1;
        entries = rest;
    }
    Some(after)
}

fn checksum(entries: &[u8]) -> [u8; CHECKSUM] {
    Digest::of(entries).as_bytes()[..CHECKSUM].try_into().expect("a BLAKE3 is longer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memo(n: u64) -> (Vec<u8>, Memo) {
        let stamp = Stamp { size: n, modified: -1, changed: 2, inode: 3 };
        (format!("file {n}").into_bytes(), Memo { stamp, hashed: 4, digest: Digest::of(&n.to_le_bytes()) })
    }

    fn file(dir: &tempfile::TempDir) -> MemoFile {
        MemoFile::new(dir.path().join("memo"), dir.path().join("memo.lock"))
    }

    fn add(file: &MemoFile, new: &[(Vec<u8>, Memo)]) {
        let held = file.read();
        file.add(new, held.entries, held.memos.len(), held.torn).expect("writes");
    }

    #[test]
    fn later_batches_replace_entries_of_earlier_ones() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = file(&dir);
        assert!(file.read().memos.is_empty() && !file.read().torn);
        add(&file, &[memo(1), memo(2)]);
        let newer = (memo(1).0, memo(7).1);
        add(&file, std::slice::from_ref(&newer));
        let held = file.read();
        assert_eq!((held.memos.len(), held.entries, held.torn), (2, 3, false));
        assert_eq!(held.memos[&newer.0], newer.1);
        assert_eq!(fs_err::read_dir(dir.path()).expect("lists").count(), 1, "no lock is left");
    }

    #[test]
    fn a_flipped_bit_or_a_cut_end_costs_the_batch_and_what_follows_it() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = file(&dir);
        add(&file, &[memo(1)]);
        let first = fs_err::read(&file.path).expect("reads").len();
        add(&file, &[memo(2)]);
        let whole = fs_err::read(&file.path).expect("reads");
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            let held = parse(&flipped);
            assert!(held.torn && held.memos.values().all(|m| [memo(1).1, memo(2).1].contains(m)), "{at}");
            assert_eq!(held.memos.len(), usize::from(at >= first), "{at}");
            assert_eq!(parse(&whole[..at]).torn, at != 0 && at != MAGIC.len() && at != first, "{at}");
        }
        fs_err::write(&file.path, &whole[..whole.len() - 1]).expect("writes");
        add(&file, &[memo(3)]);
        let held = file.read();
        assert_eq!((held.memos.len(), held.torn), (2, false), "the first batch and the new one");
    }

    #[test]
    fn a_file_of_outdated_entries_is_written_anew() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = file(&dir);
        for _ in 0..4 {
            add(&file, &(0..SLACK as u64).map(memo).collect::<Vec<_>>());
        }
        assert_eq!(file.read().entries, SLACK, "three rounds of entries, then one anew");
    }
}
