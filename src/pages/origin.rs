//! A run's parameters, lineage and environment, and how to make it again.

use super::PageError;
use crate::cache::{Cache, RunRecord};
use crate::provenance::{audit, render};
use crate::report::html::Table;
use crate::report::{Html, shell_word};
use serde_json::Value;
use std::collections::BTreeMap;

/// The pipeline's parameters, and folded below them those of each stage.
pub fn parameters(body: &mut Html, cache: &Cache, run: &RunRecord) -> Result<(), PageError> {
    body.chapter("parameters", "Parameters");
    let overlay = run.profiles.iter().map(|profile| format!("--profile {profile}"));
    let overlay: Vec<String> = overlay.chain(run.sets.iter().map(|set| format!("--set {set}"))).collect();
    if !overlay.is_empty() {
        body.note(&format!("Given for this run: {}", overlay.join(" ")));
    }
    body.push(&named(&run.params));
    for step in &run.steps {
        let Some(manifest) = step.key.map(|key| cache.manifest(key)).transpose()?.flatten() else { continue };
        let mut params = manifest.params;
        if let Some(target) = manifest.target {
            params.insert("(numeric target)".to_owned(), Value::String(target));
        }
        let head = format!("{}: {} version {}", step.stage, manifest.stage, manifest.version);
        body.folded(&head, &named(&params));
    }
    Ok(())
}

fn named(params: &BTreeMap<String, Value>) -> Html {
    let mut table = Table::new(&["name", "value"]);
    for (name, value) in params {
        table.row(|row| {
            row.header(name);
            row.sentence(&match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
        });
    }
    table.finish()
}

/// The tree from the run's results back to source files.
pub fn lineage(body: &mut Html, cache: &Cache, run: &RunRecord) -> Result<(), PageError> {
    body.chapter("lineage", "Lineage");
    body.note("From each result back to the files that it was made from, by digest (BLAKE3).");
    body.preformatted(&render(&audit(cache, run.run.as_str())?));
    Ok(())
}

/// What the run was made with.
pub fn environment(body: &mut Html, run: &RunRecord) {
    body.chapter("environment", "Environment");
    let of = &run.environment;
    let mut table = Table::new(&["what", "was"]);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.row(|row| {
                row.header(name);
                row.sentence(&value);
            });
        }
    };
    line("program", of.program.clone());
    line("commit", of.commit.clone().unwrap_or_default());
    line("build", of.build.map(|build| build.to_string()).unwrap_or_default());
    line("system", of.os.clone());
    line("processor", format!("{} ({} cores)", of.cpu, of.cores));
    line("numeric target", of.target.clone());
    line("host", of.host.clone());
    line("user", of.user.clone());
    line("PATH", of.path.clone().unwrap_or_default());
    body.push(&table.finish());
}

/// The commands that make and check this run again, and the pipeline as it was.
pub fn again(body: &mut Html, cache: &Cache, run: &RunRecord) -> Result<(), PageError> {
    body.chapter("again", "Make it again");
    body.note("The command of this run; and, from the cache that holds it, the checks of its results.");
    let argv: Vec<String> = run.argv.iter().map(|word| shell_word(word)).collect();
    body.preformatted(&format!("{}\ncistage audit {run} --verify\ncistage show {run}", argv.join(" "), run = run.run));
    if cache.verify_object(run.text)? {
        let text = fs_err::read(cache.object_path(run.text))?;
        let mut pipeline = Html::default();
        pipeline.preformatted(&String::from_utf8_lossy(&text));
        body.folded(&format!("{}, as it was ({})", run.file, run.text), &pipeline);
    } else {
        body.note(&format!("The text of {} ({}) is no longer in the cache.", run.file, run.text));
    }
    Ok(())
}
