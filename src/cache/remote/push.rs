//! What is here and not there, brought there: objects before records, records before runs.

use super::Remote;
use super::crew::{both, each};
use super::envelopes::Refusal;
use super::fetch::makers;
use super::layout::{self, RECORD};
use super::store::{Fault, PARTS_FROM, Put, Stop};
use crate::action::{ActionKey, ActionRecord};
use crate::artifact::Artifact;
use crate::cache::{Cache, records};
use crate::digest::Digest;
use crate::name::PortName;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Things that are sent at once.
const AT_ONCE: usize = 8;
/// Of large objects each sends several parts at once, which take memory.
const LARGE_AT_ONCE: usize = 2;

/// What was brought there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pushed {
    pub runs: u64,
    pub records: u64,
    pub objects: u64,
    /// Of the objects sent; where an upload went on, of the parts that were missing.
    pub bytes: u64,
    /// Objects that were there already.
    pub present: u64,
    /// Objects that are not here any more.
    pub missing: u64,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Counts what several threads send.
#[derive(Debug, Default)]
pub struct Tally {
    runs: AtomicU64,
    records: AtomicU64,
    objects: AtomicU64,
    bytes: AtomicU64,
    present: AtomicU64,
    missing: AtomicU64,
    warnings: Mutex<Vec<String>>,
}

