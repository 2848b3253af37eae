//! Large things, sent in parts of which each has its receipt: an upload that was cut short goes on with those that are missing.

use super::{ANSWER, Fault, PART, PARTS_AT_ONCE, Stop, Store, down, time_for};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use object_store::multipart::{MultipartStore, PartId};
use std::collections::BTreeMap;
use std::io;

/// The most parts that a store takes of one thing.
pub const MOST_PARTS: usize = 10_000;

/// An upload under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// As the store names it; empty where it needs no name.
    pub id: String,
    /// Bytes of each part but the last.
    pub part: u64,
    /// The store's receipt for each part that it has.
    pub sent: BTreeMap<usize, String>,
}

/// Why an upload is not done.
#[derive(Debug)]
pub enum Unsent {
    /// The store may know nothing of it any more: it has to begin anew.
    Unknown(Fault),
    Fault(Fault),
}

impl From<Fault> for Unsent {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Store {
    /// Whether uploads can go on where they were cut short.
    pub fn resumes(&self) -> bool {
        self.parts.is_some()
    }

    /// Begins an upload of so many bytes.
    pub fn begin_upload(&self, name: &str, bytes: u64, stop: Stop<'_>) -> Result<Upload, Fault> {
        let path = self.path(name);
        let id =
            self.wait(ANSWER, stop, async { self.in_parts()?.create_multipart(&path).await.map_err(|e| down(&e)) })?;
        Ok(Upload { id, part: PART.max(bytes / 9_000), sent: BTreeMap::new() })
    }

    /// Sends the parts that are missing; gives the receipts of all. `next` gives the parts in their order, an empty one after
    /// the last; `receipt` hears of each that the store has taken.
    pub fn send_parts(
        &self,
        name: &str,
        upload: &Upload,
        bytes: u64,
        next: &mut dyn FnMut() -> io::Result<Vec<u8>>,
        receipt: &mut dyn FnMut(usize, &str),
        stop: Stop<'_>,
    ) -> Result<BTreeMap<usize, String>, Unsent> {
        let (path, mut receipts) = (self.path(name), BTreeMap::new());
        let mut take = |(number, sent): (usize, object_store::Result<PartId>)| -> Result<(), Unsent> {
            let part = sent.map_err(|error| unsent(&error))?;
            receipt(number, &part.content_id);
            receipts.insert(number, part.content_id);
            Ok(())
        };
        let there: Result<BTreeMap<usize, String>, Unsent> = self.wait_for(time_for(bytes), stop, async {
            let (parts, mut under_way, mut all) = (self.in_parts()?, FuturesUnordered::new(), BTreeMap::new());
            for number in 0.. {
                let part = next().map_err(Fault::Local)?;
                if part.is_empty() {
                    break;
                }
                if let Some(receipt) = upload.sent.get(&number) {
                    all.insert(number, receipt.clone());
                    // Lets a request to stop be heard.
                    tokio::task::yield_now().await;
                    continue;
                }
                if under_way.len() >= PARTS_AT_ONCE
                    && let Some(sent) = under_way.next().await
                {
                    take(sent)?;
                }
                let path = &path;
                under_way.push(async move { (number, parts.put_part(path, &upload.id, number, part.into()).await) });
            }
            while let Some(sent) = under_way.next().await {
                take(sent)?;
            }
            Ok(all)
        });
        receipts.extend(there?);
        Ok(receipts)
    }

    /// Makes the parts one thing.
    pub fn finish_upload(
        &self,
        name: &str,
        upload: &Upload,
        receipts: BTreeMap<usize, String>,
        bytes: u64,
        stop: Stop<'_>,
    ) -> Result<(), Unsent> {
        let path = self.path(name);
        let parts = receipts.into_values().map(|content_id| PartId { content_id }).collect();
        self.wait_for(time_for(bytes), stop, async {
            let finished = self.in_parts()?.complete_multipart(&path, &upload.id, parts).await;
            finished.map(drop).map_err(|error| unsent(&error))
        })
    }

