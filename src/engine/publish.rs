//! Placing results in the working directory: each appears whole, or not at all; rows and predictions in the form that
//! the path's ending asks for.

use super::{EngineError, clock};
use crate::artifact::{Artifact, Format, Layout};
use crate::cache::Cache;
use crate::data::export::{self, TextForm};
use crate::digest::Digest;
use crate::name::RunId;
use crate::pipeline::Plan;
use std::io;
use std::path::{Path, PathBuf};

/// Makes `target` hold the artifact; says whether it had to be written.
pub(super) fn publish(cache: &Cache, artifact: &Artifact, target: &Path) -> Result<bool, String> {
    let failed = |what: String| format!("can't publish {}: {what}", target.display());
    let text = TextForm::of(target).filter(|_| matches!(artifact.format, Format::Rows | Format::Predictions));
    if text.is_none() && has_already(cache, artifact, target) {
        return Ok(false);
    }
    refuse_foreign_folder(cache, artifact, target).map_err(&failed)?;
    let (parent, name) = match (target.parent(), target.file_name()) {
        (Some(parent), Some(name)) => (parent, name.to_string_lossy().into_owned()),
        _ => return Err(failed("it names no file".to_owned())),
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    fs_err::create_dir_all(parent).map_err(|e| failed(e.to_string()))?;
    let beside = |what: &str| parent.join(format!(".{name}.{what}-{:016x}", clock::random()));
    let (new, old) = (beside("new"), beside("old"));
    let placed = match text {
        Some(form) => {
            let from = cache.object_path(artifact.digest);
            let write = if artifact.format == Format::Rows { export::rows } else { export::predictions };
            write(&from, &new, form).map_err(|e| e.to_string())
        }
        None => cache.copy_out(artifact, &new).map_err(|e| e.to_string()),
    };
    if placed.is_ok() && text.is_some() && same_bytes(&new, target) {
        remove(&new);
        return Ok(false);
    }
    let placed = placed.and_then(|()| replace(&new, target, &old, artifact.layout).map_err(|e| e.to_string()));
    if placed.is_err() {
        remove(&new);
    }
    placed.map(|()| true).map_err(failed)
}

/// Refuses, before anything runs, to publish onto the cache, the pipeline file, or a folder around them, and below
/// something that is no folder.
pub(super) fn check(plan: &Plan, cache: &Cache) -> Result<(), EngineError> {
    let ours = [("the cache", cache.root()), ("the pipeline file", plan.file.as_path())];
    for target in plan.publish.keys() {
        let place = resolved(Path::new(target));
        for (what, path) in ours {
            let path = resolved(path);
            let inside = what == "the cache" && place.starts_with(&path);
            if inside || path.starts_with(&place) {
                return Err(EngineError::Input(format!(
                    "can't publish {target}: it would replace {what}; choose another path"
                )));
            }
        }
        if let Some(file) = place.ancestors().skip(1).find(|folder| folder.exists() && !folder.is_dir()) {
            return Err(EngineError::Input(format!("can't publish {target}: {} is not a folder", file.display())));
        }
    }
    Ok(())
}

/// The absolute path with the links of its existing part followed.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = path.ancestors().find_map(|a| fs_err::canonicalize(a).ok().map(|real| (a, real)));
    match existing {
        Some((part, real)) => match path.strip_prefix(part) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        },
        None => path,
    }
}

/// A folder goes only where the folder there came from a run of ours: a user's own is never removed.
fn refuse_foreign_folder(cache: &Cache, artifact: &Artifact, target: &Path) -> Result<(), String> {
    if !fs_err::symlink_metadata(target).is_ok_and(|there| there.is_dir()) {
        return Ok(());
    }
    let name = target.to_string_lossy();
    let published = |run: &RunId| matches!(cache.run(run), Ok(Some(record)) if record.published.contains_key(&*name));
    let runs = cache.runs().map_err(|e| e.to_string())?;
    if artifact.layout == Layout::Tree && runs.iter().rev().any(published) {
        return Ok(());
    }
    if fs_err::read_dir(target).is_ok_and(|mut entries| entries.next().is_none()) && artifact.layout == Layout::Tree {
        return Ok(());
    }
    Err("a folder that no recorded run published is there: move it away, or publish elsewhere".to_owned())
}

fn has_already(cache: &Cache, artifact: &Artifact, target: &Path) -> bool {
    let Ok(metadata) = fs_err::symlink_metadata(target) else { return false };
    let same_layout = match artifact.layout {
        Layout::File => metadata.is_file(),
        Layout::Tree => metadata.is_dir(),
    };
    same_layout && cache.digest_source(target, artifact.format).is_ok_and(|there| there.digest == artifact.digest)
}

fn same_bytes(one: &Path, other: &Path) -> bool {
    matches!((Digest::of_file(one), Digest::of_file(other)), (Ok(one), Ok(other)) if one == other)
}

/// Puts `new` in the place of `target`. A file replaces a file in one step; where a folder is involved and the file
/// system can't exchange two names, there is a moment without `target`, with the old one beside it.
fn replace(new: &Path, target: &Path, old: &PathBuf, layout: Layout) -> io::Result<()> {
    let there = match fs_err::symlink_metadata(target) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return fs_err::rename(new, target),
        Err(e) => return Err(e),
    };
    if layout == Layout::File && !there.is_dir() {
        return fs_err::rename(new, target);
    }
    if exchange(new, target).is_ok() {
        remove(new);
        return Ok(());
    }
    fs_err::rename(target, old)?;
    if let Err(error) = fs_err::rename(new, target) {
        fs_err::rename(old, target)?;
        return Err(error);
    }
    remove(old);
    Ok(())
}

/// Swaps two names in one step.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use std::ffi::CString;
        use std::os::unix::ffi::OsStrExt;
        let [one, other] = [one, other].map(|path| CString::new(path.as_os_str().as_bytes()));
        let (one, other) = (one?, other?);
        // SAFETY: both pointers are to strings that end in a zero and outlive the call.
        let done = unsafe {
            libc::renameat2(libc::AT_FDCWD, one.as_ptr(), libc::AT_FDCWD, other.as_ptr(), libc::RENAME_EXCHANGE)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (one, other);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Clears away what is left over; what can't be removed does no harm under its hidden name.
fn remove(path: &Path) {
    let is_dir = fs_err::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let _ = if is_dir { fs_err::remove_dir_all(path) } else { fs_err::remove_file(path) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_replaces_a_folder_whole() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let [new, target, old] = ["new", "target", "old"].map(|name| dir.path().join(name));
        for (folder, file) in [(&new, "b"), (&target, "a")] {
            fs_err::create_dir(folder).expect("made");
            fs_err::write(folder.join(file), file).expect("written");
        }
        replace(&new, &target, &old, Layout::Tree).expect("replaced");
        assert!(target.join("b").is_file() && !target.join("a").exists());
        assert!(!new.exists() && !old.exists());
    }
}
