//! What is known here of large uploads under way: a small file for each, so that the next push sends what is missing alone.
//!
//! ```text
//! uploads/<64 hex>.json                  how far an upload got: which shared cache and object, the store's names of its parts
//! uploads/<64 hex>.lock                  held by who is sending
//! ```
//!
//! They hold no credentials. Without them, or damaged, an upload begins anew.

use super::Remote;
use super::address::Address;
use super::layout;
use super::store::{Stop, Store, Upload};
use crate::cache::session::is_older_than;
use crate::cache::{Cache, durable, lock, seal};
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FOLDER: &str = "uploads";
/// An upload that nobody went on with for so long is given up by the next push to the same shared cache.
const GIVEN_UP_AFTER: Duration = Duration::from_hours(7 * 24);
/// What is known of one whose shared cache nobody pushes to any more goes with `cache gc`.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(30 * 24);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// The shared cache.
    remote: String,
    object: Digest,
    upload: Upload,
}

/// The note of one upload, held: nobody else goes on with it, or gives it up.
pub(super) struct Held {
    note: PathBuf,
    lock_path: PathBuf,
    _lock: fs_err::File,
}

impl Held {
    /// `None` where somebody else sends the same just now, or nothing can be kept here.
    pub(super) fn take(cache: &Cache, remote: &Address, object: Digest) -> Option<Self> {
        let name = Digest::of(format!("{remote}\n{object}").as_bytes()).hex();
        let folder = cache.root().join(FOLDER);
        durable::make_dir(&folder).ok()?;
        Self::at(&folder.join(format!("{name}.json"))).ok()?
    }

    fn at(note: &Path) -> io::Result<Option<Self>> {
        let lock_path = note.with_extension("lock");
        let lock = lock::try_take(&lock_path)?;
        Ok(lock.map(|lock| Self { note: note.to_owned(), lock_path, _lock: lock }))
    }

    /// How far the upload of this object got; `None` where none was begun, or what was noted is damaged.
    pub(super) fn read(&self, remote: &Address, object: Digest) -> Option<Upload> {
        let note = read(&self.note)?;
        (note.remote == remote.to_string() && note.object == object).then_some(note.upload)
    }

    /// Notes how far it got; `false` where that can't be kept.
    pub(super) fn write(&self, cache: &Cache, remote: &Address, object: Digest, upload: &Upload) -> bool {
        let note = Note { remote: remote.to_string(), object, upload: upload.clone() };
        cache.session().is_ok_and(|session| durable::replace(&session.path(), &self.note, &seal::seal(&note)).is_ok())
    }

    /// The upload has ended, or was given up.
    pub(super) fn remove(&self) {
        let _ = fs_err::remove_file(&self.note);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.note.exists() {
            let _ = fs_err::remove_file(&self.lock_path);
        }
    }
}

impl Remote {
    /// An object is there already: whatever was begun of it here is given up.
    pub(super) fn end_upload(&self, cache: &Cache, object: Digest) {
        let begun = self.store.goes_on() && cache.root().join(FOLDER).exists();
        let Some(held) = begun.then(|| Held::take(cache, self.address(), object)).flatten() else { return };
        if let Some(upload) = held.read(self.address(), object) {
            self.store.abort(&layout::object(object), &upload.id);
        }
        held.remove();
    }

    /// Gives up what nobody went on with for a week. What fails stays, and is tried again by the next push.
    pub(super) fn give_up_old_uploads(&self, cache: &Cache, stop: Stop<'_>) {
        give_up(&self.store, cache.root(), &self.address().to_string(), GIVEN_UP_AFTER, stop);
    }
}

fn give_up(store: &Store, root: &Path, remote: &str, age: Duration, stop: Stop<'_>) {
    for path in files(root, "json").into_iter().filter(|path| is_older_than(path, age)) {
        let Ok(Some(held)) = Held::at(&path) else { continue };
        // Somebody may have gone on with it, or ended it, until it was held.
        let note = read(&path).filter(|note| note.remote == remote && is_older_than(&path, age));
        if let (Some(note), false) = (note, stop()) {
            store.abort(&layout::object(note.object), &note.upload.id);
            held.remove();
        }
    }
}

/// Removes the notes of uploads that nobody went on with for a month, and locks that a kill left without any.
pub(in crate::cache) fn forget_old(root: &Path) {
    for lock in files(root, "lock") {
        let note = lock.with_extension("json");
        let last_used = if note.exists() { &note } else { &lock };
        if is_older_than(last_used, FORGOTTEN_AFTER)
            && let Ok(Some(held)) = Held::at(&note)
        {
            held.remove();
        }
    }
}

fn files(root: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(root.join(FOLDER)) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn read(path: &Path) -> Option<Note> {
    // Ten thousand parts fit well; whatever is longer is none of ours.
    let metadata = fs_err::symlink_metadata(path).ok()?;
    let text = (metadata.is_file() && metadata.len() < 1 << 24).then(|| fs_err::read(path).ok()).flatten()?;
    seal::open(&text).ok()
}
