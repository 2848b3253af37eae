//! An action's record and objects, brought here: each byte is checked on its way.

use super::arrival::Arrival;
use super::crew::each;
use super::envelopes::{Believed, Refusal};
use super::store::{Expected, Fault, Stop};
use super::{Remote, layout};
use crate::action::{ActionKey, ActionRecord, Origin};
use crate::artifact::{Artifact, Layout};
use crate::cache::{Cache, CacheError, Claimed, Lookup, Served, records, tree};
use crate::digest::{Digest, HashingWriter};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Objects of one action that are fetched at once, or records that are looked through.
pub(super) const AT_ONCE: usize = 8;
/// Actions that are pulled at once.
const ACTIONS_AT_ONCE: usize = 8;
/// A folder's listing has no more bytes; nor has a record that was replaced.
const LISTING: u64 = 256 << 20;
/// Records that one lineage is followed for.
const ANCESTORS: usize = 10_000;

/// What asking a shared cache for an action gave.
#[derive(Debug, Default)]
pub struct Answer {
    pub served: Option<Served>,
    /// What a person should know.
    pub warnings: Vec<String>,
    pub fetched: Pulled,
}

/// What was brought here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pulled {
    pub runs: u64,
    pub records: u64,
    pub objects: u64,
    pub bytes: u64,
    /// Objects that are not there either.
    pub missing: u64,
    /// Why records were not taken.
    pub refused: Vec<String>,
}

/// Counts what several threads bring.
#[derive(Debug, Default)]
pub(super) struct Brought {
    objects: AtomicU64,
    bytes: AtomicU64,
}

/// What became of bringing all that a record needs.
enum Whole {
    Yes,
    /// These are not there.
    Lacks(BTreeSet<Digest>),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

impl From<CacheError> for Fault {
    fn from(error: CacheError) -> Self {
        Self::Local(match error {
            CacheError::Io(error) => error,
            other @ CacheError::Unusable(_) => io::Error::other(other.to_string()),
        })
    }
}

impl Remote {
    /// Serves an action that the local cache lacks, where the shared one has it, whole and from somebody who is trusted.
    /// What goes wrong is a warning, and a miss.
    pub fn serve(&self, cache: &Cache, key: ActionKey, stop: Stop<'_>) -> Answer {
        let mut answer = Answer::default();
        if self.is_left_alone() {
            return answer;
        }
        let brought = Brought::default();
        match self.bring(cache, key, &brought, &mut answer.warnings, stop) {
            Ok(served) => answer.served = served,
            Err(Fault::Stopped) => {}
            Err(Fault::Down(what)) => answer.warnings.extend(self.leave_alone(&what)),
            Err(Fault::Lies(what)) => answer.warnings.push(format!("{} is not relied on here: {what}", self.address())),
            Err(Fault::Local(error)) => {
                answer.warnings.push(format!("what {} has can't be kept here: {error}", self.address()));
            }
        }
        answer.fetched = brought.counted();
        answer
    }

    fn bring(
        &self,
        cache: &Cache,
        key: ActionKey,
        brought: &Brought,
        warnings: &mut Vec<String>,
        stop: Stop<'_>,
    ) -> Result<Option<Served>, Fault> {
        // A record that is here needs bytes alone, which nobody has to vouch for.
        if let Some(record) = cache.record(key)? {
            cache.put_bytes(&record.manifest.canonical())?;
            return match self.bring_objects(cache, &record, brought, stop)? {
                Whole::Yes => match cache.lookup(key)? {
                    Lookup::Hit(served) => Ok(Some(served)),
                    Lookup::Miss { .. } => Ok(None),
                },
                Whole::Lacks(_) => Ok(None),
            };
        }
        let seen = self.look(key, stop)?;
        warnings.extend(seen.refused.iter().filter_map(|refusal| self.warning(refusal)));
        let Some(believed) = seen.believed else { return Ok(None) };
        if let Whole::Lacks(_) = self.bring_objects(cache, &believed.record, brought, stop)? {
            return Ok(None);
        }
        self.bring_ancestors(cache, &believed.record, stop)?;
        // Somebody executes it here already: its result is waited for as ever.
        if cache.holder(key)?.is_some() {
            return Ok(None);
        }
        match cache.claim(key, false, &mut |_| {})? {
            Claimed::Hit(served) => Ok(Some(served)),
            Claimed::Claim(claim) => {
                let arrival = self.arrival(&believed, BTreeSet::new());
                claim.arrive(cache, &believed.record, &believed.bytes, &arrival)?;
                Ok(Some(believed.record.into()))
            }
        }
    }

    fn arrival(&self, believed: &Believed, absent: BTreeSet<Digest>) -> Arrival {
        Arrival {
            key: believed.record.key,
            record: Digest::of(&believed.bytes),
            from: self.address().to_string(),
            signer: believed.signer.clone(),
            at: jiff::Timestamp::now().to_string(),
            absent,
            envelope: String::from_utf8_lossy(&believed.envelope).into_owned(),
        }
    }

