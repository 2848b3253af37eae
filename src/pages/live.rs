//! The page of a run under way, from the events that it has written so far.

use super::PageError;
use crate::cache::Cache;
use crate::event::EventKind;
use crate::name::{RunId, StageName};
use crate::report::html::{Table, served};
use crate::report::numbers::{duration, short};
use crate::report::{Html, Line, lines};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

/// What the events of a run tell of one stage.
#[derive(Default)]
struct Stage {
    kind: String,
    state: &'static str,
    seconds: Option<f64>,
    why: String,
    progress: Option<(u64, u64, String)>,
    /// Name of a metric -> its values over steps.
    metrics: BTreeMap<String, Vec<(f64, f64)>>,
}

/// The page of a run that has no record yet; it asks for itself again, so it is live.
pub fn live_page(cache: &Cache, run: &RunId) -> Result<String, PageError> {
    let (mut pipeline, mut order) = (String::new(), Vec::new());
    let mut stages: BTreeMap<StageName, Stage> = BTreeMap::new();
    for line in events(cache, run)? {
        // The last line may be half written.
        let Ok(event) = serde_json::from_slice::<EventKind>(&line?) else { continue };
        match event {
            EventKind::RunStarted { pipeline: name, stages, .. } => (pipeline, order) = (name, stages),
            EventKind::StageStarted { stage, kind, because, .. } => {
                let stage = stages.entry(stage).or_default();
                (stage.kind, stage.state, stage.why) = (kind, "running", because.join("; "));
            }
            EventKind::StageFinished { stage, kind, outcome, seconds, error, .. } => {
                let stage = stages.entry(stage).or_default();
                (stage.kind, stage.state, stage.seconds, stage.progress) = (kind, outcome.word(), Some(seconds), None);
                stage.why = error.unwrap_or_else(|| std::mem::take(&mut stage.why));
            }
            EventKind::Progress { stage, done, total, unit } => {
                stages.entry(stage).or_default().progress = Some((done, total, unit));
            }
            EventKind::Metric { stage, name, step, value } => {
                stages.entry(stage).or_default().metrics.entry(name).or_default().push((step as f64, value));
            }
            _ => {}
        }
    }

    let title = if pipeline.is_empty() { run.to_string() } else { pipeline };
    let mut body = Html::default();
    body.element("h1", &title);
    body.definitions(&[
        ("run", run.to_string()),
        ("state", "under way, or killed, or its record is damaged".to_owned()),
        ("last heard of", heard(cache, run)),
    ]);
    for name in &order {
        if let Some((name, Some((done, total, unit)))) = stages.get(name).map(|stage| (name, &stage.progress)) {
            let text = format!("{name}: {} of {} {unit}", short(*done as f64), short(*total as f64));
            body.progress(*done, *total, &text);
        }
    }
    let mut table = Table::new(&["stage", "uses", "", "time", "why"]);
    for name in &order {
        let stage = stages.remove(name).unwrap_or_default();
        table.row(|row| {
            row.header(name.as_str());
            row.text(&stage.kind);
            row.state(if stage.state.is_empty() { "waits" } else { stage.state });
            row.number(&stage.seconds.map_or(String::new(), duration));
            row.sentence(&stage.why);
        });
        stages.insert(name.clone(), stage);
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

/// When the run last wrote an event.
fn heard(cache: &Cache, run: &RunId) -> String {
    let changed = fs_err::metadata(cache.run_dir(run).join("events.jsonl")).and_then(|there| there.modified());
    let since = changed.ok().and_then(|at| at.elapsed().ok());
    since.map_or_else(|| "never".to_owned(), |since| format!("{} ago", duration(since.as_secs_f64())))
}

/// The lines of a run's events, one at a time: there may be many.
fn events(cache: &Cache, run: &RunId) -> std::io::Result<impl Iterator<Item = std::io::Result<Vec<u8>>>> {
    let file = cache.run_dir(run).join("events.jsonl");
    // A pipe or a device in its place would never end.
    let lines = match fs_err::symlink_metadata(&file) {
        Ok(there) if there.is_file() => Some(BufReader::new(fs_err::File::open(&file)?).split(b'\n')),
        _ => None,
    };
    Ok(lines.into_iter().flatten())
}
