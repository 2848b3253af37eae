//! Leakage: evaluation rows that a model, or one that it was fine-tuned from, was trained on.

use super::ProvenanceError;
use super::lineage::{Lineage, Made, Tracer};
use crate::action::ActionKey;
use crate::artifact::{Artifact, Format, Layout};
use crate::cache::Cache;
use crate::data::overlap::{Found, Overlap, Wanted};
use crate::digest::Digest;
use crate::name::StageName;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

/// What one model's evaluation rows share with the rows that reached its `train` port, or that of a model in its
/// `init` chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leakage {
    /// The port of the evaluation at which the model stands, or where its predictions do.
    pub model: String,
    pub evaluation: StageName,
    pub evaluation_rows: u64,
    pub evaluation_sequences: u64,
    pub trained_on: Vec<Seen>,
    #[serde(flatten)]
    pub overlap: Overlap,
    /// Rows that only a tokenizer was trained on, or that only watched a training.
    pub seen_apart: Vec<Seen>,
    /// Where the chain of trainings can't be followed: what the model learned from there is not known.
    pub unknown: Vec<String>,
}

/// Rows that a stage took, and how many of the evaluation's distinct sequences are among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub stage: StageName,
    pub port: String,
    pub digest: Digest,
    pub rows: u64,
    pub shared_sequences: u64,
}

/// The stages that measure models.
pub const EVALUATIONS: [&str; 2] = ["evaluate", "score-benchmark"];

/// Whether what was counted before may be taken for granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Rows of these digests were counted before: a run's own look.
    Once,
    /// Every row is read again: an audit's.
    Anew,
}

/// Finds every evaluation of a model in these lineages, and what its rows share with the model's training rows.
///
/// # Errors
///
/// Where rows of such a training are not in the cache any more: then nothing can be said.
pub fn leakage<'l>(
    cache: &Cache,
    lineages: impl Iterator<Item = &'l Lineage>,
    counting: Counting,
) -> Result<Vec<Leakage>, ProvenanceError> {
    let mut evaluations = BTreeMap::new();
    for lineage in lineages {
        lineage.visit(&mut |lineage| {
            if let Lineage::Made(made) = lineage {
                for (port, model, rows) in evaluated(made) {
                    let place = (made.record.stage.clone(), port.clone(), made.record.key);
                    evaluations.entry(place).or_insert((model, rows));
                }
            }
        });
    }
    let mut searches: BTreeMap<Digest, Search> = BTreeMap::new();
    let mut found = Vec::new();
    for ((evaluation, model, _), (lineage, rows)) in evaluations {
        let mut history = History::default();
        history.follow(lineage);
        let memo = memo_name(rows.digest(), &history);
        let counted = if counting == Counting::Once { cache.overlap::<Counted>(memo) } else { None };
        let counted = match counted {
            Some(counted) => counted,
            None => {
                let search = match searches.entry(rows.digest()) {
                    Entry::Occupied(there) => there.into_mut(),
                    Entry::Vacant(free) => free.insert(Search::begin(cache, rows, &evaluation)?),
                };
                let counted = history.count(cache, search)?;
                if counting == Counting::Once {
                    cache.remember_overlap(memo, &counted);
                }
                counted
            }
        };
        found.push(history.report(model, evaluation, counted));
    }
    Ok(found)
}

/// The lineages of outputs of steps, for [`leakage`].
pub fn lineages(cache: &Cache, outputs: &[(ActionKey, &Artifact)]) -> Result<Vec<Lineage>, ProvenanceError> {
    let mut tracer = Tracer::new(cache);
    Ok(outputs.iter().map(|(key, artifact)| tracer.trace(*key, artifact)).collect::<Result<_, _>>()?)
}

