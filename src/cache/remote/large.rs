//! A large object, sent in parts: all of it is hashed on its way, and what is there of an earlier upload is not sent again.

use super::store::{Fault, Parts, Stop, Upload};
use super::uploads::Held;
use super::{Remote, layout};
use crate::cache::Cache;
use crate::digest::Digest;
use std::io::{self, Read, Seek};

/// Reads an object part by part.
struct Reading<'a> {
    remote: &'a Remote,
    cache: &'a Cache,
    digest: Digest,
    file: &'a mut fs_err::File,
    hasher: blake3::Hasher,
    is_damaged: bool,
    /// `None` where nobody will know how far the upload got.
    held: Option<Held>,
    /// The store's name of the upload.
    upload: Option<String>,
}

impl Parts for Reading<'_> {
    fn next(&mut self, size: usize) -> io::Result<Vec<u8>> {
        let mut part = Vec::with_capacity(size);
        Read::by_ref(self.file).take(size as u64).read_to_end(&mut part)?;
        self.hasher.update(&part);
        // Before the end is told: the store must not put damaged parts together.
        self.is_damaged = part.is_empty() && Digest::from_hash(self.hasher.finalize()) != self.digest;
        if self.is_damaged { Err(io::Error::other("damaged")) } else { Ok(part) }
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.hasher.reset();
        self.file.rewind()
    }

    fn begun(&mut self) -> Option<Upload> {
        let begun = self.held.as_ref()?.read(self.remote.address(), self.digest);
        self.upload = begun.as_ref().map(|upload| upload.id.clone());
        begun
    }

    fn remember(&mut self, upload: &Upload) -> bool {
        self.upload = Some(upload.id.clone());
        self.held.as_ref().is_some_and(|held| held.write(self.cache, self.remote.address(), self.digest, upload))
    }
}

