//! Claims: of several runs that miss the same key at once, one executes and the others wait for its hit.

use super::lock;
use crate::action::ActionKey;
use fs_err::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The right to execute one action; released when dropped (a kernel lock, so it dies with the process).
#[derive(Debug)]
pub struct Claim {
    key: ActionKey,
    path: PathBuf,
    _lock: File,
}

impl Claim {
    /// Waits for the lock of `key`; `waiting` is told once who holds it.
    pub(super) fn take(locks: &Path, key: ActionKey, waiting: &mut dyn FnMut(&str)) -> io::Result<Self> {
        let path = locks.join(format!("{}.lock", key.0.hex()));
        let mut lock = match lock::try_take(&path)? {
            Some(lock) => lock,
            None => {
                waiting(&holder(&path));
                lock::take(&path)?
            }
        };
        // For the messages of others alone; what holds is the lock.
        let _ = sign(&mut lock);
        Ok(Self { key, path, _lock: lock })
    }

    pub fn key(&self) -> ActionKey {
        self.key
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Removed while it is held: whoever waits on it sees that it is gone, and takes a new one.
        let _ = fs_err::remove_file(&self.path);
    }
}

fn sign(lock: &mut File) -> io::Result<()> {
    let host = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "process {} on {} since {}", std::process::id(), host.trim(), jiff::Timestamp::now())
}

pub(super) fn holder(path: &Path) -> String {
    let mut text = String::new();
    // Limited and cleaned: the file may hold anything.
    let read = File::open(path).and_then(|file| file.take(300).read_to_string(&mut text));
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    if read.is_ok() && !text.is_empty() { text } else { "another process".to_owned() }
}
