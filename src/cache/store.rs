//! The object store: immutable bytes, each under its digest.

use super::copy::copy;
use super::durable;
use super::gate::Gate;
use super::ledger::Ledger;
use super::lock;
use super::session::Session;
use super::stamp::{self, Stamp, now};
use super::tree::{self, refused};
use crate::artifact::{Artifact, Format, Layout};
use crate::digest::Digest;
use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The folder `objects/`.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    quarantine: PathBuf,
    gate: Gate,
    /// Folders with names that may not be durable yet. Locked while a name is given, so that whoever sees it there sees it
    /// noted here.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    /// Held while they are made durable.
    syncing: Mutex<()>,
}

/// What is at an object's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Sound,
    Missing,
    Damaged,
}

impl Store {
    pub fn new(root: &Path) -> Self {
        let (dir, quarantine) = (root.join("objects"), root.join("quarantine"));
        Self { dir, quarantine, gate: Gate::new(root), unsynced: Mutex::default(), syncing: Mutex::default() }
    }

    pub fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.join(&hex[..2]).join(&hex[2..])
    }

    fn shard(&self, digest: Digest) -> PathBuf {
        self.dir.join(&digest.hex()[..2])
    }

    /// Looks whether an object has the right bytes: by its stamp where that suffices, else by hashing it.
    pub fn state(&self, digest: Digest, ledger: &Ledger) -> io::Result<State> {
        let path = self.path(digest);
        let found = match fs_err::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Stamp::of(&metadata),
            Ok(_) => return Ok(State::Damaged),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::Missing),
            Err(e) => return Err(e),
        };
        let name = memo_name(digest);
        if ledger.recall(&name, found) == Some(digest) {
            return Ok(State::Sound);
        }
        let hashed = now();
        // Bytes that can't be read are no better than wrong ones.
        if Digest::of_file(&path).map(|(d, _)| d).ok() != Some(digest) {
            return Ok(State::Damaged);
        }
        ledger.remember(&name, found, hashed, digest);
        Ok(State::Sound)
    }

    /// Takes a damaged object out of the store, keeping its bytes for people to look at.
    pub fn quarantine(&self, digest: Digest) -> io::Result<()> {
        fs_err::create_dir_all(&self.quarantine)?;
        match fs_err::rename(self.path(digest), self.quarantine.join(format!("{}-{}", digest.hex(), now()))) {
            // Another process was quicker.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Stores bytes held in memory.
    pub fn put(&self, bytes: &[u8], session: &Session, ledger: &Ledger) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.has(digest, session, ledger)? {
            let temp = session.path();
            durable::write_new(&temp, bytes)?;
            self.publish(&temp, digest, None, ledger)?;
        }
        Ok(digest)
    }

    /// Moves a file or a folder into the store.
    pub fn absorb(&self, path: &Path, format: Format, session: &Session, ledger: &Ledger) -> io::Result<Artifact> {
        let kind = fs_err::symlink_metadata(path)?.file_type();
        if kind.is_file() {
            let (digest, bytes) = self.absorb_file(path, session, ledger)?;
            return Ok(Artifact { digest, bytes, layout: Layout::File, format });
        }
        if !kind.is_dir() {
            let what = if kind.is_symlink() { "a symbolic link" } else { "neither a file nor a folder" };
            return Err(refused(format!("{} is {what}: an output is a plain file or a folder", path.display())));
        }
        // All are checked before the first is moved.
        let mut entries = Vec::new();
        for (relative, file) in tree::files(path)? {
            let (digest, bytes) = self.absorb_file(&file, session, ledger)?;
            entries.push(tree::Entry { digest, bytes, path: relative });
        }
        let bytes = entries.iter().map(|e| e.bytes).sum();
        let digest = self.put(&tree::listing(entries), session, ledger)?;
        let _ = fs_err::remove_dir_all(path);
        Ok(Artifact { digest, bytes, layout: Layout::Tree, format })
    }

    /// Hashes a file, and moves it into the store.
    fn absorb_file(&self, path: &Path, session: &Session, ledger: &Ledger) -> io::Result<(Digest, u64)> {
        let file = open_plain(path)?;
        let before = file.metadata()?;
        let (digest, bytes) = Digest::of_open_file(file.file(), &|| true)?;
        let looked = Stamp::of(&file.metadata()?);
        if Stamp::of(&before) != looked {
            return Err(refused(format!("{} is still being written to: wait for its writer to end", path.display())));
        }
        self.take_in(path, &file, Some(looked), digest, session, ledger)?;
        Ok((digest, bytes))
    }

    /// Moves a file into the store whose digest and size in bytes are known from its writing.
    pub fn absorb_sealed(
        &self,
        path: &Path,
        (digest, bytes): (Digest, u64),
        session: &Session,
        ledger: &Ledger,
    ) -> io::Result<()> {
        let file = open_plain(path)?;
        let found = file.metadata()?;
        if !found.is_file() || found.len() != bytes {
            let (path, found) = (path.display(), found.len());
            return Err(refused(format!("{path} has {found} bytes, and {bytes} were written and hashed")));
        }
        self.take_in(path, &file, None, digest, session, ledger)
    }

    /// Moves the bytes of `file`, which stands at `path`, into the store; `looked`: as it was when it had been hashed.
    fn take_in(
        &self,
        path: &Path,
        file: &File,
        looked: Option<Stamp>,
        digest: Digest,
        session: &Session,
        ledger: &Ledger,
    ) -> io::Result<()> {
        if self.has(digest, session, ledger)? {
            return fs_err::remove_file(path);
        }
        file.sync_all()?;
        let temp = session.path();
        // Through another name of the same file somebody could write to the object: such a file is copied.
        let moved = file.metadata()?.nlink() == 1 && fs_err::rename(path, &temp).is_ok();
        if !moved {
            let (copied, _) = copy(path, &temp)?;
            if copied != digest {
                let _ = fs_err::remove_file(&temp);
                return Err(refused(format!("{} changed while it was stored", path.display())));
            }
            File::open(&temp)?.sync_all()?;
            fs_err::remove_file(path)?;
        }
        self.publish(&temp, digest, looked.filter(|_| moved), ledger)
    }

    /// Whether the store has an object, sound, for `session` to rely on; a damaged one is taken away, so that good bytes
    /// can take its place.
    pub(super) fn has(&self, digest: Digest, session: &Session, ledger: &Ledger) -> io::Result<bool> {
        if !self.path(digest).exists() {
            return Ok(false);
        }
        let _passage = self.gate.rely_on(session, &[digest])?;
        match self.state(digest, ledger)? {
            State::Sound => {
                // Another process may have given it its name just now.
                self.unsynced().insert(self.shard(digest));
                Ok(true)
            }
            State::Missing => Ok(false),
            State::Damaged => self.quarantine(digest).map(|()| false),
        }
    }

    /// Gives a durable temporary file its final name. The name itself is durable after `sync`.
    ///
    /// `looked` is given for what a user's program left: a process that outlived its stage may still write to it.
    fn publish(&self, temp: &Path, digest: Digest, looked: Option<Stamp>, ledger: &Ledger) -> io::Result<()> {
        let (to, shard) = (self.path(digest), self.shard(digest));
        let publish = || {
            let file = File::open(temp)?;
            file.set_permissions(std::fs::Permissions::from_mode(0o444))?;
            let is_private = match looked {
                None => true,
                Some(looked) => {
                    let still = |now: Stamp| (now.size, now.modified) == (looked.size, looked.modified);
                    lock::has_no_writer(&file) && still(Stamp::of(&file.metadata()?))
                }
            };
            let modified = stamp::set_modified_now(&file)?;
            {
                let mut unsynced = self.unsynced();
                if durable::make_dir_unsynced(&shard)? {
                    unsynced.insert(self.dir.clone());
                }
                // Two processes may do this at once: both bring the same bytes.
                fs_err::rename(temp, &to)?;
                unsynced.insert(shard);
            }
            // The file that we hold, if it still is the one at that name: it was private until now.
            let (ours, there) = (Stamp::of(&file.metadata()?), Stamp::of(&fs_err::symlink_metadata(&to)?));
            if is_private && ours == there {
                ledger.vouch(&memo_name(digest), there, modified, digest);
            }
            Ok(())
        };
        publish().inspect_err(|_: &io::Error| {
            let _ = fs_err::remove_file(temp);
        })
    }

    fn unsynced(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all names given so far durable, and `others` with them. Called before a record that relies on them gets its
    /// own name.
    pub fn sync_with(&self, others: &[File]) -> io::Result<()> {
        // One thread at a time: what another has taken to sync is durable when it is this one's turn.
        let _turn = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let folders = std::mem::take(&mut *self.unsynced());
        let synced = durable::sync_together(others, folders.iter().map(PathBuf::as_path));
        if synced.is_err() {
            self.unsynced().extend(folders);
        }
        synced
    }
}

/// Opens a file, and no link to one.
fn open_plain(path: &Path) -> io::Result<File> {
    fs_err::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// How the ledger calls an object: no path of a user's begins so.
fn memo_name(digest: Digest) -> Vec<u8> {
    [b"object ", &digest.as_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_as_durable_once_its_folder_is_synced() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let store = Store::new(root.path());
        let shard = root.path().join("ab");
        store.unsynced().insert(shard.clone());
        assert!(store.sync_with(&[]).is_err(), "there is no such folder");
        assert_eq!(store.unsynced().len(), 1, "what was not synced is not forgotten");
        fs_err::create_dir(&shard).expect("makes");
        store.sync_with(&[]).expect("syncs");
        assert_eq!(store.unsynced().len(), 0);
    }
}
