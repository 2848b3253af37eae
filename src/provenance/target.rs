//! What a user may ask the lineage of: a file, a digest, `STAGE.PORT`, a run.

use super::ProvenanceError;
use super::history::{History, succeeded};
use super::lineage::{Lineage, Made, MadeBy, SourceFile, Tracer};
use super::named::named;
use crate::action::{ActionKey, ActionRecord, Origin};
use crate::artifact::{Artifact, Format, Layout};
use crate::cache::{Cache, CacheError, RunRecord, StepRecord, TextRecord};
use crate::digest::Digest;
use crate::name::{RunId, StageName};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// The answer to `audit TARGET`.
#[derive(Debug, Clone, PartialEq)]
pub enum Audit {
    Artifact {
        lineage: Lineage,
        /// The file asked for, where it is one of a folder.
        part: Option<Part>,
        /// The file asked for, where it is a text form of the artifact.
        text: Option<TextRecord>,
        /// Of a source file: the runs that read it, newest first.
        used_by: Vec<RunId>,
        /// Of a name that a newer run has without this output: what people have to know of it.
        note: Option<String>,
    },
    Run {
        run: RunId,
        /// What it published, and what none of its steps used.
        artifacts: Vec<Lineage>,
    },
}

/// A file of a folder artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Relative to the folder.
    pub path: String,
    pub digest: Digest,
    pub bytes: u64,
}

impl Audit {
    /// All lineages of the answer.
    pub fn lineages(&self) -> impl Iterator<Item = &Lineage> {
        match self {
            Self::Artifact { lineage, .. } => std::slice::from_ref(lineage).iter(),
            Self::Run { artifacts, .. } => artifacts.iter(),
        }
    }

    /// What people have to know beside the answer.
    pub fn note(&self) -> Option<&str> {
        match self {
            Self::Artifact { note, .. } => note.as_deref(),
            Self::Run { .. } => None,
        }
    }

    pub fn to_json(&self) -> Value {
        match self {
            Self::Run { run, artifacts } => {
                json!({ "run": run, "artifacts": artifacts.iter().map(Lineage::to_json).collect::<Vec<_>>() })
            }
            Self::Artifact { lineage, part, text, used_by, note: _ } => {
                let mut answer = lineage.to_json();
                if let Lineage::Source(source) = lineage {
                    answer["artifact"] = json!({ "digest": source.digest, "bytes": source.bytes, "format": "raw" });
                    answer["used_by"] = json!(used_by);
                }
                if let Some(part) = part {
                    answer["part"] = json!(part);
                }
                if let Some(text) = text {
                    answer["text"] = json!({ "digest": text.digest, "bytes": text.bytes, "form": text.form });
                }
                answer
            }
        }
    }
}

/// Finds what the user means, and where it came from. Paths are relative to the working directory of the process.
pub fn audit(cache: &Cache, target: &str) -> Result<Audit, ProvenanceError> {
    let mut search = Search { cache, history: History::new(cache), tracer: Tracer::new(cache) };
    if let Ok(run) = RunId::parse(target) {
        return search.run(&run);
    }
    let path = Path::new(target);
    if path.exists() {
        let unreadable =
            |e: CacheError| ProvenanceError::Unknown(format!("{target} can't be read, so nothing is known of it: {e}"));
        let found = cache.digest_source(path, Format::Raw).map_err(unreadable)?;
        return match search.digest(found.digest)? {
            Some(audit) => Ok(audit),
            None => Err(search.unknown_file(target, found.digest)?),
        };
    }
    search.name(target)
}

/// As `audit`, of what stands in the cache alone: a name is never taken for a file's.
pub fn audit_name(cache: &Cache, target: &str) -> Result<Audit, ProvenanceError> {
    Search { cache, history: History::new(cache), tracer: Tracer::new(cache) }.name(target)
}

fn unknown<T>(message: String) -> Result<T, ProvenanceError> {
    Err(ProvenanceError::Unknown(message))
}

