//! One artifact: where it came from, and what was made from it.

use super::PageError;
use crate::cache::Cache;
use crate::provenance::{audit_name, downstream, render};
use crate::report::Html;
use crate::report::html::{Table, served};
use crate::report::numbers::bytes;

/// The page of what `target` names: a digest or the start of one, or `STAGE.PORT` of the newest run that has the stage.
pub fn artifact_page(cache: &Cache, target: &str) -> Result<String, PageError> {
    let found = audit_name(cache, target)?;
    let forwards = downstream(cache, &found)?;
    let mut body = Html::default();
    body.element("h1", target);
    if let Some(note) = found.note() {
        body.note(note);
    }
    body.element("h2", "Where it came from");
    body.preformatted(&render(&found));
    body.element("h2", "What was made from it");
    if forwards.made.is_empty() {
        body.note("Nothing.");
    } else {
        let mut table = Table::new(&["output", "digest", "size", "steps between", "run", "published as"]);
        for made in &forwards.made {
            table.row(|row| {
                row.header(&format!("{}.{}", made.stage, made.port));
                row.link(&format!("/artifact/{}", made.digest.hex()), &made.digest.short());
                row.number(&bytes(made.bytes));
                row.number(&made.steps.to_string());
                row.link(&format!("/run/{}", made.run), made.run.as_str());
                row.sentence(&made.published.iter().cloned().collect::<Vec<_>>().join(", "));
            });
        }
        body.push(&table.finish());
    }
    if !forwards.runs.is_empty() {
        body.element("h2", "Runs that used it, or what was made from it");
        for run in &forwards.runs {
            body.linked("", &format!("/run/{run}"), run.as_str());
        }
    }
    Ok(served(target, &body, false))
}