/// The models that an action evaluated: port, model, rows.
fn evaluated(made: &Made) -> Vec<(String, &Lineage, &Lineage)> {
    let input = |name: &str| made.inputs.iter().find(|(port, _)| port.as_str() == name).map(|(_, input)| input);
    match made.record.manifest.stage.as_str() {
        "evaluate" => {
            let Some(rows) = input("rows") else { return Vec::new() };
            let models = made.inputs.iter().filter(|(port, _)| port.as_str() != "rows");
            models.map(|(port, model)| (port.to_string(), model, rows)).collect()
        }
        "score-benchmark" => match input("predictions") {
            Some(Lineage::Made(predicted)) if predicted.record.manifest.stage == "predict" => {
                let input = |name: &str| predicted.inputs.iter().find(|(port, _)| port.as_str() == name);
                let (model, rows) = (input("model"), input("rows"));
                let pair = model.zip(rows).map(|((_, model), (_, rows))| ("predictions".to_owned(), model, rows));
                pair.into_iter().collect()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// One evaluation's rows, looked for in one file after the other: models share what they were trained on.
struct Search {
    wanted: Wanted,
    /// By the rows that were searched, and whether for likeness, too.
    found: BTreeMap<(Digest, bool), Found>,
}

impl Search {
    fn begin(cache: &Cache, rows: &Lineage, evaluation: &StageName) -> Result<Self, ProvenanceError> {
        let label = format!("the rows of {evaluation}");
        let wanted = Wanted::read(&path_of(cache, rows, &label)?, &label).map_err(unreadable)?;
        Ok(Self { wanted, found: BTreeMap::new() })
    }

    fn within(&mut self, cache: &Cache, taken: &Taken<'_>, alike: bool) -> Result<&Found, ProvenanceError> {
        let (stage, port, rows) = taken;
        match self.found.entry((rows.digest(), alike)) {
            Entry::Occupied(there) => Ok(there.into_mut()),
            Entry::Vacant(free) => {
                let label = format!("the rows that reached {stage}.{port}");
                let path = path_of(cache, rows, &label)?;
                Ok(free.insert(self.wanted.search(&path, &label, alike).map_err(unreadable)?))
            }
        }
    }
}

/// Rows that some stage took: stage, port, rows.
type Taken<'l> = (StageName, String, &'l Lineage);

/// The rows behind a model.
#[derive(Default)]
struct History<'l> {
    trained_on: Vec<Taken<'l>>,
    apart: Vec<Taken<'l>>,
    unknown: Vec<String>,
}

/// What was counted for one model: numbers that depend on the bytes of the rows alone.
#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    rows: u64,
    sequences: u64,
    overlap: Overlap,
    /// Rows and shared sequences of each file of rows, in the order of the history.
    trained_on: Vec<(u64, u64)>,
    apart: Vec<(u64, u64)>,
}

impl<'l> History<'l> {
    /// Follows a model through the models that it was trained on from.
    fn follow(&mut self, model: &'l Lineage) {
        let mut next = Some(model);
        while let Some(model) = next.take() {
            match model {
                Lineage::Made(made) if made.record.manifest.stage == "train" => {
                    for (port, input) in &made.inputs {
                        let stage = made.record.stage.clone();
                        match port.as_str() {
                            "train" => take(&mut self.trained_on, (stage, port.to_string(), input)),
                            "validation" => take(&mut self.apart, (stage, port.to_string(), input)),
                            "tokenizer" => self.tokenizer(input),
                            "init" => next = Some(input),
                            _ => {}
                        }
                    }
                }
                Lineage::Made(made) => self.unknown.push(format!(
                    "the model of `{}` was made by a `{}` stage",
                    made.record.stage, made.record.manifest.stage
                )),
                Lineage::Source(source) => self.unknown.push(format!("the model {} came from outside", source.path)),
                Lineage::Lost { problem, .. } => self.unknown.push(problem.clone()),
            }
        }
    }

    fn tokenizer(&mut self, tokenizer: &'l Lineage) {
        let Lineage::Made(made) = tokenizer else { return };
        for (port, rows) in made.inputs.iter().filter(|(port, _)| port.as_str() == "rows") {
            take(&mut self.apart, (made.record.stage.clone(), port.to_string(), rows));
        }
    }

    fn count(&self, cache: &Cache, search: &mut Search) -> Result<Counted, ProvenanceError> {
        let mut all = search.wanted.nothing();
        let (mut trained_on, mut apart) = (Vec::new(), Vec::new());
        for taken in &self.trained_on {
            let found = search.within(cache, taken, true)?;
            all.join(found);
            trained_on.push((found.rows, found.shared_sequences()));
        }
        for taken in &self.apart {
            let found = search.within(cache, taken, false)?;
            apart.push((found.rows, found.shared_sequences()));
        }
        let (rows, sequences) = search.wanted.size();
        Ok(Counted { rows, sequences, overlap: search.wanted.overlap(&all), trained_on, apart })
    }

    fn report(self, model: String, evaluation: StageName, counted: Counted) -> Leakage {
        let seen = |taken: Vec<Taken<'_>>, counts: Vec<(u64, u64)>| -> Vec<Seen> {
            let pairs = taken.into_iter().zip(counts);
            let seen = |((stage, port, lineage), (rows, shared_sequences)): (Taken<'_>, _)| {
                let digest = lineage.digest();
                Seen { stage, port, digest, rows, shared_sequences }
            };
            pairs.map(seen).collect()
        };
        Leakage {
            model,
            evaluation,
            evaluation_rows: counted.rows,
            evaluation_sequences: counted.sequences,
            trained_on: seen(self.trained_on, counted.trained_on),
            overlap: counted.overlap,
            seen_apart: seen(self.apart, counted.apart),
            unknown: self.unknown,
        }
    }
}

