//! A store in memory whose uploads break off; for tests alone.

use super::Store;
use super::tests::with;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, PutPayload, PutResult};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Breaks off after so many parts.
pub struct Flaky {
    pub objects: Arc<InMemory>,
    pub parts_left: AtomicU64,
    /// Says that it failed, where it breaks off; else it is gone.
    pub answers: AtomicBool,
    /// Numbers of the parts that came.
    pub came: Mutex<Vec<usize>>,
    pub aborted: Mutex<Vec<String>>,
}

impl Flaky {
    pub fn new(parts_left: u64) -> Arc<Self> {
        let objects = Arc::new(InMemory::new());
        let (came, aborted) = (Mutex::default(), Mutex::default());
        let (parts_left, answers) = (AtomicU64::new(parts_left), AtomicBool::new(false));
        Arc::new(Self { objects, parts_left, answers, came, aborted })
    }

    pub fn store(self: &Arc<Self>) -> Store {
        with(Arc::clone(&self.objects), Some(Arc::clone(self) as _))
    }

    /// The parts that came since this was last asked.
    pub fn take_parts(&self) -> Vec<usize> {
        let mut parts = std::mem::take(&mut *self.came.lock().expect("nobody panicked"));
        parts.sort_unstable();
        parts
    }
}

type Answered<'a, T> = Pin<Box<dyn Future<Output = object_store::Result<T>> + Send + 'a>>;

impl MultipartStore for Flaky {
    fn create_multipart<'a, 'b, 'c>(&'a self, path: &'b Path) -> Answered<'c, MultipartId>
    where
        'a: 'c,
        'b: 'c,
    {
        self.objects.create_multipart(path)
    }

    fn put_part<'a, 'b, 'd, 'c>(
        &'a self,
        path: &'b Path,
        id: &'d MultipartId,
        number: usize,
        data: PutPayload,
    ) -> Answered<'c, PartId>
    where
        'a: 'c,
        'b: 'c,
        'd: 'c,
    {
        let left = self.parts_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_err() {
            let answers = self.answers.load(Ordering::Relaxed);
            let what =
                if answers { "Server returned non-2xx status code: 500" } else { "HTTP error: connection refused" };
            let source = format!("Error performing PUT - {what}").into();
            return Box::pin(async { Err(object_store::Error::Generic { store: "S3", source }) });
        }
        self.came.lock().expect("nobody panicked").push(number);
        self.objects.put_part(path, id, number, data)
    }

    fn complete_multipart<'a, 'b, 'd, 'c>(
        &'a self,
        path: &'b Path,
        id: &'d MultipartId,
        parts: Vec<PartId>,
    ) -> Answered<'c, PutResult>
    where
        'a: 'c,
        'b: 'c,
        'd: 'c,
    {
        self.objects.complete_multipart(path, id, parts)
    }

    fn abort_multipart<'a, 'b, 'd, 'c>(&'a self, path: &'b Path, id: &'d MultipartId) -> Answered<'c, ()>
    where
        'a: 'c,
        'b: 'c,
        'd: 'c,
    {
        self.aborted.lock().expect("nobody panicked").push(id.clone());
        self.objects.abort_multipart(path, id)
    }
}