impl Tally {
    pub fn counted(&self) -> Pushed {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Pushed {
            runs: read(&self.runs),
            records: read(&self.records),
            objects: read(&self.objects),
            bytes: read(&self.bytes),
            present: read(&self.present),
            missing: read(&self.missing),
            warnings: self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The warnings since this was last asked.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn warn(&self, what: String) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    pub(super) fn count_run(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }
}

/// A record with the bytes of its file.
type Written = (ActionRecord, Vec<u8>);

impl Remote {
    /// Adds an action, and those behind it, while a run goes on; gives what a person should know. A failure is a warning,
    /// once, and nothing is added any more.
    pub fn add(&self, cache: &Cache, key: ActionKey, tally: &Tally, stop: Stop<'_>) -> Vec<String> {
        if self.is_left_alone() {
            return Vec::new();
        }
        let pushed = self.push_actions(cache, vec![key], tally, stop);
        let mut warnings = tally.take_warnings();
        warnings.extend(self.failed(pushed));
        warnings
    }

    pub(super) fn failed(&self, pushed: Result<(), Fault>) -> Option<String> {
        match pushed {
            Ok(()) | Err(Fault::Stopped) => None,
            Err(fault) => self.leave_alone(&fault.to_string()),
        }
    }

    /// Brings these actions and all behind them there.
    pub(super) fn push_actions(
        &self,
        cache: &Cache,
        keys: Vec<ActionKey>,
        tally: &Tally,
        stop: Stop<'_>,
    ) -> Result<(), Fault> {
        let (mut next, mut written, mut objects) = (keys, Vec::new(), BTreeSet::new());
        while let Some(key) = next.pop() {
            if !self.pushed.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
                continue;
            }
            let Some(bytes) = cache.records.bytes(key)? else { continue };
            let Ok(record) = records::check(&bytes, key) else {
                tally.warn(format!("the record of {} is damaged here, and is not pushed", key.0.short()));
                continue;
            };
            next.extend(makers(&record));
            let artifacts = record.outputs.values().chain(&record.log);
            objects.extend(artifacts.flat_map(|artifact: &Artifact| cache.objects_of(artifact)));
            objects.insert(key.0);
            objects.extend(cache.record_versions(key)?.iter().filter_map(|version| version.parent));
            objects.extend(record.attempts.iter().filter_map(|attempt| attempt.log));
            written.push((record, bytes));
        }
        let size = |object: &Digest| fs_err::metadata(cache.object_path(*object)).map_or(0, |metadata| metadata.len());
        let (large, small): (Vec<Digest>, Vec<Digest>) =
            objects.into_iter().partition(|object| size(object) >= PARTS_FROM);
        if !written.is_empty() {
            self.prepare(stop)?;
        }
        let push = |objects: &[Digest], at_once| {
            each(objects, at_once, |object| self.push_object(cache, *object, tally, stop))
        };
        both(|| push(&large, LARGE_AT_ONCE), || push(&small, AT_ONCE))?;
        each(&written, AT_ONCE, |written| self.push_record(cache, written, tally, stop))
    }

    pub(super) fn push_object(
        &self,
        cache: &Cache,
        digest: Digest,
        tally: &Tally,
        stop: Stop<'_>,
    ) -> Result<(), Fault> {
        let mut file = match fs_err::File::open(cache.object_path(digest)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                tally.missing.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        };
        let (name, bytes) = (layout::object(digest), file.metadata()?.len());
        let there = self.store.size(&name, stop)?;
        if there == Some(bytes) && !self.is_damaged(digest) {
            tally.present.fetch_add(1, Ordering::Relaxed);
            if bytes >= PARTS_FROM {
                self.end_upload(cache, digest);
            }
            return Ok(());
        }
        let sent = if bytes < PARTS_FROM {
            let mut content = Vec::with_capacity(bytes as usize);
            file.read_to_end(&mut content)?;
            if Digest::of(&content) == digest {
                let put = if there.is_some() { Put::Over } else { Put::New };
                self.store.put(&name, content, put, stop)?;
                Some(bytes)
            } else {
                None
            }
        } else {
            self.push_large(cache, digest, &mut file, there == Some(bytes), stop)?
        };
        match sent {
            Some(sent) => {
                tally.objects.fetch_add(1, Ordering::Relaxed);
                tally.bytes.fetch_add(sent, Ordering::Relaxed);
            }
            None => tally.warn(format!("the object {} is damaged here, and is not pushed", digest.short())),
        }
        Ok(())
    }

    /// Sends bytes that are no object of the local cache; gives their name.
    pub(super) fn push_bytes(&self, bytes: Vec<u8>, stop: Stop<'_>) -> Result<Digest, Fault> {
        let digest = Digest::of(&bytes);
        let name = layout::object(digest);
        if self.store.size(&name, stop)? != Some(bytes.len() as u64) {
            self.store.put(&name, bytes, Put::Over, stop)?;
        }
        Ok(digest)
    }

    fn push_record(
        &self,
        cache: &Cache,
        (record, bytes): &Written,
        tally: &Tally,
        stop: Stop<'_>,
    ) -> Result<(), Fault> {
        let key = record.key;
        let envelope = match cache.arrival(key)? {
            // What somebody else vouched for stays theirs.
            Some(arrival) => arrival.envelope.into_bytes(),
            None => self.enclose(RECORD, bytes),
        };
        let keeps_names = self.prepare(stop)?;
        let put = if keeps_names { self.put_record(key, envelope.clone(), Put::New, stop)? } else { false };
        if put {
            tally.records.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let seen = self.look(key, stop)?;
        let mut replaces = !keeps_names;
        if let Some(other) = seen.believed {
            if let Some(what) = differs(&record.outputs, &other.record.outputs) {
                let run = &other.record.run;
                tally.warn(format!(
                    "{}: {what} than run {run} made and shared: this stage is not deterministic. Both results stay, each where it was made",
                    record.stage
                ));
            }
            replaces = false;
        }
        for refusal in &seen.refused {
            match refusal {
                // Nobody loses by it.
                Refusal::Damaged(_) => replaces = true,
                Refusal::Untrusted(_) => {
                    tally.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(self.warning(refusal))
                }
            }
        }
        if replaces {
            self.put_record(key, envelope, Put::Over, stop)?;
            tally.records.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Which output has other bytes.
fn differs(ours: &BTreeMap<PortName, Artifact>, theirs: &BTreeMap<PortName, Artifact>) -> Option<String> {
    ours.iter().find_map(|(port, ours)| {
        let theirs = theirs.get(port)?;
        let (ours, theirs) = (ours.digest, theirs.digest);
        (ours != theirs).then(|| format!("`{port}` has other bytes ({} here, {} there)", ours.short(), theirs.short()))
    })
}
