//! Actions: what decides the outputs of a step (manifest, key), and what a key produced (record).

use crate::artifact::Artifact;
use crate::digest::{Digest, canonical};
use crate::name::{PortName, RunId, StageName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Names the layout of a manifest; part of every key.
pub const MANIFEST_SCHEMA: &str = "cistage/action/1";
/// Names the layout of an action record.
pub const RECORD_SCHEMA: &str = "cistage/record/1";

/// Everything that may change the output bytes of a step, and nothing else.
///
/// Its canonical JSON (RFC 8785) is stored as an object; the digest of those bytes is the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionManifest {
    pub schema: String,
    /// The stage kind, as after `uses:`.
    pub stage: String,
    /// `Stage::version` of that kind.
    pub version: u32,
    /// The numeric target (`cpu-avx512`, ...), where bytes depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Every parameter, defaults filled in; the seed of a stage that draws is one of them.
    pub params: BTreeMap<String, Value>,
    /// Inputs by digest, never by producer or path.
    pub inputs: BTreeMap<PortName, Digest>,
}

impl ActionManifest {
    /// The canonical bytes that the key is the digest of.
    pub fn canonical(&self) -> Vec<u8> {
        canonical(self)
    }

    pub fn key(&self) -> ActionKey {
        ActionKey(Digest::of(&self.canonical()))
    }
}

/// The digest of a stored manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionKey(pub Digest);

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the bytes on an input port came from in one particular run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Origin {
    /// Output `port` of the action `key`.
    Action { key: ActionKey, port: PortName },
    /// A file or folder of the user's, as the pipeline names it.
    Source { path: String },
}

/// An input of an executed action: the artifact, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub artifact: Artifact,
    pub origin: Origin,
}

/// What an execution cost, by the kernel's figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cost {
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    /// Peak resident memory of the worker, bytes.
    pub peak_memory: u64,
}

/// The circumstances of an execution: recorded, never keyed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Environment {
    /// Program version, and commit where it was built from a checkout.
    pub program: String,
    pub commit: Option<String>,
    /// Digest of all that the program was built from: sources, dependencies, compiler and its options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Digest>,
    pub os: String,
    pub host: String,
    pub user: String,
    pub cpu: String,
    pub cores: u32,
    /// The numeric target, `cpu-avx512`.
    pub target: String,
    /// Threads that the stage was given.
    pub threads: u32,
    /// PATH, which `command` stages see but which is not part of their key.
    pub path: Option<String>,
}

/// What a key produced, and under which circumstances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRecord {
    pub schema: String,
    pub key: ActionKey,
    pub manifest: ActionManifest,
    pub outputs: BTreeMap<PortName, Artifact>,
    /// stdout and stderr of the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Artifact>,
    pub inputs: BTreeMap<PortName, Input>,
    pub run: RunId,
    /// The name of the step in that run.
    pub stage: StageName,
    /// RFC 3339, UTC.
    pub started: String,
    pub cost: Cost,
    pub environment: Environment,
    /// Earlier attempts that made nothing, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<FailedAttempt>,
    /// Digest of the record of this key that this one replaced, itself an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// The outputs are those of another action: a person decided that what differs does not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
}

/// An attempt at an action that made nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedAttempt {
    pub run: RunId,
    /// RFC 3339, UTC.
    pub started: String,
    /// Unknown of one that was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    pub error: String,
    /// What was printed; the object stays as long as the run's results do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Digest>,
}

impl FailedAttempt {
    /// The error of one that a person ended.
    pub const INTERRUPTED: &str = "interrupted";

    /// How it ended, in a few words: `failed in run …`.
    pub fn ending(&self) -> &'static str {
        if self.error == Self::INTERRUPTED { "was interrupted" } else { "failed" }
    }
}

/// A person's decision that an earlier result stands for what an action would make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    pub reason: String,
    pub by: String,
    pub host: String,
    /// RFC 3339, UTC.
    pub at: String,
    /// The action that made the outputs.
    pub instead_of: ActionKey,
    /// What differs from it, in words.
    pub differs: Vec<String>,
}
