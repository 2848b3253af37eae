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

/// Opens the file at `path`, made where it is missing, without locking it.
pub fn open(path: &Path) -> io::Result<File> {
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

/// Whether no process has the file open, or mapped, for writing. `false` where the system can't tell.
pub fn has_no_writer(file: &File) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        const F_SETSIG: libc::c_int = 10;
        let file = file.as_raw_fd();
        // SAFETY: the calls take and give numbers alone; the descriptor is open for as long as they last. The kernel
        // grants a read lease only where nobody can write. It is given back at once; whoever opens the file in between
        // waits, and a signal that is ignored unless somebody listens says so.
        unsafe {
            libc::fcntl(file, F_SETSIG, libc::SIGURG) == 0
                && libc::fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) == 0
                && libc::fcntl(file, libc::F_SETLEASE, libc::F_UNLCK) == 0
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(not(target_os = "linux"), ignore = "no other system tells")]
    fn a_file_that_somebody_may_still_write_to_is_told_from_one_that_is_done() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("output");
        let writer = File::create(&path).expect("makes");
        let reader = File::open(&path).expect("opens");
        assert!(!has_no_writer(&reader));
        drop(writer);
        assert!(has_no_writer(&reader));
        let _second_reader = File::open(&path).expect("opens");
        assert!(has_no_writer(&reader));
        File::create(&path).expect("nothing is left of the lease");
    }
}
