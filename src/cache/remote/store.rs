//! What a shared cache is kept in, as seen from threads that wait: seven verbs, each of bounded time.
//!
//! Whatever waits asynchronously stays in this file.

use super::address::Address;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, WriteMultipart};
use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// Whoever waits may be told to stop: asked so often.
const HEED: Duration = Duration::from_millis(100);
/// An answer that has no large body takes no longer, or the store counts as gone.
const ANSWER: Duration = Duration::from_secs(20);
/// Bytes move at least so fast, or the store counts as gone.
const SLOWEST: u64 = 32 << 10; // bytes each second
/// From here on an object is sent in parts.
pub const PARTS_FROM: u64 = 16 << 20;
/// A part at least; stores take ten thousand of them.
const PART: u64 = 8 << 20;
/// Parts of one object that are under way at once.
const PARTS_AT_ONCE: usize = 8;

/// Asked while a thread waits: whether to give up.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// Why a verb did not do what it says.
#[derive(Debug)]
pub enum Fault {
    /// The store is gone, slow, full, or refuses; in words without secrets.
    Down(String),
    /// It sent more, or other, than it said it would.
    Lies(String),
    /// Our own disk failed.
    Local(io::Error),
    /// Somebody asked to stop.
    Stopped,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(what) | Self::Lies(what) => f.write_str(what),
            Self::Local(error) => write!(f, "{error}"),
            Self::Stopped => f.write_str("interrupted"),
        }
    }
}

/// Whether what is there already stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It stays, where the store keeps names for who comes first.
    New,
    /// It gives way.
    Over,
}

/// A thing in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub bytes: u64,
    /// Seconds since 1970, by the store's clock.
    pub modified: i64,
}

/// An open store; all names begin below a prefix.
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Taken when it is dropped: a request that hangs must not hold the program up.
    runtime: Option<Runtime>,
}

impl Store {
    /// Opens a store; asks it nothing.
    pub fn open(address: &Address) -> Result<Self, String> {
        let (store, prefix) = super::connect::connect(address)?;
        Self::of(store, prefix)
    }

