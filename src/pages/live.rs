//! The page of a run under way, from the events that it has written so far.

use super::PageError;
use crate::cache::{Cache, Underway};
use crate::name::RunId;
use crate::report::html::{Table, served};
use crate::report::numbers::{duration, short};
use crate::report::{Html, Line, lines};

/// The page of a run that has no record yet; it asks for itself again, so it is live.
pub fn live_page(cache: &Cache, run: &RunId) -> Result<String, PageError> {
    let Underway { pipeline, order, mut stages, lives, silent, .. } = cache.underway(run)?;
    let title = if pipeline.is_empty() { run.to_string() } else { pipeline };
    let mut body = Html::default();
    body.element("h1", &title);
    body.definitions(&[
        ("run", run.to_string()),
        ("state", if lives { "under way" } else { "killed, or its record is damaged" }.to_owned()),
        ("last heard of", silent.map_or("never".to_owned(), |since| format!("{} ago", duration(since.as_secs_f64())))),
    ]);
    for name in &order {
        if let Some((name, Some((done, total, unit)))) = stages.get(name).map(|stage| (name, &stage.progress)) {
            let text = format!("{name}: {} of {} {unit}", short(*done as f64), short(*total as f64));
            body.progress(*done, *total, &text);
        }
    }
    let mut table = Table::new(&["stage", "uses", "", "time", "where", "why"]);
    for name in &order {
        let stage = stages.entry(name.clone()).or_default();
        let state = match stage.outcome {
            None if stage.key.is_none() => "waits",
            None if lives => "running",
            None => "killed",
            Some(outcome) => outcome.word(),
        };
        table.row(|row| {
            row.header(name.as_str());
            row.text(&stage.kind);
            row.state(state);
            row.number(&stage.seconds.map_or(String::new(), duration));
            row.sentence(stage.place.as_deref().unwrap_or_default());
            row.sentence(&stage.why);
        });
    }
    body.push(&table.finish());
    for name in &order {
        let mut pieces = Vec::new();
        let mut metrics: Vec<_> = stages.get(name).into_iter().flat_map(|stage| &stage.metrics).collect();
        // What is looked at most stands first, what a training costs last.
        metrics.sort_by_key(|(metric, _)| match metric.as_str() {
            "loss" => 0,
            name if name.contains("second") => 2,
            _ => 1,
        });
        for (metric, points) in metrics {
            let line = Line { name: metric.clone(), points: points.clone(), dots: false };
            if let Some(chart) = lines("step", metric, &[line]) {
                let mut piece = Html::default();
                piece.figure(&format!("{name}: {metric}"), &chart);
                pieces.push(piece);
            }
        }
        body.side_by_side(&pieces);
    }
    Ok(served(&title, &body, true))
}
