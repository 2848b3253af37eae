//! `cistage cache gc`: bytes that can be made again are given up.

use super::App;
use super::exit::CliError;
use super::printer::{Style, bytes, duration, table};
use crate::cache::remote::RemoteReason;
use crate::cache::{Candidate, GcPlan, GcPolicy, Reason};
use crate::pipeline::resources::{parse_bytes, parse_seconds};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Show which outputs could go, and with --apply give them up
///
/// Records, parameters and digests stay: lineage can still be told, and a later run makes the same bytes again. Kept are
/// pins, what stands at published paths, all outputs of the newest runs, what a running process relies on, and whatever is
/// younger than the time of grace.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cistage cache gc\n  cistage cache gc --free 50GB --apply\n  cistage cache gc --keep-runs 3 --grace 7d --apply\n  cistage cache gc --remote --keep-runs 50 --grace 30d"
)]
pub(super) struct Args {
    /// Do it; without this, only the plan is shown
    #[arg(long)]
    apply: bool,
    /// Stop when so much is freed, the cheapest to make again first: 50GB, 200MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    free: Option<u64>,
    /// Keep all outputs of so many of the newest runs
    #[arg(long, value_name = "N", default_value_t = 10)]
    keep_runs: usize,
    /// Keep whatever is younger: 12h, 7d; 0 for nothing
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = time)]
    grace: Duration,
    /// Clean the shared cache instead: what none of the newest runs that were pushed there used. Records go there, too
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    remote: Option<String>,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let policy = GcPolicy { keep_runs: args.keep_runs, grace: args.grace, free: args.free };
    if let Some(url) = &args.remote {
        return remote(app, args, &policy, Some(url.as_str()).filter(|url| !url.is_empty()));
    }
    if !app.cache.is_dir() {
        return Err(CliError::input(format!("{} is no cache folder", app.cache.display())));
    }
    let plan = if args.apply {
        let cache = app.open_cache()?;
        let mut plan = cache.plan_gc(&policy)?;
        cache.apply_gc(&mut plan)?;
        plan
    } else {
        app.read_cache()?.plan_gc(&policy)?
    };
    if app.printer.json {
        let mut value = json!(plan);
        value["applied"] = json!(args.apply);
        return app.printer.json(&value);
    }
    print(app, &plan, args)
}

/// The same of the shared cache.
fn remote(app: &App, args: &Args, policy: &GcPolicy, url: Option<&str>) -> Result<(), CliError> {
    let remote = super::remote::to_clean(app, url)?;
    let interrupt = super::interrupt::on_signals()?;
    let stop = || interrupt.is_raised();
    let failed = |fault| super::transfer::failed(&remote, fault);
    let plan = remote.plan_gc(policy, &stop).map_err(failed)?;
    if args.apply {
        remote.apply_gc(&plan, &stop).map_err(failed)?;
    }
    if app.printer.json {
        let mut value = json!(plan);
        (value["applied"], value["remote"]) = (json!(args.apply), json!(remote.address().to_string()));
        return app.printer.json(&value);
    }
    let mut rows = vec![vec!["kept".to_owned(), "size".to_owned(), "files".to_owned()]];
    for (reason, total) in &plan.kept {
        let reason = match reason {
            RemoteReason::Recent => "of the newest runs",
            RemoteReason::Young => "younger than the time of grace",
            RemoteReason::Spared => "not needed to free that much",
        };
        rows.push(vec![format!("  {reason}"), bytes(total.bytes), total.files.to_string()]);
    }
    app.printer.document(&table(&rows, &[1, 2]))?;
    if !plan.given_up.is_empty() {
        let mut rows = vec![["given up", "size", "files", "to make again"].map(str::to_owned).to_vec()];
        for gone in &plan.given_up {
            let name = match (&gone.stage, &gone.kind) {
                (Some(stage), Some(kind)) => format!("{stage} ({kind})"),
                _ => "what no record names".to_owned(),
            };
            rows.push(vec![format!("  {name}"), bytes(gone.bytes), gone.objects.to_string(), duration(gone.seconds)]);
        }
        app.printer.document(&table(&rows, &[1, 2, 3]))?;
    }
    let runs = plan.runs.len();
    if args.apply {
        let word = app.printer.paint("freed", Style::Good);
        app.printer.line(&format!("{word} in {}: {}, and {runs} runs", remote.address(), bytes(plan.bytes)))
    } else if plan.given_up.is_empty() && plan.runs.is_empty() {
        app.printer
            .line("nothing can go: what runs, pins and published paths need is kept, as --keep-runs and --grace say")
    } else {
        let place = remote.address();
        app.printer.line(&format!("would free {} and {runs} runs in {place}: --apply does it", bytes(plan.bytes)))
    }
}