    pub(super) fn of(store: Arc<dyn ObjectStore>, prefix: Path) -> Result<Self, String> {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("remote").enable_all().build();
        let runtime = runtime.map_err(|e| format!("can't start threads for the shared cache: {e}"))?;
        Ok(Self { objects: store, prefix, runtime: Some(runtime) })
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Waits for an answer of the store, and no longer than `limit`.
    fn wait<T>(
        &self,
        limit: Duration,
        stop: Stop<'_>,
        asked: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let runtime = self.runtime.as_ref().expect("taken by drop alone");
        runtime.block_on(async {
            let (mut asked, end) = (pin!(asked), Instant::now() + limit);
            loop {
                if let Ok(answer) = tokio::time::timeout(HEED, &mut asked).await {
                    return answer;
                }
                if stop() {
                    return Err(Fault::Stopped);
                }
                if Instant::now() > end {
                    return Err(Fault::Down(format!("not done within {} s", limit.as_secs())));
                }
            }
        })
    }

    /// Passes the bytes of a name on to `sink`, at most `limit` of them; gives how many, or `None` where there is no such
    /// name.
    pub fn get(&self, name: &str, limit: u64, sink: &mut dyn Write, stop: Stop<'_>) -> Result<Option<u64>, Fault> {
        let path = self.path(name);
        let too_many = || Fault::Lies(format!("{name} has more bytes than the {limit} that it should have"));
        self.wait(time_for(limit), stop, async {
            // A store that does not answer is not waited for as long as one that sends much.
            let found = match tokio::time::timeout(ANSWER, self.objects.get(&path)).await.map_err(|_| silent())? {
                Ok(found) => found,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(down(&error)),
            };
            if found.meta.size > limit {
                return Err(too_many());
            }
            let (mut stream, mut bytes, began) = (found.into_stream(), 0, Instant::now());
            while let Some(chunk) = tokio::time::timeout(ANSWER, stream.next()).await.map_err(|_| silent())? {
                let chunk = chunk.map_err(|error| down(&error))?;
                bytes += chunk.len() as u64;
                if bytes > limit {
                    return Err(too_many());
                }
                if began.elapsed() > time_for(bytes) {
                    let slowest = SLOWEST >> 10;
                    return Err(Fault::Down(format!("it sends less than {slowest} KiB each second")));
                }
                sink.write_all(&chunk).map_err(Fault::Local)?;
            }
            Ok(Some(bytes))
        })
    }

    /// The bytes of a small thing; `None` where there is no such name.
    pub fn read(&self, name: &str, limit: u64, stop: Stop<'_>) -> Result<Option<Vec<u8>>, Fault> {
        let mut bytes = Vec::new();
        Ok(self.get(name, limit, &mut bytes, stop)?.map(|_| bytes))
    }

    /// How many bytes a name has; `None` where there is no such name.
    pub fn size(&self, name: &str, stop: Stop<'_>) -> Result<Option<u64>, Fault> {
        let path = self.path(name);
        self.wait(ANSWER, stop, async {
            match self.objects.head(&path).await {
                Ok(found) => Ok(Some(found.size)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(down(&error)),
            }
        })
    }

    /// Puts bytes under a name; `false` where something was there and stays.
    pub fn put(&self, name: &str, bytes: Vec<u8>, put: Put, stop: Stop<'_>) -> Result<bool, Fault> {
        let path = self.path(name);
        let mode = if put == Put::New { PutMode::Create } else { PutMode::Overwrite };
        self.wait(time_for(bytes.len() as u64), stop, async {
            let options = PutOptions { mode, ..PutOptions::default() };
            match self.objects.put_opts(&path, bytes.into(), options).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
                Err(error) => Err(down(&error)),
            }
        })
    }

    /// Puts many bytes under a name, part by part as `next` gives them; the name is there once all are. Where `next` or the
    /// store fails, nothing is left of it.
    pub fn put_parts(
        &self,
        name: &str,
        bytes: u64,
        next: &mut dyn FnMut(usize) -> io::Result<Vec<u8>>,
        stop: Stop<'_>,
    ) -> Result<(), Fault> {
        let path = self.path(name);
        let part = PART.max(bytes / 9_000) as usize;
        let begun = self.wait(ANSWER, stop, async { self.objects.put_multipart(&path).await.map_err(|e| down(&e)) })?;
        let mut upload = WriteMultipart::new_with_chunk_size(begun, part);
        let sent = self.wait(time_for(bytes), stop, async {
            loop {
                let chunk = next(part).map_err(Fault::Local)?;
                if chunk.is_empty() {
                    return Ok(());
                }
                upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|error| down(&error))?;
                upload.put(Bytes::from(chunk));
                // Lets a request to stop be heard where the disk is quicker than the network.
                tokio::task::yield_now().await;
            }
        });
        match sent {
            Ok(()) => self
                .wait(time_for(bytes), stop, async { upload.finish().await.map(drop).map_err(|error| down(&error)) }),
            Err(fault) => {
                // Its parts cost storage until somebody removes them.
                let _ = self.wait(ANSWER, &|| false, async { upload.abort().await.map_err(|error| down(&error)) });
                Err(fault)
            }
        }
    }

    /// All things below a folder.
    pub fn list(&self, folder: &str, stop: Stop<'_>) -> Result<Vec<Listed>, Fault> {
        let path = self.path(folder);
        self.wait(Duration::from_mins(30), stop, async {
            let found = self.objects.list(Some(&path)).map_err(|error| down(&error));
            let listed = found.try_filter_map(|meta| async move {
                let parts: Option<Vec<_>> = meta.location.prefix_match(&self.prefix).map(Iterator::collect);
                Ok(parts.map(|parts| Listed {
                    name: parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("/"),
                    bytes: meta.size,
                    modified: meta.last_modified.timestamp(),
                }))
            });
            listed.try_collect().await
        })
    }

