//! The private folder of temporary files of one open cache, and the removal of those of dead processes.

use super::lock;
use crate::digest::Digest;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A folder below `tmp/` that nobody else writes to. A kernel lock beside it tells that its owner lives.
#[derive(Debug)]
pub struct Session {
    dir: PathBuf,
    lock_path: PathBuf,
    /// Held; behind it, what this session relies on.
    lock: Mutex<fs_err::File>,
    next: AtomicU64,
}

impl Session {
    pub fn start(tmp: &Path) -> io::Result<Self> {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        loop {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
            let name = format!("{}-{since:x}-{}", std::process::id(), OPENED.fetch_add(1, Ordering::Relaxed));
            let lock_path = tmp.join(format!("{name}.lock"));
            // A sweeper may take the file between its making and its locking: then it is gone, and we try another name.
            let Some(lock) = lock::try_take(&lock_path)? else { continue };
            let dir = tmp.join(name);
            fs_err::create_dir(&dir)?;
            return Ok(Self { dir, lock_path, lock: Mutex::new(lock), next: AtomicU64::new(0) });
        }
    }

    /// Says that this session relies on these action keys or objects.
    pub fn declare(&self, names: &[Digest]) -> io::Result<()> {
        let bytes: Vec<u8> = names.iter().flat_map(|name| *name.as_bytes()).collect();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes)
    }

    /// A path that nothing stands at.
    pub fn path(&self) -> PathBuf {
        self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = fs_err::remove_dir_all(&self.dir);
        let _ = fs_err::remove_file(&self.lock_path);
    }
}

/// When the session of this lock began, in nanoseconds since 1970, and what it relies on.
pub fn declared(lock_path: &Path) -> io::Result<(i64, Vec<Digest>)> {
    let name = lock_path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let since = name.split('-').nth(1).and_then(|since| i64::from_str_radix(since, 16).ok());
    let bytes = match fs_err::read(lock_path) {
        Ok(bytes) => bytes,
        // It ended just now.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    let names = bytes.chunks_exact(32).map(|name| Digest::from_bytes(name.try_into().expect("chunks of 32")));
    // Of a name that is not ours nothing is known: all may be its.
    Ok((since.unwrap_or(i64::MIN), names.collect()))
}

/// Removes what dead processes left in `tmp/`. What can't be removed stays: it harms nobody.
pub fn sweep(tmp: &Path) {
    let Ok(entries) = fs_err::read_dir(tmp) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|e| e == "lock") {
            // Held: its owner lives.
            if let Ok(Some(_lock)) = lock::try_take(&path) {
                let _ = fs_err::remove_dir_all(path.with_extension(""));
                let _ = fs_err::remove_file(&path);
            }
        } else if !path.with_extension("lock").exists() && is_older_than(&path, Duration::from_hours(24)) {
            // A sweeper died between the two removals above.
            let _ = fs_err::remove_dir_all(&path);
        }
    }
}

/// Whether a file or folder was last changed longer ago than this.
pub fn is_older_than(path: &Path, age: Duration) -> bool {
    let modified = fs_err::symlink_metadata(path).and_then(|m| m.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|old| old > age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeping_takes_what_the_dead_left_and_spares_the_living() {
        let tmp = tempfile::tempdir().expect("a temporary folder");
        let alive = Session::start(tmp.path()).expect("starts");
        fs_err::write(alive.path(), "work").expect("writes");
        fs_err::create_dir(tmp.path().join("1-2-3")).expect("makes");
        fs_err::write(tmp.path().join("1-2-3/0"), "left").expect("writes");
        fs_err::write(tmp.path().join("1-2-3.lock"), "").expect("writes");

        sweep(tmp.path());
        assert!(!tmp.path().join("1-2-3").exists() && !tmp.path().join("1-2-3.lock").exists());
        assert!(alive.dir.join("0").exists());
        drop(alive);
        assert_eq!(fs_err::read_dir(tmp.path()).expect("lists").count(), 0);
    }
}