struct Search<'a> {
    cache: &'a Cache,
    history: History<'a>,
    tracer: Tracer<'a>,
}

impl Search<'_> {
    fn name(&mut self, target: &str) -> Result<Audit, ProvenanceError> {
        let hex = target.strip_prefix(Digest::PREFIX).unwrap_or(target).to_ascii_lowercase();
        let is_hex = hex.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hex && (8..=64).contains(&hex.len()) {
            return self.prefix(&hex);
        }
        if is_hex && target.starts_with(Digest::PREFIX) {
            return unknown(format!("{target} is too short: give at least 8 hex digits of a digest"));
        }
        self.port(target)
    }

    fn run(&mut self, id: &RunId) -> Result<Audit, ProvenanceError> {
        let Some(run) = self.cache.run(id)? else {
            return unknown(match self.cache.runs()?.iter().any(|known| known == id) {
                true => format!("run {id} has no readable record: it was killed, or its record is damaged"),
                false => format!("there is no run {id}: `cistage runs` lists those there are"),
            });
        };
        let mut artifacts = Vec::new();
        for (key, artifact) in results(&run) {
            artifacts.push(self.made(key, &artifact)?);
        }
        Ok(Audit::Run { run: id.clone(), artifacts })
    }

    /// The lineage of what one action made; other makers of the same bytes are listed.
    fn made(&mut self, key: ActionKey, artifact: &Artifact) -> Result<Lineage, CacheError> {
        let lineage = self.tracer.trace(key, artifact)?;
        let others = self.tracer.makers.others(artifact.digest, key)?;
        let also: Vec<MadeBy> = others.iter().map(MadeBy::of).collect();
        Ok(match lineage {
            Lineage::Made(made) if !also.is_empty() => {
                Lineage::Made(Arc::new(Made { also, ..Arc::unwrap_or_clone(made) }))
            }
            other => other,
        })
    }

    fn digest(&mut self, digest: Digest) -> Result<Option<Audit>, ProvenanceError> {
        if let Some((key, artifact)) = self.maker(digest)? {
            let lineage = self.made(key, &artifact)?;
            return Ok(Some(Audit::Artifact { lineage, part: None, text: None, used_by: Vec::new(), note: None }));
        }
        if let Some((key, artifact, text)) = self.text(digest)? {
            let lineage = self.made(key, &artifact)?;
            return Ok(Some(Audit::Artifact {
                lineage,
                part: None,
                text: Some(text),
                used_by: Vec::new(),
                note: None,
            }));
        }
        if let Some((source, used_by)) = self.source(digest)? {
            return Ok(Some(Audit::Artifact {
                lineage: Lineage::Source(source),
                part: None,
                text: None,
                used_by,
                note: None,
            }));
        }
        for record in newest_first(self.cache.records()?) {
            for folder in record.outputs.values().filter(|output| output.layout == Layout::Tree) {
                // A listing that can't be read hides its files; `--verify` of the folder tells.
                let entries = self.cache.tree(folder.digest).unwrap_or_default();
                if let Some(entry) = entries.into_iter().find(|entry| entry.digest == digest) {
                    let part = Some(Part { path: entry.path, digest, bytes: entry.bytes });
                    let lineage = self.made(record.key, folder)?;
                    return Ok(Some(Audit::Artifact { lineage, part, text: None, used_by: Vec::new(), note: None }));
                }
            }
        }
        Ok(None)
    }

    /// The newest action that made these bytes.
    fn maker(&self, digest: Digest) -> Result<Option<(ActionKey, Artifact)>, CacheError> {
        let maker = match self.cache.makers(digest)?.first() {
            Some(key) => self.cache.record(*key)?.and_then(|record| output(&record, digest)),
            None => None,
        };
        // The record may be lost, and a run still know.
        if maker.is_some() { Ok(maker) } else { self.step_that_made(digest) }
    }

    /// The artifact that a file with these bytes is a text form of, and what made it.
    fn text(&self, digest: Digest) -> Result<Option<(ActionKey, Artifact, TextRecord)>, CacheError> {
        for text in self.cache.texts_of(digest)? {
            if let Some((key, artifact)) = self.maker(text.artifact)? {
                return Ok(Some((key, artifact, text)));
            }
        }
        Ok(None)
    }

    fn step_that_made(&self, digest: Digest) -> Result<Option<(ActionKey, Artifact)>, CacheError> {
        let steps = self.history.runs()?.iter().flat_map(|run| &run.steps);
        let mut made = steps.filter_map(|s| Some((s.key?, s.outputs.values().find(|o| o.digest == digest)?.clone())));
        Ok(made.next())
    }

    /// A source file with these bytes, and the runs that read it.
    fn source(&self, digest: Digest) -> Result<Option<(SourceFile, Vec<RunId>)>, CacheError> {
        let (mut found, mut used_by) = (None, Vec::new());
        for run in self.history.runs()? {
            let inputs = run.steps.iter().flat_map(|step| step.inputs.values());
            let read = inputs.filter(|input| input.artifact.digest == digest).find_map(|input| match &input.origin {
                Origin::Source { path } => Some(SourceFile { path: path.clone(), digest, bytes: input.artifact.bytes }),
                Origin::Action { .. } => None,
            });
            if let Some(source) = read {
                found.get_or_insert(source);
                used_by.push(run.run.clone());
            }
        }
        Ok(found.map(|source| (source, used_by)))
    }

    fn prefix(&mut self, hex: &str) -> Result<Audit, ProvenanceError> {
        let mut known: BTreeMap<Digest, String> = BTreeMap::new();
        for record in self.cache.records()? {
            for (port, output) in &record.outputs {
                known.entry(output.digest).or_insert_with(|| format!("{}.{port}", record.stage));
                if output.layout == Layout::Tree {
                    for entry in self.cache.tree(output.digest).unwrap_or_default() {
                        let name = format!("{} of {}.{port}", entry.path, record.stage);
                        known.entry(entry.digest).or_insert(name);
                    }
                }
            }
        }
        for text in self.cache.texts()? {
            known.entry(text.digest).or_insert_with(|| format!("{} of {}", text.form, text.artifact.short()));
        }
        for step in self.history.runs()?.iter().flat_map(|run| &run.steps) {
            for (port, output) in &step.outputs {
                known.entry(output.digest).or_insert_with(|| format!("{}.{port}", step.stage));
            }
            for (port, input) in &step.inputs {
                let name = || match &input.origin {
                    Origin::Source { path } => path.clone(),
                    Origin::Action { .. } => format!("input {port} of {}", step.stage),
                };
                known.entry(input.artifact.digest).or_insert_with(name);
            }
        }
        known.retain(|digest, _| digest.hex().starts_with(hex));
        let digests: Vec<Digest> = known.keys().copied().collect();
        match digests[..] {
            [] => unknown(format!("no recorded artifact has a digest that begins with {hex}")),
            [digest] => match self.digest(digest)? {
                Some(audit) => Ok(audit),
                None => unknown(format!("{digest} was not produced by any recorded run")),
            },
            _ => {
                let list: Vec<String> = known.iter().map(|(digest, name)| format!("\n  {digest}  {name}")).collect();
                unknown(format!("{hex} begins several digests, give more of it:{}", list.concat()))
            }
        }
    }

    fn port(&mut self, target: &str) -> Result<Audit, ProvenanceError> {
        let found = named(self.cache, target)?;
        let found = found.and_then(|found| Some((found.step.key?, found.artifact, found.note)));
        if let Some((key, artifact, note)) = found {
            let lineage = self.made(key, &artifact)?;
            return Ok(Audit::Artifact { lineage, part: None, text: None, used_by: Vec::new(), note });
        }
        self.no_port(target)
    }

    /// What there is instead of an output of that name: those of the stage that it begins with, else those of the newest run.
    fn no_port<T>(&self, target: &str) -> Result<T, ProvenanceError> {
        let stage = |name: &StageName| name.as_str().split('@').next().unwrap_or_default().to_owned();
        let named = |name: &StageName| {
            [name.as_str(), &stage(name)].into_iter().any(|name| {
                target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '@']))
            })
        };
        let has = |run: &&RunRecord, wanted: &dyn Fn(&StageName) -> bool| {
            run.steps.iter().any(|step| !step.outputs.is_empty() && wanted(&step.stage))
        };
        let runs = self.history.runs()?.iter();
        let newest = runs.clone().find(|run| has(run, &named)).or_else(|| runs.clone().find(|run| has(run, &|_| true)));
        let Some(newest) = newest else {
            return unknown(format!(
                "{target} is no file, and no run with outputs is recorded in {}",
                self.cache.root().display()
            ));
        };
        let outputs = |steps: &mut dyn Iterator<Item = &StepRecord>| -> Vec<String> {
            steps.flat_map(|step| step.outputs.keys().map(|port| format!("{}.{port}", step.stage))).collect()
        };
        let meant = outputs(&mut newest.steps.iter().filter(|step| named(&step.stage)));
        let (what, ports) =
            if meant.is_empty() { ("", outputs(&mut newest.steps.iter())) } else { (" of that stage", meant) };
        unknown(format!(
            "{target} is no file, digest, run or output of a recorded run; outputs{what} in run {}: {}",
            newest.run,
            ports.join(", ")
        ))
    }

    fn unknown_file(&self, target: &str, digest: Digest) -> Result<ProvenanceError, CacheError> {
        let path = Path::new(target);
        let alike = |known: &str| {
            let known = Path::new(known);
            path.ends_with(known) || (path.file_name().is_some() && path.file_name() == known.file_name())
        };
        let mut nearest = None;
        for run in self.history.runs()? {
            let published = run.published.iter().find(|(known, _)| alike(known));
            nearest = published.map(|(known, d)| format!("run {} published {known} with other bytes ({d})", run.run));
            let sources = run.steps.iter().flat_map(|step| step.inputs.values()).filter_map(|i| match &i.origin {
                Origin::Source { path } => Some((path, i.artifact.digest)),
                Origin::Action { .. } => None,
            });
            let read = || sources.into_iter().find(|(known, _)| alike(known));
            nearest = nearest
                .or_else(|| read().map(|(known, d)| format!("run {} read {known} with other bytes ({d})", run.run)));
            if nearest.is_some() {
                break;
            }
        }
        let nearest = nearest.unwrap_or_else(|| "nothing of that name was published or read".to_owned());
        Ok(ProvenanceError::Unknown(format!(
            "{target} ({digest}) was not produced by any recorded run; nearest: {nearest}"
        )))
    }
}

fn output(record: &ActionRecord, digest: Digest) -> Option<(ActionKey, Artifact)> {
    record.outputs.values().find(|output| output.digest == digest).map(|output| (record.key, output.clone()))
}

fn newest_first(mut records: Vec<ActionRecord>) -> Vec<ActionRecord> {
    records.sort_by(|a, b| (&b.started, b.key).cmp(&(&a.started, a.key)));
    records
}

/// What a run is for: its published artifacts, and the outputs that none of its steps used.
fn results(run: &RunRecord) -> Vec<(ActionKey, Artifact)> {
    let used: BTreeSet<Digest> =
        run.steps.iter().flat_map(|step| step.inputs.values().map(|input| input.artifact.digest)).collect();
    let mut seen = BTreeSet::new();
    let mut results = Vec::new();
    for step in run.steps.iter().filter(|step| succeeded(step)) {
        let Some(key) = step.key else { continue };
        for output in step.outputs.values() {
            let wanted = !used.contains(&output.digest) || run.published.values().any(|d| *d == output.digest);
            if wanted && seen.insert(output.digest) {
                results.push((key, output.clone()));
            }
        }
    }
    results
}
