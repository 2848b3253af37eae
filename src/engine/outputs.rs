//! What a stage left behind, against what it declared.

use super::formats;
use crate::artifact::Format;
use crate::name::PortName;
use crate::stages::StageKind;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Finds every declared output below `dir`; `said` is where the stage says it put them. Gives paths, or what is wrong.
pub(super) fn find(
    kind: &StageKind,
    outputs: &BTreeMap<PortName, Format>,
    dir: &Path,
    said: &BTreeMap<PortName, PathBuf>,
) -> Result<BTreeMap<PortName, PathBuf>, String> {
    let mut found = BTreeMap::new();
    for (port, format) in outputs {
        let Some(relative) = said.get(port) else {
            return Err(format!("wrote no output `{port}`"));
        };
        let shown = relative.display();
        let path = dir.join(relative);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(format!("output `{port}` lies outside the work directory: {shown}"));
        }
        let file = match fs_err::symlink_metadata(&path) {
            Ok(metadata) => metadata.file_type(),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                let others = others(dir, said);
                return Err(format!("wrote no output `{port}`: expected it at {shown} in the work directory{others}"));
            }
            Err(e) => return Err(format!("output `{port}` can't be read: {e}")),
        };
        if file.is_symlink() {
            return Err(format!("output `{port}` at {shown} is a symbolic link: write a file or a folder there"));
        }
        if !file.is_file() && !file.is_dir() {
            return Err(format!("output `{port}` at {shown} is neither a file nor a folder"));
        }
        // A folder on the way may be a link to elsewhere.
        let real = |path: &Path| fs_err::canonicalize(path).map_err(|e| format!("output `{port}`: {e}"));
        if !real(&path)?.starts_with(real(dir)?) {
            return Err(format!("output `{port}` at {shown} leads out of the work directory"));
        }
        // Our own stages write what they promise; a user's program is looked at.
        if matches!(kind, StageKind::Command(_)) {
            let problem = formats::problem(&path, *format).map_err(|e| format!("output `{port}`: {e}"))?;
            if let Some(problem) = problem {
                return Err(format!("output `{port}` at {shown} {problem}"));
            }
        }
        found.insert(port.clone(), path);
    }
    Ok(found)
}
/// What else lies there, as the end of a sentence: often the output, under another name.
fn others(dir: &Path, said: &BTreeMap<PortName, PathBuf>) -> String {
    let entries = fs_err::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    // `in` holds the inputs.
    let mut names: Vec<String> =
        names.filter(|name| name != "in" && !said.values().any(|path| path.starts_with(name))).collect();
    names.sort();
    names.truncate(5);
    if names.is_empty() { String::new() } else { format!(", where it left {}", names.join(", ")) }
}