    /// Takes a name away; none there is no failure.
    pub fn delete(&self, name: &str, stop: Stop<'_>) -> Result<(), Fault> {
        let path = self.path(name);
        self.wait(ANSWER, stop, async {
            match self.objects.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(down(&error)),
            }
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn silent() -> Fault {
    Fault::Down(format!("no answer within {} s", ANSWER.as_secs()))
}

fn time_for(bytes: u64) -> Duration {
    ANSWER + Duration::from_secs(bytes / SLOWEST)
}

fn down(error: &object_store::Error) -> Fault {
    let what = match error {
        object_store::Error::PermissionDenied { .. } => "the store refuses the credentials, or what they may do",
        object_store::Error::Unauthenticated { .. } => "the store wants credentials, or other ones",
        _ => "the store failed",
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    Fault::Down(format!("{what} ({})", essence(&text)))
}

/// What matters of a store's answer. Its text may repeat the request, with its signature: an answer in XML is cut down to its
/// code and message, and queries of URLs go.
fn essence(text: &str) -> String {
    let between = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once(&format!("</{tag}>"))?.0.to_owned())
    };
    if let Some(code) = between("Code") {
        let message = between("Message").unwrap_or_default();
        return format!("{code}: {}", message.lines().next().unwrap_or_default())
            .trim_end_matches([':', ' '])
            .to_owned();
    }
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let words = line.split(' ').map(|word| match word.split_once('?') {
        Some((url, _)) if url.contains("://") => format!("{url}?…"),
        _ => word.to_owned(),
    });
    let line = words.collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 400 { line } else { line.chars().take(400).chain("…".chars()).collect() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use object_store::memory::InMemory;

    /// A store in memory.
    pub fn in_memory() -> Store {
        Store::of(Arc::new(InMemory::new()), Path::from("lab")).expect("starts")
    }

    const NEVER: Stop<'static> = &|| false;

    #[test]
    fn what_is_put_is_there_and_a_new_name_is_given_once() {
        let store = in_memory();
        assert_eq!(store.size("a/b", NEVER).expect("asks"), None);
        assert!(store.put("a/b", b"one".to_vec(), Put::New, NEVER).expect("puts"));
        assert!(!store.put("a/b", b"two".to_vec(), Put::New, NEVER).expect("puts"));
        assert_eq!(store.read("a/b", 3, NEVER).expect("reads"), Some(b"one".to_vec()));
        assert!(matches!(store.read("a/b", 2, NEVER), Err(Fault::Lies(_))));
        assert!(store.put("a/b", b"four".to_vec(), Put::Over, NEVER).expect("puts"));
        let names: Vec<String> = store.list("a", NEVER).expect("lists").into_iter().map(|found| found.name).collect();
        assert_eq!((names, store.size("a/b", NEVER).expect("asks")), (vec!["a/b".to_owned()], Some(4)));
        store.delete("a/b", NEVER).expect("deletes");
        store.delete("a/b", NEVER).expect("none there is no failure");
    }

    #[test]
    fn parts_make_one_object_and_a_failure_between_them_leaves_none() {
        let store = in_memory();
        let mut chunks = vec![vec![], vec![2; 1000], vec![1; PART as usize]];
        store.put_parts("large", PART + 1000, &mut |_| Ok(chunks.pop().expect("asked no more")), NEVER).expect("puts");
        assert_eq!(store.size("large", NEVER).expect("asks"), Some(PART + 1000));
        let mut begun = false;
        let mut broken =
            |_| if std::mem::replace(&mut begun, true) { Err(io::Error::other("disk")) } else { Ok(vec![0; 9]) };
        assert!(matches!(store.put_parts("other", 18, &mut broken, NEVER), Err(Fault::Local(_))));
        assert_eq!(store.size("other", NEVER).expect("asks"), None);
    }

    #[test]
    fn messages_keep_what_matters_and_no_signature() {
        let xml = "Error performing GET http://h/b?X-Amz-Signature=s3cret: <?xml?><Error><Code>SignatureDoesNotMatch</Code>\
                   <Message>The signature does not match.</Message><StringToSign>s3cret</StringToSign></Error>";
        assert_eq!(essence(xml), "SignatureDoesNotMatch: The signature does not match.");
        assert_eq!(essence("403: <Error><Code>SignatureDoesNotMatch</Code></Error>"), "SignatureDoesNotMatch");
        assert_eq!(essence("GET https://h/c?sig=s3cret failed"), "GET https://h/c?… failed");
    }
}
