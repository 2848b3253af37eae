//! `cistage cache push` and `pull`: runs and artifacts between this cache and a shared one.

use super::App;
use super::exit::CliError;
use super::keys::KeyArg;
use super::printer::{Style, bytes};
use crate::action::ActionKey;
use crate::cache::remote::{Fault, Pulled, Pushed};
use crate::cache::{Cache, Remote};
use crate::digest::Digest;
use crate::name::RunId;
use crate::provenance::{self, Audit, Lineage};
use serde_json::json;
use std::time::Instant;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cistage cache push\n  cistage cache push train.model --remote s3://lab/cistage\n  cistage cache push --all"
)]
pub(super) struct PushArgs {
    /// A run's id, STAGE.PORT, or a digest [default: the newest run]
    #[arg(value_name = "RUN|STAGE.PORT", conflicts_with = "all")]
    target: Option<String>,
    /// All runs, and all that was ever made
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cistage cache pull 20261123-094012-1f3a\n  cistage cache pull 7f3a9c0b1d2e --remote s3://lab/cistage\n  cistage cache pull --all"
)]
pub(super) struct PullArgs {
    /// A run's id, or 8 and more hex digits of an artifact's digest [default: the newest run there]
    #[arg(value_name = "RUN|DIGEST", conflicts_with = "all")]
    target: Option<String>,
    /// All runs there, and all that was ever made
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The shared cache [default: `remote` in cistage.toml]
    #[arg(long, value_name = "URL", env = "CISTAGE_REMOTE")]
    remote: Option<String>,
    #[command(flatten)]
    key: KeyArg,
}

/// What is to be moved.
#[derive(Default)]
struct What {
    runs: Vec<RunId>,
    actions: Vec<ActionKey>,
}

pub(super) fn push(app: &App, args: &PushArgs) -> Result<(), CliError> {
    let remote = super::remote::named(app, args.place.remote.as_deref(), &args.place.key, true)?;
    let cache = app.open_cache()?;
    let what = here(&cache, args)?;
    let (interrupt, began) = (super::interrupt::on_signals()?, Instant::now());
    let pushed = remote.push(&cache, &what.runs, what.actions, &|| interrupt.is_raised());
    let pushed = pushed.map_err(|fault| failed(&remote, fault))?;
    let seconds = began.elapsed().as_secs_f64();
    if app.printer.json {
        let mut value = json!(pushed);
        (value["remote"], value["seconds"]) = (json!(remote.address().to_string()), json!(seconds));
        return app.printer.json(&value);
    }
    for warning in &pushed.warnings {
        app.printer.warning(warning);
    }
    let Pushed { runs, records, objects, present, missing, .. } = pushed;
    app.printer.line(&format!(
        "{} to {}: {runs} runs, {records} records, {objects} objects ({}); {present} objects were there already",
        app.printer.paint("pushed", Style::Good),
        remote.address(),
        rate(pushed.bytes, seconds),
    ))?;
    if missing > 0 {
        app.printer.note(&format!("{missing} objects are not in this cache any more: what needs them is a miss there"));
    }
    Ok(())
}

pub(super) fn pull(app: &App, args: &PullArgs) -> Result<(), CliError> {
    let remote = super::remote::named(app, args.place.remote.as_deref(), &args.place.key, false)?;
    let (interrupt, began) = (super::interrupt::on_signals()?, Instant::now());
    let stop = || interrupt.is_raised();
    let what = there(&remote, args, &stop)?;
    let cache = app.open_cache()?;
    let pulled = remote.pull(&cache, &what.runs, what.actions, &stop).map_err(|fault| failed(&remote, fault))?;
    let seconds = began.elapsed().as_secs_f64();
    if app.printer.json {
        let mut value = json!(pulled);
        (value["remote"], value["seconds"]) = (json!(remote.address().to_string()), json!(seconds));
        app.printer.json(&value)?;
    } else {
        for refused in &pulled.refused {
            app.printer.warning(&format!("not taken: {refused}"));
        }
        let Pulled { runs, records, objects, missing, .. } = pulled;
        app.printer.line(&format!(
            "{} from {}: {runs} runs, {records} records, {objects} objects ({})",
            app.printer.paint("pulled", Style::Good),
            remote.address(),
            rate(pulled.bytes, seconds),
        ))?;
        if missing > 0 {
            app.printer.note(&format!("{missing} objects are not there: a run makes them again where it needs them"));
        }
    }
    if pulled.refused.is_empty() { Ok(()) } else { Err(CliError::Integrity) }
}

