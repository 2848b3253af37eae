//! Checks a whole cache: every object re-hashed, every record read, the chain of runs followed. Only reports.

use super::chain::Chain;
use super::records::{self, sharded};
use super::{Cache, CacheError, RunRecord, runs};
use crate::action::{ActionKey, ActionRecord};
use crate::artifact::{Artifact, Layout};
use crate::digest::Digest;
use crate::event::Outcome;
use crate::name::RunId;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Relative to the cache.
    pub file: String,
    pub what: String,
}

/// What a check of the whole cache found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    pub objects: u64,
    /// Bytes of the objects.
    pub bytes: u64,
    pub records: u64,
    pub runs: u64,
    /// Objects that records name and `cache gc` gave up.
    pub given_up: u64,
    /// `None` where the index was not looked at: there is none, it is in use, or the cache is open for reading alone.
    pub index_entries: Option<u64>,
    pub problems: Vec<Problem>,
}

impl Cache {
    /// Re-hashes every object and reads every record. Changes nothing; what it finds damaged, the next run that meets
    /// it makes anew.
    pub fn verify(&self) -> Result<Verification, CacheError> {
        let mut found = Verification::default();
        let sound = self.verify_objects(&mut found)?;
        self.verify_records(&sound, &mut found)?;
        self.verify_runs(&mut found)?;
        for run in self.runs()? {
            if let Some(record) = self.run(&run)? {
                self.verify_needs(&record, &mut found);
            }
        }
        for (file, text) in self.texts.all()? {
            if let Err(what) = text {
                let what = format!("{what}: remove this file, publishing or `get` makes it anew");
                found.problems.push(Problem { file: self.relative(&file), what });
            }
        }
        if let Some((entries, damaged)) = self.ledger.check() {
            found.index_entries = Some(entries as u64);
            if damaged > 0 {
                let what = format!("{damaged} damaged entries: remove this folder, it is made anew");
                found.problems.push(Problem { file: "index".into(), what });
            }
        }
        found.problems.sort();
        // Several runs may miss the same record.
        found
            .problems
            .dedup_by(|a, b| a.file == b.file && a.what.starts_with("is missing") && b.what.starts_with("is missing"));
        Ok(found)
    }

