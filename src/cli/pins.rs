//! `cistage cache pin` and `unpin`: what `cache gc` never gives up.

use super::App;
use super::exit::CliError;
use crate::artifact::Artifact;
use crate::cache::Pin;
use crate::provenance::{self, Lineage};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file, a digest or 8 and more hex digits of one, STAGE.PORT of the newest run that has the stage, or a run id; without it, the pins are listed
    #[arg(value_name = "TARGET")]
    target: Option<String>,
}

pub(super) fn pin(app: &App, args: &Args) -> Result<(), CliError> {
    let Some(target) = &args.target else { return list(app) };
    let cache = app.open_cache()?;
    for artifact in artifacts(app, &provenance::audit(&cache, target)?, target)? {
        let at = jiff::Timestamp::now().to_string();
        cache.pin(&Pin { artifact: artifact.clone(), target: target.clone(), at })?;
        app.printer.line(&format!("pinned {}  {}", artifact.digest.short(), artifact.format))?;
    }
    Ok(())
}

pub(super) fn unpin(app: &App, args: &Args) -> Result<(), CliError> {
    let Some(target) = &args.target else { return list(app) };
    let cache = app.open_cache()?;
    let mut any = false;
    for artifact in artifacts(app, &provenance::audit(&cache, target)?, target)? {
        if cache.unpin(artifact.digest)? {
            any = true;
            app.printer.line(&format!("unpinned {}  {}", artifact.digest.short(), artifact.format))?;
        }
    }
    if any {
        Ok(())
    } else {
        Err(CliError::input(format!("{target} is not pinned: `cistage cache pin` lists the pins")))
    }
}

fn list(app: &App) -> Result<(), CliError> {
    let pins = app.read_cache()?.pins()?;
    if app.printer.json {
        return app.printer.json(&pins);
    }
    for pin in &pins {
        app.printer.line(&format!(
            "{}  {}  {}  since {}",
            pin.artifact.digest.short(),
            pin.artifact.format,
            pin.target,
            pin.at
        ))?;
    }
    if pins.is_empty() { app.printer.line("nothing is pinned") } else { Ok(()) }
}

/// What a target names; a source file is the user's own, and lies outside the cache.
fn artifacts(app: &App, audit: &provenance::Audit, target: &str) -> Result<Vec<Artifact>, CliError> {
    if let Some(note) = audit.note() {
        app.printer.note(note);
    }
    let artifact = |lineage: &Lineage| match lineage {
        Lineage::Made(made) => Some(made.artifact.clone()),
        Lineage::Lost { artifact, .. } => Some(artifact.clone()),
        Lineage::Source(_) => None,
    };
    let artifacts: Vec<Artifact> = audit.lineages().filter_map(artifact).collect();
    if artifacts.is_empty() {
        return Err(CliError::input(format!(
            "{target} is a source file: the cache does not hold it, keep it where it is"
        )));
    }
    Ok(artifacts)
}
