//! Digests of the user's own files and folders, which are read in place and never stored.

use super::ledger::Ledger;
use super::stamp::{Stamp, now};
use super::tree::{self, Entry, refused};
use crate::artifact::{Artifact, Format, Layout};
use crate::digest::Digest;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Says whether to go on reading.
pub type GoOn<'g> = &'g (dyn Fn() -> bool + Sync);

/// The digest of a file or folder; an unchanged file is not read again.
pub fn digest(path: &Path, format: Format, ledger: &Ledger, go_on: GoOn<'_>) -> io::Result<Artifact> {
    // The user may name a link; within a folder it is refused.
    let real = fs_err::canonicalize(path)?;
    let kind = fs_err::metadata(&real)?;
    if kind.is_file() {
        let (digest, bytes) = file(&real, ledger, go_on)?;
        return Ok(Artifact { digest, bytes, layout: Layout::File, format });
    }
    if !kind.is_dir() {
        return Err(refused(format!("{} is neither a file nor a folder", path.display())));
    }
    let mut entries = Vec::new();
    for (relative, path) in tree::files(&real)? {
        let (digest, bytes) = file(&path, ledger, go_on)?;
        entries.push(Entry { digest, bytes, path: relative });
    }
    let bytes = entries.iter().map(|e| e.bytes).sum();
    Ok(Artifact { digest: Digest::of(&tree::listing(entries)), bytes, layout: Layout::Tree, format })
}

fn file(path: &Path, ledger: &Ledger, go_on: GoOn<'_>) -> io::Result<(Digest, u64)> {
    let name = [b"source ", path.as_os_str().as_bytes()].concat();
    let file = fs_err::File::open(path)?;
    let before = Stamp::of(&file.metadata()?);
    if let Some(known) = ledger.recall(&name, before) {
        return Ok((known, before.size));
    }
    let hashed = now();
    let read = Digest::of_open_file(file.file(), go_on);
    if Stamp::of(&file.metadata()?) != before {
        return Err(refused(format!(
            "{} changed while it was read: try again when its writer has ended",
            path.display()
        )));
    }
    let (digest, bytes) = read?;
    ledger.remember(&name, before, hashed, digest);
    Ok((digest, bytes))
}
