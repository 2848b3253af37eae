//! The output that `STAGE.PORT` names: that of the newest run that has the stage.

use super::ProvenanceError;
use super::history::succeeded;
use crate::artifact::Artifact;
use crate::cache::{Cache, RunRecord, StepRecord};
use crate::event::Outcome;
use crate::name::{PortName, RunId, StageName};

/// So many outputs of branches are listed.
const MOST_LISTED: usize = 20;

/// An output of a run, found by its name.
#[derive(Debug)]
pub struct Named {
    pub run: RunId,
    pub step: StepRecord,
    pub artifact: Artifact,
    /// Where a newer run has the stage without this output: what people have to know of it.
    pub note: Option<String>,
}

/// Finds the output that a text names; `None` where no run has it. Refused where the newest run that has the stage has
/// it in branches alone: what an older one made is not what it stands for now.
pub fn named(cache: &Cache, target: &str) -> Result<Option<Named>, ProvenanceError> {
    // A matrix branch may hold dots: every place is tried.
    let names: Vec<(StageName, PortName)> = target
        .match_indices('.')
        .filter_map(|(at, _)| Some((StageName::parse(&target[..at]).ok()?, PortName::parse(&target[at + 1..]).ok()?)))
        .collect();
    let ids = if names.is_empty() { Vec::new() } else { cache.runs()? };
    let mut without: Option<(RunId, &str)> = None;
    for id in ids.into_iter().rev() {
        let Some(run) = cache.run(&id)? else { continue };
        for (stage, port) in &names {
            if let Some(step) = run.steps.iter().find(|step| step.stage == *stage) {
                if let Some(artifact) = step.outputs.get(port).filter(|_| succeeded(step)).cloned() {
                    let note = without.map(|(newest, why)| {
                        format!("the newest run {newest} has no {target} ({why}); this is of run {}", run.run)
                    });
                    return Ok(Some(Named { step: step.clone(), run: run.run, artifact, note }));
                }
                without.get_or_insert((id.clone(), absence(step)));
                continue;
            }
            let branches: Vec<&StepRecord> =
                run.steps.iter().filter(|step| step.stage.base() == stage.base()).collect();
            if branches.is_empty() {
                continue;
            }
            if stage.branch().is_none() && without.is_none() {
                return Err(ProvenanceError::Unknown(in_branches(target, stage, port, &run, &branches)));
            }
            without.get_or_insert((id.clone(), "it has no such branch there"));
        }
    }
    Ok(None)
}

/// Why a step has not the output that was asked for.
fn absence(step: &StepRecord) -> &'static str {
    match step.outcome {
        Outcome::Ran | Outcome::Hit => "the stage has no such output there",
        Outcome::Failed => "it failed there",
        Outcome::Skipped => "it was skipped there",
        Outcome::Cancelled => "it was interrupted there",
    }
}

fn in_branches(target: &str, stage: &StageName, port: &PortName, run: &RunRecord, branches: &[&StepRecord]) -> String {
    let made = branches.iter().filter(|step| succeeded(step));
    let all: Vec<(&PortName, String)> =
        made.flat_map(|step| step.outputs.keys().map(|made| (made, format!("{}.{made}", step.stage)))).collect();
    // Those of the wanted port, or, where there is none, the others.
    let any = all.iter().any(|(made, _)| *made == port);
    let names: Vec<String> = all.into_iter().filter(|(made, _)| !any || *made == port).map(|(_, name)| name).collect();
    let names = match names.len().saturating_sub(MOST_LISTED) {
        0 if names.is_empty() => "none of them made an output".to_owned(),
        0 => format!("name one of {}", names.join(", ")),
        more => format!("name one of {} and {more} more", names[..MOST_LISTED].join(", ")),
    };
    format!("{target} is no single output: the newest run that has {stage} ({}) has it in branches; {names}", run.run)
}
