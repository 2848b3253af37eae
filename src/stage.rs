//! What a stage is: its contract, what it can see while it runs, how it fails.

use crate::artifact::Format;
use crate::collective::Collective;
use crate::device::Device;
use crate::digest::Digest;
use crate::name::PortName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A stage: its parameters are its fields.
pub trait Stage: Send + Sync {
    /// Raised whenever the same inputs and parameters would give other bytes.
    fn version(&self) -> u32;

    /// Its ports.
    fn contract(&self) -> Contract;

    /// What it uses when the pipeline says nothing.
    fn needs(&self) -> Resources {
        Resources::ONE_CPU
    }

    /// The processes that share its work.
    fn ranks(&self) -> u32 {
        1
    }

    /// What a run on inputs of these sizes would make and cost, where that can be foretold.
    fn estimate(&self, _inputs: &BTreeMap<PortName, Size>, _machine: &Machine) -> Estimate {
        Estimate::default()
    }

    /// The share of the work that is left where an interrupted execution left `state`, its scratch folder.
    fn left(&self, _state: &Path, _inputs: &BTreeMap<PortName, Size>) -> f64 {
        1.0
    }

    /// Whether it leaves its state in the scratch folder when it is asked to stop, for the next execution to go on from.
    fn saves_state(&self) -> bool {
        false
    }

    /// Checks what no single parameter shows: `(parameter, what is wrong)`.
    fn problems(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Told which inputs are connected and which parameters were given, drops what does not apply then.
    fn settle(&mut self, _inputs: &[&str], _given: &[&str]) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The ends of shorter executions of which this one is the continuation, in order, its own end last; none where the
    /// work is of one piece.
    fn prefixes(&self) -> Vec<Prefix> {
        Vec::new()
    }

    /// Why this execution can't go on from an earlier one with another value of `param`, where one would expect that it can.
    fn starts_anew(&self, _param: &str) -> Option<&'static str> {
        None
    }

    /// Does the work: reads its inputs, writes every output of its contract.
    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError>;
}

/// A point at which a shorter execution ends, with the same bytes: the end of an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Prefix {
    /// How messages name it: `epoch 3`.
    pub what: String,
    /// The parameters of the shorter execution.
    pub params: BTreeMap<String, serde_json::Value>,
    /// How much of the whole work lies before it, from 0 to 1.
    pub share: f64,
}

/// A prefix that was reached; paths are relative to the output folder, and what is there may be taken away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Which of [`Stage::prefixes`].
    pub prefix: usize,
    /// What the shorter execution would put out; empty for the last prefix, which ends with this very execution.
    pub outputs: BTreeMap<PortName, PathBuf>,
    /// What a longer one goes on from, where it is worth its room.
    pub state: Option<PathBuf>,
}

/// A named, typed input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: &'static str,
    pub format: Format,
    pub required: bool,
}

impl Port {
    pub const fn required(name: &'static str, format: Format) -> Self {
        Self { name, format, required: true }
    }

    pub const fn optional(name: &'static str, format: Format) -> Self {
        Self { name, format, required: false }
    }
}

/// The ports of a stage, and whether its bytes depend on the processor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contract {
    pub inputs: Vec<Port>,
    /// Any number of further inputs, named by the user, of this format.
    pub more_inputs: Option<Format>,
    /// A matrix upstream does not fan this stage out: each branch becomes a port.
    pub gathers: bool,
    /// Outputs by port; those of a `command` are declared by the user.
    pub outputs: Vec<(String, Format)>,
    /// Bytes depend on the numeric target (processor features, device).
    pub device: bool,
}

/// What a step may use; never part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    pub cpus: u32,
    /// Bytes; 0 where not said.
    pub memory: u64,
    pub gpus: u32,
    /// Seconds; 0 where not said.
    pub time: u64,
}

impl Resources {
    pub const ONE_CPU: Self = Self { cpus: 1, memory: 0, gpus: 0, time: 0 };
    /// All processors of the machine: the engine cuts it down to what there is.
    pub const ALL_CPUS: Self = Self { cpus: u32::MAX, memory: 0, gpus: 0, time: 0 };
}

/// How large an artifact is, as far as known before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Size {
    pub bytes: Option<u64>,
    pub rows: Option<u64>,
}

/// What this machine can do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    pub threads: u32,
    /// Where training and prediction compute.
    pub device: Device,
    /// Matrix product speed of that device (of a processor's threads), f32, floating-point operations per second.
    pub flops: f64,
}

/// What a stage would make and cost.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Estimate {
    /// Rows in each output.
    pub rows: BTreeMap<&'static str, u64>,
    /// Training or prediction samples.
    pub samples: Option<u64>,
    /// Floating-point operations.
    pub flops: Option<f64>,
    /// Wall time.
    pub seconds: Option<f64>,
}

