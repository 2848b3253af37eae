//! Reads every object and record of a lineage again, and looks at its source files.

use super::lineage::Lineage;
use super::target::Audit;
use crate::action::ActionKey;
use crate::artifact::Format;
use crate::cache::{Cache, CacheError, Problem};
use crate::digest::Digest;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// What a check of a lineage found. Sources are the user's, and may change: they are no problem of the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub objects: u64,
    pub records: u64,
    /// Objects that `cache gc` gave up: their recipe and digest stand, their bytes can be made again.
    pub given_up: u64,
    pub problems: Vec<Problem>,
    pub sources: Vec<SourceCheck>,
}

/// A source file as the lineage knows it, and what is at its path now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SourceCheck {
    pub path: String,
    pub digest: Digest,
    pub state: SourceState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    Same,
    Changed,
    Missing,
    Unreadable,
}

/// Re-hashes outputs, manifests and logs of all actions behind an audit, reads their records again, and follows the
/// chain of runs. Paths of
/// sources are relative to `folder`.
pub fn verify(cache: &Cache, audit: &Audit, folder: &Path) -> Verified {
    let mut objects: BTreeMap<Digest, String> = BTreeMap::new();
    let (mut keys, mut sources, mut problems) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut visit = |lineage: &Lineage| match lineage {
        Lineage::Made(made) => {
            let record = &made.record;
            keys.insert(record.key);
            objects.entry(record.key.0).or_insert_with(|| format!("the manifest of {}", record.stage));
            for (port, output) in &record.outputs {
                for object in cache.objects_of(output) {
                    objects.entry(object).or_insert_with(|| format!("output {port} of {}", record.stage));
                }
            }
            if let Some(log) = &record.log {
                objects.entry(log.digest).or_insert_with(|| format!("the log of {}", record.stage));
            }
        }
        Lineage::Source(source) => {
            sources.insert((source.path.clone(), source.digest));
        }
        Lineage::Lost { artifact, problem } => {
            problems.insert(Problem { file: "actions".into(), what: format!("{}: {problem}", artifact.digest) });
        }
    };
    audit.lineages().for_each(|lineage| lineage.visit(&mut visit));
    let gone = cache.given_up().unwrap_or_default();
    let (given_up, checked): (Vec<(Digest, String)>, Vec<_>) =
        objects.into_iter().partition(|(object, _)| gone.contains(object) && !cache.object_path(*object).exists());
    let damaged = checked.par_iter().filter_map(|(object, whose)| {
        cache.rehash(*object).err().map(|p| Problem { what: format!("{whose}: {}", p.what), ..p })
    });
    problems.extend(damaged.collect::<Vec<_>>());
    problems.extend(cache.verify_chain().unwrap_or_else(|error| {
        vec![Problem { file: "runs".to_owned(), what: format!("the chain of runs can't be read: {error}") }]
    }));
    problems.extend(keys.iter().filter_map(|key: &ActionKey| cache.reread(*key).err()));
    let sources = sources.into_iter().map(|(path, digest)| {
        let state = source_state(cache, &folder.join(&path), digest);
        SourceCheck { path, digest, state }
    });
    Verified {
        objects: checked.len() as u64,
        given_up: given_up.len() as u64,
        records: keys.len() as u64,
        sources: sources.collect(),
        problems: problems.into_iter().collect(),
    }
}

/// What is at the path of a source file now.
pub fn source_state(cache: &Cache, path: &Path, digest: Digest) -> SourceState {
    match cache.digest_source(path, Format::Raw) {
        Ok(found) if found.digest == digest => SourceState::Same,
        Ok(_) => SourceState::Changed,
        Err(CacheError::Io(e)) if e.kind() == io::ErrorKind::NotFound => SourceState::Missing,
        Err(_) => SourceState::Unreadable,
    }
}
