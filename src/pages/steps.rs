//! A run's graph, and the table of its stages.

use super::PageError;
use crate::action::Origin;
use crate::cache::{Cache, RunRecord, StepRecord};
use crate::event::Outcome;
use crate::report::Html;
use crate::report::graph::{Graph, Node, State};
use crate::report::html::Table;
use crate::report::numbers::{bytes, duration};
use std::io::{Read, Seek, SeekFrom};

/// So much of the end of a failed stage's log is shown, bytes.
const LOG_END: u64 = 4_000;

/// The graph, each stage with what became of it.
pub fn graph(body: &mut Html, run: &RunRecord) {
    let mut graph = Graph::default();
    for step in &run.steps {
        let (state, word) = state(step.outcome);
        let about = match step.outcome {
            Outcome::Ran | Outcome::Failed => format!("{}, {word}, {}", step.kind, duration(step.seconds)),
            _ => format!("{}, {word}", step.kind),
        };
        graph.boxes.push(Node { name: step.stage.to_string(), about, state });
    }
    for (to, step) in run.steps.iter().enumerate() {
        for input in step.inputs.values() {
            match &input.origin {
                Origin::Action { key, port } => {
                    if let Some(from) = run.steps.iter().position(|s| s.key == Some(*key)) {
                        graph.arrows.insert((from, to, port.to_string()));
                    }
                }
                Origin::Source { path } => {
                    let from = graph.file(path);
                    graph.arrows.insert((from, to, String::new()));
                }
            }
        }
    }
    body.chapter("graph", "Graph");
    body.drawing(&graph.inline());
}

fn state(outcome: Outcome) -> (State, &'static str) {
    match outcome {
        Outcome::Ran => (State::Ran, "ran"),
        Outcome::Hit => (State::Hit, "from the cache"),
        Outcome::Failed => (State::Failed, "failed"),
        Outcome::Skipped => (State::Waits, "skipped"),
        Outcome::Cancelled => (State::Waits, "cancelled"),
    }
}

/// The table of stages, and the ends of the logs of those that failed.
pub fn table(body: &mut Html, cache: &Cache, run: &RunRecord) -> Result<(), PageError> {
    body.chapter("stages", "Stages");
    let mut table = Table::new(&["stage", "uses", "", "time", "processors", "memory", "outputs", "why"]);
    for step in &run.steps {
        let cost = step.cost.as_ref().filter(|cost| cost.wall_seconds > 0.0);
        table.row(|row| {
            row.header(step.stage.as_str());
            row.text(&step.kind);
            row.state(state(step.outcome).1);
            row.number(&duration(step.seconds));
            row.number(&cost.map_or(String::new(), |cost| format!("{:.1}", cost.cpu_seconds / cost.wall_seconds)));
            row.number(&cost.map_or(String::new(), |cost| bytes(cost.peak_memory)));
            row.number(&bytes(step.outputs.values().map(|output| output.bytes).sum()));
            row.sentence(&why(step));
        });
    }
    body.push(&table.finish());
    for step in run.steps.iter().filter(|step| step.outcome == Outcome::Failed) {
        let Some(log) = &step.log else { continue };
        if cache.verify_object(log.digest)? {
            let mut file = fs_err::File::open(cache.object_path(log.digest))?;
            file.seek(SeekFrom::Start(log.bytes.saturating_sub(LOG_END)))?;
            let mut end = Vec::new();
            file.read_to_end(&mut end)?;
            body.element("h3", &format!("The end of {}'s log", step.stage));
            body.preformatted(&String::from_utf8_lossy(&end));
        }
    }
    Ok(())
}

/// All outputs, each with the way to its page.
pub fn links(body: &mut Html, run: &RunRecord) {
    body.chapter("outputs", "Outputs");
    let mut table = Table::new(&["output", "format", "size", "digest"]);
    for step in &run.steps {
        for (port, output) in &step.outputs {
            table.row(|row| {
                row.header(&format!("{}.{port}", step.stage));
                row.text(&output.format.to_string());
                row.number(&bytes(output.bytes));
                row.link(&format!("/artifact/{}", output.digest.hex()), &output.digest.short());
            });
        }
    }
    body.push(&table.finish());
}

fn why(step: &StepRecord) -> String {
    match (&step.error, &step.from) {
        (Some(error), _) => error.clone(),
        (None, Some(from)) => format!("made in run {}, in {}", from.run, duration(from.seconds)),
        (None, None) => step.place.iter().chain(&step.because).cloned().collect::<Vec<_>>().join("; "),
    }
}