impl Estimate {
    /// The same where only this share of the work is left.
    pub fn scaled(self, share: f64) -> Self {
        Self {
            samples: self.samples.map(|n| (n as f64 * share).round() as u64),
            flops: self.flops.map(|n| n * share),
            seconds: self.seconds.map(|n| n * share),
            ..self
        }
    }
}

/// Why a stage did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The user's data or parameters are at fault: exit code 2. Names file, line, and what to do.
    #[error("{0}")]
    Input(String),
    /// Anything else: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// Stopped on request; what is in scratch lets the next attempt go on.
    #[error("cancelled")]
    Cancelled,
}

impl From<std::io::Error> for StageError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What a stage says of an output file that it hashed while writing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    pub digest: Digest,
    pub bytes: u64,
}

/// Where a running stage reports to.
pub trait Sink: Sync {
    fn progress(&self, done: u64, total: u64, unit: &str);
    fn metric(&self, name: &str, step: u64, value: f64);
    fn warning(&self, message: &str);
    /// A line worth reading that is no cause for worry; whoever shows no lines leaves it out.
    fn note(&self, _message: &str) {}
    /// Work that others may go on from; whoever keeps nothing leaves it where it is.
    fn reached(&self, _reached: Reached) {}
    fn is_cancelled(&self) -> bool;
}

/// Everything that a running stage can see.
pub struct StageContext<'a> {
    /// Absolute paths of the inputs: files, or folders.
    pub inputs: BTreeMap<PortName, PathBuf>,
    /// How messages name the inputs: the user's path, or `split.train`.
    pub labels: BTreeMap<PortName, String>,
    /// An empty folder of its own; outputs go into it.
    pub output_dir: PathBuf,
    /// Where each output was put, relative to `output_dir`.
    pub outputs: BTreeMap<PortName, PathBuf>,
    /// Outputs whose digest the stage knows, because it hashed what it wrote.
    pub seals: BTreeMap<PortName, Seal>,
    /// A folder named by the action key; survives a failed attempt.
    pub scratch: PathBuf,
    /// What an earlier, shorter execution of the same work left to go on from.
    pub prior: Option<PathBuf>,
    /// Threads to use; the bytes made must not depend on it.
    pub threads: usize,
    /// Where to compute.
    pub device: Device,
    /// Where strace is to note what a user's program touches; `None` in all but an audit.
    pub trace: Option<PathBuf>,
    /// The processes that share the work. All of them run the stage; the first alone writes, and is heard.
    pub together: &'a dyn Collective,
    pub sink: &'a dyn Sink,
}

impl StageContext<'_> {
    /// The path of a required input.
    pub fn input(&self, port: &str) -> &Path {
        self.inputs.get(port).expect("a required port is connected: checked when the plan was made")
    }

    /// The path of an optional input.
    pub fn optional_input(&self, port: &str) -> Option<&Path> {
        self.inputs.get(port).map(PathBuf::as_path)
    }

    /// How messages name an input.
    pub fn label(&self, port: &str) -> String {
        self.labels.get(port).cloned().unwrap_or_else(|| port.to_owned())
    }

    /// Gives the path to write an output to; the stage makes the file or the folder.
    pub fn output(&mut self, port: &str, format: Format) -> PathBuf {
        let file = PathBuf::from(format!("{port}{}", format.extension()));
        let path = self.output_dir.join(&file);
        self.outputs.insert(PortName::parse(port).expect("ports of a contract are valid names"), file);
        path
    }

    /// Hands in the digest and the size in bytes of an output file that was hashed while it was written
    /// (`HashingWriter`), so that it is not read again. The file must not be touched afterwards.
    pub fn sealed(&mut self, port: &str, digest: Digest, bytes: u64) {
        let port = PortName::parse(port).expect("ports of a contract are valid names");
        self.seals.insert(port, Seal { digest, bytes });
    }

    /// Whether this process is the one that writes outputs and is heard.
    pub fn is_first(&self) -> bool {
        self.together.rank() == 0
    }

    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    pub fn progress(&self, done: u64, total: u64, unit: &str) {
        self.sink.progress(done, total, unit);
    }

    pub fn metric(&self, name: &str, step: u64, value: f64) {
        self.sink.metric(name, step, value);
    }

    pub fn warning(&self, message: &str) {
        self.sink.warning(message);
    }

    pub fn note(&self, message: &str) {
        self.sink.note(message);
    }

    pub fn reached(&self, reached: Reached) {
        self.sink.reached(reached);
    }

    pub fn is_cancelled(&self) -> bool {
        self.sink.is_cancelled()
    }
}
