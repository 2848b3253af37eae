//! `cistage audit`: the lineage of an artifact, back to source files.

use super::App;
use super::exit::CliError;
use super::printer::{Style, counted, table};
use crate::engine::{Purpose, Rerun};
use crate::provenance::{self, Audit, Counting, Derived, Downstream, ProvenanceError, SourceState, Verified, Vouched};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cistage audit results/metrics.json\n  cistage audit evaluate.metrics --verify\n  cistage audit results/model --export ro-crate --output crate"
)]
pub(super) struct Args {
    /// Any file (a copy under another name works), a digest or 8 and more hex digits of one, STAGE.PORT of the newest run that has the stage, or a run id
    #[arg(value_name = "TARGET")]
    target: String,
    /// The form of the lineage
    #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = Form::Tree)]
    form: Form,
    /// Hash every object and read every record of the lineage again; exit code 3 where one is damaged
    #[arg(long)]
    verify: bool,
    /// With `--verify`: also expect each record of the lineage to be signed by the owner of this public key (repeatable)
    #[arg(long, value_name = "FILE", requires = "verify")]
    trusted_key: Vec<PathBuf>,
    /// For each model evaluated in the lineage, count the sequences of its evaluation rows that it, or a model it was
    /// fine-tuned from, was trained on; exit code 3 where there is one
    #[arg(long)]
    leakage: bool,
    /// List what was made from it, directly or by way of others, and the runs that used any of that
    #[arg(long)]
    downstream: bool,
    /// Execute the stage that made it again, apart from everything, and compare the bytes; exit code 3 where they
    /// differ, or where a source file that it takes is missing. Inputs that are gone from the cache are made again, too
    #[arg(long)]
    rerun: bool,
    /// Execute each command of the lineage again under strace (which has to be installed), and list files that it read or
    /// wrote, and addresses that it reached for, without declaring them; exit code 3 where there are any
    #[arg(long, conflicts_with = "rerun")]
    undeclared: bool,
    /// Write its provenance for other tools: W3C PROV (a JSON file), an RO-Crate (a folder), an in-toto statement with
    /// SLSA provenance (a JSON file)
    #[arg(long, value_enum, value_name = "FORM", requires = "output")]
    export: Option<super::export::Form>,
    /// Where to write it
    #[arg(long, short, value_name = "PATH", requires = "export")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Tree,
    /// A flowchart in the language of Mermaid, which GitHub and many editors draw
    Mermaid,
}

