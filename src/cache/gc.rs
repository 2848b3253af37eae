//! Giving up bytes that can be made again: what is kept and why, what would go, and its going.
//!
//! Records, manifests, logs, pipeline texts and the listings of folders always stay: lineage and digests outlive the bytes.

use super::gate::Relied;
use super::given_up::{GivenUp, GivenUpAction};
use super::records::{Found, list, sharded};
use super::session::is_older_than;
use super::stamp::now;
use super::{Cache, CacheError, Total, lock};
use crate::action::{ActionKey, ActionRecord};
use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::name::{RunId, StageName};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to keep.
#[derive(Debug, Clone)]
pub struct Policy {
    /// All outputs of so many of the newest runs.
    pub keep_runs: usize,
    /// Whatever is younger.
    pub grace: Duration,
    /// Give up no more outputs than it takes to free so many bytes, the cheapest to make again first; `None`: all that nothing keeps.
    pub free: Option<u64>,
}

/// Why an object stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Manifests, logs, texts, listings, replaced records.
    Recipes,
    Pinned,
    Published,
    /// Of one of the newest runs.
    Recent,
    /// A process is at work with it.
    InUse,
    Young,
    /// It could go, but enough is freed without it.
    Spared,
}

/// What could go together: the outputs of one action, or what no record names.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    pub stage: Option<StageName>,
    pub kind: Option<String>,
    pub key: Option<ActionKey>,
    pub objects: u64,
    pub bytes: u64,
    /// What it took to make them.
    pub seconds: f64,
    #[serde(skip)]
    members: BTreeSet<Digest>,
}

/// What `cache gc` would do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub kept: BTreeMap<Reason, Total>,
    /// Cheapest per byte first.
    pub given_up: Vec<Candidate>,
    pub bytes: u64,
    /// Folders of unfinished work that nobody has been at for the time of grace.
    pub scratch: Vec<ActionKey>,
    pub scratch_bytes: u64,
    #[serde(skip)]
    grace: Duration,
    /// The runs that had ended when it was made: what later ones used, it does not know of.
    #[serde(skip)]
    ended: BTreeSet<RunId>,
}

/// An object as the folder shows it.
#[derive(Clone, Copy)]
struct Seen {
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: i64,
}

