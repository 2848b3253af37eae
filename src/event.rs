//! Events: the one stream that terminal, recorder and tests read.

use crate::action::ActionKey;
use crate::artifact::Format;
use crate::digest::Digest;
use crate::name::{PortName, RunId, StageName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// RFC 3339, UTC, milliseconds.
    pub at: String,
    pub kind: EventKind,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ran,
    Hit,
    Failed,
    Skipped,
    Cancelled,
}

impl Outcome {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Hit => "hit",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    Succeeded,
    Failed,
    Cancelled,
}

impl RunOutcome {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An output as events show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSummary {
    pub digest: Digest,
    pub bytes: u64,
    pub format: Format,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    RunStarted {
        run: RunId,
        pipeline: String,
        stages: Vec<StageName>,
    },
    StageStarted {
        stage: StageName,
        kind: String,
        key: ActionKey,
        /// Why it runs, in words.
        because: Vec<String>,
    },
    StageFinished {
        stage: StageName,
        kind: String,
        outcome: Outcome,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        key: Option<ActionKey>,
        seconds: f64,
        outputs: BTreeMap<PortName, OutputSummary>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<String>,
    },
    Progress {
        stage: StageName,
        done: u64,
        total: u64,
        unit: String,
    },
    Metric {
        stage: StageName,
        name: String,
        step: u64,
        value: f64,
    },
    /// A stage runs elsewhere: the job and its node.
    Placed {
        stage: StageName,
        place: String,
    },
    /// A line that a stage printed: for whoever watches, in no file of events.
    Printed {
        stage: StageName,
        line: String,
    },
    /// How often Slurm's commands were called, and how many of these calls were submissions.
    Slurm {
        calls: u64,
        submissions: u64,
    },
    /// A line worth reading: a damaged object that is rebuilt, a constant prediction.
    Warning {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        stage: Option<StageName>,
        message: String,
    },
    /// A line worth reading that is no cause for worry: a training that goes on from a checkpoint.
    Note {
        stage: StageName,
        message: String,
    },
    Published {
        path: String,
        /// Of the artifact.
        digest: Digest,
        /// Of the file's bytes, where it is a text form of the artifact.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        text: Option<Digest>,
    },
    /// A result that could not be placed in the working directory: it stays in the cache, and the run fails.
    PublishFailed {
        path: String,
        /// `STAGE.PORT`
        output: String,
        error: String,
    },
    RunFinished {
        run: RunId,
        outcome: RunOutcome,
        ran: u64,
        hit: u64,
        failed: u64,
        skipped: u64,
        /// The paths of results that could not be published.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        unpublished: Vec<String>,
        seconds: f64,
        /// What the executions took whose outputs hits served.
        #[serde(default)]
        saved_seconds: f64,
    },
}

impl Event {
    /// One JSON object on one line: `event` and `at` first, then the fields of the kind.
    pub fn to_json_line(&self) -> String {
        let body = serde_json::to_string(&self.kind).expect("events are plain data");
        // Spliced instead of flattened: serde's flatten loses field order and error positions.
        let (open, rest) = body.split_at(1);
        let at = serde_json::to_string(&self.at).expect("a string");
        format!("{open}\"at\":{at},{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_json_object() {
        let event = Event {
            at: "2026-11-23T09:40:12.000Z".into(),
            kind: EventKind::Metric {
                stage: StageName::parse("train").expect("valid"),
                name: "loss".into(),
                step: 1,
                value: 0.5,
            },
        };
        assert_eq!(
            event.to_json_line(),
            r#"{"at":"2026-11-23T09:40:12.000Z","event":"metric","stage":"train","name":"loss","step":1,"value":0.5}"#
        );
    }
}
