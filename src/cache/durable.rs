//! Files that are wholly there or not there at all, also after a power cut.

use std::io::{self, Write};
use std::path::Path;

/// Makes the names in a folder durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    fs_err::File::open(dir)?.sync_all()
}

/// Makes a folder, its own name durable too where it is new.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    match fs_err::create_dir(dir) {
        Ok(()) => dir.parent().map_or(Ok(()), sync_dir),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

/// Writes a new file and makes its bytes durable; leaves nothing behind where that fails.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let write = || {
        let mut file = fs_err::File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().inspect_err(|_| {
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
    make_dir(dir)?;
    fs_err::rename(temp, to).inspect_err(|_| {
        let _ = fs_err::remove_file(temp);
    })?;
    sync_dir(dir)
}
