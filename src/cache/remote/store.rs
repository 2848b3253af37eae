//! What a shared cache is kept in, as seen from threads that wait: eight verbs, each of bounded time.
//!
//! Whatever waits asynchronously stays in this file and those below it.
//!
//! ```text
//! bytes        the bytes of a name, in one stream or in pieces
//! parts        many bytes under a name, part by part, from where it was left
//! failure      what a store's failures mean
//! ```

use super::address::Address;
use super::connect::Opened;
use failure::down;
use futures_util::TryStreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

mod bytes;
mod failure;
#[cfg(test)]
pub(super) mod flaky;
mod parts;

pub use bytes::Expected;
pub use parts::{PARTS_FROM, Parts, Upload};

/// Whoever waits may be told to stop: asked so often.
const HEED: Duration = Duration::from_millis(100);
/// An answer that has no large body takes no longer, or the store counts as gone.
const ANSWER: Duration = Duration::from_secs(20);
/// Bytes move at least so fast, or the store counts as gone.
const SLOWEST: u64 = 32 << 10; // bytes each second

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
    /// The same, where uploads are things of their own there.
    uploads: Option<Arc<dyn MultipartStore>>,
    prefix: Path,
    gives_pieces: bool,
    /// Of the memory for pieces.
    shares: Arc<Semaphore>,
    /// Taken when it is dropped: a request that hangs must not hold the program up.
    runtime: Option<Runtime>,
}

impl Store {
    /// Opens a store; asks it nothing.
    pub fn open(address: &Address) -> Result<Self, String> {
        Self::of(super::connect::connect(address)?)
    }

    fn of(opened: Opened) -> Result<Self, String> {
        let Opened { objects, uploads, prefix, gives_pieces } = opened;
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("remote").enable_all().build();
        let runtime = runtime.map_err(|e| format!("can't start threads for the shared cache: {e}"))?;
        let shares = Arc::new(Semaphore::new(bytes::PIECES_AT_ONCE));
        Ok(Self { objects, uploads, prefix, gives_pieces, shares, runtime: Some(runtime) })
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Waits for an answer of the store, and no longer than `limit`.
    fn wait<T, E: From<Fault>>(
        &self,
        limit: Duration,
        stop: Stop<'_>,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let runtime = self.runtime.as_ref().expect("taken by drop alone");
        runtime.block_on(async {
            let (mut asked, end) = (pin!(asked), Instant::now() + limit);
            loop {
                if let Ok(answer) = tokio::time::timeout(HEED, &mut asked).await {
                    return answer;
                }
                if stop() {
                    return Err(Fault::Stopped.into());
                }
                if Instant::now() > end {
                    return Err(Fault::Down(format!("not done within {} s", limit.as_secs())).into());
                }
            }
        })
    }

    /// The bytes of a small thing; `None` where there is no such name.
    pub fn read(&self, name: &str, limit: u64, stop: Stop<'_>) -> Result<Option<Vec<u8>>, Fault> {
        let mut bytes = Vec::new();
        Ok(self.get(name, Expected::AtMost(limit), &mut bytes, stop)?.map(|_| bytes))
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use object_store::memory::InMemory;

    /// A store in memory.
    pub fn in_memory() -> Store {
        let objects = Arc::new(InMemory::new());
        let uploads = Some(Arc::clone(&objects) as _);
        with(objects, uploads)
    }

    pub fn with(objects: Arc<InMemory>, uploads: Option<Arc<dyn MultipartStore>>) -> Store {
        Store::of(Opened { objects, uploads, prefix: Path::from("lab"), gives_pieces: true }).expect("starts")
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
}
