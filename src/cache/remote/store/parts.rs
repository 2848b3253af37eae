//! Many bytes under a name, part by part; where the store has uploads as things of their own, an upload goes on another time
//! with the parts that are missing.

use super::failure::{Answer, answer, down};
use super::{ANSWER, Fault, Stop, Store, time_for};
use crate::digest::Digest;
use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ObjectStoreExt, WriteMultipart};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// From here on an object is sent in parts.
pub const PARTS_FROM: u64 = 16 << 20;
/// A part at least; stores take ten thousand of them.
pub(super) const PART: u64 = 8 << 20;
/// Parts of one object that are under way at once, at most, and the memory that they take.
const PARTS_AT_ONCE: u64 = 8;
const PARTS_MEMORY: u64 = PARTS_AT_ONCE * PART;
/// An upload that the store failed at so often, with no part more each time, is not tried again.
const STALLED: u32 = 3;
/// How long others are waited for after one has failed.
const LINGER: Duration = Duration::from_secs(2);

/// An upload as far as it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// As the store named it.
    pub id: String,
    /// Bytes of each part but the last.
    pub part_size: u64,
    /// Parts that are there, from 0 on.
    pub parts: BTreeMap<u64, Part>,
    /// How often the store answered, and failed, since the last part came. Some fail so at what they have forgotten.
    #[serde(default)]
    pub stalled: u32,
}

/// A part that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// As the store named it.
    pub id: String,
    /// Of its bytes: another time they may be others.
    pub digest: Digest,
}

/// What is sent in parts, and who remembers how far it got.
pub trait Parts {
    /// The next bytes, so many but at the end, where there are none. After an error nothing comes to stand under the name.
    fn next(&mut self, size: usize) -> io::Result<Vec<u8>>;
    /// Starts again at the first byte.
    fn rewind(&mut self) -> io::Result<()>;
    /// How far an upload got that did not end.
    fn begun(&mut self) -> Option<Upload>;
    /// Remembers how far it got; `false` where that can't be remembered.
    fn remember(&mut self, upload: &Upload) -> bool;
}

/// Why an upload did not end.
enum Broken {
    /// The store knows no such upload, or not these parts.
    Refused(Fault),
    /// It answered that it failed inside.
    Ailing(Fault),
    Failed(Fault),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl Broken {
    fn of(error: &object_store::Error) -> Self {
        let kind = match answer(error) {
            Answer::No => Self::Refused,
            Answer::Failed => Self::Ailing,
            Answer::None => Self::Failed,
        };
        kind(down(error))
    }

    fn fault(self) -> Fault {
        let (Self::Refused(fault) | Self::Ailing(fault) | Self::Failed(fault)) = self;
        fault
    }
}

impl Store {
    /// Puts many bytes under a name, which is there once all are; gives how many were sent. An upload that was begun goes on,
    /// but where the store does not know it any more, or was often asked in vain: then it begins anew, once. What did not end is given up where nobody
    /// remembers it.
    pub fn put_parts(&self, name: &str, bytes: u64, parts: &mut dyn Parts, stop: Stop<'_>) -> Result<u64, Fault> {
        let part_size = PART.max(bytes / 9_000);
        let Some(store) = &self.uploads else { return self.put_stream(name, bytes, part_size as usize, parts, stop) };
        let path = self.path(name);
        let sending = Sending { store, path: &path, name, bytes };
        let begun = parts.begun();
        let lost = begun.as_ref().map(|upload| upload.id.clone());
        if let Some(mut upload) = begun.filter(|upload| upload.part_size == part_size && upload.stalled < STALLED) {
            upload.stalled += 1;
            match self.go_on(&sending, &mut upload, parts, stop) {
                Err(Broken::Refused(_)) => parts.rewind()?,
                gone_on => {
                    if let Err(Broken::Ailing(_)) = gone_on {
                        parts.remember(&upload);
                    }
                    return gone_on.map_err(Broken::fault);
                }
            }
        }
        let id = self.wait(ANSWER, stop, async { store.create_multipart(&path).await.map_err(|e| down(&e)) })?;
        if let Some(lost) = lost.filter(|lost| *lost != id) {
            self.abort(name, &lost);
        }
        let mut upload = Upload { id: id.clone(), part_size, parts: BTreeMap::new(), stalled: 0 };
        let is_remembered = parts.remember(&upload);
        let sent = self.go_on(&sending, &mut upload, parts, stop).map_err(Broken::fault);
        if sent.is_err() && !is_remembered {
            self.abort(name, &id);
        }
        sent
    }