impl Cache {
    /// Says what would be given up; changes nothing.
    pub fn plan_gc(&self, policy: &Policy) -> Result<Plan, CacheError> {
        let ended = self.ended()?;
        let seen = self.seen()?;
        let mut reasons: BTreeMap<Digest, Reason> = BTreeMap::new();
        let mut keep = |objects: Vec<Digest>, reason: Reason| {
            for object in objects {
                let known = reasons.entry(object).or_insert(reason);
                *known = reason.min(*known);
            }
        };
        for pin in self.pins()? {
            keep(self.objects_of(&pin.artifact), Reason::Pinned);
        }
        let mut newest = self.runs()?;
        newest.reverse();
        // What stands at a published path is what the newest run put there.
        let (mut paths, mut published) = (BTreeSet::new(), BTreeSet::new());
        let mut recent = policy.keep_runs;
        for id in &newest {
            let run = match self.runs.read(id) {
                Some(Ok(run)) => run,
                Some(Err(what)) => return Err(unsure(format!("the record of run {id} {what}"))),
                // It is under way, or was killed.
                None => continue,
            };
            let is_recent = recent > 0;
            recent = recent.saturating_sub(1);
            published.extend(run.published.into_iter().filter(|(path, _)| paths.insert(path.clone())).map(|(_, d)| d));
            keep(vec![run.text], Reason::Recipes);
            for step in &run.steps {
                keep(step.key.map(|key| key.0).into_iter().collect(), Reason::Recipes);
                keep(step.log.iter().map(|log| log.digest).collect(), Reason::Recipes);
                for artifact in step.outputs.values() {
                    if is_recent {
                        keep(self.objects_of(artifact), Reason::Recent);
                    }
                    if published.contains(&artifact.digest) {
                        keep(self.objects_of(artifact), Reason::Published);
                    }
                }
            }
        }
        let mut records = Vec::new();
        for key in self.records.keys()? {
            match self.records.read::<ActionRecord>(key, &self.ledger)? {
                Found::Record(record) => records.push(record),
                Found::Damaged(what) => return Err(unsure(format!("the record of {} {what}", key.0.short()))),
                Found::Missing => {}
            }
        }
        for record in &records {
            let log = record.log.iter().map(|log| log.digest);
            keep(record.parent.into_iter().chain([record.key.0]).chain(log).collect(), Reason::Recipes);
            let trees = record.outputs.values().filter(|output| output.layout == crate::artifact::Layout::Tree);
            keep(trees.map(|output| output.digest).collect(), Reason::Recipes);
        }
        let young = now() - i64::try_from(policy.grace.as_nanos()).unwrap_or(i64::MAX);
        keep(
            seen.iter().filter(|(_, object)| object.modified > young).map(|(digest, _)| *digest).collect(),
            Reason::Young,
        );

        let mut left: BTreeSet<Digest> = seen.keys().filter(|digest| !reasons.contains_key(digest)).copied().collect();
        let mut candidates: Vec<Candidate> = records
            .iter()
            .map(|record| {
                let members = record.outputs.values().flat_map(|artifact: &Artifact| self.objects_of(artifact));
                let members: BTreeSet<Digest> = members.filter(|object| left.remove(object)).collect();
                Candidate {
                    stage: Some(record.stage.clone()),
                    kind: Some(record.manifest.stage.clone()),
                    key: Some(record.key),
                    seconds: record.cost.wall_seconds,
                    ..Candidate::of(members, &seen)
                }
            })
            .filter(|candidate| candidate.objects > 0)
            .collect();
        if !left.is_empty() {
            candidates.push(Candidate::of(left, &seen));
        }
        let price = |candidate: &Candidate| candidate.seconds / candidate.bytes.max(1) as f64;
        candidates.sort_by(|a, b| price(a).total_cmp(&price(b)).then(a.key.cmp(&b.key)));
        let (scratch, scratch_bytes) = self.idle_scratch(policy.grace)?;
        let mut plan = Plan {
            kept: BTreeMap::new(),
            given_up: Vec::new(),
            bytes: 0,
            scratch,
            scratch_bytes,
            grace: policy.grace,
            ended,
        };
        for candidate in candidates {
            if policy.free.is_some_and(|wanted| plan.bytes + plan.scratch_bytes >= wanted) {
                reasons.extend(candidate.members.iter().map(|object| (*object, Reason::Spared)));
            } else {
                plan.bytes += candidate.bytes;
                plan.given_up.push(candidate);
            }
        }
        for (object, reason) in reasons {
            if let Some(object) = seen.get(&object) {
                let total = plan.kept.entry(reason).or_default();
                *total = Total { files: total.files + 1, bytes: total.bytes + object.bytes };
            }
        }
        Ok(plan)
    }

    /// Carries a plan out, but for what somebody relies on by now; the plan then says what really went.
    pub fn apply_gc(&self, plan: &mut Plan) -> Result<(), CacheError> {
        // Moved aside while the gate is shut, removed after it: what a kill leaves there is swept with the session.
        let aside = self.session()?.path();
        fs_err::create_dir(&aside)?;
        {
            let (_shut, relied) = self.gate.shut(&self.root().join("tmp"))?;
            let (mut in_use, seen) = (self.in_use(&relied)?, self.seen()?);
            for run in self.ended()?.difference(&plan.ended) {
                let steps = self.run(run)?.map_or_else(Vec::new, |run| run.steps);
                in_use.extend(steps.iter().flat_map(|step| step.outputs.values()).flat_map(|o| self.objects_of(o)));
            }
            let mut kept = Total::default();
            for candidate in &mut plan.given_up {
                let stays = |digest: &Digest| {
                    let is_theirs = |object: &Seen| relied.since.is_some_and(|since| object.modified >= since);
                    in_use.contains(digest) || seen.get(digest).is_none_or(is_theirs)
                };
                let (stay, go): (BTreeSet<Digest>, _) = candidate.members.iter().partition(|digest| stays(digest));
                kept.files += stay.len() as u64;
                kept.bytes += stay.iter().filter_map(|digest| seen.get(digest)).map(|object| object.bytes).sum::<u64>();
                *candidate = Candidate {
                    stage: candidate.stage.take(),
                    kind: candidate.kind.take(),
                    key: candidate.key,
                    seconds: candidate.seconds,
                    ..Candidate::of(go, &seen)
                };
            }
            if kept.files > 0 {
                plan.kept.insert(Reason::InUse, kept);
            }
            plan.given_up.retain(|candidate| candidate.objects > 0);
            plan.bytes = plan.given_up.iter().map(|candidate| candidate.bytes).sum();
            // Said before it is done: an object that is gone was given up, or else it is missing.
            self.remember_given_up(&plan.as_given_up())?;
            for object in plan.given_up.iter().flat_map(|candidate| &candidate.members) {
                match fs_err::rename(self.object_path(*object), aside.join(object.hex())) {
                    // Somebody found it damaged, and was quicker.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    result => result?,
                }
            }
        }
        fs_err::remove_dir_all(&aside)?;
        plan.scratch.retain(|key| self.remove_scratch(*key, plan.grace).unwrap_or(false));
        super::remote::uploads::forget_old(self.root());
        Ok(())
    }