impl Form {
    fn of(self, audit: &Audit) -> String {
        match self {
            Self::Tree => provenance::render(audit),
            Self::Mermaid => provenance::mermaid(audit),
        }
    }
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let trusted = super::keys::trusted(&args.trusted_key)?;
    let cache = app.read_cache()?;
    let audit = provenance::audit(&cache, &args.target)?;
    if let Some(note) = audit.note() {
        app.printer.note(note);
    }
    if let (Some(form), Some(output)) = (args.export, &args.output) {
        super::export::write(app, &cache, &audit, form, output)?;
    }
    let verified = args.verify.then(|| provenance::verify(&cache, &audit, Path::new("")));
    let vouched = (!trusted.is_empty()).then(|| provenance::vouched(&cache, &audit, &trusted)).transpose()?;
    let leakage = args.leakage.then(|| provenance::leakage(&cache, audit.lineages(), Counting::Anew)).transpose()?;
    let downstream = args.downstream.then(|| provenance::downstream(&cache, &audit)).transpose()?;
    let purpose = if args.undeclared { Purpose::Trace } else { Purpose::Compare };
    let executes = args.rerun || args.undeclared;
    if executes && !app.printer.json {
        app.printer.line(args.form.of(&audit).trim_end())?;
    }
    let rerun = executes.then(|| super::rerun::execute(app, &audit, purpose)).transpose()?;
    if app.printer.json {
        let mut value = audit.to_json();
        if let Some(leakage) = &leakage {
            value["leakage"] = json!(leakage);
        }
        if let Some(verified) = &verified {
            value["verified"] = json!(verified);
        }
        if let Some(vouched) = &vouched {
            value["verified"]["signatures"] = json!(vouched);
        }
        if let Some(downstream) = &downstream {
            value["downstream"] = json!(downstream);
        }
        if let Some(rerun) = &rerun {
            value[if args.undeclared { "undeclared" } else { "rerun" }] = json!(rerun);
        }
        app.printer.json(&value)?;
    } else {
        // A rerun takes its time, and is watched below the tree.
        if !executes {
            app.printer.line(args.form.of(&audit).trim_end())?;
        }
        if let Some(verified) = &verified {
            print(app, verified)?;
        }
        if let Some(vouched) = &vouched {
            print_vouched(app, vouched)?;
        }
        if let Some(leakage) = &leakage {
            super::leakage::print(app, leakage)?;
        }
        if let Some(downstream) = &downstream {
            print_downstream(app, downstream)?;
        }
        if let Some(rerun) = &rerun {
            match purpose {
                Purpose::Compare => super::rerun::print(app, rerun)?,
                Purpose::Trace => super::rerun::print_access(app, rerun)?,
            }
        }
    }
    let damaged = verified.is_some_and(|verified| !verified.problems.is_empty());
    let leaks = leakage.iter().flatten().any(|leakage| leakage.overlap.shared_sequences > 0);
    let is_sound = |rerun: &Rerun| match purpose {
        Purpose::Compare => rerun.reproduced,
        Purpose::Trace => super::rerun::is_declared(rerun),
    };
    let reproduced = rerun.as_ref().is_none_or(is_sound);
    let unsigned = vouched.is_some_and(|v| v.signed < v.actions || !v.unsigned.is_empty() || !v.problems.is_empty());
    if damaged || unsigned || leaks || !reproduced { Err(CliError::Integrity) } else { Ok(()) }
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
            "{word} the bytes of {} were given up by `cache gc`, or left in a shared cache; a run makes them again",
            counted(verified.given_up as usize, "object")
        ))?;
    }
    printer.line(&format!(
        "{verdict}: {} and {} read again",
        counted(verified.objects as usize, "object"),
        counted(verified.records as usize, "record")
    ))
}

fn print_vouched(app: &App, vouched: &Vouched) -> Result<(), CliError> {
    let printer = &app.printer;
    for problem in &vouched.problems {
        printer.line(&format!("{} {}: {}", printer.paint("DAMAGED", Style::Bad), problem.file, problem.what))?;
    }
    for key in &vouched.untrusted {
        let word = printer.paint("note:", Style::Note);
        printer.line(&format!(
            "{word} a run is signed with the key {}, which is not among the trusted ones",
            short(key)
        ))?;
    }
    let by: Vec<String> = vouched.keys.iter().map(|key| short(key)).collect();
    let by = if by.is_empty() { String::new() } else { format!(", by key {}", by.join(", ")) };
    if vouched.unsigned.is_empty() {
        let word = printer.paint("signed", Style::Good);
        return printer.line(&format!("{word}: all {} records of the lineage{by}", vouched.actions));
    }
    let stages = vouched.unsigned.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (signed, actions) = (vouched.signed, vouched.actions);
    let word = printer.paint("NOT signed", Style::Bad);
    printer
        .line(&format!("{word}: {signed} of {actions} records of the lineage are{by}; without a signature: {stages}"))
}

fn short(key: &str) -> String {
    key.chars().take(12).collect()
}

fn print_downstream(app: &App, downstream: &Downstream) -> Result<(), CliError> {
    let printer = &app.printer;
    if downstream.made.is_empty() {
        return printer.line("downstream: nothing recorded was made from it");
    }
    printer.line(&format!("downstream: {} artifacts were made from it", downstream.made.len()))?;
    let row = |made: &Derived| {
        let published = made.published.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        vec![format!("  {}.{}", made.stage, made.port), made.digest.short(), made.run.to_string(), published]
    };
    let rows: Vec<Vec<String>> = downstream.made.iter().map(row).collect();
    printer.document(&table(&rows, &[]))?;
    let runs = downstream.runs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    printer.line(&format!("used in {}: {runs}", counted(downstream.runs.len(), "run")))
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
