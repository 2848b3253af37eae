//! Records as they stand in a shared cache, and whose are believed.

use super::layout::{self, RECORD};
use super::store::{Fault, Put, Stop};
use super::{Remote, Trust};
use crate::action::{ActionKey, ActionRecord};
use crate::cache::records;
use crate::signature::{Envelope, content};
use std::sync::atomic::Ordering;

/// A record in its envelope has no more bytes.
const LIMIT: u64 = 16 << 20;
/// Of records that stand under their content's name, so many are looked at.
const TRIED: usize = 8;

/// A record that may be believed.
#[derive(Debug, Clone, PartialEq)]
pub struct Believed {
    pub record: ActionRecord,
    /// The bytes of its file, as its maker's cache has them.
    pub bytes: Vec<u8>,
    pub envelope: Vec<u8>,
    /// The id of the trusted key that signed it.
    pub signer: Option<String>,
}

/// What stands there for a key.
#[derive(Debug, Default)]
pub struct Seen {
    pub believed: Option<Believed>,
    /// What is there and is not served.
    pub refused: Vec<Refusal>,
}

/// Why a record is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It may be right, but nobody who is trusted says so.
    Untrusted(String),
    Damaged(String),
}

impl Remote {
    /// Looks for a record of a key.
    pub(super) fn look(&self, key: ActionKey, stop: Stop<'_>) -> Result<Seen, Fault> {
        let mut seen = Seen::default();
        match self.keeps_names(stop)? {
            None => {}
            Some(true) => {
                if let Some(envelope) = self.store.read(&layout::action(key), LIMIT, stop)? {
                    self.judge(key, envelope, &mut seen);
                }
            }
            Some(false) => {
                let listed = self.store.list(&layout::actions(key), stop)?;
                for name in listed.into_iter().map(|found| found.name).take(TRIED) {
                    let Some(envelope) = self.store.read(&name, LIMIT, stop)? else { continue };
                    // Only the name says that these are the bytes that somebody put there.
                    if layout::action_named_by_content(key, &envelope) == name {
                        self.judge(key, envelope, &mut seen);
                    }
                    if seen.believed.is_some() {
                        break;
                    }
                }
            }
        }
        Ok(seen)
    }

    fn judge(&self, key: ActionKey, envelope: Vec<u8>, seen: &mut Seen) {
        match self.open_envelope(&envelope, RECORD) {
            Err(refusal) => seen.refused.push(refusal),
            Ok((bytes, signer)) => match records::check(&bytes, key) {
                Ok(record) => seen.believed = Some(Believed { record, bytes, envelope, signer }),
                Err(what) => seen.refused.push(Refusal::Damaged(format!("it {what}"))),
            },
        }
    }

    /// Takes the bytes out of an envelope that may be believed, with the id of the trusted key that signed it.
    pub(super) fn open_envelope(&self, envelope: &[u8], kind: &str) -> Result<(Vec<u8>, Option<String>), Refusal> {
        let opened =
            content(envelope, kind, self.trust.keys()).map_err(|what| Refusal::Damaged(format!("it {what}")))?;
        match (&self.trust, opened.trusted) {
            (_, Some(key)) => Ok((opened.bytes, Some(key))),
            (Trust::Any, None) => Ok((opened.bytes, None)),
            (Trust::Keys(_), None) => Err(Refusal::Untrusted(match opened.keys.first() {
                None => "it is not signed".to_owned(),
                Some(key) => format!("it is signed with the key {}", key.chars().take(12).collect::<String>()),
            })),
        }
    }

    /// What a person is told of a record that is not served: of strangers' once.
    pub(super) fn warning(&self, refusal: &Refusal) -> Option<String> {
        match refusal {
            Refusal::Damaged(what) => Some(format!("the record in {} is not served: {what}", self.address())),
            Refusal::Untrusted(what) => (!self.has_warned.swap(true, Ordering::Relaxed)).then(|| {
                format!(
                    "the record in {} is not served: {what}, and `trust` in cistage.toml names nobody who signed it (said once)",
                    self.address()
                )
            }),
        }
    }

    /// Puts bytes that are not an object into an envelope, signed where there is a key.
    pub(super) fn enclose(&self, kind: &str, bytes: &[u8]) -> Vec<u8> {
        let envelope = match &self.signer {
            Some(key) => key.sign_bytes(kind, bytes),
            None => Envelope::unsigned(kind, bytes),
        };
        serde_json::to_vec(&envelope).expect("plain data")
    }

    /// Puts a record's envelope where readers look for it; `false` where one is there already and stays.
    pub(super) fn put_record(
        &self,
        key: ActionKey,
        envelope: Vec<u8>,
        put: Put,
        stop: Stop<'_>,
    ) -> Result<bool, Fault> {
        if self.prepare(stop)? {
            return self.store.put(&layout::action(key), envelope, put, stop);
        }
        let name = layout::action_named_by_content(key, &envelope);
        self.store.put(&name, envelope, Put::Over, stop)
    }
}
