//! Every run with an evaluation looks for evaluation rows that its models were trained on.

use super::recorder::Recorder;
use crate::cache::{Cache, StepRecord};
use crate::event::{EventKind, Outcome};
use crate::provenance::{self, Counting, Leakage, ProvenanceError};
use serde_json::{Value, json};

/// What the run's record keeps; leaks are warned of. That it can't be told is a warning, too: the results stand.
pub(super) fn of_run(cache: &Cache, steps: &[StepRecord], recorder: &Recorder<'_>) -> Vec<Value> {
    let warn = |stage, message| recorder.emit(EventKind::Warning { stage, message });
    match find(cache, steps) {
        Ok(found) => {
            for leakage in found.iter().filter(|leakage| leakage.overlap.shared_sequences > 0) {
                warn(Some(leakage.evaluation.clone()), in_words(leakage, recorder.run().as_str()));
            }
            found.iter().map(|leakage| json!(leakage)).collect()
        }
        Err(error) => {
            warn(None, format!("whether evaluation rows were trained on can't be told: {error}"));
            Vec::new()
        }
    }
}

fn find(cache: &Cache, steps: &[StepRecord]) -> Result<Vec<Leakage>, ProvenanceError> {
    let done = steps.iter().filter(|step| matches!(step.outcome, Outcome::Ran | Outcome::Hit));
    let evaluations = done.filter(|step| provenance::EVALUATIONS.contains(&step.kind.as_str()));
    let metrics: Vec<_> = evaluations.filter_map(|step| Some((step.key?, step.outputs.values().next()?))).collect();
    let lineages = provenance::lineages(cache, &metrics)?;
    provenance::leakage(cache, lineages.iter(), Counting::Once)
}

fn in_words(leakage: &Leakage, run: &str) -> String {
    let trained_on: Vec<String> =
        leakage.trained_on.iter().map(|seen| format!("{}.{}", seen.stage, seen.port)).collect();
    format!(
        "{} of the {} sequences that `{}` was evaluated on are among its training rows ({}): its numbers are too good; \
         `cistage audit {run} --leakage` shows which",
        leakage.overlap.shared_sequences,
        leakage.evaluation_sequences,
        leakage.model,
        trained_on.join(", ")
    )
}
