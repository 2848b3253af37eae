//! What was made from an artifact: the lineage read forwards, for "this file is withdrawn: which results are tainted?".

use super::history::{History, succeeded};
use super::target::Audit;
use crate::action::{ActionKey, Input};
use crate::artifact::Artifact;
use crate::cache::{Cache, CacheError};
use crate::digest::Digest;
use crate::name::{PortName, RunId, StageName};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// All that was made from an artifact, nearest first, and the runs in which it, or anything made from it, was used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Downstream {
    pub made: Vec<Derived>,
    /// Newest first.
    pub runs: Vec<RunId>,
}

/// An artifact that was made from another, directly or by way of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Derived {
    pub stage: StageName,
    pub port: PortName,
    pub digest: Digest,
    pub bytes: u64,
    pub key: ActionKey,
    /// The run that executed it; else one that it was a hit in.
    pub run: RunId,
    /// How many actions lie between: 1 where the artifact itself was read.
    pub steps: usize,
    /// Where runs placed it in the working directory.
    pub published: BTreeSet<String>,
}

/// An action with what it read and made.
struct Use<'a> {
    stage: &'a StageName,
    key: ActionKey,
    run: &'a RunId,
    inputs: &'a BTreeMap<PortName, Input>,
    outputs: &'a BTreeMap<PortName, Artifact>,
}

/// Follows the artifacts of an answer forwards, through action records and through the records of runs: either may
/// know what the other has lost.
pub fn downstream(cache: &Cache, audit: &Audit) -> Result<Downstream, CacheError> {
    let (history, records) = (History::new(cache), cache.records()?);
    let runs = history.runs()?;
    let executed = records.iter().map(|record| Use {
        stage: &record.stage,
        key: record.key,
        run: &record.run,
        inputs: &record.inputs,
        outputs: &record.outputs,
    });
    let seen_in_runs = runs.iter().flat_map(|run| {
        run.steps.iter().filter(|step| succeeded(step)).filter_map(|step| {
            let (inputs, outputs) = (&step.inputs, &step.outputs);
            Some(Use { stage: &step.stage, key: step.key?, run: &run.run, inputs, outputs })
        })
    });
    let uses: Vec<Use<'_>> = executed.chain(seen_in_runs).collect();
    let mut readers: BTreeMap<Digest, Vec<&Use<'_>>> = BTreeMap::new();
    for used in &uses {
        let digests: BTreeSet<Digest> = used.inputs.values().map(|input| input.artifact.digest).collect();
        digests.into_iter().for_each(|digest| readers.entry(digest).or_default().push(used));
    }
    let mut tainted: BTreeSet<Digest> = audit.lineages().map(super::Lineage::digest).collect();
    let mut queue: VecDeque<(Digest, usize)> = tainted.iter().map(|digest| (*digest, 0)).collect();
    let mut answer = Downstream::default();
    let mut listed = BTreeSet::new();
    while let Some((digest, steps)) = queue.pop_front() {
        for used in readers.get(&digest).into_iter().flatten() {
            for (port, output) in used.outputs {
                if !listed.insert((used.key, port, output.digest)) {
                    continue;
                }
                let published = runs.iter().flat_map(|run| &run.published);
                let published = published.filter(|(_, d)| **d == output.digest).map(|(path, _)| path.clone()).collect();
                answer.made.push(Derived {
                    stage: used.stage.clone(),
                    port: port.clone(),
                    digest: output.digest,
                    bytes: output.bytes,
                    key: used.key,
                    run: used.run.clone(),
                    steps: steps + 1,
                    published,
                });
                if tainted.insert(output.digest) {
                    queue.push_back((output.digest, steps + 1));
                }
            }
        }
    }
    let touches = |run: &&crate::cache::RunRecord| {
        let mut inputs = run.steps.iter().flat_map(|step| step.inputs.values());
        inputs.any(|input| tainted.contains(&input.artifact.digest))
    };
    answer.runs = runs.iter().filter(touches).map(|run| run.run.clone()).collect();
    Ok(answer)
}
