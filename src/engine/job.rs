//! What the engine and a worker process say to each other: a job in, lines of JSON out.

use crate::device::Device;
use crate::name::PortName;
use crate::stage::{Reached, Seal};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) const JOB_SCHEMA: &str = "cistage/job/1";

/// One execution, as the worker process reads it. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    pub schema: String,
    pub kind: String,
    pub params: Map<String, Value>,
    pub inputs: BTreeMap<PortName, PathBuf>,
    pub labels: BTreeMap<PortName, String>,
    pub output_dir: PathBuf,
    pub scratch: PathBuf,
    /// The state of a shorter execution to go on from.
    #[serde(default)]
    pub prior: Option<PathBuf>,
    pub threads: usize,
    pub device: Device,
    /// The numeric target that its key names: another processor would give other bytes.
    #[serde(default)]
    pub target: Option<String>,
    /// Where strace is to note what a user's program touches.
    #[serde(default)]
    pub trace: Option<PathBuf>,
    /// Whether standard input is a pipe that the run holds open: its end means that the run died.
    pub lifeline: bool,
    /// The process that the kernel ties the worker to: they die together. Not for a worker with children of its own,
    /// which has to live long enough to end them.
    pub engine: Option<u32>,
}

/// One line of a worker's standard output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Message {
    Progress {
        done: u64,
        total: u64,
        unit: String,
    },
    Metric {
        name: String,
        step: u64,
        /// Absent where it is not a finite number.
        value: Option<f64>,
    },
    Warning {
        message: String,
    },
    Note {
        message: String,
    },
    /// A shorter execution would have ended here.
    Reached {
        reached: Reached,
    },
    /// The last message of a success.
    Done(Made),
    /// The last message of a failure.
    Failed {
        why: Failure,
        message: String,
    },
}

/// What a stage made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Made {
    /// Where each output is, relative to the output folder.
    pub outputs: BTreeMap<PortName, PathBuf>,
    /// The outputs that were hashed on the way.
    pub seals: BTreeMap<PortName, Seal>,
}

/// The kinds of failure, as in `StageError`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Failure {
    Input,
    Failed,
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn messages_survive_their_line_of_json() {
        let rows = PortName::parse("rows").expect("valid");
        let messages = [
            Message::Progress { done: 1, total: 2, unit: "rows".into() },
            Message::Metric { name: "loss".into(), step: 3, value: Some(0.1) },
            Message::Metric { name: "loss".into(), step: 4, value: None },
            Message::Warning { message: "two\nlines".into() },
            Message::Note { message: "resumed".into() },
            Message::Reached {
                reached: Reached { prefix: 2, outputs: BTreeMap::new(), state: Some("epoch-3/state".into()) },
            },
            Message::Done(Made {
                outputs: BTreeMap::from([(rows.clone(), "rows.parquet".into())]),
                seals: BTreeMap::from([(rows, Seal { digest: Digest::of(b"rows"), bytes: 4 })]),
            }),
            Message::Failed { why: Failure::Input, message: "line 3: bad base".into() },
        ];
        for message in messages {
            let line = serde_json::to_string(&message).expect("plain data");
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<Message>(&line).expect("as written"), message);
        }
    }
}
