//! The runs backwards.

use super::difference::differences;
use crate::action::{ActionKey, ActionManifest, ActionRecord};
use crate::cache::{Cache, CacheError, RunRecord, StepRecord};
use crate::digest::Digest;
use crate::event::Outcome;
use crate::name::{RunId, StageName};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

/// So many of the newest executions of a kind are compared with a stage that has no namesake: a thousand new stages
/// in a cache of as many would else take a million comparisons.
const MOST_KIN: usize = 100;

/// All recorded runs, and the records of actions, read when first asked for.
pub struct History<'a> {
    cache: &'a Cache,
    runs: OnceCell<Vec<RunRecord>>,
    steps: OnceCell<BTreeMap<StageName, Vec<Place>>>,
    records: OnceCell<BTreeMap<String, Vec<ActionRecord>>>,
}

/// A step of a run: indices into all runs, newest first, and into its steps.
type Place = (usize, usize);

/// An earlier execution, or hit, of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Earlier {
    pub key: ActionKey,
    pub manifest: ActionManifest,
    /// The run that used it; `None` where only its action record is left.
    pub run: Option<RunId>,
    /// The name it had there.
    pub stage: StageName,
    /// What it took, where that is still known.
    pub seconds: Option<f64>,
}

impl<'a> History<'a> {
    pub fn new(cache: &'a Cache) -> Self {
        Self { cache, runs: OnceCell::new(), steps: OnceCell::new(), records: OnceCell::new() }
    }

    /// All runs with a readable record, newest first.
    pub fn runs(&self) -> Result<&[RunRecord], CacheError> {
        if let Some(runs) = self.runs.get() {
            return Ok(runs);
        }
        let mut runs = Vec::new();
        for id in self.cache.runs()?.iter().rev() {
            runs.extend(self.cache.run(id)?);
        }
        Ok(self.runs.get_or_init(|| runs))
    }

    /// The steps of each name that have what their key made, newest first.
    fn steps(&self) -> Result<&BTreeMap<StageName, Vec<Place>>, CacheError> {
        if let Some(steps) = self.steps.get() {
            return Ok(steps);
        }
        let mut steps: BTreeMap<StageName, Vec<Place>> = BTreeMap::new();
        for (r, run) in self.runs()?.iter().enumerate() {
            for (s, step) in run.steps.iter().enumerate().filter(|(_, step)| succeeded(step)) {
                steps.entry(step.stage.clone()).or_default().push((r, s));
            }
        }
        Ok(self.steps.get_or_init(|| steps))
    }

    /// The records of actions of a kind, newest first.
    fn records(&self, kind: &str) -> Result<&[ActionRecord], CacheError> {
        let kinds = if let Some(kinds) = self.records.get() {
            kinds
        } else {
            let mut kinds: BTreeMap<String, Vec<ActionRecord>> = BTreeMap::new();
            for record in self.cache.records()? {
                kinds.entry(record.manifest.stage.clone()).or_default().push(record);
            }
            for records in kinds.values_mut() {
                records.sort_by(|a, b| (&b.started, b.key).cmp(&(&a.started, a.key)));
            }
            self.records.get_or_init(|| kinds)
        };
        Ok(kinds.get(kind).map_or(&[], Vec::as_slice))
    }

    /// The newest step with that name that has what its key made; of this pipeline if it has one, else of any.
    fn newest_step(&self, pipeline: &str, stage: &StageName) -> Result<Option<Earlier>, CacheError> {
        let Some(places) = self.steps()?.get(stage) else { return Ok(None) };
        let runs = self.runs()?;
        let (ours, others): (Vec<Place>, Vec<Place>) = places.iter().partition(|(r, _)| runs[*r].pipeline == pipeline);
        for (r, s) in ours.into_iter().chain(others) {
            let Some(key) = runs[r].steps[s].key else { continue };
            let (manifest, seconds) = match self.cache.record(key)? {
                Some(record) => (Some(record.manifest), Some(record.cost.wall_seconds)),
                None => (self.cache.manifest(key)?, None),
            };
            if let Some(manifest) = manifest {
                let run = Some(runs[r].run.clone());
                return Ok(Some(Earlier { key, manifest, run, stage: stage.clone(), seconds }));
            }
        }
        Ok(None)
    }

