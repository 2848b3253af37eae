//! The page of one run.

use super::{PageError, origin, results, steps};
use crate::cache::{Cache, RunRecord};
use crate::event::{Outcome, RunOutcome};
use crate::report::numbers::duration;
use crate::report::{Html, html};

/// Makes the page of a run: one HTML file that fetches nothing.
pub fn run_page(cache: &Cache, run: &RunRecord) -> Result<String, PageError> {
    Ok(html::document(&title(run), &body(cache, run)?))
}

/// The same page with the way to others.
pub fn served_run(cache: &Cache, run: &RunRecord) -> Result<String, PageError> {
    let mut page = body(cache, run)?;
    steps::links(&mut page, run);
    Ok(html::served(&title(run), &page, false))
}

fn title(run: &RunRecord) -> String {
    format!("{}, run {}", run.pipeline, run.run)
}

fn body(cache: &Cache, run: &RunRecord) -> Result<Html, PageError> {
    let found = results::of(cache, run)?;
    let mut body = Html::default();
    body.element("h1", &run.pipeline);
    body.navigation(&[
        ("graph", "graph"),
        ("stages", "stages"),
        ("results", "results"),
        ("parameters", "parameters"),
        ("lineage", "lineage"),
        ("environment", "environment"),
        ("again", "make it again"),
    ]);
    for alarm in failures(run).iter().chain(&found.alarms) {
        body.alarm(alarm);
    }
    body.definitions(&summary(run));
    steps::graph(&mut body, run);
    steps::table(&mut body, cache, run)?;
    body.chapter("results", "Results");
    body.push(&found.html);
    origin::parameters(&mut body, cache, run)?;
    origin::lineage(&mut body, cache, run)?;
    origin::environment(&mut body, run);
    origin::again(&mut body, cache, run)?;
    Ok(body)
}

fn summary(run: &RunRecord) -> Vec<(&'static str, String)> {
    let count = |outcome| run.steps.iter().filter(|step| step.outcome == outcome).count();
    let saved: f64 = run.steps.iter().filter_map(|step| step.from.as_ref()).map(|from| from.seconds).sum();
    let mut terms = vec![
        ("run", run.run.to_string()),
        ("outcome", run.outcome.word().to_owned()),
        ("began", run.started.clone()),
        ("took", duration(run.seconds)),
        ("stages run", count(Outcome::Ran).to_string()),
        ("from the cache", count(Outcome::Hit).to_string()),
    ];
    if saved > 0.0 {
        terms.push(("time the cache saved", duration(saved)));
    }
    for (term, outcome) in [("failed", Outcome::Failed), ("skipped", Outcome::Skipped)] {
        if count(outcome) > 0 {
            terms.push((term, count(outcome).to_string()));
        }
    }
    terms.push(("machine", format!("{}, {}", run.environment.host, run.environment.cpu)));
    terms
}

/// What went wrong, for the top of the page.
fn failures(run: &RunRecord) -> Vec<String> {
    let mut failures = Vec::new();
    if run.outcome == RunOutcome::Cancelled {
        failures.push("This run was interrupted: what follows is not all that it was to do.".to_owned());
    }
    for step in run.steps.iter().filter(|step| step.outcome == Outcome::Failed) {
        let why = step.error.as_deref().unwrap_or("no reason is recorded");
        failures.push(format!("{} failed: {}", step.stage, why.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    failures.extend(run.unpublished.values().cloned());
    failures
}
