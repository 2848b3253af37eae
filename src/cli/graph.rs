//! `cistage graph`: the DAG with each stage's state.

use super::App;
use super::exit::CliError;
use super::select::PipelineArgs;
use super::svg;
use crate::engine::{self, Interrupt, StepPlan, Verdict};
use crate::pipeline::{Plan, Source};
use crate::provenance::mermaid_text;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Draw the pipeline's graph, with what a run would do
#[derive(Debug, clap::Args)]
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

/// What all forms draw: boxes and arrows.
pub(super) struct Graph {
    pub(super) boxes: Vec<Node>,
    /// Indices of boxes, with the ports that flow.
    pub(super) arrows: BTreeSet<(usize, usize, String)>,
}

pub(super) struct Node {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) verdict: Option<Verdict>,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let plan = args.pipeline.load(None)?;
    let cache = app.memo_cache()?;
    let graph = Graph::of(&plan, &engine::plan(&plan, &cache, &[], &Interrupt::new())?);
    let (name, drawing) = match args.form {
        Form::Mermaid => ("mermaid", graph.mermaid()),
        Form::Dot => ("dot", graph.dot()),
        Form::Svg => ("svg", svg::draw(&graph)),
    };
    if app.printer.json {
        return app.printer.json(&serde_json::json!({ "as": name, "graph": drawing }));
    }
    app.printer.document(&drawing)
}

impl Graph {
    fn of(plan: &Plan, verdicts: &[StepPlan]) -> Self {
        let mut boxes: Vec<Node> = Vec::new();
        for step in &plan.steps {
            let verdict = verdicts.iter().find(|v| v.step == step.name).map(|v| v.verdict);
            boxes.push(Node { name: step.name.to_string(), kind: step.kind.name().to_owned(), verdict });
        }
        let mut arrows = BTreeSet::new();
        for (to, step) in plan.steps.iter().enumerate() {
            for source in step.inputs.values() {
                match source {
                    Source::Step { step: from, port } => {
                        let from = plan.steps.iter().position(|s| s.name == *from);
                        arrows.insert((from.expect("a plan's references exist"), to, port.to_string()));
                    }
                    Source::Path { path, .. } => {
                        let name = path.display().to_string();
                        let from = boxes.iter().position(|b| b.verdict.is_none() && b.name == name);
                        let from = from.unwrap_or_else(|| {
                            boxes.push(Node { name, kind: "file".to_owned(), verdict: None });
                            boxes.len() - 1
                        });
                        arrows.insert((from, to, String::new()));
                    }
                }
            }
        }
        Self { boxes, arrows }
    }

    fn mermaid(&self) -> String {
        let mut text = String::from("flowchart TD\n");
        for (i, node) in self.boxes.iter().enumerate() {
            let name = mermaid_text(&node.name);
            let _ = match node.verdict {
                Some(verdict) => {
                    writeln!(text, "  n{i}[\"{name}<br/><small>{}</small>\"]:::{}", node.kind, class(verdict))
                }
                None => writeln!(text, "  n{i}[/\"{name}\"/]:::file"),
            };
        }
        for (from, to, port) in &self.arrows {
            let label = if port.is_empty() { String::new() } else { format!("|{}|", mermaid_text(port)) };
            let _ = writeln!(text, "  n{from} -->{label} n{to}");
        }
        text += "  classDef hit fill:#d9f2e0,stroke:#2e7d4f,color:#10301d\n";
        text += "  classDef run fill:#fdeccb,stroke:#b7791f,color:#3d2a06\n";
        text += "  classDef waits fill:#eef0f3,stroke:#8a94a3,color:#2b3440\n";
        text += "  classDef file fill:#ffffff,stroke:#8a94a3,color:#2b3440\n";
        text
    }

    fn dot(&self) -> String {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut text = String::from("digraph pipeline {\n  node [shape=box, style=\"rounded,filled\"];\n");
        for (i, node) in self.boxes.iter().enumerate() {
            let name = escape(&node.name);
            let _ = match node.verdict {
                Some(verdict) => {
                    writeln!(text, "  n{i} [label=\"{name}\\n{}\", fillcolor=\"{}\"];", node.kind, fill(Some(verdict)))
                }
                None => writeln!(text, "  n{i} [label=\"{name}\", shape=note, style=filled, fillcolor=\"#ffffff\"];"),
            };
        }
        for (from, to, port) in &self.arrows {
            let _ = writeln!(text, "  n{from} -> n{to} [label=\"{}\"];", escape(port));
        }
        text + "}\n"
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Hit => "hit",
        Verdict::Run => "run",
        Verdict::Waits => "waits",
    }
}

/// The colour of a box by its state; files are white.
pub(super) fn fill(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Hit) => "#d9f2e0",
        Some(Verdict::Run) => "#fdeccb",
        Some(Verdict::Waits) => "#eef0f3",
        None => "#ffffff",
    }
}
