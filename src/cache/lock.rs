//! Kernel locks on files: they die with their process, so nothing is left to clean by hand.

use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Locks the file at `path`, made where it is missing; `None` where another holder has it.
pub fn try_take(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path)? => return Ok(Some(file)),
            // Its holder removed the file after we opened it: ours is a lock on nothing.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
}

/// Locks the file at `path`, however long it takes.
pub fn take(path: &Path) -> io::Result<File> {
    loop {
        let file = open(path)?;
        file.lock()?;
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    fs_err::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs_err::symlink_metadata(path) {
        Ok(there) => Ok((ours.ino(), ours.dev()) == (there.ino(), there.dev())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
