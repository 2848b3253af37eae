//! Whole runs, there and back.

use super::Remote;
use super::crew::each;
use super::fetch::{AT_ONCE, Brought, Pulled};
use super::layout::{self, ACTIONS, RUN, RUNS, SharedRun};
use super::push::{Pushed, Tally};
use super::store::{Fault, Put, Stop};
use crate::action::ActionKey;
use crate::cache::run_record::Imported;
use crate::cache::{Cache, CacheError, RunRecord, StepRecord, durable, runs};
use crate::digest::Digest;
use crate::event::Outcome;
use crate::name::RunId;
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A run's envelope has no more bytes.
const LIMIT: u64 = 1 << 20;
/// Nor has its record, its events or its signature.
const LARGEST: u64 = 1 << 30;

impl Remote {
    /// Brings runs and actions there, with all behind them.
    pub fn push(
        &self,
        cache: &Cache,
        shared: &[RunId],
        actions: Vec<ActionKey>,
        stop: Stop<'_>,
    ) -> Result<Pushed, Fault> {
        let tally = Tally::default();
        self.push_actions(cache, actions, &tally, stop)?;
        for run in shared {
            self.push_run(cache, run, &tally, stop)?;
        }
        self.give_up_old_uploads(cache, stop);
        Ok(tally.counted())
    }

    /// Adds a run that has just ended; a failure is a warning.
    pub fn add_run(&self, cache: &Cache, run: &RunId, tally: &Tally, stop: Stop<'_>) -> Vec<String> {
        if self.is_left_alone() {
            return Vec::new();
        }
        let pushed = self.push_run(cache, run, tally, stop);
        if pushed.is_ok() {
            self.give_up_old_uploads(cache, stop);
        }
        let mut warnings = tally.take_warnings();
        warnings.extend(self.failed(pushed));
        warnings
    }

    fn push_run(&self, cache: &Cache, run: &RunId, tally: &Tally, stop: Stop<'_>) -> Result<(), Fault> {
        let Some(bytes) = cache.run_bytes(run)? else { return Ok(()) };
        let Ok(record) = runs::check(&bytes, run) else {
            return Err(Fault::Local(io::Error::other(format!("the record of run {run} is damaged here"))));
        };
        self.prepare(stop)?;
        self.push_actions(cache, keys(&record), tally, stop)?;
        let logs = record.steps.iter().filter(|step| !served(step)).filter_map(|step| Some(step.log.as_ref()?.digest));
        for object in logs.chain([record.text]) {
            self.push_object(cache, object, tally, stop)?;
        }
        let events = match fs_err::read(cache.run_dir(run).join("events.jsonl")) {
            Ok(events) => Some(self.push_bytes(events, stop)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e.into()),
        };
        let signature = match cache.signature(run)? {
            Some((_, text)) => Some(self.push_bytes(text, stop)?),
            None => None,
        };
        let shared = SharedRun { run: run.clone(), record: self.push_bytes(bytes, stop)?, events, signature };
        let envelope = self.enclose(RUN, &serde_json::to_vec(&shared).expect("plain data"));
        if self.store.put(&layout::run(run), envelope, Put::New, stop)? {
            tally.count_run();
        }
        Ok(())
    }

    /// The runs that are there, oldest first.
    pub fn shared_runs(&self, stop: Stop<'_>) -> Result<Vec<RunId>, Fault> {
        let mut runs: Vec<RunId> =
            self.store.list(RUNS, stop)?.iter().filter_map(|found| layout::run_of(&found.name)).collect();
        runs.sort();
        Ok(runs)
    }

