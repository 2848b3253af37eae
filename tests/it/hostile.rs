//! Files, outputs and caches that somebody made to do harm: each ends with a message that names what is wrong, and
//! leaves nothing behind. What is merely wrong stands in `bad_input`.

use crate::workspace::Workspace;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

mod data;
mod outputs;
mod pipelines;
mod shared_cache;

/// A pipeline of some stages, one a line.
fn pipeline(stages: &[String]) -> String {
    format!("cistage: 1\nname: t\nstages:\n  {}\n", stages.join("\n  "))
}

/// A text as YAML takes it in quotes.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text")
}

/// Runs all stages of `p.yaml`, and gives the code with each stage's outcome and error.
fn outcomes(ws: &Workspace, args: &[&str]) -> (i32, BTreeMap<String, (String, String)>) {
    let (code, events) = ws.events(&[&["--keep-going"], args].concat());
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let finished = events.iter().filter(|event| event["event"] == "stage-finished");
    (code, finished.map(|event| (text(event, "stage"), (text(event, "outcome"), text(event, "error")))).collect())
}

/// Nothing here is our own fault, and no terminal obeys it.
fn is_calm(said: &str) {
    for sign in ["panicked", "internal error", "overflow", "unwrap", "\x1b[", "\x07"] {
        assert!(!said.contains(sign), "{sign:?} in:\n{said}");
    }
}

/// Runs the program, and expects a refusal of the user's file that names it.
fn refused(ws: &Workspace, args: &[&str], named: &str) {
    let got = ws.cistage(args);
    assert_eq!(got.code, 2, "{named}: {}{}", got.stdout, got.stderr);
    assert!(got.stderr.contains(named), "{named:?} in:\n{}", got.stderr);
    is_calm(&got.stderr);
}

/// How many actions have a record.
fn records(ws: &Workspace) -> usize {
    files_of(&ws.path("cache/actions")).len()
}

/// Every file below a folder, with its bytes and its mode.
fn files_of(folder: &Path) -> BTreeMap<String, (Vec<u8>, u32)> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs_err::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.expect("an entry").path();
        let meta = fs_err::symlink_metadata(&path).expect("it is there");
        if meta.is_dir() {
            found.extend(files_of(&path));
        } else {
            let bytes = if meta.is_file() { fs_err::read(&path).expect("read") } else { Vec::new() };
            found.insert(path.display().to_string(), (bytes, meta.permissions().mode()));
        }
    }
    found
}

/// A folder beside the workspace with something precious in it, which nothing may touch.
struct Outside {
    dir: tempfile::TempDir,
    before: BTreeMap<String, (Vec<u8>, u32)>,
}

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs_err::write(dir.path().join("precious"), "mine").expect("written");
        let before = files_of(dir.path());
        Self { dir, before }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn is_untouched(&self) {
        assert_eq!(files_of(self.path()), self.before);
    }
}
