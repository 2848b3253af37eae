//! The bytes of a name: one stream, or, where they are many, pieces that are asked for at once and passed on in order.

use super::failure::down;
use super::{ANSWER, Fault, SLOWEST, Stop, Store, silent, time_for};
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt};
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

/// From here on an object comes in pieces.
pub(super) const PIECES_FROM: u64 = 16 << 20;
const PIECE: u64 = 8 << 20;
/// Pieces of all objects together that are under way, or wait for the one before them: so much memory is used.
pub(super) const PIECES_AT_ONCE: usize = 10;

/// How many bytes a name should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// As a record says.
    Exactly(u64),
    AtMost(u64),
}

impl Expected {
    fn limit(self) -> u64 {
        let (Self::Exactly(bytes) | Self::AtMost(bytes)) = self;
        bytes
    }
}

/// A piece that came, and its share of the memory.
type Came = Result<(u64, Vec<u8>, OwnedSemaphorePermit), Fault>;

/// What all pieces of a name have in common.
#[derive(Clone)]
struct Whole {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
    /// Which version it is; `None` where the store does not say, or not well enough to ask for it.
    version: Option<String>,
}

impl Store {
    /// Passes the bytes of a name on to `sink`, no more than expected; gives how many, or `None` where there is no such
    /// name.
    pub fn get(
        &self,
        name: &str,
        expected: Expected,
        sink: &mut dyn Write,
        stop: Stop<'_>,
    ) -> Result<Option<u64>, Fault> {
        let (path, limit) = (self.path(name), expected.limit());
        let too_many = || Fault::Lies(format!("{name} has more bytes than the {limit} that it should have"));
        let in_pieces = self.gives_pieces && matches!(expected, Expected::Exactly(bytes) if bytes >= PIECES_FROM);
        self.wait(time_for(limit), stop, async {
            // Before anything is asked for: no answer waits until others have passed theirs on.
            let share = if in_pieces { Some(self.share().await) } else { None };
            let Some((found, is_piece)) = self.ask(&path, in_pieces).await? else { return Ok(None) };
            if found.meta.size > limit {
                return Err(too_many());
            }
            if let (true, Some(share)) = (is_piece, share) {
                return self.pass_pieces_on(path, found, share, sink).await.map(Some);
            }
            let (mut stream, mut bytes, began) = (found.into_stream(), 0, Instant::now());
            while let Some(chunk) = tokio::time::timeout(ANSWER, stream.next()).await.map_err(|_| silent())? {
                let chunk = chunk.map_err(|error| down(&error))?;
                bytes += chunk.len() as u64;
                if bytes > limit {
                    return Err(too_many());
                }
                be_quick(began, bytes)?;
                sink.write_all(&chunk).map_err(Fault::Local)?;
            }
            Ok(Some(bytes))
        })
    }