    /// Gives an upload up. Its parts cost storage until somebody does; where the store does not answer, a rule of the bucket.
    pub fn abort(&self, name: &str, id: &str) {
        if let Some(store) = &self.uploads {
            let (path, id) = (self.path(name), id.to_owned());
            let _ =
                self.wait(ANSWER, &|| false, async { store.abort_multipart(&path, &id).await.map_err(|e| down(&e)) });
        }
    }

    /// Whether uploads in parts can go on another time.
    pub fn goes_on(&self) -> bool {
        self.uploads.is_some()
    }

    /// Sends the parts that are missing, and has the store put all together.
    fn go_on(
        &self,
        sending: &Sending<'_>,
        upload: &mut Upload,
        parts: &mut dyn Parts,
        stop: Stop<'_>,
    ) -> Result<u64, Broken> {
        let Sending { store, path, name, bytes } = *sending;
        let mut sent = 0;
        self.wait(time_for(bytes), stop, async {
            let mut under_way = JoinSet::new();
            let all = sending.send_all(&mut under_way, upload, parts, &mut sent).await;
            // What is about to come to an end beside a failure counts too.
            let rest = async {
                while let Some(joined) = under_way.join_next().await {
                    let _ = arrived(joined, upload, parts, &mut sent);
                }
            };
            let _ = tokio::time::timeout(LINGER, rest).await;
            all
        })?;
        let ids = upload.parts.values().map(|part| PartId { content_id: part.id.clone() }).collect();
        self.wait(time_for(bytes), stop, async {
            store.complete_multipart(path, &upload.id, ids).await.map_err(|error| Broken::of(&error))
        })?;
        match self.size(name, stop)? {
            Some(there) if there == bytes => Ok(sent),
            there => {
                let there = there.unwrap_or_default();
                Err(Fault::Lies(format!("{bytes} bytes were sent, and the store has {there} of {name}")).into())
            }
        }
    }

    /// The same where nothing of an upload can stay: in a folder.
    fn put_stream(
        &self,
        name: &str,
        bytes: u64,
        part_size: usize,
        parts: &mut dyn Parts,
        stop: Stop<'_>,
    ) -> Result<u64, Fault> {
        let path = self.path(name);
        let begun = self.wait(ANSWER, stop, async { self.objects.put_multipart(&path).await.map_err(|e| down(&e)) })?;
        let mut upload = WriteMultipart::new_with_chunk_size(begun, part_size);
        let sent = self.wait(time_for(bytes), stop, async {
            loop {
                let chunk = parts.next(part_size).map_err(Fault::Local)?;
                if chunk.is_empty() {
                    return Ok(());
                }
                upload.wait_for_capacity(at_once(part_size)).await.map_err(|error| down(&error))?;
                upload.put(Bytes::from(chunk));
                tokio::task::yield_now().await;
            }
        });
        match sent {
            Ok(()) => self
                .wait(time_for(bytes), stop, async { upload.finish().await.map(drop).map_err(|error| down(&error)) })?,
            Err(fault) => {
                let _ = self.wait(ANSWER, &|| false, async { upload.abort().await.map_err(|error| down(&error)) });
                return Err(fault);
            }
        }
        Ok(bytes)
    }
}

/// What is sent, and where to.
struct Sending<'a> {
    store: &'a Arc<dyn MultipartStore>,
    path: &'a Path,
    name: &'a str,
    bytes: u64,
}

/// A part's number, what it is now, and how many bytes it has.
type Arrived = Result<(u64, Part, u64), object_store::Error>;

