//! The record of one run: what was asked, what became of each step.

use crate::action::{ActionKey, Cost, Environment, Input};
use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::event::{Outcome, RunOutcome};
use crate::name::{PortName, RunId, StageName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

pub const RUN_SCHEMA: &str = "cistage/run/1";

/// Which files a run reads to know that they are what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Those whose size, times or inode changed since they were last hashed, and those hashed too soon after a change.
    #[default]
    Changed,
    /// All of them.
    Always,
}

/// What became of one step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRecord {
    pub stage: StageName,
    pub kind: String,
    pub outcome: Outcome,
    pub key: Option<ActionKey>,
    /// Why it ran, or why it was skipped, in words.
    pub because: Vec<String>,
    pub inputs: BTreeMap<PortName, Input>,
    pub outputs: BTreeMap<PortName, Artifact>,
    pub log: Option<Artifact>,
    pub error: Option<String>,
    pub seconds: f64,
    /// Of its execution; of a hit nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Of a hit: where its outputs came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Maker>,
    /// The job and the node that it ran on, where that was not the run's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// The execution whose outputs a hit served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maker {
    pub run: RunId,
    /// RFC 3339, UTC.
    pub started: String,
    /// What it took, and the hit saved.
    pub seconds: f64,
}

/// The provenance of one run; chained to the run before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    pub schema: String,
    pub run: RunId,
    /// The pipeline's `name:` and the file it came from.
    pub pipeline: String,
    pub file: String,
    /// Digest of the pipeline file's text, itself an object.
    pub text: Digest,
    pub profiles: Vec<String>,
    pub sets: Vec<String>,
    pub argv: Vec<String>,
    /// The pipeline's parameters after profiles and `--set`.
    pub params: BTreeMap<String, Value>,
    /// RFC 3339, UTC.
    pub started: String,
    pub seconds: f64,
    pub outcome: RunOutcome,
    pub steps: Vec<StepRecord>,
    /// Published path -> digest.
    pub published: BTreeMap<String, Digest>,
    /// Path -> what kept a result from being published there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unpublished: BTreeMap<String, String>,
    /// What the rows of each evaluation share with the rows that its models were trained on, as `audit --leakage` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leakage: Vec<Value>,
    pub environment: Environment,
    /// How the bytes of hits and sources were checked.
    #[serde(default)]
    pub verify: Verify,
    /// Of a run of another machine: how it came here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
    /// Digest of the file of the run record before this one.
    pub previous: Option<Digest>,
}

/// How the record of a run of another machine came here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// The shared cache.
    pub from: String,
    /// The id of the trusted key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// RFC 3339, UTC.
    pub at: String,
    /// Of its record there: here it has another place in the chain of runs.
    pub record: Digest,
}
