//! A bench for stages under test: a context of its own, with the outputs at hand.

use crate::device::Device;
use crate::name::PortName;
use crate::stage::{Sink, Stage, StageContext, StageError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What a stage said while it ran.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Sink for Heard {
    fn progress(&self, _done: u64, _total: u64, _unit: &str) {}
    fn metric(&self, _name: &str, _step: u64, _value: f64) {}
    fn warning(&self, message: &str) {
        self.0.lock().expect("nobody panics with it").push(message.to_owned());
    }
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Inputs for a stage.
pub struct Bench {
    dir: tempfile::TempDir,
    inputs: BTreeMap<PortName, PathBuf>,
}

/// What a stage made.
#[derive(Debug)]
pub struct Made {
    dir: tempfile::TempDir,
    outputs: BTreeMap<PortName, PathBuf>,
    pub warnings: Vec<String>,
}

impl Bench {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder"), inputs: BTreeMap::new() }
    }

    /// Connects a file of these bytes; messages name it as the port.
    pub fn with(self, port: &str, bytes: &[u8]) -> Self {
        let path = self.dir.path().join(port);
        fs_err::write(&path, bytes).expect("written");
        self.with_path(port, &path)
    }

    /// Connects a folder of these text files.
    pub fn with_folder(self, port: &str, files: &[(&str, &str)]) -> Self {
        let folder = self.dir.path().join(port);
        fs_err::create_dir(&folder).expect("created");
        files.iter().for_each(|(name, text)| fs_err::write(folder.join(name), text).expect("written"));
        self.with_path(port, &folder)
    }

    pub fn with_path(mut self, port: &str, path: &Path) -> Self {
        self.inputs.insert(PortName::parse(port).expect("a port"), path.to_owned());
        self
    }

    pub fn with_rows(self, port: &str, rows: &crate::data::rows::Rows) -> Self {
        let path = self.dir.path().join(port);
        crate::data::rows::write(&path, rows).expect("written");
        self.with_path(port, &path)
    }

    pub fn run(self, stage: &dyn Stage) -> Result<Made, StageError> {
        let heard = Heard::default();
        let output_dir = self.dir.path().join("outputs");
        fs_err::create_dir(&output_dir)?;
        let mut ctx = StageContext {
            device: Device::Cpu,
            inputs: self.inputs,
            labels: BTreeMap::new(),
            output_dir,
            outputs: BTreeMap::new(),
            seals: BTreeMap::new(),
            scratch: self.dir.path().join("scratch"),
            prior: None,
            threads: 1,
            trace: None,
            together: &crate::collective::Single,
            sink: &heard,
        };
        stage.run(&mut ctx)?;
        let outputs = std::mem::take(&mut ctx.outputs);
        drop(ctx);
        let warnings = heard.0.into_inner().expect("nobody panics with it");
        Ok(Made { outputs, warnings, dir: self.dir })
    }
}

impl Made {
    pub fn path(&self, port: &str) -> PathBuf {
        self.dir.path().join("outputs").join(self.outputs.get(port).expect("the stage has this output"))
    }

    pub fn bytes(&self, port: &str) -> Vec<u8> {
        fs_err::read(self.path(port)).expect("the stage wrote this output")
    }

    pub fn json(&self, port: &str) -> serde_json::Value {
        serde_json::from_slice(&self.bytes(port)).expect("JSON")
    }
}
