//! Two runs beside one another: what differs, parameters, numbers, curves.

use super::PageError;
use crate::artifact::Format;
use crate::cache::{Cache, RunRecord};
use crate::provenance::{Again, compared, in_words};
use crate::report::html::{Table, served};
use crate::report::{Html, Line, leaves, lines, losses};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The page about two runs; `again` as `compared` takes it.
pub fn compare_page(cache: &Cache, a: &RunRecord, b: &RunRecord, again: Again<'_>) -> Result<String, PageError> {
    let title = format!("{} and {}", a.run, b.run);
    let mut body = Html::default();
    body.element("h1", &title);
    for (letter, run) in [("a", a), ("b", b)] {
        let text = format!("{letter}: {}, began {},", run.pipeline, run.started);
        body.linked(&text, &format!("/run/{}", run.run), run.run.as_str());
    }
    body.element("h2", "What differs, stage by stage");
    let found = compared(cache, a, b, again)?;
    if found.is_empty() {
        body.note("Nothing: both executed, or were served, the same actions.");
    } else {
        let mut table = Table::new(&["stage", "what differs"]);
        for (stage, differences) in &found {
            table.row(|row| {
                row.header(stage);
                row.sentence(&differences.iter().map(in_words).collect::<Vec<_>>().join("; "));
            });
        }
        body.push(&table.finish());
    }
    body.element("h2", "Parameters");
    parameters(&mut body, a, b);
    let (first, second) = (metrics(cache, a)?, metrics(cache, b)?);
    body.element("h2", "Numbers");
    numbers(&mut body, &first, &second);
    curves(&mut body, &first, &second);
    Ok(served(&title, &body, false))
}

/// Those that differ; the others folded.
fn parameters(body: &mut Html, a: &RunRecord, b: &RunRecord) {
    let names: BTreeSet<&String> = a.params.keys().chain(b.params.keys()).collect();
    let shown = |run: &RunRecord, name: &str| match run.params.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "–".to_owned(),
    };
    let (equal, differ): (Vec<_>, Vec<_>) = names
        .into_iter()
        .map(|name| (name, shown(a, name), shown(b, name)))
        .partition(|(_, first, second)| first == second);
    let table = |rows: &[(&String, String, String)]| {
        let mut table = Table::new(&["name", "a", "b"]);
        for (name, first, second) in rows {
            table.row(|row| {
                row.header(name);
                row.sentence(first);
                row.sentence(second);
            });
        }
        table.finish()
    };
    if differ.is_empty() {
        body.note("All parameters of the two pipelines are equal.");
    } else {
        body.push(&table(&differ));
    }
    if !equal.is_empty() {
        body.folded(&format!("{} parameters are equal", equal.len()), &table(&equal));
    }
}

/// `STAGE.PORT` -> the metrics of a run that are still there.
fn metrics(cache: &Cache, run: &RunRecord) -> Result<BTreeMap<String, Value>, PageError> {
    let mut found = BTreeMap::new();
    for step in &run.steps {
        for (port, output) in step.outputs.iter().filter(|(_, output)| output.format == Format::Metrics) {
            if cache.verify_object(output.digest)?
                && let Ok(value) = serde_json::from_slice(&fs_err::read(cache.object_path(output.digest))?)
            {
                found.insert(format!("{}.{port}", step.stage), value);
            }
        }
    }
    Ok(found)
}

fn numbers(body: &mut Html, a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) {
    let outputs: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for output in outputs {
        let leaves = |metrics: &BTreeMap<String, Value>| metrics.get(output).map(leaves::collect).unwrap_or_default();
        let (first, second) = (leaves(a).numbers, leaves(b).numbers);
        let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
        if names.is_empty() {
            continue;
        }
        let mut table = Table::new(&["name", "a", "b", "b − a"]);
        for name in names {
            let (x, y) = (first.get(name).copied(), second.get(name).copied());
            table.row(|row| {
                row.header(name);
                row.value(x);
                row.value(y);
                row.value(x.zip(y).map(|(x, y)| y - x));
            });
        }
        body.element("h3", output);
        body.push(&table.finish());
    }
}

fn curves(body: &mut Html, a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) {
    let mut pieces = Vec::new();
    for (output, first) in a {
        let Some(second) = b.get(output) else { continue };
        let line = |name: &str, value: &Value| Line { name: name.to_owned(), points: losses(value), dots: false };
        if let Some(chart) = lines("step", "loss", &[line("a", first), line("b", second)]) {
            let mut piece = Html::default();
            piece.figure(&format!("{output}: training loss"), &chart);
            pieces.push(piece);
        }
    }
    body.side_by_side(&pieces);
}
