//! The user's files: found, and hashed in parallel before anything runs.

use super::{EngineError, Interrupt};
use crate::artifact::{Artifact, Format};
use crate::cache::Cache;
use crate::cache::copy;
use crate::cache::tree::{self, Entry};
use crate::digest::Digest;
use crate::pipeline::{Plan, Source};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The digests of all files and folders that a plan reads.
#[derive(Debug, Default)]
pub(super) struct Sources(BTreeMap<(PathBuf, Format), Artifact>);

impl Sources {
    /// Hashes every source of the plan; reports all that are missing or wrong, together. What was hashed before it is
    /// interrupted need not be hashed again.
    pub(super) fn read(plan: &Plan, cache: &Cache, interrupt: &Interrupt) -> Result<Self, EngineError> {
        let mut wanted: BTreeMap<(PathBuf, Format), Vec<String>> = BTreeMap::new();
        for step in &plan.steps {
            for (port, source) in &step.inputs {
                if let Source::Path { path, format, position } = source {
                    let place = format!("{}:{}:{}", plan.file.display(), position.line, position.column);
                    let hint = step.hint.as_ref().map_or(String::new(), |hint| format!("\n  {}", hint.trim()));
                    let message = |what: &str| {
                        format!("{place}: input `{port}` of stage `{}`: {} {what}{hint}", step.name, path.display())
                    };
                    // What is wrong with the file is known later: `{}` keeps its place.
                    wanted.entry((path.clone(), *format)).or_default().push(message(PLACE));
                }
            }
        }
        let find = |(path, format): &(PathBuf, Format)| look(cache, path, *format, interrupt);
        // Threads of their own would take longer to start than one look; a large file's hashing has them in any case.
        let read: Vec<_> = if wanted.len() < 2 {
            wanted.keys().map(find).collect()
        } else {
            wanted.par_iter().map(|(k, _)| find(k)).collect()
        };
        if interrupt.is_raised() {
            return Err(EngineError::Interrupted);
        }
        let mut sources = BTreeMap::new();
        let mut problems = Vec::new();
        for ((source, messages), read) in wanted.into_iter().zip(read) {
            match read {
                Ok(artifact) => {
                    sources.insert(source, artifact);
                }
                Err(what) => problems.extend(messages.iter().map(|message| message.replace(PLACE, &what))),
            }
        }
        if problems.is_empty() { Ok(Self(sources)) } else { Err(EngineError::Input(problems.join("\n"))) }
    }

    pub(super) fn get(&self, path: &Path, format: Format) -> &Artifact {
        self.0.get(&(path.to_owned(), format)).expect("every source of the plan was hashed")
    }
}

const PLACE: &str = "\u{0}";

fn look(cache: &Cache, path: &Path, format: Format, interrupt: &Interrupt) -> Result<Artifact, String> {
    match fs_err::metadata(path) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err("does not exist".to_owned()),
        Err(e) => return Err(format!("can't be read: {e}")),
    }
    cache.digest_source_while(path, format, &|| !interrupt.is_raised()).map_err(|e| format!("can't be read: {e}"))
}

/// The digest of a private file or folder; always reads it, and remembers nothing.
pub(super) fn digest(path: &Path) -> std::io::Result<Digest> {
    if !fs_err::symlink_metadata(path)?.is_dir() {
        return Ok(Digest::of_file(path)?.0);
    }
    let entry = |(relative, file): (String, PathBuf)| -> std::io::Result<Entry> {
        let (digest, bytes) = Digest::of_file(&file)?;
        Ok(Entry { digest, bytes, path: relative })
    };
    let entries = tree::files(path)?.into_iter().map(entry).collect::<Result<_, _>>()?;
    Ok(Digest::of(&tree::listing(entries)))
}

/// Makes a private, writable copy of a file or folder, and gives its digest.
pub(super) fn copy(from: &Path, to: &Path) -> std::io::Result<Digest> {
    let one = |from: &Path, to: &Path| {
        let (digest, bytes) = copy::copy(from, to)?;
        let mode = fs_err::metadata(from)?.permissions().mode();
        fs_err::set_permissions(to, Permissions::from_mode(mode | 0o600))?;
        Ok::<_, std::io::Error>((digest, bytes))
    };
    if !fs_err::metadata(from)?.is_dir() {
        return Ok(one(from, to)?.0);
    }
    fs_err::create_dir(to)?;
    let mut entries = Vec::new();
    for (relative, file) in tree::files(from)? {
        let place = to.join(&relative);
        fs_err::create_dir_all(place.parent().expect("a file in a folder has a parent"))?;
        let (digest, bytes) = one(&file, &place)?;
        entries.push(Entry { digest, bytes, path: relative });
    }
    Ok(Digest::of(&tree::listing(entries)))
}
