//! The lineage of an answer laid flat: each source, action, result and run once.

use super::super::ProvenanceError;
use super::super::lineage::{Lineage, SourceFile};
use super::super::target::Audit;
use crate::action::{ActionKey, ActionRecord};
use crate::artifact::Artifact;
use crate::cache::{Cache, CacheError, RunRecord};
use crate::digest::Digest;
use crate::name::RunId;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What an export is made of.
#[derive(Debug)]
pub struct Facts {
    /// Inputs before what was made of them.
    pub actions: Vec<Arc<ActionRecord>>,
    pub sources: BTreeMap<Digest, SourceFile>,
    /// What was asked for, with a name: `STAGE.PORT`.
    pub results: Vec<(String, Artifact)>,
    /// The runs that executed the actions, and the run that was asked for.
    pub runs: BTreeMap<RunId, RunRecord>,
    /// The run that stands for the whole: the one asked for, else the newest that executed a part.
    pub run: Option<RunId>,
}

impl Facts {
    /// Gathers the facts of an answer.
    ///
    /// # Errors
    ///
    /// What was not made by a stage has no provenance to export, and a broken chain is not passed on as a whole one.
    pub fn of(cache: &Cache, audit: &Audit) -> Result<Self, ProvenanceError> {
        let (mut actions, mut sources, mut lost) = (Vec::new(), BTreeMap::new(), None);
        let mut seen = BTreeSet::<ActionKey>::new();
        let mut visit = |lineage: &Lineage| match lineage {
            Lineage::Made(made) => {
                if seen.insert(made.record.key) {
                    actions.push(Arc::clone(&made.record));
                }
            }
            Lineage::Source(source) => {
                sources.entry(source.digest).or_insert_with(|| source.clone());
            }
            Lineage::Lost { artifact, problem } => lost = Some(format!("{}: {problem}", artifact.digest)),
        };
        audit.lineages().for_each(|lineage| lineage.visit(&mut visit));
        if let Some(problem) = lost {
            return Err(ProvenanceError::Damaged(format!("the lineage can't be exported: {problem}")));
        }
        let results: Vec<(String, Artifact)> = audit
            .lineages()
            .filter_map(|lineage| match lineage {
                Lineage::Made(made) => {
                    let outputs = &made.record.outputs;
                    let port = outputs.iter().find(|(_, output)| output.digest == made.artifact.digest)?.0;
                    Some((format!("{}.{port}", made.record.stage), made.artifact.clone()))
                }
                Lineage::Source(_) | Lineage::Lost { .. } => None,
            })
            .collect();
        if results.is_empty() {
            return Err(ProvenanceError::Unknown(
                "this is a source file: no stage made it, so there is nothing to export".to_owned(),
            ));
        }
        let asked = match audit {
            Audit::Run { run, .. } => Some(run.clone()),
            Audit::Artifact { .. } => None,
        };
        let mut runs = BTreeMap::new();
        for id in actions.iter().map(|record| record.run.clone()).chain(asked.clone()).collect::<BTreeSet<_>>() {
            if let Some(run) = cache.run(&id)? {
                runs.insert(id, run);
            }
        }
        let newest = runs.iter().max_by(|a, b| (&a.1.started, a.0).cmp(&(&b.1.started, b.0)));
        let run = asked.or_else(|| newest.map(|(id, _)| id.clone()));
        Ok(Self { actions, sources, results, runs, run })
    }

    /// The record of the run that stands for the whole, where there is one.
    pub fn main_run(&self) -> Option<&RunRecord> {
        self.runs.get(self.run.as_ref()?)
    }
}

/// When something ended, RFC 3339, UTC; its start where that can't be told.
pub fn ended(started: &str, seconds: f64) -> String {
    let end = started.parse::<Timestamp>().ok().and_then(|at| {
        let lasted = SignedDuration::try_from_secs_f64(seconds.max(0.0)).ok()?;
        at.checked_add(lasted).ok()
    });
    end.map_or_else(|| started.to_owned(), |end| format!("{end:.3}"))
}

/// The files of an artifact: itself, or each of a folder's, under `name`.
pub fn files(cache: &Cache, name: &str, artifact: &Artifact) -> Result<Vec<(String, Digest)>, CacheError> {
    match artifact.layout {
        crate::artifact::Layout::File => Ok(vec![(name.to_owned(), artifact.digest)]),
        crate::artifact::Layout::Tree => {
            let entries = cache.tree(artifact.digest)?;
            Ok(entries.into_iter().map(|entry| (format!("{name}/{}", entry.path), entry.digest)).collect())
        }
    }
}
