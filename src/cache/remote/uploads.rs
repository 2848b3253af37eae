//! Uploads under way, noted in the local cache: whoever pushes next goes on with the parts that are missing.
//!
//! A note is a file of lines: where to and what, then each part that is there. A line that is cut short costs sending a part
//! again, and a note that can't be read costs sending all.

use super::store::{MOST_PARTS, Upload};
use crate::cache::{durable, lock, session};
use crate::digest::Digest;
use fs_err::File;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Stores throw away what was begun so long ago, or are told to.
const STALE: Duration = Duration::from_hours(6 * 24);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    to: String,
    object: Digest,
    id: String,
    part: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    number: usize,
    receipt: String,
}

/// The note of one object's upload, while somebody works on it.
#[derive(Debug)]
pub struct Note {
    path: PathBuf,
    to: String,
    object: Digest,
    upload: Option<Upload>,
    /// Held, so that two programs do not send the same parts.
    _lock: File,
}

impl Note {
    /// Takes the note of an object, where no other program has it.
    pub fn take(cache: &Path, to: &str, object: Digest) -> io::Result<Option<Self>> {
        let folder = cache.join("uploads");
        fs_err::create_dir_all(&folder)?;
        let name = Digest::of(format!("{to}\n{}", object.hex()).as_bytes());
        Self::open(folder.join(format!("{}.jsonl", name.hex())), to, object)
    }

    fn open(path: PathBuf, to: &str, object: Digest) -> io::Result<Option<Self>> {
        let Some(lock) = lock::try_take(&path.with_extension("lock"))? else { return Ok(None) };
        let noted = read(&path)?.filter(|(head, _)| head.to == to && head.object == object);
        let upload = noted.map(|(_, upload)| upload);
        Ok(Some(Self { path, to: to.to_owned(), object, upload, _lock: lock }))
    }

    pub fn object(&self) -> Digest {
        self.object
    }

    /// What was begun.
    pub fn upload(&self) -> Option<&Upload> {
        self.upload.as_ref()
    }

    /// Notes that an upload was begun.
    pub fn begin(&mut self, upload: Upload) -> io::Result<()> {
        let head = Head { to: self.to.clone(), object: self.object, id: upload.id.clone(), part: upload.part };
        let unfinished = self.path.with_extension("new");
        // Of one that was killed; nobody else writes here.
        let _ = fs_err::remove_file(&unfinished);
        durable::replace(&unfinished, &self.path, &line(&head))?;
        self.upload = Some(upload);
        Ok(())
    }

    /// Notes that a part is there.
    pub fn sent(&self, number: usize, receipt: &str) -> io::Result<()> {
        let mut file = fs_err::OpenOptions::new().append(true).open(&self.path)?;
        file.write_all(&line(&Part { number, receipt: receipt.to_owned() }))
    }

    /// It is done, or given up.
    pub fn forget(&mut self) -> io::Result<()> {
        self.upload = None;
        match fs_err::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // Removed while it is held: whoever waits for it sees that it is gone, and takes a new one.
        let _ = fs_err::remove_file(self.path.with_extension("lock"));
    }
}

/// The notes of uploads to a place that nobody will go on with: of objects that are not here any more, or begun too long ago.
pub fn abandoned(cache: &Path, to: &str, is_here: impl Fn(Digest) -> bool) -> Vec<Note> {
    let Ok(entries) = fs_err::read_dir(cache.join("uploads")) else { return Vec::new() };
    let paths =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
    let given_up = paths.filter_map(|path| {
        let (head, _) = read(&path).ok().flatten().filter(|(head, _)| head.to == to)?;
        let is_over = !is_here(head.object) || session::is_older_than(&path, STALE);
        is_over.then(|| Note::open(path, to, head.object).ok().flatten()).flatten()
    });
    given_up.collect()
}

/// `None` where there is nothing that can be read.
fn read(path: &Path) -> io::Result<Option<(Head, Upload)>> {
    let text = match fs_err::read_to_string(path) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut lines = text.lines();
    let Some(head) = lines.next().and_then(|line| serde_json::from_str::<Head>(line).ok()) else { return Ok(None) };
    if head.part == 0 {
        return Ok(None);
    }
    let parts =
        lines.filter_map(|line| serde_json::from_str::<Part>(line).ok()).filter(|part| part.number < MOST_PARTS);
    let sent: BTreeMap<usize, String> = parts.map(|part| (part.number, part.receipt)).collect();
    let upload = Upload { id: head.id.clone(), part: head.part, sent };
    Ok(Some((head, upload)))
}

fn line(content: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(content).expect("plain data");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload() -> Upload {
        Upload { id: "id".to_owned(), part: 8, sent: BTreeMap::new() }
    }

    #[test]
    fn a_note_is_one_program_s_and_tells_the_next_what_is_there() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let object = Digest::of(b"object");
        let take = |to: &str| Note::take(dir.path(), to, object).expect("takes");
        let mut note = take("s3://lab").expect("nobody has it");
        assert!(take("s3://lab").is_none() && take("s3://other").is_some_and(|other| other.upload().is_none()));
        note.begin(upload()).expect("writes");
        note.sent(0, "\"etag\"").expect("writes");
        note.sent(2, "x").expect("writes");
        let path = note.path.clone();
        drop(note);
        let mut text = fs_err::read_to_string(&path).expect("reads");
        text += "{\"number\":3,\"rec";
        fs_err::write(&path, text).expect("writes");
        let mut note = take("s3://lab").expect("nobody has it");
        let sent = [(0, "\"etag\"".to_owned()), (2, "x".to_owned())].into();
        assert_eq!(note.upload(), Some(&Upload { sent, ..upload() }));
        note.forget().expect("removes");
        drop(note);
        assert_eq!(fs_err::read_dir(dir.path().join("uploads")).expect("lists").count(), 0);
    }

    #[test]
    fn garbage_is_no_note_and_what_is_not_here_any_more_is_given_up() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (here, gone) = (Digest::of(b"here"), Digest::of(b"gone"));
        for object in [here, gone] {
            Note::take(dir.path(), "az://lab", object).expect("takes").expect("free").begin(upload()).expect("writes");
        }
        let found = abandoned(dir.path(), "az://lab", |object| object == here);
        assert_eq!(found.iter().map(|note| note.object).collect::<Vec<_>>(), [gone]);
        assert!(abandoned(dir.path(), "az://other", |_| false).is_empty());
        let path = Note::take(dir.path(), "az://lab", here).expect("takes").expect("free").path.clone();
        for garbage in [&b"\xff\xfe"[..], b"", b"{}", b"{\"to\":\"az://lab\"}\n", b"[[[[["] {
            fs_err::write(&path, garbage).expect("writes");
            let note = Note::take(dir.path(), "az://lab", here).expect("takes").expect("free");
            assert_eq!(note.upload(), None);
        }
    }
}