    /// Brings the outputs and the log that a record names, and the records that it replaced.
    fn bring_objects(
        &self,
        cache: &Cache,
        record: &ActionRecord,
        brought: &Brought,
        stop: Stop<'_>,
    ) -> Result<Whole, Fault> {
        let mut lacks = BTreeSet::new();
        let mut files: Vec<(Digest, u64)> = Vec::new();
        for artifact in record.outputs.values().chain(&record.log) {
            match artifact.layout {
                Layout::File => files.push((artifact.digest, artifact.bytes)),
                Layout::Tree => match self.bring_tree(cache, artifact, brought, stop)? {
                    Some(entries) => files.extend(entries.into_iter().map(|entry| (entry.digest, entry.bytes))),
                    None => drop(lacks.insert(artifact.digest)),
                },
            }
        }
        // Large ones first: the others come beside them.
        files.sort_unstable_by_key(|(digest, bytes)| (Reverse(*bytes), *digest));
        files.dedup();
        let missing = Mutex::new(BTreeSet::new());
        // Where something is missing all the same, nothing large is fetched in vain.
        if lacks.is_empty() {
            each(&files, AT_ONCE, |(digest, bytes)| {
                if !self.bring_object(cache, *digest, Some(*bytes), brought, stop)? {
                    lock(&missing).insert(*digest);
                }
                Ok(())
            })?;
        }
        lacks.extend(missing.into_inner().unwrap_or_else(PoisonError::into_inner));
        let (mut parent, mut met) = (record.parent, BTreeSet::new());
        while let Some(replaced) = parent.filter(|replaced| met.insert(*replaced)) {
            if !self.bring_object(cache, replaced, None, brought, stop)? {
                lacks.insert(replaced);
                break;
            }
            parent = records::check(&cache.read_object(replaced)?, record.key).ok().and_then(|older| older.parent);
        }
        Ok(if lacks.is_empty() { Whole::Yes } else { Whole::Lacks(lacks) })
    }

    fn bring_tree(
        &self,
        cache: &Cache,
        artifact: &Artifact,
        brought: &Brought,
        stop: Stop<'_>,
    ) -> Result<Option<Vec<tree::Entry>>, Fault> {
        if !self.bring_object(cache, artifact.digest, None, brought, stop)? {
            return Ok(None);
        }
        let entries = cache.tree(artifact.digest).map_err(|error| Fault::Lies(error.to_string()))?;
        // The record's figure bounds what is fetched.
        let sum = entries.iter().try_fold(0_u64, |sum, entry| sum.checked_add(entry.bytes));
        if sum != Some(artifact.bytes) {
            return Err(Fault::Lies(format!(
                "the folder {} has another size than its record says",
                artifact.digest.short()
            )));
        }
        Ok(Some(entries))
    }

    /// Brings one object, checked on its way; `false` where it is not there.
    pub(super) fn bring_object(
        &self,
        cache: &Cache,
        digest: Digest,
        bytes: Option<u64>,
        brought: &Brought,
        stop: Stop<'_>,
    ) -> Result<bool, Fault> {
        let session = cache.session()?;
        if cache.store.has(digest, session, &cache.ledger)? {
            return Ok(true);
        }
        let _turn = self.turns.take(digest);
        if cache.store.has(digest, session, &cache.ledger)? {
            return Ok(true);
        }
        let temp = session.path();
        let mut file = HashingWriter::new(fs_err::File::create_new(&temp)?);
        let kept = || -> Result<bool, Fault> {
            let expected = bytes.map_or(Expected::AtMost(LISTING), Expected::Exactly);
            let got = self.store.get(&layout::object(digest), expected, &mut file, stop);
            let lies = |what: String| {
                self.note_damaged(digest);
                Err(Fault::Lies(format!("the object {} {what}", digest.short())))
            };
            match got {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(false),
                Err(Fault::Lies(what)) => {
                    self.note_damaged(digest);
                    return Err(Fault::Lies(what));
                }
                Err(fault) => return Err(fault),
            }
            let (_, found, written) = file.finish()?;
            if found != digest {
                return lies(format!("is damaged there: its bytes are {}", found.short()));
            }
            if bytes.is_some_and(|bytes| bytes != written) {
                return lies("has fewer bytes than its record says".into());
            }
            cache.store.absorb_sealed(&temp, (digest, written), session, &cache.ledger)?;
            brought.objects.fetch_add(1, Ordering::Relaxed);
            brought.bytes.fetch_add(written, Ordering::Relaxed);
            Ok(true)
        };
        let kept = kept();
        if !matches!(kept, Ok(true)) {
            let _ = fs_err::remove_file(&temp);
        }
        kept
    }