    /// Asks for all of a name, or for its first piece; gives which of them the answer is.
    async fn ask(&self, path: &Path, in_pieces: bool) -> Result<Option<(GetResult, bool)>, Fault> {
        let asked = async {
            if in_pieces {
                match self.objects.get_opts(path, piece(0..PIECE, None)).await {
                    Ok(found) => return Ok((found, true)),
                    // It may be a web server that knows no pieces.
                    Err(object_store::Error::Generic { .. } | object_store::Error::NotSupported { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            self.objects.get(path).await.map(|found| (found, false))
        };
        // A store that does not answer is not waited for as long as one that sends much.
        match tokio::time::timeout(ANSWER, asked).await.map_err(|_| silent())? {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(down(&error)),
        }
    }

    /// Passes all pieces on in order, `first` of them. A piece holds its share of the memory until it was passed on, and the
    /// next one to be passed on always has a share: objects that wait for one another don't wait for ever.
    async fn pass_pieces_on(
        &self,
        path: Path,
        first: GetResult,
        share: OwnedSemaphorePermit,
        sink: &mut dyn Write,
    ) -> Result<u64, Fault> {
        let bytes = first.meta.size;
        // By the rules of HTTP, a weak tag never matches.
        let version = first.meta.e_tag.clone().filter(|tag| !tag.starts_with("W/"));
        let whole = Whole { objects: Arc::clone(&self.objects), path, bytes, version };
        let (mut under_way, mut came) = (JoinSet::<Came>::new(), BTreeMap::new());
        let (pieces, mut asked, mut passed_on) = (bytes.div_ceil(PIECE), 1, 0);
        let of_first = whole.clone();
        under_way.spawn(async move { Ok((0, of_first.read(first, of_first.range(0)).await?, share)) });
        while passed_on < pieces {
            while asked < pieces {
                let share = if under_way.is_empty() {
                    self.share().await
                } else {
                    match Arc::clone(&self.shares).try_acquire_owned() {
                        Ok(share) => share,
                        Err(_) => break,
                    }
                };
                let (whole, number) = (whole.clone(), asked);
                under_way.spawn(async move { Ok((number, whole.fetch(number).await?, share)) });
                asked += 1;
            }
            let joined = under_way.join_next().await.expect("the next piece is under way");
            let (number, content, share) = joined.map_err(|e| Fault::Down(format!("a request broke off: {e}")))??;
            came.insert(number, (content, share));
            while let Some((content, _share)) = came.remove(&passed_on) {
                sink.write_all(&content).map_err(Fault::Local)?;
                passed_on += 1;
            }
        }
        Ok(bytes)
    }

    async fn share(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.shares).acquire_owned().await.expect("shares are never closed")
    }
}

impl Whole {
    fn range(&self, number: u64) -> Range<u64> {
        number * PIECE..self.bytes.min((number + 1) * PIECE)
    }

    async fn fetch(&self, number: u64) -> Result<Vec<u8>, Fault> {
        let range = self.range(number);
        let asked = self.objects.get_opts(&self.path, piece(range.clone(), self.version.clone()));
        let found = match tokio::time::timeout(ANSWER, asked).await.map_err(|_| silent())? {
            Ok(found) => found,
            Err(object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. }) => {
                return Err(self.lies("changed while it was read"));
            }
            Err(error) => return Err(down(&error)),
        };
        self.read(found, range).await
    }

    /// Reads the answer to the question for a piece.
    async fn read(&self, found: GetResult, range: Range<u64>) -> Result<Vec<u8>, Fault> {
        if found.meta.size != self.bytes || found.range != range {
            return Err(self.lies("changed while it was read"));
        }
        let size = (range.end - range.start) as usize;
        let (mut content, mut stream, began) = (Vec::with_capacity(size), found.into_stream(), Instant::now());
        while let Some(chunk) = tokio::time::timeout(ANSWER, stream.next()).await.map_err(|_| silent())? {
            let chunk = chunk.map_err(|error| down(&error))?;
            if content.len() + chunk.len() > size {
                return Err(self.lies("has more bytes than were asked for"));
            }
            content.extend_from_slice(&chunk);
            be_quick(began, content.len() as u64)?;
        }
        if content.len() == size { Ok(content) } else { Err(self.lies("has fewer bytes than were asked for")) }
    }

    fn lies(&self, what: &str) -> Fault {
        Fault::Lies(format!("{} {what}", self.path))
    }
}

fn piece(range: Range<u64>, version: Option<String>) -> GetOptions {
    GetOptions { range: Some(GetRange::Bounded(range)), if_match: version, ..GetOptions::default() }
}

/// So many bytes should have come by now.
fn be_quick(began: Instant, bytes: u64) -> Result<(), Fault> {
    if began.elapsed() > time_for(bytes) {
        let slowest = SLOWEST >> 10;
        return Err(Fault::Down(format!("it sends less than {slowest} KiB each second")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Put;
    use super::super::tests::in_memory;
    use super::*;

    const NEVER: Stop<'static> = &|| false;
    const SIZE: u64 = (PIECES_AT_ONCE as u64 + 3) * PIECE + 77;

    fn large(store: &Store) -> Vec<u8> {
        let bytes: Vec<u8> = (0..SIZE).map(|n| (n / 999) as u8).collect();
        store.put("large", bytes.clone(), Put::Over, NEVER).expect("puts");
        bytes
    }

    #[test]
    fn pieces_come_in_order_also_where_several_objects_share_the_memory() {
        let store = in_memory();
        let bytes = large(&store);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut got = Vec::new();
                    let size = store.get("large", Expected::Exactly(SIZE), &mut got, NEVER).expect("gets");
                    assert!(size == Some(SIZE) && got == bytes);
                });
            }
        });
        assert_eq!(store.shares.available_permits(), PIECES_AT_ONCE);
    }

    #[test]
    fn an_object_of_another_size_is_told_and_one_that_is_not_there_too() {
        let store = in_memory();
        let bytes = large(&store);
        let get = |name: &str, size| store.get(name, Expected::Exactly(size), &mut Vec::new(), NEVER);
        assert!(matches!(get("large", SIZE - 1), Err(Fault::Lies(_))));
        // Whoever hashes what came finds that it is too short.
        assert_eq!(get("large", SIZE + 1).expect("gets"), Some(SIZE));
        assert_eq!(get("none", SIZE).expect("asks"), None);
        store.put("large", bytes[..10].to_vec(), Put::Over, NEVER).expect("puts");
        assert_eq!(get("large", SIZE).expect("gets"), Some(10));
        store.put("large", Vec::new(), Put::Over, NEVER).expect("puts");
        assert_eq!(get("large", SIZE).expect("gets"), Some(0));
    }

    #[test]
    fn an_object_that_changes_between_two_pieces_is_not_pieced_together() {
        let store = in_memory();
        let bytes = large(&store);
        let fetch = |bytes: u64, version: &str| {
            let (objects, path) = (Arc::clone(&store.objects), store.path("large"));
            let whole = Whole { objects, path, bytes, version: Some(version.to_owned()) };
            store.wait(ANSWER, NEVER, async { whole.fetch(1).await })
        };
        let version = store.wait(ANSWER, NEVER, async {
            store.objects.head(&store.path("large")).await.map_err(|error| down(&error))
        });
        let version = version.expect("asks").e_tag.expect("memory has versions");
        assert!(fetch(SIZE, &version).is_ok_and(|piece| piece == bytes[PIECE as usize..2 * PIECE as usize]));
        assert!(matches!(fetch(SIZE + 5, &version), Err(Fault::Lies(_))));
        large(&store);
        assert!(matches!(fetch(SIZE, &version), Err(Fault::Lies(what)) if what.contains("changed while it was read")));
    }
}