impl Remote {
    /// Sends a large object; gives how many bytes were sent, or `None` where it is damaged here, and then nothing of it is
    /// there. `replaces`: what is there under its name is no good.
    pub(super) fn push_large(
        &self,
        cache: &Cache,
        digest: Digest,
        file: &mut fs_err::File,
        replaces: bool,
        stop: Stop<'_>,
    ) -> Result<Option<u64>, Fault> {
        let (name, bytes) = (layout::object(digest), file.metadata()?.len());
        let held = if self.store.goes_on() { Held::take(cache, self.address(), digest) } else { None };
        let (hasher, is_damaged, upload) = (blake3::Hasher::new(), false, None);
        let mut reading = Reading { remote: self, cache, digest, file, hasher, is_damaged, held, upload };
        let sent = self.store.put_parts(&name, bytes, &mut reading, stop);
        let Reading { is_damaged, held, upload, .. } = reading;
        let sent = match sent {
            Ok(sent) => Some(sent),
            Err(Fault::Local(_)) if is_damaged => {
                if let Some(upload) = upload {
                    self.store.abort(&name, &upload);
                }
                None
            }
            Err(fault @ (Fault::Stopped | Fault::Local(_))) => return Err(fault),
            // Somebody was quicker, or the answer got lost.
            Err(_) if !replaces && self.store.size(&name, stop).is_ok_and(|there| there == Some(bytes)) => Some(0),
            Err(fault) => return Err(fault),
        };
        if let Some(held) = held {
            held.remove();
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::super::push::Tally;
    use super::super::store::flaky::Flaky;
    use super::super::uploads;
    use super::*;
    use crate::cache::remote::{Address, Trust};
    use crate::cache::tests::Bench;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    const NEVER: Stop<'static> = &|| false;
    const SIZE: usize = 25 << 20; // four parts

    struct Lab {
        bench: Bench,
        flaky: Arc<Flaky>,
        shared: Remote,
        object: Digest,
    }

    impl Lab {
        fn new(parts_left: u64) -> Self {
            let (bench, flaky) = (Bench::new(), Flaky::new(parts_left));
            let address = Address::parse("s3://lab/cache", Path::new("/")).expect("valid");
            let shared = Remote::of(address, flaky.store(), Trust::Any, None, true);
            let bytes: Vec<u8> = (0..SIZE).map(|n| (n / 1000) as u8).collect();
            let object = bench.cache.put_bytes(&bytes).expect("stores");
            Self { bench, flaky, shared, object }
        }

        /// Pushes the object; gives how many bytes were sent.
        fn push(&self) -> Result<u64, Fault> {
            let tally = Tally::default();
            self.shared.push_object(&self.bench.cache, self.object, &tally, NEVER)?;
            Ok(tally.counted().bytes)
        }

        fn mend(&self) {
            self.flaky.parts_left.store(100, Ordering::Relaxed);
        }

        fn notes(&self) -> Vec<std::path::PathBuf> {
            let entries = fs_err::read_dir(self.bench.cache.root().join("uploads")).into_iter().flatten();
            entries.map(|entry| entry.expect("lists").path()).collect()
        }

        fn note(&self) -> std::path::PathBuf {
            self.notes().into_iter().find(|path| path.extension().is_some_and(|e| e == "json")).expect("one is there")
        }

        fn aborted(&self) -> usize {
            self.flaky.aborted.lock().expect("nobody panicked").len()
        }
    }

    #[test]
    fn a_push_that_broke_off_goes_on_and_nothing_is_left_of_its_note() {
        let lab = Lab::new(3);
        assert!(matches!(lab.push(), Err(Fault::Down(_))));
        let note = fs_err::read_to_string(lab.note()).expect("reads");
        assert!(note.contains("s3://lab/cache") && note.contains(&lab.object.hex()), "{note}");
        assert_eq!((lab.flaky.take_parts().len(), lab.aborted()), (3, 0));
        lab.mend();
        assert!(lab.push().expect("pushes") <= 8 << 20);
        assert_eq!((lab.flaky.take_parts().len(), lab.notes().len()), (1, 0));
        assert_eq!(lab.push().expect("it is there"), 0);
    }

    #[test]
    fn a_damaged_object_is_not_put_together_and_its_upload_is_given_up() {
        let lab = Lab::new(100);
        let path = lab.bench.cache.object_path(lab.object);
        let mut bytes = fs_err::read(&path).expect("reads");
        bytes[SIZE - 1] ^= 1;
        fs_err::remove_file(&path).expect("removes");
        fs_err::write(&path, bytes).expect("writes");
        assert_eq!(lab.push().expect("it is told"), 0);
        assert_eq!(lab.shared.store.size(&layout::object(lab.object), NEVER).expect("asks"), None);
        assert_eq!((lab.aborted(), lab.notes().len()), (1, 0));
    }

    #[test]
    fn a_note_that_is_no_note_is_a_new_beginning() {
        let lab = Lab::new(2);
        assert!(lab.push().is_err());
        let (note, good) = (lab.note(), fs_err::read(lab.note()).expect("reads"));
        lab.mend();
        for garbage in [&b""[..], b"{}", b"[[[[", &good[..good.len() / 2], &vec![0xff; 100_000]] {
            fs_err::write(&note, garbage).expect("writes");
            assert_eq!(lab.push().expect("pushes"), SIZE as u64);
            assert_eq!(lab.notes().len(), 0);
            lab.shared.store.delete(&layout::object(lab.object), NEVER).expect("deletes");
        }
        // Of another object, or not a file at all.
        fs_err::create_dir_all(note.join("folder")).expect("makes");
        assert_eq!(lab.push().expect("pushes"), SIZE as u64);
    }

    #[test]
    fn who_does_not_get_the_note_sends_all_and_leaves_no_half_upload() {
        let lab = Lab::new(2);
        let other = Held::take(&lab.bench.cache, lab.shared.address(), lab.object).expect("free");
        assert!(lab.push().is_err());
        assert_eq!(lab.aborted(), 1);
        lab.mend();
        assert_eq!(lab.push().expect("pushes"), SIZE as u64);
        drop(other);
        assert_eq!(lab.notes().len(), 0);
    }

    #[test]
    fn what_somebody_else_brought_there_ends_the_upload() {
        let lab = Lab::new(2);
        assert!(lab.push().is_err());
        let bytes = fs_err::read(lab.bench.cache.object_path(lab.object)).expect("reads");
        let name = layout::object(lab.object);
        lab.shared.store.put(&name, bytes, super::super::store::Put::New, NEVER).expect("puts");
        assert_eq!(lab.push().expect("it is there"), 0);
        assert_eq!((lab.aborted(), lab.notes().len()), (1, 0));
    }

    #[test]
    fn old_uploads_are_given_up_by_a_push_and_forgotten_by_gc() {
        let lab = Lab::new(2);
        let age = |days: u64| {
            let then = std::time::SystemTime::now() - Duration::from_hours(24 * days);
            for path in lab.notes() {
                fs_err::File::options().write(true).open(path).expect("opens").set_modified(then).expect("sets");
            }
        };
        assert!(lab.push().is_err());
        age(6);
        lab.shared.give_up_old_uploads(&lab.bench.cache, NEVER);
        uploads::forget_old(lab.bench.cache.root());
        assert_eq!((lab.aborted(), lab.notes().len()), (0, 2), "the note and its lock");
        age(8);
        uploads::forget_old(lab.bench.cache.root());
        assert_eq!(lab.notes().len(), 2);
        lab.shared.give_up_old_uploads(&lab.bench.cache, NEVER);
        assert_eq!((lab.aborted(), lab.notes().len()), (1, 0));
        lab.flaky.parts_left.store(2, Ordering::Relaxed);
        assert!(lab.push().is_err());
        age(31);
        uploads::forget_old(lab.bench.cache.root());
        assert_eq!((lab.aborted(), lab.notes().len()), (1, 0));
    }
}