    /// Brings the records of the actions behind an action, without their outputs, so that its lineage can be told.
    fn bring_ancestors(&self, cache: &Cache, record: &ActionRecord, stop: Stop<'_>) -> Result<(), Fault> {
        let mut next: Vec<ActionKey> = makers(record).collect();
        let mut met: BTreeSet<ActionKey> = BTreeSet::new();
        while let Some(key) = next.pop() {
            if met.len() >= ANCESTORS || !met.insert(key) {
                continue;
            }
            if let Some(here) = cache.record(key)? {
                // What was made here has its lineage here.
                if cache.arrival(key)?.is_some() {
                    next.extend(makers(&here));
                }
                continue;
            }
            let Some(believed) = self.look(key, stop)?.believed else { continue };
            next.extend(makers(&believed.record));
            let absent = named(&believed.record).filter(|object| !cache.object_path(*object).exists()).collect();
            self.keep_record(cache, &believed, absent)?;
        }
        Ok(())
    }

    /// Keeps a record whose objects are not all here.
    fn keep_record(&self, cache: &Cache, believed: &Believed, absent: BTreeSet<Digest>) -> Result<(), Fault> {
        let key = believed.record.key;
        if cache.holder(key)?.is_none()
            && let Claimed::Claim(claim) = cache.claim(key, false, &mut |_| {})?
        {
            claim.arrive(cache, &believed.record, &believed.bytes, &self.arrival(believed, absent))?;
        }
        Ok(())
    }

    /// Brings these actions and all behind them, with their objects as far as they are there.
    pub(super) fn pull_actions(
        &self,
        cache: &Cache,
        keys: Vec<ActionKey>,
        pulled: &mut Pulled,
        stop: Stop<'_>,
    ) -> Result<(), Fault> {
        let (mut wave, mut met): (Vec<ActionKey>, BTreeSet<ActionKey>) = (keys, BTreeSet::new());
        loop {
            wave.retain(|key| met.insert(*key));
            if wave.is_empty() {
                return Ok(());
            }
            let came = Mutex::new(BTreeMap::new());
            let fault = each(&wave, ACTIONS_AT_ONCE, |key| {
                let (counted, behind) = self.pull_action(cache, *key, stop)?;
                lock(&came).insert(*key, (counted, behind));
                Ok(())
            });
            wave.clear();
            for (counted, behind) in came.into_inner().unwrap_or_else(PoisonError::into_inner).into_values() {
                pulled.add(counted);
                wave.extend(behind);
            }
            fault?;
        }
    }

    /// Brings one action; gives what came of it, and the actions that made its inputs.
    fn pull_action(&self, cache: &Cache, key: ActionKey, stop: Stop<'_>) -> Result<(Pulled, Vec<ActionKey>), Fault> {
        let (brought, mut refused) = (Brought::default(), Vec::new());
        let here = cache.record(key)?;
        let believed = match here {
            Some(_) => None,
            None => {
                let seen = self.look(key, stop)?;
                refused.extend(seen.refused.iter().map(|refusal| match refusal {
                    Refusal::Untrusted(what) | Refusal::Damaged(what) => {
                        format!("the record of {}: {what}", key.0.short())
                    }
                }));
                seen.believed
            }
        };
        let Some(record) = here.as_ref().or(believed.as_ref().map(|believed| &believed.record)) else {
            return Ok((Pulled { refused, ..Pulled::default() }, Vec::new()));
        };
        let absent = match self.bring_objects(cache, record, &brought, stop) {
            Ok(Whole::Yes) => BTreeSet::new(),
            Ok(Whole::Lacks(lacks)) => lacks,
            // One damaged object does not keep the others away.
            Err(Fault::Lies(what)) => {
                refused.push(what);
                named(record).filter(|object| !cache.object_path(*object).exists()).collect()
            }
            Err(fault) => return Err(fault),
        };
        let missing = absent.len() as u64;
        if let Some(believed) = &believed {
            self.keep_record(cache, believed, absent)?;
        }
        let records = u64::from(believed.is_some());
        Ok((Pulled { records, missing, refused, ..brought.counted() }, makers(record).collect()))
    }
}

impl Pulled {
    pub(super) fn add(&mut self, more: Self) {
        let Self { runs, records, objects, bytes, missing, refused } = more;
        self.runs += runs;
        self.records += records;
        self.objects += objects;
        self.bytes += bytes;
        self.missing += missing;
        self.refused.extend(refused);
    }
}

impl Brought {
    pub(super) fn counted(&self) -> Pulled {
        Pulled {
            objects: self.objects.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            ..Pulled::default()
        }
    }
}

/// The actions that made a record's inputs.
pub(super) fn makers(record: &ActionRecord) -> impl Iterator<Item = ActionKey> {
    record.inputs.values().filter_map(|input| match &input.origin {
        Origin::Action { key, .. } => Some(*key),
        Origin::Source { .. } => None,
    })
}

/// The objects that a record names itself.
fn named(record: &ActionRecord) -> impl Iterator<Item = Digest> {
    record.outputs.values().chain(&record.log).map(|artifact| artifact.digest).chain(record.parent)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
