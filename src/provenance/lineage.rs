//! Lineage: an artifact, what made it, and the same of each of its inputs, back to source files.

use super::makers::Makers;
use crate::action::{Accepted, ActionKey, ActionRecord, Environment, FailedAttempt, Origin};
use crate::artifact::Artifact;
use crate::cache::{Arrival, Cache, CacheError};
use crate::digest::Digest;
use crate::name::{PortName, RunId, StageName};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Deeper than any pipeline; a forged record could go on for ever.
const DEPTH: usize = 500;
/// Nodes written before a part that was written already is only named: shared parts double with each level.
const NODES: usize = 5_000;

/// Where an artifact came from.
#[derive(Debug, Clone, PartialEq)]
pub enum Lineage {
    Made(Arc<Made>),
    Source(SourceFile),
    /// The chain breaks here: no record says what made it.
    Lost {
        artifact: Artifact,
        problem: String,
    },
}

/// A file or folder of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceFile {
    /// As the pipeline named it.
    pub path: String,
    pub digest: Digest,
    pub bytes: u64,
}

/// An artifact that an action made. Parts that several artifacts share are held once.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    pub artifact: Artifact,
    pub record: Arc<ActionRecord>,
    pub inputs: BTreeMap<PortName, Lineage>,
    /// Other actions that made the same bytes, newest first.
    pub also: Vec<MadeBy>,
    /// Decisions by which these bytes are served for actions that were not executed.
    pub decisions: Vec<Decision>,
    /// How the record came here, where it was made elsewhere.
    pub arrival: Option<Arrival>,
}

/// A person's decision, and the action that it was about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    pub key: ActionKey,
    #[serde(flatten)]
    pub accepted: Accepted,
}

/// An execution, as the lineage shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MadeBy {
    pub stage: StageName,
    pub kind: String,
    pub version: u32,
    pub key: ActionKey,
    pub params: BTreeMap<String, Value>,
    pub run: RunId,
    pub started: String,
    pub seconds: f64,
    pub environment: Environment,
    /// Earlier attempts that made nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<FailedAttempt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
}

impl MadeBy {
    pub fn of(record: &ActionRecord) -> Self {
        Self {
            stage: record.stage.clone(),
            kind: record.manifest.stage.clone(),
            version: record.manifest.version,
            key: record.key,
            params: record.manifest.params.clone(),
            run: record.run.clone(),
            started: record.started.clone(),
            seconds: record.cost.wall_seconds,
            environment: record.environment.clone(),
            attempts: record.attempts.clone(),
            accepted: record.accepted.clone(),
        }
    }
}

/// Reads lineages from records; what was read once is shared.
pub(super) struct Tracer<'a> {
    cache: &'a Cache,
    known: BTreeMap<(ActionKey, Digest), Lineage>,
    /// The way from the root to here: a record that leads back to itself was forged.
    path: BTreeSet<(ActionKey, Digest)>,
    pub makers: Makers<'a>,
}

impl<'a> Tracer<'a> {
    pub fn new(cache: &'a Cache) -> Self {
        Self { cache, known: BTreeMap::new(), path: BTreeSet::new(), makers: Makers::new(cache) }
    }

    /// The lineage of an artifact that the action `key` made.
    pub fn trace(&mut self, key: ActionKey, artifact: &Artifact) -> Result<Lineage, CacheError> {
        let place = (key, artifact.digest);
        if let Some(known) = self.known.get(&place) {
            return Ok(known.clone());
        }
        let lost = |problem: String| Ok(Lineage::Lost { artifact: artifact.clone(), problem });
        if self.path.len() >= DEPTH || self.path.contains(&place) {
            return lost(format!("the record of {key} leads back to itself, or too far"));
        }
        // The key may have a newer record with other bytes, where a stage is not deterministic.
        let made = |record: &ActionRecord| record.outputs.values().any(|o| o.digest == artifact.digest);
        let Some(record) = self.cache.record_versions(key)?.into_iter().find(made) else {
            return lost(format!("no record of {key} that made these bytes is left"));
        };
        let is_newest = self.cache.record(key)?.as_ref() == Some(&record);
        let arrival = if is_newest { self.cache.arrival(key)? } else { None };
        self.path.insert(place);
        let inputs = record.inputs.iter().map(|(port, input)| {
            let lineage = match &input.origin {
                Origin::Action { key, .. } => self.trace(*key, &input.artifact)?,
                Origin::Source { path } => Lineage::Source(SourceFile {
                    path: path.clone(),
                    digest: input.artifact.digest,
                    bytes: input.artifact.bytes,
                }),
            };
            Ok((port.clone(), lineage))
        });
        let inputs = inputs.collect::<Result<_, CacheError>>();
        self.path.remove(&place);
        let made = Made {
            artifact: artifact.clone(),
            record: Arc::new(record),
            inputs: inputs?,
            also: Vec::new(),
            decisions: self.decisions(key, artifact.digest)?,
            arrival,
        };
        let lineage = Lineage::Made(Arc::new(made));
        self.known.insert(place, lineage.clone());
        Ok(lineage)
    }
}

