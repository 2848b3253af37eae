//! `cistage audit`: the lineage of an artifact, back to source files.

use super::App;
use super::exit::CliError;
use super::printer::Style;
use crate::provenance::{self, Counting, ProvenanceError, SourceState, Verified};
use serde_json::json;
use std::path::Path;

/// Show where an artifact came from
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Any file (a copy under another name works), a digest or 8 and more hex digits of one, STAGE.PORT of the newest run, or a run id
    #[arg(value_name = "TARGET")]
    target: String,
    /// Hash every object and read every record of the lineage again; exit code 3 where one is damaged
    #[arg(long)]
    verify: bool,
    /// For each model evaluated in the lineage, count the sequences of its evaluation rows that it, or a model it was
    /// fine-tuned from, was trained on; exit code 3 where there is one
    #[arg(long)]
    leakage: bool,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    let audit = provenance::audit(&cache, &args.target)?;
    let verified = args.verify.then(|| provenance::verify(&cache, &audit, Path::new("")));
    let leakage = args.leakage.then(|| provenance::leakage(&cache, audit.lineages(), Counting::Anew)).transpose()?;
    if app.printer.json {
        let mut value = audit.to_json();
        if let Some(leakage) = &leakage {
            value["leakage"] = json!(leakage);
        }
        if let Some(verified) = &verified {
            value["verified"] = json!(verified);
        }
        app.printer.json(&value)?;
    } else {
        app.printer.line(provenance::render(&audit).trim_end())?;
        if let Some(verified) = &verified {
            print(app, verified)?;
        }
        if let Some(leakage) = &leakage {
            super::leakage::print(app, leakage)?;
        }
    }
    let damaged = verified.is_some_and(|verified| !verified.problems.is_empty());
    let leaks = leakage.iter().flatten().any(|leakage| leakage.overlap.shared_sequences > 0);
    if damaged || leaks { Err(CliError::Integrity) } else { Ok(()) }
}

fn print(app: &App, verified: &Verified) -> Result<(), CliError> {
    let printer = &app.printer;
    for problem in &verified.problems {
        printer.line(&format!("{} {}: {}", printer.paint("DAMAGED", Style::Bad), problem.file, problem.what))?;
    }
    for source in verified.sources.iter().filter(|source| source.state != SourceState::Same) {
        let state = match source.state {
            SourceState::Changed => "has other bytes now",
            SourceState::Missing => "is not there any more",
            SourceState::Unreadable | SourceState::Same => "can't be read",
        };
        printer.line(&format!("{} source {} {state}", printer.paint("note:", Style::Note), source.path))?;
    }
    let verdict = if verified.problems.is_empty() {
        printer.paint("verified", Style::Good)
    } else {
        printer.paint("NOT verified", Style::Bad)
    };
    if verified.given_up > 0 {
        let word = printer.paint("note:", Style::Note);
        printer.line(&format!(
            "{word} the bytes of {} objects were given up by `cache gc`; a run makes them again",
            verified.given_up
        ))?;
    }
    printer.line(&format!("{verdict}: {} objects and {} records read again", verified.objects, verified.records))
}

impl From<ProvenanceError> for CliError {
    fn from(error: ProvenanceError) -> Self {
        match error {
            ProvenanceError::Unknown(message) => Self::input(message),
            ProvenanceError::Damaged(message) => Self::Unchecked(message),
            ProvenanceError::Cache(error) => error.into(),
        }
    }
}
