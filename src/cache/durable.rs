//! Files that are wholly there or not there at all, also after a power cut.

use fs_err::File;
use std::io::{self, Write};
use std::path::Path;
use std::thread;

/// So many files are waited for at once.
const AT_ONCE: usize = 8;

/// Makes the names in a folder durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What is to be made durable.
#[derive(Clone, Copy)]
enum Sync<'a> {
    File(&'a File),
    /// Opened when its turn comes: there may be more of them than a process may have open.
    Folder(&'a Path),
}

impl Sync<'_> {
    fn sync(self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync_all(),
            Self::Folder(folder) => sync_dir(folder),
        }
    }
}

/// Makes files, and the names in folders, durable. A file system does so for all that ask at once in about the time
/// that it takes for one.
pub fn sync_together<'a>(files: &'a [File], folders: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
    let syncs: Vec<Sync<'a>> = files.iter().map(Sync::File).chain(folders.into_iter().map(Sync::Folder)).collect();
    let Some((first, others)) = syncs.split_first() else { return Ok(()) };
    let all = |share: &[Sync<'a>]| share.iter().try_for_each(|sync| sync.sync());
    thread::scope(|scope| {
        let shares = others.chunks(others.len().div_ceil(AT_ONCE).max(1));
        let syncing: Vec<_> =
            shares.map(|share| (share, thread::Builder::new().spawn_scoped(scope, move || all(share)))).collect();
        let mut done = first.sync();
        for (share, thread) in syncing {
            // Where the system gives no thread, this one does it.
            let synced = thread.map_or_else(|_| all(share), |thread| thread.join().expect("syncing does not panic"));
            done = done.and(synced);
        }
        done
    })
}

/// Makes a folder, its own name durable too where it is new.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    match dir.parent() {
        Some(above) if make_dir_unsynced(dir)? => sync_dir(above),
        _ => Ok(()),
    }
}

/// Makes a folder, whose name is not durable yet; gives whether it is new.
pub fn make_dir_unsynced(dir: &Path) -> io::Result<bool> {
    match fs_err::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Writes a new file, whose bytes are not durable yet; leaves nothing behind where that fails.
pub fn write_unsynced(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes).inspect_err(|_| {
        let _ = fs_err::remove_file(path);
    })?;
    Ok(file)
}

/// Writes a new file and makes its bytes durable; leaves nothing behind where that fails.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_unsynced(path, bytes)?.sync_all().inspect_err(|_| {
        let _ = fs_err::remove_file(path);
    })
}

/// Puts bytes at a name in one step: before it the old file, after it the new one.
pub fn replace(temp: &Path, to: &Path, bytes: &[u8]) -> io::Result<()> {
    write_new(temp, bytes)?;
    place(temp, to)
}

/// Gives a file of durable bytes its name, durable too; the name's folder is made where there is none.
pub fn place(temp: &Path, to: &Path) -> io::Result<()> {
    let dir = to.parent().expect("a file of the cache has a folder");
    let name = || {
        let is_new = make_dir_unsynced(dir)?;
        fs_err::rename(temp, to)?;
        Ok(dir.parent().filter(|_| is_new))
    };
    let above = name().inspect_err(|_: &io::Error| {
        let _ = fs_err::remove_file(temp);
    })?;
    sync_together(&[], [Some(dir), above].into_iter().flatten())
}