    /// The actions that have a record there.
    pub fn shared_actions(&self, stop: Stop<'_>) -> Result<Vec<ActionKey>, Fault> {
        let listed = self.store.list(ACTIONS, stop)?;
        let mut keys: Vec<ActionKey> = listed.iter().filter_map(|found| layout::key_of(&found.name)).collect();
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// The actions there that made an artifact whose digest begins so: each record is looked through.
    pub fn shared_makers(&self, hex: &str, stop: Stop<'_>) -> Result<Vec<ActionKey>, Fault> {
        let makers = Mutex::new(BTreeSet::new());
        each(&self.shared_actions(stop)?, AT_ONCE, |key| {
            let believed = self.look(*key, stop)?.believed;
            let made = believed.iter().flat_map(|believed| believed.record.outputs.values());
            if key.0.hex().starts_with(hex) || made.into_iter().any(|output| output.digest.hex().starts_with(hex)) {
                makers.lock().unwrap_or_else(PoisonError::into_inner).insert(*key);
            }
            Ok(())
        })?;
        Ok(makers.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect())
    }

    /// Brings runs and actions here, with all behind them.
    pub fn pull(
        &self,
        cache: &Cache,
        shared: &[RunId],
        actions: Vec<ActionKey>,
        stop: Stop<'_>,
    ) -> Result<Pulled, Fault> {
        let mut pulled = Pulled::default();
        self.pull_actions(cache, actions, &mut pulled, stop)?;
        for run in shared {
            self.pull_run(cache, run, &mut pulled, stop)?;
        }
        Ok(pulled)
    }

    fn pull_run(&self, cache: &Cache, run: &RunId, pulled: &mut Pulled, stop: Stop<'_>) -> Result<(), Fault> {
        if cache.run(run)?.is_some() {
            return Ok(());
        }
        let mut refuse = |what: String| pulled.refused.push(format!("run {run}: {what}"));
        let Some(envelope) = self.store.read(&layout::run(run), LIMIT, stop)? else {
            refuse("it is not there".to_owned());
            return Ok(());
        };
        let (bytes, signer) = match self.open_envelope(&envelope, RUN) {
            Ok(opened) => opened,
            Err(refusal) => {
                let (super::envelopes::Refusal::Untrusted(what) | super::envelopes::Refusal::Damaged(what)) = refusal;
                refuse(what);
                return Ok(());
            }
        };
        let shared = serde_json::from_slice::<SharedRun>(&bytes).ok().filter(|shared| shared.run == *run);
        let Some(shared) = shared else {
            refuse("it is damaged there".to_owned());
            return Ok(());
        };
        let record = match self.read_object(shared.record, stop)? {
            Some(bytes) => runs::check(&bytes, run),
            None => Err("is missing there, or damaged".to_owned()),
        };
        let record = match record {
            Ok(record) => record,
            Err(what) => {
                refuse(format!("its record {what}"));
                return Ok(());
            }
        };
        self.pull_actions(cache, keys(&record), pulled, stop)?;
        let (brought, missing) = (Brought::default(), AtomicU64::new(0));
        let logs = record.steps.iter().filter(|step| !served(step)).filter_map(|step| step.log.as_ref());
        let objects: Vec<(Digest, Option<u64>)> =
            logs.map(|log| (log.digest, Some(log.bytes))).chain([(record.text, None)]).collect();
        each(&objects, AT_ONCE, |(object, bytes)| {
            let is_there = self.bring_object(cache, *object, *bytes, &brought, stop)?;
            missing.fetch_add(u64::from(!is_there), Ordering::Relaxed);
            Ok(())
        })?;
        pulled.add(Pulled { missing: missing.into_inner(), ..brought.counted() });
        let read = |object: Option<Digest>| object.map_or(Ok(None), |object| self.read_object(object, stop));
        let (events, signature) = (read(shared.events)?, read(shared.signature)?);
        let imported = Imported {
            from: self.address().to_string(),
            signer,
            at: jiff::Timestamp::now().to_string(),
            record: shared.record,
        };
        cache.import_run(RunRecord { imported: Some(imported), ..record }, events, signature)?;
        pulled.runs += 1;
        Ok(())
    }

    /// The bytes of an object there; `None` where it is missing or damaged.
    fn read_object(&self, object: Digest, stop: Stop<'_>) -> Result<Option<Vec<u8>>, Fault> {
        let bytes = self.store.read(&layout::object(object), LARGEST, stop)?;
        Ok(bytes.filter(|bytes| Digest::of(bytes) == object))
    }
}

impl Cache {
    /// Records a run of another machine as it was, but for its place in the chain of runs.
    fn import_run(
        &self,
        record: RunRecord,
        events: Option<Vec<u8>>,
        signature: Option<Vec<u8>>,
    ) -> Result<(), CacheError> {
        let (session, folder) = (self.session()?, self.run_dir(&record.run));
        durable::make_dir(&folder)?;
        if let Some(events) = events {
            durable::replace(&session.path(), &folder.join("events.jsonl"), &events)?;
        }
        if let Some(signature) = signature {
            self.put_signature(&record.run, &signature)?;
        }
        self.commit_run(record)
    }
}

fn served(step: &StepRecord) -> bool {
    matches!(step.outcome, Outcome::Ran | Outcome::Hit)
}

/// The actions whose outputs a run used.
fn keys(record: &RunRecord) -> Vec<ActionKey> {
    record.steps.iter().filter(|step| served(step)).filter_map(|step| step.key).collect()
}