fn print(app: &App, plan: &GcPlan, args: &Args) -> Result<(), CliError> {
    let mut rows = vec![vec!["kept".to_owned(), "size".to_owned(), "files".to_owned()]];
    for (reason, total) in &plan.kept {
        rows.push(vec![format!("  {}", in_words(*reason)), bytes(total.bytes), total.files.to_string()]);
    }
    app.printer.document(&table(&rows, &[1, 2]))?;
    if !plan.given_up.is_empty() {
        let head = ["given up", "size", "files", "to make again"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for (stage, (size, files, seconds)) in by_stage(&plan.given_up) {
            rows.push(vec![format!("  {stage}"), bytes(size), files.to_string(), duration(seconds)]);
        }
        app.printer.document(&table(&rows, &[1, 2, 3]))?;
    }
    if !plan.scratch.is_empty() {
        let count = plan.scratch.len();
        app.printer.line(&format!("unfinished work of {count} actions: {}", bytes(plan.scratch_bytes)))?;
    }
    let freed = bytes(plan.bytes + plan.scratch_bytes);
    if args.apply {
        app.printer.line(&format!("{}: {freed}", app.printer.paint("freed", Style::Good)))
    } else if plan.given_up.is_empty() && plan.scratch.is_empty() {
        app.printer
            .line("nothing can go: what runs, pins and published paths need is kept, as --keep-runs and --grace say")
    } else {
        app.printer.line(&format!("would free {freed}: --apply does it"))
    }
}

/// Bytes, files and seconds by stage.
fn by_stage(candidates: &[Candidate]) -> BTreeMap<String, (u64, u64, f64)> {
    let mut stages: BTreeMap<String, (u64, u64, f64)> = BTreeMap::new();
    for candidate in candidates {
        let name = match (&candidate.stage, &candidate.kind) {
            (Some(stage), Some(kind)) => format!("{stage} ({kind})"),
            _ => "what no record names".to_owned(),
        };
        let total = stages.entry(name).or_default();
        *total = (total.0 + candidate.bytes, total.1 + candidate.objects, total.2 + candidate.seconds);
    }
    stages
}

fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Recipes => "recipes: manifests, logs, texts, listings",
        Reason::Pinned => "pinned",
        Reason::Published => "published",
        Reason::Recent => "of the newest runs",
        Reason::InUse => "in use",
        Reason::Young => "younger than the time of grace",
        Reason::Spared => "not needed to free that much",
    }
}

fn size(text: &str) -> Result<u64, String> {
    // `50G`, as `du` and others take it, too.
    let unit = if text.ends_with(['k', 'K', 'm', 'M', 'g', 'G', 't', 'T']) { "B" } else { "" };
    parse_bytes(&format!("{text}{unit}")).ok_or_else(|| "a size such as 50GB or 200MiB is expected".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    let seconds = if text == "0" { Some(0) } else { parse_seconds(text) };
    seconds.map(Duration::from_secs).ok_or_else(|| "a time such as 12h, 7d or 0 is expected".to_owned())
}
