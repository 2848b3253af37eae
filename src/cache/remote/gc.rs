//! What nobody needs any more, taken away from a shared cache: planned first, then carried out.
//!
//! The words are those of the local `cache gc`. Here records go too: without its objects a record only costs questions. What
//! is younger than the time of grace stays, and with it whatever somebody is just now sending.

use super::Remote;
use super::crew::each;
use super::fetch::makers;
use super::layout::{self, ACTIONS, OBJECTS, RECORD, RUN, RUNS, SharedRun};
use super::store::{Fault, Listed, Stop};
use crate::action::ActionKey;
use crate::artifact::{Artifact, Layout};
use crate::cache::{GcPolicy, Total, records, runs, tree};
use crate::digest::Digest;
use crate::name::{RunId, StageName};
use crate::signature::content;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

const AT_ONCE: usize = 16;
const LIMIT: u64 = 1 << 30;

/// Why an object stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RemoteReason {
    /// Of one of the newest runs there.
    Recent,
    Young,
    /// It could go, but enough is freed without it.
    Spared,
}

/// What could go together.
#[derive(Debug, Clone, Serialize)]
pub struct RemoteCandidate {
    pub stage: Option<StageName>,
    pub kind: Option<String>,
    pub key: Option<ActionKey>,
    pub objects: u64,
    pub bytes: u64,
    /// What it took to make them.
    pub seconds: f64,
    /// The records first: who meets a record relies on its objects.
    #[serde(skip)]
    names: Vec<String>,
    #[serde(skip)]
    members: Vec<String>,
}

/// What `cache gc --remote` would do.
#[derive(Debug, Clone, Serialize)]
pub struct RemotePlan {
    pub kept: BTreeMap<RemoteReason, Total>,
    /// Cheapest to make again per byte first.
    pub given_up: Vec<RemoteCandidate>,
    pub bytes: u64,
    /// Runs that go with what they used.
    pub runs: Vec<RunId>,
}

/// A record as gc sees it: whoever signed it, its objects are its.
struct Standing {
    key: ActionKey,
    name: String,
    modified: i64,
    /// `None` where it can't be read: it serves nobody.
    record: Option<crate::action::ActionRecord>,
    objects: BTreeSet<Digest>,
}

impl Remote {
    /// Says what would be taken away; changes nothing.
    pub fn plan_gc(&self, policy: &GcPolicy, stop: Stop<'_>) -> Result<RemotePlan, Fault> {
        let now = jiff::Timestamp::now().as_second();
        let young = now.saturating_sub(i64::try_from(policy.grace.as_secs()).unwrap_or(i64::MAX));
        let (listed_runs, listed_records) = (self.store.list(RUNS, stop)?, self.store.list(ACTIONS, stop)?);
        let objects: BTreeMap<Digest, Listed> = self
            .store
            .list(OBJECTS, stop)?
            .into_iter()
            .filter_map(|found| Some((layout::object_of(&found.name)?, found)))
            .collect();
        let standing = self.standing(&listed_records, stop)?;

        let mut shared: Vec<(RunId, &Listed)> =
            listed_runs.iter().filter_map(|found| Some((layout::run_of(&found.name)?, found))).collect();
        shared.sort_by(|a, b| b.0.cmp(&a.0));
        let (mut kept_keys, mut kept_objects, mut gone_runs) = (Vec::new(), BTreeSet::new(), Vec::new());
        // A run's name tells its second: of those that share one nobody knows which is newer.
        let oldest = policy.keep_runs.checked_sub(1).and_then(|nth| shared.get(nth)).map(|(run, _)| second(run));
        for (nth, (run, found)) in shared.iter().enumerate() {
            if nth < policy.keep_runs || oldest == Some(second(run)) || found.modified > young {
                self.keep_run(run, found, &mut kept_keys, &mut kept_objects, stop)?;
            } else {
                gone_runs.push(run.clone());
            }
        }
        // Of what is kept, the lineage is kept.
        let mut kept: BTreeSet<ActionKey> = BTreeSet::new();
        while let Some(key) = kept_keys.pop() {
            if kept.insert(key) {
                let of_key = standing.iter().filter(|standing| standing.key == key);
                kept_keys.extend(of_key.filter_map(|standing| standing.record.as_ref()).flat_map(makers));
            }
        }
        let mut reasons: BTreeMap<Digest, RemoteReason> =
            kept_objects.into_iter().map(|object| (object, RemoteReason::Recent)).collect();
        let mut going: BTreeMap<ActionKey, Vec<&Standing>> = BTreeMap::new();
        for record in &standing {
            let reason = if kept.contains(&record.key) {
                RemoteReason::Recent
            } else if record.modified > young {
                RemoteReason::Young
            } else {
                going.entry(record.key).or_default().push(record);
                continue;
            };
            for object in &record.objects {
                let known = reasons.entry(*object).or_insert(reason);
                *known = reason.min(*known);
            }
        }
        for (digest, found) in &objects {
            if found.modified > young {
                reasons.entry(*digest).or_insert(RemoteReason::Young);
            }
        }
        let mut left: BTreeMap<Digest, &Listed> =
            objects.iter().filter(|(digest, _)| !reasons.contains_key(digest)).map(|(d, f)| (*d, f)).collect();
        let mut candidates: Vec<RemoteCandidate> = Vec::new();
        for (key, records) in going {
            let members: Vec<&Listed> =
                records.iter().flat_map(|record| &record.objects).filter_map(|object| left.remove(object)).collect();
            let record = records.iter().find_map(|standing| standing.record.as_ref());
            candidates.push(RemoteCandidate {
                stage: record.map(|record| record.stage.clone()),
                kind: record.map(|record| record.manifest.stage.clone()),
                key: Some(key),
                seconds: record.map_or(0.0, |record| record.cost.wall_seconds),
                names: records.iter().map(|standing| standing.name.clone()).collect(),
                ..RemoteCandidate::of(&members)
            });
        }
        if !left.is_empty() {
            candidates.push(RemoteCandidate::of(&left.into_values().collect::<Vec<_>>()));
        }
        let price = |candidate: &RemoteCandidate| candidate.seconds / candidate.bytes.max(1) as f64;
        candidates.sort_by(|a, b| price(a).total_cmp(&price(b)).then(a.key.cmp(&b.key)));
        let mut plan = RemotePlan { kept: BTreeMap::new(), given_up: Vec::new(), bytes: 0, runs: gone_runs };
        for candidate in candidates {
            if policy.free.is_some_and(|wanted| plan.bytes >= wanted) {
                let total = plan.kept.entry(RemoteReason::Spared).or_default();
                *total = Total { files: total.files + candidate.objects, bytes: total.bytes + candidate.bytes };
                // What stays is still of use to these.
                plan.runs.clear();
            } else {
                plan.bytes += candidate.bytes;
                plan.given_up.push(candidate);
            }
        }
        for (object, reason) in reasons {
            if let Some(found) = objects.get(&object) {
                let total = plan.kept.entry(reason).or_default();
                *total = Total { files: total.files + 1, bytes: total.bytes + found.bytes };
            }
        }
        Ok(plan)
    }