impl Tracer<'_> {
    /// The decisions that let what `key` made stand for other actions.
    fn decisions(&mut self, key: ActionKey, digest: Digest) -> Result<Vec<Decision>, CacheError> {
        let others = self.makers.others(digest, key)?.into_iter();
        Ok(others
            .filter_map(|record| {
                let accepted = record.accepted.filter(|accepted| accepted.instead_of == key)?;
                Some(Decision { key: record.key, accepted })
            })
            .collect())
    }
}

impl Lineage {
    /// The artifact this is the lineage of; a source's format is not recorded here.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Made(made) => made.artifact.digest,
            Self::Source(source) => source.digest,
            Self::Lost { artifact, .. } => artifact.digest,
        }
    }

    /// The tree as JSON: `artifact`, `made_by`, `inputs`, or `source`.
    pub fn to_json(&self) -> Value {
        Writer::default().write(self)
    }

    /// Visits every action and source once, inputs before what was made of them.
    pub fn visit<'l>(&'l self, visit: &mut dyn FnMut(&'l Lineage)) {
        fn walk<'l>(
            lineage: &'l Lineage,
            seen: &mut BTreeSet<(Option<ActionKey>, Digest, &'l str)>,
            visit: &mut dyn FnMut(&'l Lineage),
        ) {
            let place = match lineage {
                Lineage::Made(made) => (Some(made.record.key), made.artifact.digest, ""),
                Lineage::Source(source) => (None, source.digest, source.path.as_str()),
                Lineage::Lost { artifact, problem } => (None, artifact.digest, problem.as_str()),
            };
            if seen.insert(place) {
                if let Lineage::Made(made) = lineage {
                    made.inputs.values().for_each(|input| walk(input, seen, visit));
                }
                visit(lineage);
            }
        }
        walk(self, &mut BTreeSet::new(), visit);
    }
}

#[derive(Default)]
struct Writer {
    nodes: usize,
    written: BTreeSet<(ActionKey, Digest)>,
}

impl Writer {
    fn write(&mut self, lineage: &Lineage) -> Value {
        self.nodes += 1;
        let mut object = Map::new();
        match lineage {
            Lineage::Source(source) => {
                object.insert("source".into(), json!(source));
            }
            Lineage::Lost { artifact, problem } => {
                object.insert("artifact".into(), artifact_json(artifact));
                object.insert("problem".into(), json!(problem));
            }
            Lineage::Made(made) => {
                object.insert("artifact".into(), artifact_json(&made.artifact));
                object.insert("made_by".into(), json!(MadeBy::of(&made.record)));
                let new = self.written.insert((made.record.key, made.artifact.digest));
                if new || self.nodes < NODES {
                    let inputs = made.inputs.iter().map(|(port, input)| (port.to_string(), self.write(input)));
                    object.insert("inputs".into(), Value::Object(inputs.collect()));
                } else {
                    object.insert("inputs_shown_elsewhere".into(), json!(true));
                }
                if let Some(Arrival { from, signer, at, .. }) = &made.arrival {
                    object.insert("arrived".into(), json!({ "from": from, "signer": signer, "at": at }));
                }
                if !made.decisions.is_empty() {
                    object.insert("accepted_for".into(), json!(made.decisions));
                }
                if !made.also.is_empty() {
                    object.insert("also_made_by".into(), json!(made.also));
                }
            }
        }
        Value::Object(object)
    }
}

fn artifact_json(artifact: &Artifact) -> Value {
    json!({ "digest": artifact.digest, "bytes": artifact.bytes, "format": artifact.format })
}