    /// The execution that a stage is compared with: the newest one of that name and kind, else (the stage was renamed)
    /// the one of the same kind that differs in the fewest fields.
    pub fn newest_execution(
        &self,
        pipeline: &str,
        stage: &StageName,
        now: &ActionManifest,
    ) -> Result<Option<Earlier>, CacheError> {
        let same_name = self.newest_step(pipeline, stage)?;
        if same_name.as_ref().is_some_and(|earlier| earlier.manifest.stage == now.stage) {
            return Ok(same_name);
        }
        // A record that has not one input in common tells nothing, nor does one of another program.
        let wanted: BTreeSet<&Digest> = now.inputs.values().collect();
        let program = |m: &ActionManifest| ["run", "argv"].map(|param| m.params.get(param).cloned());
        let kin = |r: &&ActionRecord| {
            (wanted.is_empty() || r.manifest.inputs.values().any(|d| wanted.contains(d)))
                && (now.stage != "command" || program(&r.manifest) == program(now))
        };
        let mut nearest: Option<(usize, &ActionRecord)> = None;
        for record in self.records(&now.stage)?.iter().filter(kin).take(MOST_KIN) {
            let differs = differences(&record.manifest, now).len();
            if nearest.is_none_or(|(least, _)| differs < least) {
                nearest = Some((differs, record));
            }
        }
        let renamed = nearest.map(|(_, record)| Earlier {
            key: record.key,
            manifest: record.manifest.clone(),
            run: Some(record.run.clone()),
            stage: record.stage.clone(),
            seconds: Some(record.cost.wall_seconds),
        });
        Ok(renamed.or(same_name))
    }
}

/// Whether a step has outputs: it ran, or it was a hit.
pub(super) fn succeeded(step: &StepRecord) -> bool {
    matches!(step.outcome, Outcome::Ran | Outcome::Hit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::{manifest, record, run_record};
    use crate::cache::{Claimed, tests::step};

    fn commit(cache: &Cache, manifest: &ActionManifest) {
        let Claimed::Claim(claim) = cache.claim(manifest.key(), true, &mut |_| {}).expect("claims") else {
            panic!("forced")
        };
        claim.commit(cache, record(manifest, &[])).expect("commits");
    }

    #[test]
    fn a_stage_is_compared_with_its_namesake_of_the_same_pipeline_or_else_with_its_nearest_kin() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open(dir.path()).expect("opens");
        let a = manifest("split", &[("rows", Digest::of(b"a"))]);
        let b = manifest("split", &[("rows", Digest::of(b"b"))]);
        for (second, pipeline, manifest) in [(1, "test", &a), (2, "other", &b)] {
            commit(&cache, manifest);
            let mut run = run_record(&format!("20261123-09401{second}-0000"));
            run.pipeline = pipeline.into();
            run.steps = vec![step("halves", manifest, Outcome::Ran)];
            cache.commit_run(run).expect("commits");
        }
        let history = History::new(&cache);
        let now = manifest("split", &[("rows", Digest::of(b"b"))]);
        let find = |pipeline, stage| {
            let stage = StageName::parse(stage).expect("valid");
            history.newest_execution(pipeline, &stage, &now).expect("reads").map(|e| e.key)
        };
        assert_eq!(find("test", "halves"), Some(a.key()));
        assert_eq!(find("third", "halves"), Some(b.key()));
        assert_eq!(find("test", "renamed"), Some(b.key()));
        let unrelated = manifest("split", &[("rows", Digest::of(b"c"))]);
        let name = StageName::parse("renamed").expect("valid");
        assert_eq!(history.newest_execution("test", &name, &unrelated).expect("reads"), None);
    }
}