    /// All objects of what the living rely on.
    fn in_use(&self, relied: &Relied) -> Result<BTreeSet<Digest>, CacheError> {
        let mut in_use = relied.names.clone();
        for name in &relied.names {
            if let Some(record) = self.record(ActionKey(*name))? {
                in_use.extend(record.outputs.values().flat_map(|output| self.objects_of(output)));
            }
        }
        Ok(in_use)
    }

    /// The runs with a record.
    fn ended(&self) -> Result<BTreeSet<RunId>, CacheError> {
        Ok(self.runs()?.into_iter().filter(|run| self.runs.file(run).exists()).collect())
    }

    fn seen(&self) -> Result<BTreeMap<Digest, Seen>, CacheError> {
        let mut seen = BTreeMap::new();
        for (name, path) in sharded(&self.root().join("objects"))? {
            // Gone in the meantime, or not ours.
            if let (Ok(digest), Ok(metadata)) = (Digest::from_hex(&name), fs_err::symlink_metadata(&path)) {
                let modified = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
                seen.insert(digest, Seen { bytes: metadata.len(), modified });
            }
        }
        Ok(seen)
    }

    /// Unfinished work that nobody holds and that is old, with its bytes.
    fn idle_scratch(&self, grace: Duration) -> Result<(Vec<ActionKey>, u64), CacheError> {
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for entry in list(&self.root().join("scratch"))? {
            let Ok(digest) = Digest::from_hex(&entry.file_name().to_string_lossy()) else { continue };
            let key = ActionKey(digest);
            let held = self.holder(key)?.is_some();
            if !held && is_idle(&entry.path(), grace) {
                keys.push(key);
                bytes += super::du::measure(&entry.path())?.bytes;
            }
        }
        Ok((keys, bytes))
    }

    fn remove_scratch(&self, key: ActionKey, grace: Duration) -> Result<bool, CacheError> {
        let folder: PathBuf = self.scratch(key);
        // Held while it goes: a run that wants to go on from there waits, and then begins anew.
        let path = self.root().join("locks").join(format!("{}.lock", key.0.hex()));
        let Some(_claim) = lock::try_take(&path)? else { return Ok(false) };
        let goes = is_idle(&folder, grace);
        if goes {
            fs_err::remove_dir_all(&folder)?;
        }
        let _ = fs_err::remove_file(&path);
        Ok(goes)
    }
}

/// What is damaged may have kept something: nothing is given up then.
fn unsure(what: String) -> CacheError {
    CacheError::Unusable(format!(
        "{what}: nothing is given up; `cistage cache verify` says more, a run mends what it meets"
    ))
}

/// Whether nothing in a folder was changed for so long.
fn is_idle(folder: &Path, grace: Duration) -> bool {
    is_older_than(folder, grace)
        && list(folder).is_ok_and(|entries| entries.iter().all(|entry| is_older_than(&entry.path(), grace)))
}

impl Candidate {
    fn of(members: BTreeSet<Digest>, seen: &BTreeMap<Digest, Seen>) -> Self {
        let sizes = members.iter().filter_map(|object| seen.get(object)).map(|object| object.bytes);
        let (objects, bytes) = (members.len() as u64, sizes.sum());
        Self { stage: None, kind: None, key: None, objects, bytes, seconds: 0.0, members }
    }
}

impl Plan {
    fn as_given_up(&self) -> GivenUp {
        let action = |candidate: &Candidate| GivenUpAction {
            key: candidate.key,
            stage: candidate.stage.clone(),
            bytes: candidate.bytes,
            seconds: candidate.seconds,
        };
        GivenUp {
            at: jiff::Timestamp::now().to_string(),
            actions: self.given_up.iter().map(action).collect(),
            objects: self.given_up.iter().flat_map(|candidate| &candidate.members).copied().collect(),
        }
    }
}
