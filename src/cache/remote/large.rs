//! Large objects, sent in parts and hashed on their way: what is damaged here never becomes whole there.

use super::store::{Fault, Stop, Unsent, Upload};
use super::uploads::{self, Note};
use super::{Remote, layout};
use crate::cache::Cache;
use crate::digest::Digest;
use std::io::{self, Read, Seek};

impl Remote {
    /// Sends a large object; gives how many bytes went, or `None` where it is damaged, and then nothing is there.
    pub(super) fn push_large(
        &self,
        cache: &Cache,
        digest: Digest,
        bytes: u64,
        file: &mut fs_err::File,
        stop: Stop<'_>,
    ) -> Result<Option<u64>, Fault> {
        let to = self.address().to_string();
        // Where no note can be taken, or another program sends the same, this one's upload begins anew and ends as a whole.
        let note = self.store.resumes().then(|| Note::take(cache.root(), &to, digest).ok().flatten()).flatten();
        match note {
            Some(note) => self.push_noted(note, digest, bytes, file, stop),
            None => self.push_whole(digest, bytes, file, stop),
        }
    }

    /// Goes on with what was begun, or begins. What a failure cuts short stays, for the next push.
    fn push_noted(
        &self,
        mut note: Note,
        digest: Digest,
        bytes: u64,
        file: &mut fs_err::File,
        stop: Stop<'_>,
    ) -> Result<Option<u64>, Fault> {
        let name = layout::object(digest);
        let (mut begun, mut forgotten) = (note.upload().cloned(), None);
        // Once more from the beginning where the store has forgotten what was begun.
        for _ in 0..2 {
            let upload = match begun.take() {
                Some(begun) => begun,
                None => {
                    let upload = self.store.begin_upload(&name, bytes, stop)?;
                    // A disk that is full keeps no note: then this upload is not gone on with.
                    let _ = note.begin(upload.clone());
                    upload
                }
            };
            file.rewind()?;
            let mut reader = Hashing { file, hasher: blake3::Hasher::new() };
            let mut next = || reader.next(upload.part);
            let mut receipt = |number: usize, receipt: &str| {
                // A part that is not noted is sent again.
                let _ = note.sent(number, receipt);
            };
            let sent = self.store.send_parts(&name, &upload, bytes, &mut next, &mut receipt, stop);
            let is_sound = sent.is_err() || reader.digest() == digest;
            if !is_sound {
                self.store.drop_upload(&name, &upload);
                note.forget()?;
                return Ok(None);
            }
            match sent.and_then(|receipts| self.store.finish_upload(&name, &upload, receipts, bytes, stop)) {
                Ok(()) => {
                    note.forget()?;
                    return Ok(Some(bytes.saturating_sub(had(&upload, bytes))));
                }
                Err(Unsent::Unknown(fault)) => forgotten = Some(fault),
                Err(Unsent::Fault(fault)) => return Err(fault),
            }
        }
        Err(forgotten.expect("it went on to here by that alone"))
    }

    /// Sends it at one go.
    fn push_whole(
        &self,
        digest: Digest,
        bytes: u64,
        file: &mut fs_err::File,
        stop: Stop<'_>,
    ) -> Result<Option<u64>, Fault> {
        let (mut reader, mut sound) = (Hashing { file, hasher: blake3::Hasher::new() }, true);
        let mut next = |size: usize| {
            let chunk = reader.next(size as u64)?;
            if chunk.is_empty() && reader.digest() != digest {
                sound = false;
                return Err(io::Error::other("damaged"));
            }
            Ok(chunk)
        };
        match self.store.put_parts(&layout::object(digest), bytes, &mut next, stop) {
            Err(Fault::Local(_)) if !sound => Ok(None),
            put => put.map(|()| Some(bytes)),
        }
    }

    /// Has the store throw away what was begun there and nobody will go on with.
    pub(super) fn give_up_uploads(&self, cache: &Cache) {
        let is_here = |object: Digest| cache.object_path(object).exists();
        for mut note in uploads::abandoned(cache.root(), &self.address().to_string(), is_here) {
            if let Some(upload) = note.upload() {
                self.store.drop_upload(&layout::object(note.object()), upload);
            }
            // A note that stays is met again.
            let _ = note.forget();
        }
    }
}

/// The bytes of an upload's parts that were there before.
fn had(upload: &Upload, bytes: u64) -> u64 {
    let of_part = |number: &usize| upload.part.min(bytes.saturating_sub(*number as u64 * upload.part));
    upload.sent.keys().map(of_part).sum()
}

/// A file, hashed as it is read.
struct Hashing<'a> {
    file: &'a mut fs_err::File,
    hasher: blake3::Hasher,
}

impl Hashing<'_> {
    /// The next so many bytes; fewer at its end.
    fn next(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        let mut part = Vec::with_capacity(bytes as usize);
        Read::by_ref(self.file).take(bytes).read_to_end(&mut part)?;
        self.hasher.update(&part);
        Ok(part)
    }

    fn digest(&self) -> Digest {
        Digest::from_hash(self.hasher.finalize())
    }
}