impl Sending<'_> {
    async fn send_all(
        &self,
        under_way: &mut JoinSet<Arrived>,
        upload: &mut Upload,
        parts: &mut dyn Parts,
        sent: &mut u64,
    ) -> Result<(), Broken> {
        let part_size = upload.part_size as usize;
        let mut number = 0;
        loop {
            let chunk = parts.next(part_size).map_err(Fault::Local)?;
            if chunk.is_empty() {
                break;
            }
            // Lets a request to stop be heard where the disk is quicker than the network.
            tokio::task::yield_now().await;
            let is_there = upload.parts.get(&number).is_some_and(|part| part.digest == Digest::of(&chunk));
            if !is_there {
                upload.parts.remove(&number);
                while under_way.len() >= at_once(part_size) {
                    arrived(under_way.join_next().await.expect("some are under way"), upload, parts, sent)?;
                }
                let (store, path, id) = (Arc::clone(self.store), self.path.clone(), upload.id.clone());
                under_way.spawn(async move {
                    let (size, digest) = (chunk.len() as u64, Digest::of(&chunk));
                    let put = store.put_part(&path, &id, number as usize, Bytes::from(chunk).into()).await?;
                    Ok((number, Part { id: put.content_id, digest }, size))
                });
            }
            number += 1;
            while let Some(joined) = under_way.try_join_next() {
                arrived(joined, upload, parts, sent)?;
            }
        }
        while let Some(joined) = under_way.join_next().await {
            arrived(joined, upload, parts, sent)?;
        }
        // There are no more of them, whatever was remembered.
        drop(upload.parts.split_off(&number));
        Ok(())
    }
}

fn arrived(
    joined: Result<Arrived, tokio::task::JoinError>,
    upload: &mut Upload,
    parts: &mut dyn Parts,
    sent: &mut u64,
) -> Result<(), Broken> {
    let put = joined.map_err(|error| Fault::Down(format!("a request broke off: {error}")))?;
    let (number, part, size) = put.map_err(|error| Broken::of(&error))?;
    upload.parts.insert(number, part);
    upload.stalled = 0;
    *sent += size;
    parts.remember(upload);
    Ok(())
}

fn at_once(part_size: usize) -> usize {
    (PARTS_MEMORY / part_size as u64).clamp(2, PARTS_AT_ONCE) as usize
}

#[cfg(test)]
mod tests {
    use super::super::flaky::Flaky;
    use super::super::tests::in_memory;
    use super::*;
    use std::sync::atomic::Ordering;

    const NEVER: Stop<'static> = &|| false;
    const SIZE: u64 = 3 * PART + 1000;

    /// Bytes in memory, and how far their upload got.
    #[derive(Default)]
    struct Bytes {
        all: Vec<u8>,
        at: usize,
        breaks_at: Option<usize>,
        forgets: bool,
        note: Option<Upload>,
    }

    impl Bytes {
        fn new() -> Self {
            Self { all: (0..SIZE).map(|n| (n / 1000) as u8).collect(), ..Self::default() }
        }
    }

    impl Parts for Bytes {
        fn next(&mut self, size: usize) -> io::Result<Vec<u8>> {
            if self.breaks_at == Some(self.at) {
                return Err(io::Error::other("disk"));
            }
            let end = self.all.len().min(self.at + size);
            let part = self.all[self.at..end].to_vec();
            self.at = end;
            Ok(part)
        }

        fn rewind(&mut self) -> io::Result<()> {
            self.at = 0;
            Ok(())
        }

        fn begun(&mut self) -> Option<Upload> {
            self.note.clone()
        }

        fn remember(&mut self, upload: &Upload) -> bool {
            self.note = (!self.forgets).then(|| upload.clone());
            !self.forgets
        }
    }

    fn read(store: &Store) -> Vec<u8> {
        store.read("large", SIZE, NEVER).expect("reads").expect("it is there")
    }

    #[test]
    fn parts_make_one_object_and_a_failure_between_them_leaves_none() {
        let store = in_memory();
        let mut bytes = Bytes::new();
        assert_eq!(store.put_parts("large", SIZE, &mut bytes, NEVER).expect("puts"), SIZE);
        assert_eq!(read(&store), bytes.all);
        let mut broken = Bytes { breaks_at: Some(PART as usize), ..Bytes::new() };
        assert!(matches!(store.put_parts("other", SIZE, &mut broken, NEVER), Err(Fault::Local(_))));
        assert_eq!(store.size("other", NEVER).expect("asks"), None);
    }

