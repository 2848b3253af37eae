//! A lineage as a tree of text.

use super::lineage::{Decision, Lineage, Made, MadeBy};
use super::target::Audit;
use crate::action::{Accepted, ActionKey, FailedAttempt};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Renders an answer for people; without colours, one line feed at the end of each line.
pub fn render(audit: &Audit) -> String {
    let mut tree = Tree::default();
    match audit {
        Audit::Run { run, artifacts } => {
            tree.line(&format!("run {run}"));
            for lineage in artifacts {
                tree.line("");
                tree.node("", "", None, lineage);
            }
        }
        Audit::Artifact { lineage, part, text, used_by, note: _ } => {
            if let Some(text) = text {
                let (short, size) = (text.digest.short(), size(text.bytes));
                tree.line(&format!("a file of text ({}, {short}, {size}), written from", text.form));
            }
            if let Some(part) = part {
                tree.line(&format!("{} ({}, {}) is a file of", part.path, part.digest.short(), size(part.bytes)));
            }
            tree.node("", "", None, lineage);
            if !used_by.is_empty() {
                let runs: Vec<String> = used_by.iter().map(ToString::to_string).collect();
                tree.line(&format!("a source file, read by run {}", runs.join(", ")));
            }
        }
    }
    tree.text
}

#[derive(Default)]
struct Tree {
    text: String,
    shown: BTreeSet<ActionKey>,
}

impl Tree {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// `first` stands before the first line, `rest` before the others.
    fn node(&mut self, first: &str, rest: &str, port: Option<&str>, lineage: &Lineage) {
        let name = port.map_or(String::new(), |port| format!("{port}: "));
        match lineage {
            Lineage::Source(s) => {
                self.line(&format!(
                    "{first}{name}{}  {}  {}  source",
                    printable(&s.path),
                    s.digest.short(),
                    size(s.bytes)
                ));
            }
            Lineage::Lost { artifact, problem } => {
                self.line(&format!("{first}{name}{}  {}  LOST: {problem}", artifact.digest.short(), artifact.format));
            }
            Lineage::Made(made) => self.made(first, rest, &name, made),
        }
    }

    fn made(&mut self, first: &str, rest: &str, name: &str, made: &Made) {
        let (artifact, record) = (&made.artifact, &made.record);
        let port =
            record.outputs.iter().find(|(_, o)| o.digest == artifact.digest).map_or("?", |(port, _)| port.as_str());
        let again = !self.shown.insert(record.key);
        let head = format!("{first}{name}{}.{port}  {}  {}", record.stage, artifact.digest.short(), artifact.format);
        if again {
            return self.line(&format!("{head}  (made by the action shown above)"));
        }
        self.line(&format!("{head}  {}", size(artifact.bytes)));
        let by = MadeBy::of(record);
        let inner = if made.inputs.is_empty() { format!("{rest}  ") } else { format!("{rest}│ ") };
        let kind = format!("{} v{}", by.kind, by.version);
        let who = match (by.environment.user.as_str(), by.environment.host.as_str()) {
            ("", "") => String::new(),
            ("", host) => printable(&format!(", on {host}")),
            (user, host) => printable(&format!(", {user}@{host}")),
        };
        let when = format!("run {}, {}, {:.1} s{who}", by.run, by.started, by.seconds);
        self.line(&format!("{inner}{kind}  key {}  {when}", by.key.0.short()));
        if let Some(arrival) = &made.arrival {
            let signer = arrival.signer.as_ref().map_or_else(
                || "signed by nobody who is trusted".to_owned(),
                |key| format!("signed by {}", key.chars().take(12).collect::<String>()),
            );
            self.line(&format!("{inner}from {}, {signer}", printable(&arrival.from)));
        }
        for attempt in &by.attempts {
            let error = match attempt.error.as_str() {
                FailedAttempt::INTERRUPTED => String::new(),
                error => printable(&format!(": {}", error.lines().next().unwrap_or_default())),
            };
            self.line(&format!("{inner}an attempt in run {} {}{error}", attempt.run, attempt.ending()));
        }
        if let Some(accepted) = &by.accepted {
            self.accepted(&inner, accepted, &format!("made by key {}", accepted.instead_of.0.short()));
        }
        for Decision { key, accepted } in &made.decisions {
            self.accepted(&inner, accepted, &format!("served for key {}", key.0.short()));
        }
        if !by.params.is_empty() {
            let params: Vec<String> =
                by.params.iter().map(|(name, value)| format!("{name}={}", short(value))).collect();
            self.line(&format!("{inner}{}", params.join("  ")));
        }
        for other in &made.also {
            let key = other.key.0.short();
            self.line(&format!("{inner}also made by {} in run {}, key {key}", other.stage, other.run));
        }
        let last = made.inputs.len().saturating_sub(1);
        for (n, (port, input)) in made.inputs.iter().enumerate() {
            let (branch, below) = if n == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.node(&format!("{rest}{branch}"), &format!("{rest}{below}"), Some(port.as_str()), input);
        }
    }
}

impl Tree {
    fn accepted(&mut self, inner: &str, accepted: &Accepted, what: &str) {
        let who = printable(&format!("{}@{}", accepted.by, accepted.host));
        self.line(&format!("{inner}ACCEPTED by {who}, {}: {}", accepted.at, printable(&accepted.reason)));
        let differs = accepted.differs.iter().map(|d| printable(d)).collect::<Vec<_>>().join("; ");
        self.line(&format!("{inner}  {what}, not executed again for: {differs}"));
    }
}

/// A parameter on one line; long ones are cut.
fn short(value: &Value) -> String {
    let text = printable(&match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}

/// What comes from a pipeline file may hold anything; a terminal must not obey it.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn size(bytes: u64) -> String {
    let mut text = String::new();
    let scaled = bytes as f64;
    let unit = ["B", "kB", "MB", "GB", "TB"];
    let power = if bytes < 1000 { 0 } else { ((scaled.log10() / 3.0) as usize).min(unit.len() - 1) };
    let digits = usize::from(power > 0);
    write!(text, "{:.digits$} {}", scaled / 1000_f64.powi(power as i32), unit[power]).expect("a String takes all");
    text
}
