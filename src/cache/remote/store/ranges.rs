//! Large things, fetched by several questions at once, each for a part: one answer alone is often slower than the network.

use super::{ANSWER, Fault, SLOWEST, Stop, Store, down, silent, time_for};
use futures_util::{StreamExt, stream};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinHandle;

/// Bytes of one answer.
const RANGE: u64 = 8 << 20;
/// Answers that are under way at once; each takes its bytes in memory.
const AT_ONCE: usize = 6;

/// How much of a part came, and of how much in all; `None` where there is no such name.
type Part = Option<(u64, Vec<u8>)>;

impl Store {
    /// As [`Store::get`], for a name of some `bytes` bytes or fewer. A server that gives no parts is asked for the whole.
    pub fn get_large(
        &self,
        name: &str,
        bytes: u64,
        sink: &mut dyn Write,
        stop: Stop<'_>,
    ) -> Result<Option<u64>, Fault> {
        let fetch = Fetch {
            objects: Arc::clone(&self.objects),
            path: self.path(name),
            began: Instant::now(),
            arrived: Arc::default(),
        };
        let (size, head) = match self.wait(time_for(RANGE), stop, fetch.clone().part(0..RANGE.min(bytes))) {
            Ok(Some(first)) => first,
            Ok(None) => return Ok(None),
            Err(Fault::Stopped) => return Err(Fault::Stopped),
            Err(_) => return self.get(name, bytes, sink, stop),
        };
        if size > bytes {
            return Err(Fault::Lies(format!("{name} has more bytes than the {bytes} that it should have")));
        }
        sink.write_all(&head).map_err(Fault::Local)?;
        let mut written = head.len() as u64;
        self.wait(time_for(size), stop, async {
            let ranges = (written..size).step_by(RANGE as usize).map(|from| from..size.min(from + RANGE));
            // Each on a thread of the runtime: this one hashes and writes meanwhile.
            let parts = ranges.map(|range| Task(tokio::spawn(fetch.clone().part(range))).ended());
            let mut parts = stream::iter(parts).buffered(AT_ONCE);
            while let Some(part) = parts.next().await {
                let Some((_, part)) = part? else { return Err(Fault::Down(format!("{name} went away meanwhile"))) };
                sink.write_all(&part).map_err(Fault::Local)?;
                written += part.len() as u64;
            }
            Ok(Some(written))
        })
    }
}

/// What all parts of one thing have in common.
#[derive(Clone)]
struct Fetch {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    began: Instant,
    /// Bytes of all parts.
    arrived: Arc<AtomicU64>,
}

impl Fetch {
    async fn part(self, range: Range<u64>) -> Result<Part, Fault> {
        let wanted = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let asked = tokio::time::timeout(ANSWER, self.objects.get_opts(&self.path, options)).await;
        let found = match asked.map_err(|_| silent())? {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(down(&error)),
        };
        let (size, mut bytes) = (found.meta.size, Vec::with_capacity(wanted as usize));
        let mut stream = found.into_stream();
        while let Some(chunk) = tokio::time::timeout(ANSWER, stream.next()).await.map_err(|_| silent())? {
            let chunk = chunk.map_err(|error| down(&error))?;
            if bytes.len() as u64 + chunk.len() as u64 > wanted {
                return Err(Fault::Lies(format!("{} was asked for {wanted} bytes, and sends more", self.path)));
            }
            bytes.extend_from_slice(&chunk);
            let all = self.arrived.fetch_add(chunk.len() as u64, Ordering::Relaxed) + chunk.len() as u64;
            if self.began.elapsed() > time_for(all) {
                return Err(Fault::Down(format!("it sends less than {} KiB each second", SLOWEST >> 10)));
            }
        }
        Ok(Some((size, bytes)))
    }
}

/// Work on a thread of the runtime that ends when nobody waits for it any more.
struct Task(JoinHandle<Result<Part, Fault>>);

impl Task {
    async fn ended(mut self) -> Result<Part, Fault> {
        (&mut self.0).await.map_err(|error| Fault::Down(error.to_string()))?
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Put;
    use super::super::tests::{NEVER, in_memory};
    use super::*;

    #[test]
    fn parts_come_together_in_their_order() {
        let store = in_memory();
        for length in [0, 1, RANGE - 1, RANGE, RANGE + 1, 3 * RANGE + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 1000) as u8 ^ at as u8).collect();
            store.put("large", bytes.clone(), Put::Over, NEVER).expect("puts");
            let mut got = Vec::new();
            let known = store.get_large("large", length, &mut got, NEVER).expect("gets");
            assert!(known == Some(length) && got == bytes, "{length}: {known:?}");
            // More room than there is.
            let mut got = Vec::new();
            assert_eq!(store.get_large("large", length + RANGE, &mut got, NEVER).expect("gets"), Some(length));
            assert!(got == bytes, "{length}");
            if length > 0 {
                assert!(matches!(store.get_large("large", length - 1, &mut Vec::new(), NEVER), Err(Fault::Lies(_))));
            }
        }
        assert_eq!(store.get_large("none", RANGE, &mut Vec::new(), NEVER).expect("asks"), None);
        assert!(matches!(store.get_large("large", 4 * RANGE, &mut Vec::new(), &|| true), Ok(_) | Err(Fault::Stopped)));
    }
}