    #[test]
    fn an_upload_that_broke_off_goes_on_with_the_parts_that_are_missing() {
        let flaky = Flaky::new(2);
        let (store, mut bytes) = (flaky.store(), Bytes::new());
        assert!(matches!(store.put_parts("large", SIZE, &mut bytes, NEVER), Err(Fault::Down(_))));
        let mut there = flaky.take_parts();
        assert_eq!((there.len(), store.size("large", NEVER).expect("asks")), (2, None));
        assert_eq!(*flaky.aborted.lock().expect("nobody panicked"), Vec::<String>::new());
        flaky.parts_left.store(100, Ordering::Relaxed);
        bytes.rewind().expect("memory");
        let sent = store.put_parts("large", SIZE, &mut bytes, NEVER).expect("puts");
        let others = flaky.take_parts();
        assert_eq!(others.len(), 2);
        assert!((2 * 1000..SIZE).contains(&sent), "{sent}");
        there.extend(others);
        there.sort_unstable();
        assert_eq!(there, [0, 1, 2, 3], "each part came once");
        assert_eq!(read(&store), bytes.all);
    }

    #[test]
    fn a_part_that_has_other_bytes_by_now_is_sent_again() {
        let flaky = Flaky::new(2);
        let (store, mut bytes) = (flaky.store(), Bytes::new());
        bytes.all[0] = 99;
        assert!(store.put_parts("large", SIZE, &mut bytes, NEVER).is_err());
        let _ = flaky.take_parts();
        flaky.parts_left.store(100, Ordering::Relaxed);
        bytes.all[0] = 0;
        bytes.rewind().expect("memory");
        store.put_parts("large", SIZE, &mut bytes, NEVER).expect("puts");
        assert!(flaky.take_parts().contains(&0));
        assert_eq!(read(&store), bytes.all);
    }

    #[test]
    fn an_upload_that_the_store_forgot_or_of_another_part_size_begins_anew() {
        for (id, part_size) in [("12345", PART), ("77", PART + 1), ("", PART)] {
            let flaky = Flaky::new(100);
            let (store, mut bytes) = (flaky.store(), Bytes::new());
            let part = Part { id: "x".into(), digest: Digest::of(&bytes.all[..PART as usize]) };
            let parts = BTreeMap::from([(0, part.clone()), (7, part)]);
            bytes.note = Some(Upload { id: id.into(), part_size, parts, stalled: 0 });
            assert_eq!(store.put_parts("large", SIZE, &mut bytes, NEVER).expect("puts"), SIZE);
            assert_eq!(read(&store), bytes.all);
            assert_eq!(
                *flaky.aborted.lock().expect("nobody panicked"),
                [id],
                "what is lost is given up, if it is there"
            );
        }
    }

    #[test]
    fn an_upload_that_the_store_fails_at_begins_anew_where_it_got_no_further_three_times() {
        let flaky = Flaky::new(2);
        let (store, mut bytes) = (flaky.store(), Bytes::new());
        let mut push = |parts_left: u64, answers: bool| {
            flaky.parts_left.store(parts_left, Ordering::Relaxed);
            flaky.answers.store(answers, Ordering::Relaxed);
            bytes.rewind().expect("memory");
            let sent = store.put_parts("large", SIZE, &mut bytes, NEVER);
            (sent.ok(), flaky.take_parts().len(), bytes.note.as_ref().map_or(0, |note| note.stalled))
        };
        assert_eq!(push(1, true), (None, 1, 0));
        // Silence says nothing of the upload.
        assert_eq!([push(0, false), push(0, true), push(0, true)], [(None, 0, 0), (None, 0, 1), (None, 0, 2)]);
        assert_eq!(push(1, true), (None, 1, 0), "a part more, and it counts from the beginning");
        assert_eq!([1, 2, 3].map(|_| push(0, true).2), [1, 2, 3]);
        assert_eq!(flaky.aborted.lock().expect("nobody panicked").len(), 0);
        assert_eq!(push(100, true), (Some(SIZE), 4, 0));
        assert_eq!(flaky.aborted.lock().expect("nobody panicked").len(), 1);
    }

    #[test]
    fn what_nobody_remembers_is_given_up() {
        let flaky = Flaky::new(1);
        let mut bytes = Bytes { forgets: true, ..Bytes::new() };
        assert!(flaky.store().put_parts("large", SIZE, &mut bytes, NEVER).is_err());
        assert_eq!(flaky.aborted.lock().expect("nobody panicked").len(), 1);
    }
}