    /// The path of a file of this cache, as problems name it.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(self.root()).unwrap_or(path).display().to_string()
    }

    /// Hashes the bytes of an object, whatever the memo says; an error says what is wrong.
    pub(crate) fn rehash(&self, digest: Digest) -> Result<u64, Problem> {
        let path = self.object_path(digest);
        let problem = |what: String| Problem { file: self.relative(&path), what: format!("{digest} {what}") };
        match Digest::of_file(&path) {
            Ok((found, bytes)) if found == digest => Ok(bytes),
            Ok((found, _)) => Err(problem(format!("is damaged: its bytes are now {}", found.short()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(problem("is missing".to_owned())),
            Err(e) => Err(problem(format!("can't be read: {e}"))),
        }
    }

    /// Reads the record file of a key, checked; an error says what is wrong.
    pub(crate) fn reread(&self, key: ActionKey) -> Result<ActionRecord, Problem> {
        let file = self.relative(&self.records.path(key));
        let problem = |what: String| Problem { file: file.clone(), what: format!("the record of {key} {what}") };
        match self.records.bytes(key) {
            Ok(Some(bytes)) => records::check(&bytes, key).map_err(problem),
            Ok(None) => Err(problem("is missing".to_owned())),
            Err(e) => Err(problem(format!("can't be read: {e}"))),
        }
    }

    /// Objects of an artifact: itself and, of a folder, its files.
    pub(crate) fn objects_of(&self, artifact: &Artifact) -> Vec<Digest> {
        let mut objects = vec![artifact.digest];
        if artifact.layout == Layout::Tree {
            // An unreadable listing is found as a damaged object.
            let entries = self.tree(artifact.digest).unwrap_or_default();
            objects.extend(entries.into_iter().map(|e| e.digest));
        }
        objects
    }

    fn verify_objects(&self, found: &mut Verification) -> Result<BTreeSet<Digest>, CacheError> {
        let files = sharded(&self.root().join("objects"))?;
        let checked: Vec<Result<(Digest, u64), Problem>> = files
            .par_iter()
            .map(|(name, path)| match Digest::from_hex(name) {
                Ok(digest) => self.rehash(digest).map(|bytes| (digest, bytes)),
                Err(_) => Err(Problem { file: self.relative(path), what: "is not an object of this cache".into() }),
            })
            .collect();
        let mut sound = BTreeSet::new();
        for result in checked {
            found.objects += 1;
            match result {
                Ok((digest, bytes)) => {
                    found.bytes += bytes;
                    sound.insert(digest);
                }
                Err(problem) => found.problems.push(problem),
            }
        }
        Ok(sound)
    }

    fn verify_records(&self, sound: &BTreeSet<Digest>, found: &mut Verification) -> Result<(), CacheError> {
        let given_up = self.given_up()?;
        let mut gone = BTreeSet::new();
        for (name, path) in sharded(&self.root().join("actions"))? {
            let Some(key) = records::key_of(&name) else {
                let what = "is not a record of this cache".into();
                found.problems.push(Problem { file: self.relative(&path), what });
                continue;
            };
            found.records += 1;
            let record = match self.reread(key) {
                Ok(record) => record,
                Err(problem) => {
                    found.problems.push(problem);
                    continue;
                }
            };
            let mut need = |object: Digest, whose: String| {
                // A damaged object is in the list already, under its own name.
                if sound.contains(&object) || self.object_path(object).exists() {
                    return;
                }
                if given_up.contains(&object) {
                    gone.insert(object);
                } else {
                    let what = format!("{whose} is missing: object {object}");
                    found.problems.push(Problem { file: self.relative(&path), what });
                }
            };
            need(key.0, "the manifest".to_owned());
            let mut parent = record.parent;
            while let Some(replaced) = parent {
                need(replaced, "the record that this one replaced".to_owned());
                // A damaged one is in the list already.
                let older = self.read_object(replaced).ok().and_then(|bytes| records::check(&bytes, key).ok());
                parent = older.and_then(|older| older.parent).filter(|older| *older != replaced);
            }
            for (port, output) in &record.outputs {
                for object in self.objects_of(output) {
                    need(object, format!("output {port} of {}", record.stage));
                }
            }
            if let Some(log) = &record.log {
                need(log.digest, format!("the log of {}", record.stage));
            }
        }
        found.given_up = gone.len() as u64;
        Ok(())
    }

    /// Follows the chain of run records: one that was altered or removed shows.
    pub(crate) fn verify_chain(&self) -> Result<Vec<Problem>, CacheError> {
        let mut found = Verification::default();
        self.verify_runs(&mut found)?;
        Ok(found.problems)
    }

    /// Looks for the pipeline text and the action records that a run's record names.
    fn verify_needs(&self, run: &RunRecord, found: &mut Verification) {
        let file = || self.relative(&self.runs.file(&run.run));
        if !self.object_path(run.text).exists() {
            let what = format!("its pipeline text is missing: object {}", run.text);
            found.problems.push(Problem { file: file(), what });
        }
        for step in run.steps.iter().filter(|step| matches!(step.outcome, Outcome::Ran | Outcome::Hit)) {
            let Some(key) = step.key else { continue };
            let record = self.records.path(key);
            if !record.exists() {
                let what = format!("is missing: the record of {}, which run {} used", step.stage, run.run);
                found.problems.push(Problem { file: self.relative(&record), what });
            }
        }
    }

    fn verify_runs(&self, found: &mut Verification) -> Result<(), CacheError> {
        let mut chain = Chain::default();
        for run in self.runs.ids()? {
            // A run that was killed has no record: no damage.
            let bytes = match self.runs.bytes(&run) {
                Ok(bytes) => bytes,
                Err(e) => {
                    let what = runs::unreadable(&e);
                    found.problems.push(Problem { file: self.relative(&self.runs.file(&run)), what });
                    continue;
                }
            };
            let Some(bytes) = bytes else { continue };
            found.runs += 1;
            let read = runs::check(&bytes, &run);
            chain.add(&run, Digest::of(&bytes), read.as_ref().ok());
            found.problems.extend(read.err().map(|what| Problem { file: self.relative(&self.runs.file(&run)), what }));
        }
        let broken = |(run, what): (RunId, String)| Problem { file: self.relative(&self.runs.file(&run)), what };
        found.problems.extend(chain.breaks().into_iter().map(broken));
        let wrong = match self.runs.head()? {
            Some(Ok(head)) => chain.wrong_end(&head),
            Some(Err(what)) => Some(what),
            // The first run may have been killed just before it wrote this file.
            None => (chain.len() > 1).then(|| "is missing".to_owned()),
        };
        found.problems.extend(wrong.map(|what| Problem { file: "runs/head.json".into(), what }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::tests::{Bench, run_record};
    use crate::name::RunId;

    fn problems(bench: &Bench) -> Vec<String> {
        let found = bench.cache.verify().expect("reads").problems;
        found.into_iter().map(|p| format!("{}: {}", p.file.split('/').next().unwrap_or(""), p.what)).collect()
    }

    #[test]
    fn a_sound_cache_has_no_problems_and_all_is_counted() {
        let bench = Bench::new();
        let text = bench.cache.put_bytes(b"").expect("keeps");
        assert_eq!(run_record("20261123-094012-0000").text, text);
        bench.cache.commit_run(run_record("20261123-094012-0000")).expect("commits");
        let found = bench.cache.verify().expect("reads");
        assert_eq!((found.objects, found.records, found.runs), (7, 1, 1));
        assert!(std::env::var_os("CISTAGE_NO_INDEX").is_some() || found.index_entries.is_some_and(|n| n > 0));
        assert_eq!(found.problems, []);
    }

    #[test]
    fn a_damaged_object_and_a_missing_one_are_named_and_left_alone() {
        let bench = Bench::new();
        let (rows, model) = (bench.output("rows").digest, bench.output("model").digest);
        bench.overwrite(&bench.object("rows"), b"other");
        fs_err::remove_file(bench.object("model")).expect("removes");
        let found = problems(&bench);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], format!("actions: output model of split is missing: object {model}"));
        assert!(found[1].starts_with(&format!("objects: {rows} is damaged")), "{found:?}");
        assert!(bench.object("rows").exists());
    }

    #[test]
    fn a_run_record_that_was_removed_or_altered_breaks_the_chain() {
        let names = ["20261123-094012-0000", "20261123-094013-0000", "20261123-094014-0000"];
        for (removed, broken) in [(0, names[1]), (1, names[2]), (2, "head.json")] {
            let bench = Bench::new();
            bench.cache.put_bytes(b"").expect("keeps the pipeline's text");
            for name in names {
                bench.cache.commit_run(run_record(name)).expect("commits");
            }
            let file = bench.cache.runs.file(&RunId::parse(names[removed]).expect("valid"));
            fs_err::remove_file(file).expect("removes");
            let found = bench.cache.verify().expect("reads").problems;
            assert!(found.len() == 1 && found[0].file.contains(broken), "{found:?}");
        }
    }

    #[test]
    fn a_changed_run_record_is_named() {
        let bench = Bench::new();
        let name = "20261123-094012-0000";
        bench.cache.commit_run(run_record(name)).expect("commits");
        let file = bench.cache.runs.file(&RunId::parse(name).expect("valid"));
        let text = fs_err::read_to_string(&file).expect("there").replace("test.yaml", "other.yaml");
        bench.overwrite(&file, text.as_bytes());
        assert_eq!(bench.cache.run(&RunId::parse(name).expect("valid")).expect("reads"), None);
        assert_eq!(problems(&bench).len(), 2, "the record itself, and the end of the chain");
    }
}
