//! What a record that came from elsewhere says about that: beside it, so that its own bytes stay what its maker signed.

use crate::action::{ActionKey, ActionRecord};
use crate::cache::records::{list, sharded};
use crate::cache::{Cache, CacheError, Claim, durable, seal};
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

/// Where a record came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    pub key: ActionKey,
    /// Of the record's file: another one, made here since, did not arrive.
    pub record: Digest,
    /// The shared cache.
    pub from: String,
    /// The id of the trusted key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// RFC 3339, UTC.
    pub at: String,
    /// Objects that were left there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub absent: BTreeSet<Digest>,
    /// As it stood there: pushed on, it stays its maker's.
    pub envelope: String,
}

impl Cache {
    fn arrival_file(&self, key: ActionKey) -> PathBuf {
        let hex = key.0.hex();
        self.root().join("arrivals").join(&hex[..2]).join(format!("{}.json", &hex[2..]))
    }

    /// Where the record of a key came from; `None` where it was made here, or that is not known any more.
    pub fn arrival(&self, key: ActionKey) -> Result<Option<Arrival>, CacheError> {
        let text = match fs_err::read(self.arrival_file(key)) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let Ok(arrival) = seal::open::<Arrival>(&text) else { return Ok(None) };
        let record = self.records.bytes(key)?;
        Ok(record.is_some_and(|bytes| Digest::of(&bytes) == arrival.record).then_some(arrival))
    }

    /// Objects that arrived records name, and that were left where they came from.
    pub(in crate::cache) fn left_elsewhere(&self) -> io::Result<BTreeSet<Digest>> {
        let folder = self.root().join("arrivals");
        if list(&folder)?.is_empty() {
            return Ok(BTreeSet::new());
        }
        let read =
            |(_, path): (String, PathBuf)| fs_err::read(path).ok().and_then(|text| seal::open::<Arrival>(&text).ok());
        Ok(sharded(&folder)?.into_iter().filter_map(read).flat_map(|arrival| arrival.absent).collect())
    }
}

impl Claim {
    /// Publishes a record that came from elsewhere, byte for byte, after what is known of its coming.
    pub(super) fn arrive(
        self,
        cache: &Cache,
        record: &ActionRecord,
        bytes: &[u8],
        arrival: &Arrival,
    ) -> Result<(), CacheError> {
        let session = cache.session()?;
        cache.put_bytes(&record.manifest.canonical())?;
        let file = cache.arrival_file(record.key);
        fs_err::create_dir_all(cache.root().join("arrivals"))?;
        durable::replace(&session.path(), &file, &seal::seal(arrival))?;
        let committed = cache.records.publish_bytes(&session.path(), record.key, bytes, &cache.store, &cache.ledger)?;
        cache.ledger.made(record, committed);
        Ok(())
    }
}