fn rate(size: u64, seconds: f64) -> String {
    let per_second = (size as f64 / seconds.max(0.001)) as u64;
    format!("{} in {seconds:.1} s, {}/s", bytes(size), bytes(per_second))
}

pub(super) fn failed(remote: &Remote, fault: Fault) -> CliError {
    match fault {
        Fault::Stopped => CliError::Interrupted,
        fault => CliError::Failed(format!(
            "{}: {fault}; what was moved stays, and the same command goes on from there",
            remote.address()
        )),
    }
}

/// What a person names of this cache.
fn here(cache: &Cache, args: &PushArgs) -> Result<What, CliError> {
    if args.all {
        let runs = cache.runs()?.into_iter().filter(|run| matches!(cache.run(run), Ok(Some(_)))).collect();
        return Ok(What { runs, actions: cache.records()?.into_iter().map(|record| record.key).collect() });
    }
    let Some(target) = &args.target else {
        let newest = cache.runs()?.into_iter().rev().find(|run| matches!(cache.run(run), Ok(Some(_))));
        let newest =
            newest.ok_or_else(|| CliError::input("no run is recorded in this cache: there is nothing to push"))?;
        return Ok(What { runs: vec![newest], ..What::default() });
    };
    if let Ok(run) = RunId::parse(target) {
        let help = "`cistage runs` lists those there are";
        let unknown = || CliError::input_with_help(format!("there is no record of run {run} here"), help);
        cache.run(&run)?.ok_or_else(unknown)?;
        return Ok(What { runs: vec![run], ..What::default() });
    }
    match provenance::audit_name(cache, target)? {
        Audit::Artifact { lineage: Lineage::Made(made), .. } => {
            Ok(What { actions: vec![made.record.key], ..What::default() })
        }
        _ => Err(CliError::input(format!("{target} was made by no recorded action: only results are pushed"))),
    }
}

/// What a person names of the shared cache.
fn there(remote: &Remote, args: &PullArgs, stop: &(dyn Fn() -> bool + Sync)) -> Result<What, CliError> {
    let failed = |fault| failed(remote, fault);
    if args.all {
        let runs = remote.shared_runs(stop).map_err(failed)?;
        return Ok(What { runs, actions: remote.shared_actions(stop).map_err(failed)? });
    }
    let Some(target) = &args.target else {
        let newest = remote.shared_runs(stop).map_err(failed)?.pop();
        let nothing = || CliError::input(format!("no run was pushed to {}: give a digest, or --all", remote.address()));
        return Ok(What { runs: vec![newest.ok_or_else(nothing)?], ..What::default() });
    };
    if let Ok(run) = RunId::parse(target) {
        return Ok(What { runs: vec![run], ..What::default() });
    }
    let hex = target.strip_prefix(Digest::PREFIX).unwrap_or(target).to_ascii_lowercase();
    if !(8..=64).contains(&hex.len()) || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let help = "`cistage runs` and `cistage audit` on the machine that made it show both";
        return Err(CliError::input_with_help(format!("{target} is neither a run's id nor a digest"), help));
    }
    let actions = remote.shared_makers(&hex, stop).map_err(failed)?;
    if actions.is_empty() {
        let message = format!("no record in {} that is trusted made an artifact of that digest", remote.address());
        return Err(CliError::input(message));
    }
    Ok(What { actions, ..What::default() })
}
