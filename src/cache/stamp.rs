//! What the kernel says of a file, by which an unchanged one is known without reading it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

/// Times of a file may be as coarse as this, in nanoseconds: a change so soon after a hashing may leave no trace.
const RACY: i64 = 2_000_000_000;

/// Size, times and inode of a file. Whoever changes its bytes changes one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
    /// Nanoseconds since 1970; unlike `modified`, no program can set it.
    pub changed: i64,
    pub inode: u64,
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }

    /// Whether a hashing that began at `hashed` came so soon after the last change that a later one may look the same
    /// (git's racy rule).
    pub fn is_racy(&self, hashed: i64) -> bool {
        hashed.saturating_sub(self.modified.max(self.changed)) < RACY
    }
}

/// Sets a file's time of modification to now, and gives it, in nanoseconds since 1970.
pub fn set_modified_now(file: &fs_err::File) -> io::Result<i64> {
    let time = SystemTime::now();
    file.file().set_modified(time)?;
    Ok(nanoseconds(time))
}

/// Now, in nanoseconds since 1970.
pub fn now() -> i64 {
    nanoseconds(SystemTime::now())
}

fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
