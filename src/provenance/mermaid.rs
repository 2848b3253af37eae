//! A lineage as a Mermaid flowchart: sources at the top, what was asked for at the bottom.

use super::lineage::{Lineage, Made};
use super::render::printable;
use super::target::Audit;
use crate::action::ActionKey;
use crate::artifact::Artifact;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Draws an answer; equal lineages give equal text.
pub fn mermaid(audit: &Audit) -> String {
    let mut chart = Chart::default();
    for (n, lineage) in audit.lineages().enumerate() {
        lineage.visit(&mut |lineage| {
            if let Lineage::Made(made) = lineage {
                chart.action(made);
            }
        });
        // What was asked for is drawn as a thing of its own.
        let node = chart.node(lineage);
        let label = match lineage {
            Lineage::Made(made) => format!("{}<br/><small>{}</small>", port(made), made.artifact.digest),
            Lineage::Source(source) => source.digest.to_string(),
            Lineage::Lost { artifact, .. } => artifact.digest.to_string(),
        };
        let _ = writeln!(chart.boxes, "  a{n}([\"{label}\"]):::asked");
        chart.arrows.insert((node, String::new(), format!("a{n}")));
    }
    let mut text = format!("flowchart TD\n{}", chart.boxes);
    for (from, label, to) in &chart.arrows {
        let label = if label.is_empty() { String::new() } else { format!("|\"{label}\"|") };
        let _ = writeln!(text, "  {from} -->{label} {to}");
    }
    text += "  classDef stage fill:#e3ecfa,stroke:#3b62a8,color:#12233f\n";
    text += "  classDef source fill:#ffffff,stroke:#8a94a3,color:#2b3440\n";
    text += "  classDef lost fill:#fbdcdc,stroke:#b03030,color:#3d0c0c\n";
    text += "  classDef asked fill:#d9f2e0,stroke:#2e7d4f,color:#10301d\n";
    text
}

#[derive(Default)]
struct Chart {
    boxes: String,
    arrows: BTreeSet<(String, String, String)>,
    actions: BTreeMap<ActionKey, String>,
    others: BTreeMap<String, String>,
}

impl Chart {
    fn action(&mut self, made: &Made) {
        if self.actions.contains_key(&made.record.key) {
            return;
        }
        let name = format!("n{}", self.actions.len());
        self.actions.insert(made.record.key, name.clone());
        let record = &made.record;
        let mut lines = format!("{} v{}<br/>run {}", record.manifest.stage, record.manifest.version, record.run);
        if let Some(accepted) = &record.accepted {
            let _ = write!(lines, "<br/>accepted: {}", escaped(&accepted.reason));
        }
        let _ =
            writeln!(self.boxes, "  {name}[\"{}<br/><small>{lines}</small>\"]:::stage", escaped(record.stage.as_str()));
        for (port, input) in &made.inputs {
            let from = self.node(input);
            let short = match input {
                Lineage::Made(made) => made.artifact.digest.short(),
                Lineage::Source(source) => source.digest.short(),
                Lineage::Lost { artifact, .. } => artifact.digest.short(),
            };
            self.arrows.insert((from, format!("{port}<br/><small>{short}</small>"), name.clone()));
        }
    }

    /// The name of the box of an artifact's maker, or of its own; actions are drawn before what needs them.
    fn node(&mut self, lineage: &Lineage) -> String {
        let (key, text, class) = match lineage {
            Lineage::Made(made) => return self.actions[&made.record.key].clone(),
            Lineage::Source(source) => (format!("{} {}", source.path, source.digest), escaped(&source.path), "source"),
            Lineage::Lost { artifact: Artifact { digest, .. }, problem } => {
                (digest.to_string(), format!("LOST: {}", escaped(problem)), "lost")
            }
        };
        let next = format!("s{}", self.others.len());
        if let Some(name) = self.others.get(&key) {
            return name.clone();
        }
        let _ = writeln!(self.boxes, "  {next}[/\"{text}\"/]:::{class}");
        self.others.insert(key, next.clone());
        next
    }
}

fn port(made: &Made) -> String {
    let found = made.record.outputs.iter().find(|(_, output)| output.digest == made.artifact.digest);
    format!("{}.{}", escaped(made.record.stage.as_str()), found.map_or("?", |(port, _)| port.as_str()))
}

/// Text for a label of Mermaid's, which ends neither that nor its line, and is no markup.
pub fn escaped(text: &str) -> String {
    printable(text).replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
