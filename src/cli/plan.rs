//! `cistage plan`: what a run would do, why, and at what cost; runs nothing.

use super::App;
use super::exit::CliError;
use super::printer::{Style, counted, duration, table};
use super::select::PipelineArgs;
use crate::engine::{self, Interrupt, StepPlan, Verdict};
use crate::pipeline::Plan;
use crate::provenance;
use serde_json::{Value, json};

/// Beyond this much work, `run` wants to hear `--yes`.
pub(super) const LONG: f64 = 86_400.0; // seconds

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cistage plan pipeline.yaml --set epochs=5\n  cistage plan pipeline.yaml --format json"
)]
pub(super) struct Args {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Plan this stage and what it needs alone
    #[arg(long, value_name = "STAGE")]
    to: Option<String>,
    /// Plan as if this stage were forced (repeatable)
    #[arg(long, value_name = "STAGE")]
    force: Vec<String>,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let plan = args.pipeline.load(args.to.as_deref())?;
    show(app, &plan, &args.force)
}

pub(super) fn show(app: &App, plan: &Plan, force: &[String]) -> Result<(), CliError> {
    app.warn_of(plan);
    let cache = app.memo_cache()?;
    let steps = engine::plan(plan, &cache, force, &Interrupt::new())?;
    if app.printer.json {
        return app.printer.json(&json!({ "stages": steps.iter().map(as_json).collect::<Vec<_>>() }));
    }
    let mut rows = vec![["", "stage", "time", "why"].map(|head| app.printer.paint(head, Style::Dim)).to_vec()];
    rows.extend(steps.iter().map(|step| {
        let style = if step.verdict == Verdict::Hit { Style::Good } else { Style::Note };
        vec![app.printer.paint(word(step.verdict), style), step.step.to_string(), time(step), reason(step)]
    }));
    app.printer.document(&table(&rows, &[]))?;
    if app.verbose {
        for step in steps.iter().filter(|step| step.because.len() > 1) {
            app.printer.line(&format!("{}:", step.step))?;
            for because in &step.because {
                app.printer.line(&format!("  {}", provenance::in_words(because)))?;
            }
        }
    }
    let lines = cost_lines(&steps);
    if !lines.is_empty() {
        app.printer.line("\nestimated cost on this machine")?;
        for line in lines {
            app.printer.line(&format!("  {line}"))?;
        }
    }
    app.printer.line(&format!("\n{}", total(&steps)))?;
    let foretold: f64 = pending(&steps).filter_map(|step| step.estimate.seconds).sum();
    if foretold > LONG {
        let long = duration(foretold);
        app.printer.warning(&format!("that is about {long} of work on this machine: `run` starts it with --yes alone"));
    }
    Ok(())
}

/// What an execution would take, and how one knows.
fn time(step: &StepPlan) -> String {
    match (step.verdict, step.estimate.seconds, step.last) {
        (Verdict::Hit, ..) | (_, None, None) => String::new(),
        (_, Some(foretold), _) => format!("about {}", duration(foretold)),
        (_, None, Some(last)) => format!("last {}", duration(last)),
    }
}

/// How many stages are cached and how many are to run, and how long that takes, as far as one can tell.
fn total(steps: &[StepPlan]) -> String {
    let (hits, others): (Vec<&StepPlan>, Vec<&StepPlan>) = steps.iter().partition(|s| s.verdict == Verdict::Hit);
    let saved: f64 = hits.iter().filter_map(|step| step.last).sum();
    let saving = if saved < 1.0 { String::new() } else { format!(", saving {}", duration(saved)) };
    let known: Vec<f64> = others.iter().filter_map(|step| step.estimate.seconds.or(step.last)).collect();
    let takes =
        if known.is_empty() { String::new() } else { format!(", about {} of work", duration(known.iter().sum())) };
    let unknown = match (others.len() - known.len(), known.len()) {
        (0, _) | (_, 0) => String::new(),
        (1, _) => ", and 1 stage of unknown time".to_owned(),
        (n, _) => format!(", and {n} stages of unknown time"),
    };
    let all = counted(steps.len(), "stage");
    format!("{all}: {} cached{saving}; {} to run{takes}{unknown}", hits.len(), others.len())
}

/// The first reason, and what an execution would go on from.
fn reason(step: &StepPlan) -> String {
    let reasons: Vec<String> = step.because.iter().map(provenance::in_words).collect();
    provenance::brief(&reasons).into_iter().chain(step.note.clone()).collect::<Vec<_>>().join("; ")
}

/// The steps that are not served from the cache.
pub(super) fn pending(steps: &[StepPlan]) -> impl Iterator<Item = &StepPlan> {
    steps.iter().filter(|step| step.verdict != Verdict::Hit)
}

/// A line for each step whose cost can be foretold and is worth saying.
pub(super) fn cost_lines(steps: &[StepPlan]) -> Vec<String> {
    let rows: Vec<Vec<String>> = pending(steps)
        .filter(|step| step.estimate.flops.is_some())
        .map(|step| {
            let estimate = &step.estimate;
            vec![
                step.step.to_string(),
                estimate.samples.map_or(String::new(), |n| format!("{} samples", grouped(n))),
                estimate.flops.map_or(String::new(), |f| format!("{f:.1e} FLOP")),
                estimate.seconds.map_or(String::new(), |s| format!("about {}", duration(s))),
            ]
        })
        .collect();
    table(&rows, &[1, 2]).lines().map(ToOwned::to_owned).collect()
}

/// Digits in groups of three: `6,739,258`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Hit => "hit",
        Verdict::Run => "run",
        Verdict::Waits => "waits",
    }
}

fn as_json(step: &StepPlan) -> Value {
    let estimate = &step.estimate;
    json!({
        "stage": step.step,
        "kind": step.kind,
        "verdict": word(step.verdict),
        "key": step.key,
        "because": step.because,
        "note": step.note,
        "last_seconds": step.last,
        "estimate": { "samples": estimate.samples, "flops": estimate.flops, "seconds": estimate.seconds },
    })
}