    /// Has the store throw the parts of an upload away; it may have done so already.
    pub fn drop_upload(&self, name: &str, upload: &Upload) {
        let path = self.path(name);
        let _ = self.wait(ANSWER, &|| false, async {
            self.in_parts()?.abort_multipart(&path, &upload.id).await.map_err(|error| down(&error))
        });
    }

    fn in_parts(&self) -> Result<&dyn MultipartStore, Fault> {
        self.parts.as_deref().ok_or_else(|| Fault::Down("it takes no parts".to_owned()))
    }
}

/// What an error says of an upload. Stores forget one that was given up, or made whole, or had lain for long; some then say
/// that it is another's.
fn unsent(error: &object_store::Error) -> Unsent {
    use object_store::Error::{NotFound, PermissionDenied};
    let is_unknown = matches!(error, NotFound { .. } | PermissionDenied { .. }) || {
        let text = format!("{error:?}");
        ["NoSuchUpload", "InvalidPart", "InvalidBlockList", "InvalidBlockId"].iter().any(|code| text.contains(code))
    };
    if is_unknown { Unsent::Unknown(down(error)) } else { Unsent::Fault(down(error)) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NEVER, in_memory};
    use super::*;

    /// Parts of so many bytes each, one after the other.
    fn giving(lengths: &[u64]) -> impl FnMut() -> io::Result<Vec<u8>> {
        let mut lengths: Vec<u64> = lengths.iter().rev().copied().collect();
        move || Ok(vec![lengths.len() as u8; lengths.pop().unwrap_or(0) as usize])
    }

    #[test]
    fn an_upload_goes_on_with_the_parts_that_are_missing() {
        let (store, lengths) = (in_memory(), [9, 9, 9, 3]);
        let mut upload = store.begin_upload("large", 30, NEVER).expect("begins");
        let mut noted = Vec::new();
        let mut failing = {
            let mut good = giving(&lengths[..2]);
            let mut given = 0;
            move || {
                given += 1;
                if given > 2 { Err(io::Error::other("cut short")) } else { good() }
            }
        };
        let mut note = |number, receipt: &str| noted.push((number, receipt.to_owned()));
        let cut = store.send_parts("large", &upload, 30, &mut failing, &mut note, NEVER);
        assert!(matches!(cut, Err(Unsent::Fault(Fault::Local(_)))), "{cut:?}");
        assert_eq!(store.size("large", NEVER).expect("asks"), None);

        // As if the first two had been noted before it was cut short.
        upload.sent = [(0, String::new()), (1, String::new())].into();
        for number in [0, 1] {
            let one = Upload {
                sent: (0..4).filter(|n| *n != number).map(|n| (n, String::new())).collect(),
                ..upload.clone()
            };
            store.send_parts("large", &one, 30, &mut giving(&lengths), &mut |_, _| {}, NEVER).expect("sends");
        }
        let mut sent = Vec::new();
        let mut note = |number, _: &str| sent.push(number);
        let receipts = store.send_parts("large", &upload, 30, &mut giving(&lengths), &mut note, NEVER).expect("sends");
        assert_eq!((receipts.len(), sent), (4, vec![2, 3]));
        store.finish_upload("large", &upload, receipts, 30, NEVER).expect("finishes");
        assert_eq!(store.size("large", NEVER).expect("asks"), Some(30));
    }

    #[test]
    fn an_upload_that_the_store_has_forgotten_is_told_from_a_store_that_is_gone() {
        let store = in_memory();
        let upload = store.begin_upload("large", 9, NEVER).expect("begins");
        store.drop_upload("large", &upload);
        store.drop_upload("large", &upload);
        let missing = object_store::Error::NotFound { path: "large".into(), source: "NoSuchUpload".into() };
        assert!(matches!(unsent(&missing), Unsent::Unknown(_)));
        let code = object_store::Error::Generic { store: "S3", source: "<Code>NoSuchUpload</Code>".into() };
        assert!(matches!(unsent(&code), Unsent::Unknown(_)));
        let refused = object_store::Error::Generic { store: "S3", source: "connection refused".into() };
        assert!(matches!(unsent(&refused), Unsent::Fault(Fault::Down(_))));
    }
}
