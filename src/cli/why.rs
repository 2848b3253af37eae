//! `cistage why`: field by field, what differs from the newest earlier execution of a stage.

use super::App;
use super::exit::CliError;
use super::select::PipelineArgs;
use crate::engine::{self, Interrupt, StepPlan, Verdict};
use crate::provenance;
use serde_json::json;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cistage why pipeline.yaml finetune --set per_bin=200")]
pub(super) struct Args {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The stage; without a branch, all branches of it
    #[arg(value_name = "STAGE")]
    stage: String,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let plan = args.pipeline.load(None)?;
    let cache = app.memo_cache()?;
    let steps = engine::plan(&plan, &cache, &[], &Interrupt::new())?;
    let chosen: Vec<&StepPlan> =
        steps.iter().filter(|s| s.step.as_str() == args.stage || s.step.base() == args.stage).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = steps.iter().map(|s| s.step.as_str()).collect();
        return Err(CliError::input_with_help(
            format!("the plan has no stage {:?}", args.stage),
            format!("it has: {}", names.join(", ")),
        ));
    }
    if app.printer.json {
        let stages: Vec<_> = chosen
            .iter()
            .map(|s| json!({ "stage": s.step, "kind": s.kind, "verdict": s.verdict, "key": s.key, "because": s.because, "note": s.note }))
            .collect();
        return app.printer.json(&json!({ "stages": stages }));
    }
    for step in chosen {
        match step.verdict {
            Verdict::Hit => {
                app.printer
                    .line(&format!("{}: served from the cache, nothing that it depends on has changed", step.step))?;
            }
            Verdict::Run => app.printer.line(&format!("{}: runs, because", step.step))?,
            Verdict::Waits => app.printer.line(&format!(
                "{}: waits for stages before it; if they make the bytes they made before, it is served from the cache",
                step.step
            ))?,
        }
        for because in &step.because {
            app.printer.line(&format!("  {}", provenance::in_words(because)))?;
        }
        if let Some(note) = &step.note {
            app.printer.line(&format!("  {}", sentence(note)))?;
        }
    }
    Ok(())
}

/// A note of a plan with what it speaks of: `goes on from …` is the stage's, `an attempt … failed` its own.
fn sentence(note: &str) -> String {
    if note.starts_with("an ") { note.to_owned() } else { format!("it {note}") }
}