    /// Carries a plan out: runs first, then records, then objects, so that nothing there ever names what is gone.
    pub fn apply_gc(&self, plan: &RemotePlan, stop: Stop<'_>) -> Result<(), Fault> {
        let runs: Vec<String> = plan.runs.iter().map(layout::run).collect();
        let records: Vec<&String> = plan.given_up.iter().flat_map(|candidate| &candidate.names).collect();
        let objects: Vec<&String> = plan.given_up.iter().flat_map(|candidate| &candidate.members).collect();
        each(&runs, AT_ONCE, |name| self.store.delete(name, stop))?;
        each(&records, AT_ONCE, |name| self.store.delete(name, stop))?;
        each(&objects, AT_ONCE, |name| self.store.delete(name, stop))
    }

    /// Reads all records that stand there, whoever signed them.
    fn standing(&self, listed: &[Listed], stop: Stop<'_>) -> Result<Vec<Standing>, Fault> {
        let found = Mutex::new(Vec::new());
        each(listed, AT_ONCE, |listed| {
            let Some(key) = layout::key_of(&listed.name) else { return Ok(()) };
            let Some(envelope) = self.store.read(&listed.name, LIMIT, stop)? else { return Ok(()) };
            let record = content(&envelope, RECORD, &[]).ok().and_then(|c| records::check(&c.bytes, key).ok());
            let mut objects = BTreeSet::from([key.0]);
            if let Some(record) = &record {
                objects.extend(record.parent);
                objects.extend(record.attempts.iter().filter_map(|attempt| attempt.log));
                for artifact in record.outputs.values().chain(&record.log) {
                    objects.extend(self.objects_of(artifact, stop)?);
                }
            }
            let (name, modified) = (listed.name.clone(), listed.modified);
            let standing = Standing { key, name, modified, record, objects };
            found.lock().unwrap_or_else(PoisonError::into_inner).push(standing);
            Ok(())
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by(|a: &Standing, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn objects_of(&self, artifact: &Artifact, stop: Stop<'_>) -> Result<Vec<Digest>, Fault> {
        let mut objects = vec![artifact.digest];
        if artifact.layout == Layout::Tree
            && let Some(listing) = self.store.read(&layout::object(artifact.digest), LIMIT, stop)?
        {
            objects.extend(tree::parse(&listing).unwrap_or_default().into_iter().map(|entry| entry.digest));
        }
        Ok(objects)
    }

    fn keep_run(
        &self,
        run: &RunId,
        found: &Listed,
        keys: &mut Vec<ActionKey>,
        objects: &mut BTreeSet<Digest>,
        stop: Stop<'_>,
    ) -> Result<(), Fault> {
        // What can't be read may have kept something: nothing is taken away then.
        let unsure = || {
            Fault::Down(format!(
                "run {run} there is damaged: nothing is taken away; remove {} if it is of no use",
                found.name
            ))
        };
        let Some(envelope) = self.store.read(&found.name, LIMIT, stop)? else { return Ok(()) };
        let shared = content(&envelope, RUN, &[]).ok().and_then(|c| serde_json::from_slice::<SharedRun>(&c.bytes).ok());
        let shared = shared.ok_or_else(unsure)?;
        objects.extend([Some(shared.record), shared.events, shared.signature].into_iter().flatten());
        let bytes = self.store.read(&layout::object(shared.record), LIMIT, stop)?.ok_or_else(unsure)?;
        let record = runs::check(&bytes, run).map_err(|_| unsure())?;
        objects.insert(record.text);
        objects.extend(record.steps.iter().filter_map(|step| Some(step.log.as_ref()?.digest)));
        keys.extend(record.steps.iter().filter_map(|step| step.key));
        Ok(())
    }
}

fn second(run: &RunId) -> &str {
    let text = run.as_str();
    text.rsplit_once('-').map_or(text, |(second, _)| second)
}

impl RemoteCandidate {
    fn of(members: &[&Listed]) -> Self {
        Self {
            stage: None,
            kind: None,
            key: None,
            objects: members.len() as u64,
            bytes: members.iter().map(|found| found.bytes).sum(),
            seconds: 0.0,
            names: Vec::new(),
            members: members.iter().map(|found| found.name.clone()).collect(),
        }
    }
}
