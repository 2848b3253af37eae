//! What a cache holds, and for whom.

use super::records::{list, sharded};
use super::{Cache, CacheError};
use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::name::{RunId, StageName};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// A number of files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    pub files: u64,
    pub bytes: u64,
}

/// What a cache holds. An object that several kinds or runs use counts for each of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// All files of the cache: objects, records, events, index, unfinished work.
    pub total: Total,
    pub objects: Total,
    /// Objects that no record and no run names.
    pub unreferenced: Total,
    /// By what stands after `uses:`.
    pub kinds: BTreeMap<String, Total>,
    /// By the name of the stage that made them first.
    pub stages: BTreeMap<StageName, Total>,
    pub runs: BTreeMap<RunId, Total>,
    pub records: u64,
    /// Unfinished work.
    pub scratch: Total,
    pub quarantine: Total,
}

impl Cache {
    /// Measures the cache: reads names and records, no object but the listings of folders.
    pub fn usage(&self) -> Result<Usage, CacheError> {
        let mut usage = Usage::default();
        let mut sizes = BTreeMap::new();
        for (name, path) in sharded(&self.root().join("objects"))? {
            // Gone in the meantime, or not ours.
            if let (Ok(digest), Ok(metadata)) = (Digest::from_hex(&name), fs_err::symlink_metadata(&path)) {
                sizes.insert(digest, metadata.len());
            }
        }
        let total = |objects: &BTreeSet<Digest>| {
            let known = objects.iter().filter_map(|digest| sizes.get(digest));
            known.fold(Total::default(), |sum, bytes| Total { files: sum.files + 1, bytes: sum.bytes + bytes })
        };
        let mut trees = BTreeMap::new();
        let mut objects_of = |artifact: &Artifact| -> Vec<Digest> {
            trees.entry(artifact.digest).or_insert_with(|| self.objects_of(artifact)).clone()
        };
        let mut used = BTreeSet::new();
        let mut kinds: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
        let mut stages: BTreeMap<StageName, BTreeSet<Digest>> = BTreeMap::new();
        for record in self.records()? {
            usage.records += 1;
            let mut objects = BTreeSet::from([record.key.0]);
            objects.extend(record.parent);
            for artifact in record.outputs.values().chain(&record.log) {
                objects.extend(objects_of(artifact));
            }
            kinds.entry(record.manifest.stage.clone()).or_default().extend(&objects);
            stages.entry(record.stage).or_default().extend(objects);
        }
        usage.stages = stages.into_iter().map(|(stage, objects)| (stage, total(&objects))).collect();
        for (kind, objects) in kinds {
            usage.kinds.insert(kind, total(&objects));
            used.extend(objects);
        }
        for id in self.runs()? {
            let Some(run) = self.run(&id)? else { continue };
            let mut objects = BTreeSet::from([run.text]);
            for step in &run.steps {
                objects.extend(step.key.map(|key| key.0));
                for artifact in step.outputs.values().chain(&step.log) {
                    objects.extend(objects_of(artifact));
                }
            }
            usage.runs.insert(id, total(&objects));
            used.extend(objects);
        }
        usage.objects = total(&sizes.keys().copied().collect());
        usage.unreferenced = total(&sizes.keys().filter(|digest| !used.contains(digest)).copied().collect());
        usage.total = measure(self.root())?;
        usage.scratch = measure(&self.root().join("scratch"))?;
        usage.quarantine = measure(&self.root().join("quarantine"))?;
        Ok(usage)
    }
}

/// The files below a folder.
pub(super) fn measure(folder: &Path) -> io::Result<Total> {
    let mut total = Total::default();
    for entry in list(folder)? {
        // Another process may be at work in there.
        let Ok(metadata) = fs_err::symlink_metadata(entry.path()) else { continue };
        if metadata.is_dir() {
            let inner = measure(&entry.path())?;
            total = Total { files: total.files + inner.files, bytes: total.bytes + inner.bytes };
        } else {
            total = Total { files: total.files + 1, bytes: total.bytes + metadata.len() };
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use crate::cache::tests::Bench;

    #[test]
    fn objects_count_for_the_kind_that_made_them_or_as_unreferenced() {
        let bench = Bench::new();
        bench.cache.put_bytes(b"nobody needs this").expect("stores");
        let usage = bench.cache.usage().expect("reads");
        assert_eq!((usage.objects.files, usage.kinds["split"].files, usage.records), (7, 6, 1));
        assert_eq!((usage.unreferenced.files, usage.unreferenced.bytes), (1, 17));
        assert_eq!(usage.stages.values().collect::<Vec<_>>(), usage.kinds.values().collect::<Vec<_>>());
        // Beside the objects: the record of the action, the file of the format, the lock of this session, the gate.
        assert_eq!(usage.total.files, usage.objects.files + 4);
    }
}
