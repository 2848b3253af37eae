//! The private folder of temporary files of one open cache, and the removal of those of dead processes.

use super::lock;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// A folder below `tmp/` that nobody else writes to. A kernel lock beside it tells that its owner lives.
#[derive(Debug)]
pub struct Session {
    dir: PathBuf,
    lock_path: PathBuf,
    _lock: fs_err::File,
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
            return Ok(Self { dir, lock_path, _lock: lock, next: AtomicU64::new(0) });
        }
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

fn is_older_than(path: &Path, age: Duration) -> bool {
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
