//! Placing results in the working directory: each appears whole, or not at all; rows and predictions in the form that
//! the path's ending asks for.

use super::text_form::{self, text_form, write_text};
use super::{EngineError, clock};
use crate::artifact::{Artifact, Format, Layout};
use crate::cache::durable::sync_dir;
use crate::cache::{Cache, CacheError};
use crate::digest::Digest;
use crate::name::RunId;
use crate::pipeline::{Plan, Source};
use std::io;
use std::path::{Path, PathBuf};

/// A published result.
#[derive(Debug)]
pub(super) struct Placed {
    /// Whether it had to be written.
    pub written: bool,
    /// The digest of the file where it is a text form of the artifact.
    pub text: Option<Digest>,
}

/// Makes `target` hold the artifact.
pub(super) fn publish(cache: &Cache, artifact: &Artifact, target: &Path) -> Result<Placed, String> {
    let failed = |what: String| format!("can't publish {}: {what}", target.display());
    let form = text_form(artifact, target);
    match form {
        Some(form) => {
            if let Some(there) = text_form::is_there(cache, artifact, form, target) {
                return Ok(Placed { written: false, text: Some(there) });
            }
        }
        None if has_already(cache, artifact, target) => return Ok(Placed { written: false, text: None }),
        None => {}
    }
    refuse_foreign_folder(cache, artifact, target).map_err(&failed)?;
    let (parent, name) = match (target.parent(), target.file_name()) {
        (Some(parent), Some(name)) => (parent, name.to_string_lossy().into_owned()),
        _ => return Err(failed("it names no file".to_owned())),
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    // Again, and once more when the folders are there: a stage may have put a link in the way since the run began.
    stays_here(target).map_err(&failed)?;
    let made = missing(parent);
    fs_err::create_dir_all(parent).map_err(|e| failed(e.to_string()))?;
    stays_here(target).map_err(&failed)?;
    let beside = |what: &str| parent.join(format!(".{name}.{what}-{:016x}", clock::random()));
    let (new, old) = (beside("new"), beside("old"));
    let written = match form {
        // Remembered before it is there: whoever finds the file can ask where it came from.
        Some(form) => write_text(cache, artifact, form, &new).map_err(|e| e.to_string()).and_then(|text| {
            cache.remember_text(&text).map_err(|e| e.to_string())?;
            Ok(Some(text.digest))
        }),
        None => cache.copy_out(artifact, &new).map(|()| None).map_err(|e| e.to_string()),
    };
    let placed = written.and_then(|text| {
        if text.is_some_and(|text| Digest::of_file(target).is_ok_and(|(there, _)| there == text)) {
            remove(&new);
            return Ok(Placed { written: false, text });
        }
        // Its bytes before its name: after a power cut there is the old one, or all of the new one.
        let put = sync(&new)
            .and_then(|()| replace(&new, target, &old, artifact.layout))
            .and_then(|()| made.iter().chain([&parent.to_owned()]).try_for_each(|folder| sync_dir(folder)));
        put.map_err(|e| e.to_string())?;
        Ok(Placed { written: true, text })
    });
    if placed.is_err() {
        remove(&new);
    }
    placed.map_err(failed)
}

/// The folders that creating `folder` gives a new entry.
fn missing(folder: &Path) -> Vec<PathBuf> {
    let new = folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    new.filter_map(|folder| folder.parent())
        .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent }.to_owned())
        .collect()
}

/// Makes a file, or a folder with all in it, durable.
fn sync(path: &Path) -> io::Result<()> {
    if fs_err::symlink_metadata(path)?.is_dir() {
        for entry in fs_err::read_dir(path)? {
            sync(&entry?.path())?;
        }
    }
    fs_err::File::open(path)?.sync_all()
}

/// Refuses, before anything runs, to publish onto the cache, the pipeline file, an input, or a folder around them, out of
/// the working directory, and below something that is no folder.
pub(super) fn check(plan: &Plan, cache: &Cache) -> Result<(), EngineError> {
    let mut ours = vec![("the cache", cache.root()), ("the pipeline file", plan.file.as_path())];
    let sources = plan.steps.iter().flat_map(|step| step.inputs.values()).filter_map(|source| match source {
        Source::Path { path, .. } => Some(("an input", path.as_path())),
        Source::Step { .. } => None,
    });
    ours.extend(sources);
    for target in plan.publish.keys() {
        stays_here(Path::new(target)).map_err(|what| EngineError::Input(format!("can't publish {target}: {what}")))?;
        let place = resolved(Path::new(target));
        for &(what, path) in &ours {
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
        // Found now, not after hours of work.
        if is_folder_of_the_users(cache, Path::new(target))? {
            return Err(EngineError::Input(format!("can't publish {target}: {FOREIGN}")));
        }
    }
    Ok(())
}

/// Refuses a place in a folder that a link leads out of the working directory, and in git's own, where a file could be a
/// program that git runs.
fn stays_here(target: &Path) -> Result<(), String> {
    let folder = Path::new(".").join(target.parent().unwrap_or(Path::new("")));
    match resolved(&folder).strip_prefix(resolved(Path::new("."))) {
        Err(_) => Err("a link leads its folder out of the working directory".to_owned()),
        Ok(inside) if inside.iter().chain(target.file_name()).any(|part| part.eq_ignore_ascii_case(".git")) => {
            Err("it lies in a folder of git's own".to_owned())
        }
        Ok(_) => Ok(()),
    }
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
    let is_folder = fs_err::symlink_metadata(target).is_ok_and(|there| there.is_dir());
    if is_folder && artifact.layout == Layout::File {
        return Err("a folder is there, and the result is a file: move it away, or publish elsewhere".to_owned());
    }
    if is_folder_of_the_users(cache, target).map_err(|e| e.to_string())? { Err(FOREIGN.to_owned()) } else { Ok(()) }
}

const FOREIGN: &str = "a folder that no recorded run published is there: move it away, or publish elsewhere";

/// Whether a folder with anything in it is there that no run of ours published.
fn is_folder_of_the_users(cache: &Cache, target: &Path) -> Result<bool, CacheError> {
    let is_folder = fs_err::symlink_metadata(target).is_ok_and(|there| there.is_dir());
    if !is_folder || fs_err::read_dir(target).is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(false);
    }
    let name = target.to_string_lossy();
    let published = |run: &RunId| matches!(cache.run(run), Ok(Some(record)) if record.published.contains_key(&*name));
    if cache.runs()?.iter().rev().any(published) {
        return Ok(false);
    }
    // A run may have been killed between publishing and its record: what an action made is nobody's only copy.
    let Ok(there) = cache.digest_source(target, Format::Raw) else { return Ok(true) };
    Ok(cache.makers(there.digest)?.is_empty())
}

fn has_already(cache: &Cache, artifact: &Artifact, target: &Path) -> bool {
    let Ok(metadata) = fs_err::symlink_metadata(target) else { return false };
    let same_layout = match artifact.layout {
        Layout::File => metadata.is_file(),
        Layout::Tree => metadata.is_dir(),
    };
    same_layout && cache.digest_source(target, artifact.format).is_ok_and(|there| there.digest == artifact.digest)
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
