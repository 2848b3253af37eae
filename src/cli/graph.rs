//! `cistage graph`: the DAG with each stage's state.

use super::App;
use super::exit::CliError;
use super::select::PipelineArgs;
use crate::engine::{self, Interrupt, StepPlan, Verdict};
use crate::pipeline::{Plan, Source};
use crate::provenance::mermaid_text;
use crate::report::graph::{Graph, Node, State};
use std::fmt::Write;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cistage graph pipeline.yaml --as svg > graph.svg")]
pub(super) struct Args {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The form of the drawing
    #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = Form::Mermaid)]
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Mermaid,
    Dot,
    Svg,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let plan = args.pipeline.load(None)?;
    let cache = app.memo_cache()?;
    let graph = of_plan(&plan, &engine::plan(&plan, &cache, &[], &Interrupt::new())?);
    let (name, drawing) = match args.form {
        Form::Mermaid => ("mermaid", mermaid(&graph)),
        Form::Dot => ("dot", dot(&graph)),
        Form::Svg => ("svg", graph.svg()),
    };
    if app.printer.json {
        return app.printer.json(&serde_json::json!({ "as": name, "graph": drawing }));
    }
    app.printer.document(&drawing)
}

fn of_plan(plan: &Plan, verdicts: &[StepPlan]) -> Graph {
    let mut graph = Graph::default();
    for step in &plan.steps {
        let verdict = verdicts.iter().find(|v| v.step == step.name).map(|v| v.verdict);
        let state = match verdict {
            Some(Verdict::Hit) => State::Hit,
            Some(Verdict::Run) => State::Ran,
            Some(Verdict::Waits) | None => State::Waits,
        };
        graph.boxes.push(Node { name: step.name.to_string(), about: step.kind.name().to_owned(), state });
    }
    for (to, step) in plan.steps.iter().enumerate() {
        for source in step.inputs.values() {
            let (from, port) = match source {
                Source::Step { step: from, port } => {
                    let from = plan.steps.iter().position(|s| s.name == *from);
                    (from.expect("a plan's references exist"), port.to_string())
                }
                Source::Path { path, .. } => (graph.file(&path.display().to_string()), String::new()),
            };
            graph.arrows.insert((from, to, port));
        }
    }
    graph
}

fn mermaid(graph: &Graph) -> String {
    let mut text = String::from("flowchart TD\n");
    for (i, node) in graph.boxes.iter().enumerate() {
        let name = mermaid_text(&node.name);
        let _ = match class(node.state) {
            Some(class) => writeln!(text, "  n{i}[\"{name}<br/><small>{}</small>\"]:::{class}", node.about),
            None => writeln!(text, "  n{i}[/\"{name}\"/]:::file"),
        };
    }
    for (from, to, port) in &graph.arrows {
        let label = if port.is_empty() { String::new() } else { format!("|{}|", mermaid_text(port)) };
        let _ = writeln!(text, "  n{from} -->{label} n{to}");
    }
    text += "  classDef hit fill:#d9f2e0,stroke:#2e7d4f,color:#10301d\n";
    text += "  classDef run fill:#fdeccb,stroke:#b7791f,color:#3d2a06\n";
    text += "  classDef waits fill:#eef0f3,stroke:#8a94a3,color:#2b3440\n";
    text += "  classDef file fill:#ffffff,stroke:#8a94a3,color:#2b3440\n";
    text
}

fn dot(graph: &Graph) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = String::from("digraph pipeline {\n  node [shape=box, style=\"rounded,filled\"];\n");
    for (i, node) in graph.boxes.iter().enumerate() {
        let (name, fill) = (escape(&node.name), node.state.fill());
        let _ = match node.state {
            State::File => writeln!(text, "  n{i} [label=\"{name}\", shape=note, style=filled, fillcolor=\"{fill}\"];"),
            _ => writeln!(text, "  n{i} [label=\"{name}\\n{}\", fillcolor=\"{fill}\"];", node.about),
        };
    }
    for (from, to, port) in &graph.arrows {
        let _ = writeln!(text, "  n{from} -> n{to} [label=\"{}\"];", escape(port));
    }
    text + "}\n"
}

/// The style of a stage's box; a file has its own shape.
fn class(state: State) -> Option<&'static str> {
    match state {
        State::Hit => Some("hit"),
        State::Ran | State::Failed => Some("run"),
        State::Waits => Some("waits"),
        State::File => None,
    }
}
