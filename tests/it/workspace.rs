//! A folder of its own for each test, in which the real program runs.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Workspace {
    dir: tempfile::TempDir,
}

/// What one invocation gave.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Workspace {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn with(pipeline: &str) -> Self {
        let ws = Self::new();
        ws.write("p.yaml", pipeline);
        ws
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().expect("inside the workspace")).expect("folder");
        fs_err::write(path, text).expect("write");
    }

    pub fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).expect("read")
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cistage"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env_remove("CISTAGE_CACHE").env_remove("RUST_BACKTRACE").env("NO_COLOR", "1");
        command
    }

    pub fn cistage(&self, args: &[&str]) -> Outcome {
        outcome(self.command(args))
    }

    /// What a command that succeeds gives as JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let got = self.cistage(&[args, &["--format", "json"]].concat());
        assert_eq!(got.code, 0, "{args:?}: {}", got.stderr);
        serde_json::from_str(&got.stdout).expect("JSON")
    }

    /// Runs `p.yaml` and gives its events.
    pub fn events(&self, args: &[&str]) -> (i32, Vec<Value>) {
        let args: Vec<&str> = ["run", "p.yaml", "--format", "json"].iter().chain(args).copied().collect();
        let got = self.cistage(&args);
        let events = got.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
        (got.code, events)
    }

    /// Runs `p.yaml`, expects success, and gives "STAGE OUTCOME" in the order of the names.
    pub fn run(&self, args: &[&str]) -> Vec<String> {
        let (code, events) = self.events(args);
        let outcomes = outcomes(&events);
        assert_eq!(code, 0, "{outcomes:?} {events:#?}");
        outcomes
    }

    /// The digest of every output of every finished stage.
    pub fn digests(events: &[Value]) -> BTreeMap<String, String> {
        let mut digests = BTreeMap::new();
        for event in events.iter().filter(|e| e["event"] == "stage-finished") {
            for (port, output) in event["outputs"].as_object().expect("outputs") {
                let name = format!("{}.{port}", event["stage"].as_str().expect("stage"));
                digests.insert(name, output["digest"].as_str().expect("digest").to_owned());
            }
        }
        digests
    }

    /// The path of an object in the default cache.
    pub fn object(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("blake3:");
        self.path("cache/objects").join(&hex[..2]).join(&hex[2..])
    }
}

pub fn outcome(mut command: Command) -> Outcome {
    let output = command.output().expect("the program starts");
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

pub fn outcomes(events: &[Value]) -> Vec<String> {
    let mut list: Vec<String> = events
        .iter()
        .filter(|e| e["event"] == "stage-finished")
        .map(|e| format!("{} {}", e["stage"].as_str().expect("stage"), e["outcome"].as_str().expect("outcome")))
        .collect();
    list.sort();
    list
}

/// The folder of real data beside the checkout; says so and gives `None` where it is absent.
pub fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("CISTAGE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    if path.join("data").is_dir() {
        Some(path)
    } else {
        eprintln!("SKIPPED: no real data at {}", path.display());
        None
    }
}

/// Overwrites one byte in the middle of a read-only file.
pub fn flip_a_byte(path: &Path) {
    let mut bytes = fs_err::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    make_writable(path);
    fs_err::write(path, bytes).expect("write");
}

pub fn make_writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
}
