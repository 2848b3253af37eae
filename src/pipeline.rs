//! What should happen: a pipeline file, checked and resolved into a plan.

use crate::artifact::Format;
use crate::name::{PortName, StageName};
use crate::stage::Resources;
use crate::stages::StageKind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the command line says beside the file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub profiles: Vec<String>,
    /// `key=value`, as given.
    pub sets: Vec<String>,
    /// Keep this stage and what it needs alone.
    pub to: Option<String>,
}

/// A place in a pipeline file, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// The checked graph.
#[derive(Debug, Clone)]
pub struct Plan {
    pub name: String,
    pub about: Option<String>,
    /// The pipeline file, as given.
    pub file: PathBuf,
    /// The text of the file.
    pub text: String,
    pub params: BTreeMap<String, Value>,
    /// In an order in which each step follows those it needs; names break ties.
    pub steps: Vec<Step>,
    /// Published path -> output.
    pub publish: BTreeMap<String, (StageName, PortName)>,
}

/// A stage placed in a plan, with its inputs resolved.
#[derive(Debug, Clone)]
pub struct Step {
    pub name: StageName,
    pub kind: StageKind,
    pub inputs: BTreeMap<PortName, Source>,
    pub outputs: BTreeMap<PortName, Format>,
    pub resources: Resources,
    /// Where the stage stands in the file.
    pub position: Position,
    /// What the file says to do when an input file is missing (`hint:`).
    pub hint: Option<String>,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Step {
        step: StageName,
        port: PortName,
    },
    /// A file or folder of the user's, as written, relative to the working directory.
    Path {
        path: PathBuf,
        format: Format,
        position: Position,
    },
}

/// Everything wrong with a pipeline file, ready to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// One problem: where, what, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as given, or `--set`, `--profile`.
    pub file: String,
    pub position: Option<Position>,
    pub message: String,
    pub help: Option<String>,
    /// The line of the file at the position.
    pub line_text: Option<String>,
}

/// Reads a pipeline file and makes its plan, or gives all its problems at once.
pub fn load(_file: &Path, _options: &Options) -> Result<Plan, Problems> {
    todo!()
}

/// The JSON Schema of pipeline files.
pub fn schema() -> Value {
    todo!()
}