/// Adds rows that are not there yet: the models of a chain share their tokenizer.
fn take<'l>(all: &mut Vec<Taken<'l>>, new: Taken<'l>) {
    let same = |(stage, port, rows): &Taken<'_>| (stage, port, rows.digest()) == (&new.0, &new.1, new.2.digest());
    if !all.iter().any(same) {
        all.push(new);
    }
}

/// Names what is counted: by all rows that take part, and by how they are compared.
fn memo_name(rows: Digest, history: &History<'_>) -> Digest {
    let digests = |taken: &[Taken<'_>]| taken.iter().map(|(.., rows)| rows.digest()).collect::<Vec<_>>();
    let (trained_on, apart) = (digests(&history.trained_on), digests(&history.apart));
    let parts = json!({ "overlap": 1, "rows": rows, "trained_on": trained_on, "apart": apart });
    Digest::of(parts.to_string().as_bytes())
}

/// Where rows lie, sound: in the cache, or where the user has them.
fn path_of(cache: &Cache, rows: &Lineage, label: &str) -> Result<PathBuf, ProvenanceError> {
    let gone = |what: &str| {
        ProvenanceError::Damaged(format!(
            "{label} ({}) {what}: what they share with others can't be told; run the pipeline again to make them",
            rows.digest().short()
        ))
    };
    match rows {
        Lineage::Source(source) => {
            let path = Path::new(&source.path);
            let now = cache.digest_source(path, Format::Rows).map_err(|_| gone("are not there any more"))?;
            if now.digest == source.digest && now.layout == Layout::File {
                Ok(path.to_owned())
            } else {
                Err(gone("have other bytes now"))
            }
        }
        Lineage::Made(_) | Lineage::Lost { .. } if cache.verify_object(rows.digest())? => {
            Ok(cache.object_path(rows.digest()))
        }
        Lineage::Made(_) | Lineage::Lost { .. } => Err(gone("are not in the cache, or damaged")),
    }
}

fn unreadable(error: crate::data::DataError) -> ProvenanceError {
    ProvenanceError::Damaged(error.to_string())
}
