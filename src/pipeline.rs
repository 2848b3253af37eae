//! What should happen: a pipeline file, checked and resolved into a plan.

use crate::artifact::Format;
use crate::device::Device;
use crate::name::{PortName, StageName};
use crate::site::Executor;
use crate::stage::Resources;
use crate::stages::StageKind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod command;
mod diagnostics;
mod foreign;
mod graph;
mod growth;
mod kinds;
mod matrix;
mod nearest;
mod node;
mod not_yaml;
mod params;
mod plan;
mod publish;
pub mod resources;
mod schema;
mod sniff;
mod source;
mod spec;
mod unused;
mod wiring;

use diagnostics::Diagnostics;
use params::Params;
use spec::PipelineSpec;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
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
    /// Every file is hashed at each run, however unchanged it looks.
    pub verify_always: bool,
    /// Published path -> output.
    pub publish: BTreeMap<String, (StageName, PortName)>,
    /// What is right, and most likely not meant.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether bytes of some step depend on where it computes.
    pub fn asks_for_a_device(&self) -> bool {
        self.steps.iter().any(|step| step.device.is_some())
    }

    /// Has those steps compute there.
    pub fn compute_on(&mut self, device: Device) {
        self.steps.iter_mut().filter_map(|step| step.device.as_mut()).for_each(|at| *at = device);
    }
}

/// A stage placed in a plan, with its inputs resolved.
#[derive(Debug, Clone)]
pub struct Step {
    pub name: StageName,
    pub kind: StageKind,
    pub inputs: BTreeMap<PortName, Source>,
    pub outputs: BTreeMap<PortName, Format>,
    pub resources: Resources,
    /// Where it runs, where that is not as for the others.
    pub executor: Option<Executor>,
    /// Where it computes, if its bytes depend on that.
    pub device: Option<Device>,
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

impl Source {
    /// About the bytes that it takes.
    fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Step { step, port } => step.as_str().len() + port.as_str().len(),
                Self::Path { path, .. } => path.as_os_str().len(),
            }
    }
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
    /// How many characters of the line are meant; 0 without a position.
    pub width: usize,
    pub message: String,
    pub help: Option<String>,
    /// The line of the file at the position.
    pub line_text: Option<String>,
}

/// Reads a pipeline file and makes its plan, or gives all its problems at once.
pub fn load(file: &Path, options: &Options) -> Result<Plan, Problems> {
    plan_of(file, read(file)?, options, sniff::check)
}

/// Makes a plan as [`load`] does, of the text that `file` has or had: the files that it names are not looked at.
pub fn plan_of_text(file: &Path, text: &str, options: &Options) -> Result<Plan, Problems> {
    plan_of(file, text.to_owned(), options, |_, _| Ok(()))
}

fn plan_of(file: &Path, text: String, options: &Options, look: sniff::Look) -> Result<Plan, Problems> {
    let mut problems = Diagnostics::new(file.display().to_string(), &text);
    let spec = source::read(&text, &mut problems).and_then(|root| PipelineSpec::read(&root, &mut problems));
    // Of a text that can't be read, nothing further is worth saying.
    let Some(spec) = spec else { return Err(problems.finish()) };
    let params = Params::resolve(&spec.params, &spec.profiles, options, &mut problems);
    let built = plan::build(&spec, &params, options.to.as_deref(), look, &mut problems);
    if !problems.is_empty() {
        return Err(problems.finish());
    }
    let stem = || file.file_stem().map_or_else(|| "pipeline".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let warnings = unused::parameters(&spec);
    Ok(Plan {
        name: spec.name.unwrap_or_else(stem),
        about: spec.about,
        file: file.to_owned(),
        params: params.0,
        steps: built.steps,
        publish: built.publish,
        warnings,
        verify_always: spec.verify_always,
        text,
    })
}

/// Reads the text of a pipeline file.
fn read(file: &Path) -> Result<String, Problems> {
    let refuse = |message: String, help: &str| {
        let mut problems = Diagnostics::new(file.display().to_string(), "");
        problems.whole(message).help(help);
        problems.finish()
    };
    let form = "a pipeline file is YAML text that begins with `cistage: 1`";
    let meta = fs_err::metadata(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            refuse("there is no such pipeline file".into(), "the path is relative to the working directory")
        }
        _ => refuse(format!("the pipeline file can't be read: {error}"), form),
    })?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a folder" } else { "no plain file" };
        return Err(refuse(format!("this is {what}, not a pipeline file"), form));
    }
    if meta.len() > source::MOST_BYTES as u64 {
        return Err(refuse(
            format!("the file has {} bytes; a pipeline file may have {}", meta.len(), source::MOST_BYTES),
            form,
        ));
    }
    let bytes =
        fs_err::read(file).map_err(|error| refuse(format!("the pipeline file can't be read: {error}"), form))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|&&byte| byte == b'\n').count() + 1;
        refuse(format!("line {line} is not UTF-8 text"), form)
    })?;
    if text.trim().is_empty() {
        return Err(refuse("the pipeline file is empty".into(), form));
    }
    Ok(text)
}

/// The JSON Schema of pipeline files.
pub fn schema() -> Value {
    schema::schema()
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
