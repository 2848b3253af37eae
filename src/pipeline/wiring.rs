//! Inputs: which output or file each port of a stage reads.

use super::diagnostics::{Diagnostics, Span};
use super::nearest::{nearest, suggestion};
use super::node::{Content, Node};
use super::spec::{StageSpec, example};
use crate::artifact::Format;
use crate::name::PortName;
use crate::stage::Contract;
use std::collections::BTreeMap;

/// The stages of a pipeline as references see them.
#[derive(Debug, Default)]
pub struct Catalog {
    pub stages: BTreeMap<String, Listed>,
}

#[derive(Debug)]
pub struct Listed {
    /// `None` where the stage's kind is not known, which has been reported.
    pub outputs: Option<BTreeMap<String, Format>>,
    /// False where `when` leaves the stage out.
    pub present: bool,
}

/// What a value of `in:` or `publish:` says.
#[derive(Debug, Clone, PartialEq)]
pub enum From {
    /// One branch of a matrix where `branch` is given, else the branch that belongs to the reader, or all.
    Output {
        stage: String,
        branch: Option<String>,
        port: String,
    },
    Path(String),
}

/// Where a reference stands: what is published is no file of the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Input,
    Publish,
}

/// A connected input.
#[derive(Debug, Clone)]
pub struct Wire {
    pub port: String,
    /// Where the value stands.
    pub span: Span,
    pub from: From,
    pub wanted: Format,
}

impl Catalog {
    /// Reads `STAGE.PORT`, or `STAGE@BRANCH.PORT`; all else is a path. `None` where it names what is not there.
    pub fn refer(&self, text: &str, place: Place, span: Span, problems: &mut Diagnostics<'_>) -> Option<From> {
        let or_a_file = match place {
            Place::Input => format!("; write `./{text}` to mean a file of that name"),
            Place::Publish => String::new(),
        };
        let (name, port) = match text.rsplit_once('.') {
            Some((name, port)) if self.stages.contains_key(base(name)) => (name, Some(port)),
            _ if self.stages.contains_key(base(text)) => (text, None),
            _ => return Some(From::Path(text.to_owned())),
        };
        let stage = base(name);
        let listed = &self.stages[stage];
        if !listed.present {
            problems
                .at(span, format!("`{text}` refers to the stage `{stage}`, which its `when` leaves out"))
                .help(format!("choose another input, or let `when` of `{stage}` be true{or_a_file}"));
            return None;
        }
        let outputs = listed.outputs.as_ref()?;
        let port = port.filter(|port| outputs.contains_key(*port));
        let Some(port) = port else {
            let message = match text.rsplit_once('.') {
                Some((before, port)) if base(before) == stage => format!("the stage `{stage}` has no output `{port}`"),
                _ => format!("`{text}` is a stage: name one of its outputs"),
            };
            let full: Vec<String> = outputs.keys().map(|port| format!("{name}.{port}")).collect();
            let help = suggestion(text, full.iter().map(String::as_str), "its outputs");
            let help = if place == Place::Input && std::path::Path::new(text).exists() {
                format!("there is a file `{text}`: write `./{text}` to mean it; {help}")
            } else {
                format!("{help}{or_a_file}")
            };
            problems.at(span, message).help(help);
            return None;
        };
        let branch = name.split_once('@').map(|(_, branch)| branch.to_owned());
        Some(From::Output { stage: stage.to_owned(), branch, port: port.to_owned() })
    }

    /// The format of an output that `refer` found.
    pub fn format(&self, stage: &str, port: &str) -> Option<Format> {
        self.stages.get(stage)?.outputs.as_ref()?.get(port).copied()
    }

    /// An output whose reference a text that names no file was probably meant to be.
    pub fn near(&self, text: &str) -> Option<String> {
        let (name, _) = text.rsplit_once('.')?;
        nearest(name, self.stages.iter().filter(|(_, listed)| listed.present).map(|(name, _)| name.as_str()))?;
        let all: Vec<String> = self
            .stages
            .iter()
            .filter(|(_, listed)| listed.present)
            .flat_map(|(stage, listed)| listed.outputs.iter().flatten().map(move |(port, _)| format!("{stage}.{port}")))
            .collect();
        nearest(text, all.iter().map(String::as_str)).map(str::to_owned)
    }

    fn outputs_of(&self, wanted: Format) -> Vec<String> {
        let present = self.stages.iter().filter(|(_, listed)| listed.present);
        present
            .flat_map(|(stage, listed)| {
                listed.outputs.iter().flatten().map(move |(port, format)| (stage, port, *format))
            })
            .filter(|(_, _, format)| format.feeds(wanted))
            .map(|(stage, port, _)| format!("`{stage}.{port}`"))
            .collect()
    }
}

fn base(name: &str) -> &str {
    name.split_once('@').map_or(name, |(base, _)| base)
}

/// A format in a sentence.
pub fn in_words(format: Format) -> &'static str {
    match format {
        Format::Raw => "raw bytes",
        Format::Rows => "rows",
        Format::Tokenizer => "a tokenizer",
        Format::Model => "a model",
        Format::Predictions => "predictions",
        Format::Metrics => "metrics",
        Format::Subsets => "a folder of subset lists",
        Format::Report => "a report",
    }
}

/// Connects the ports of a stage, and reports what does not fit; `None` where no port can be read.
pub fn connect(
    spec: &StageSpec,
    uses: &str,
    contract: &Contract,
    inputs: &Node,
    catalog: &Catalog,
    problems: &mut Diagnostics<'_>,
) -> Option<Vec<Wire>> {
    if !matches!(inputs.content, Content::Map(_) | Content::Invalid) && !inputs.is_null() {
        let found = inputs.describe();
        problems.at(inputs.span, format!("`in` gives each input a name, not {found}")).help(format!(
            "write `in: {{ NAME: FILE }}`, for example `in: {{ {} }}`",
            example(inputs, "table: table.tsv")
        ));
        return None;
    }
    let mut wires = Vec::new();
    for entry in inputs.entries() {
        let port = contract.inputs.iter().find(|port| port.name == entry.key);
        let Some(wanted) = port.map(|port| port.format).or(contract.more_inputs) else {
            let help = suggestion(&entry.key, contract.inputs.iter().map(|port| port.name), "its inputs");
            problems.at(entry.key_span, format!("`{uses}` has no input `{}`", entry.key)).help(help);
            continue;
        };
        if entry.key.contains('@') || PortName::parse(&entry.key).is_err() {
            problems
                .at(entry.key_span, format!("{:?} can't be the name of an input", entry.key))
                .help("use letters, digits, `-` and `_`, starting with a letter, 64 characters at most");
            continue;
        }
        let span = entry.value.span;
        let text = match &entry.value.content {
            // An optional input can be switched off by a parameter.
            Content::Scalar(serde_json::Value::Null) if port.is_none_or(|port| !port.required) => continue,
            Content::Invalid => continue,
            _ => entry.value.text().filter(|text| !text.is_empty() && !text.chars().any(char::is_control)),
        };
        let Some(text) = text else {
            let found = entry.value.describe();
            problems.at(span, format!("the input `{}` has to be STAGE.PORT or a path, not {found}", entry.key));
            continue;
        };
        let Some(from) = catalog.refer(text, Place::Input, span, problems) else { continue };
        if let From::Output { stage, port, .. } = &from
            && let Some(format) = catalog.format(stage, port)
            && !format.feeds(wanted)
        {
            let help = if format == Format::Raw {
                format!("let the command declare it: out: {{ {port}: {{ path: FILE, format: {wanted} }} }}")
            } else {
                let fitting = catalog.outputs_of(wanted);
                if fitting.is_empty() {
                    format!("no stage makes {}", in_words(wanted))
                } else {
                    format!("{} come from: {}", wanted, fitting.join(", "))
                }
            };
            problems
                .at(
                    span,
                    format!(
                        "`{text}` is {}; the input `{}` of `{uses}` takes {}",
                        in_words(format),
                        entry.key,
                        in_words(wanted)
                    ),
                )
                .help(help);
            continue;
        }
        wires.push(Wire { port: entry.key.clone(), span, from, wanted });
    }
    missing(spec, uses, contract, inputs, problems);
    Some(wires)
}

fn missing(spec: &StageSpec, uses: &str, contract: &Contract, inputs: &Node, problems: &mut Diagnostics<'_>) {
    if inputs.content == Content::Invalid {
        return;
    }
    for port in contract.inputs.iter().filter(|port| port.required && inputs.get(port.name).is_none()) {
        problems
            .at(spec.span, format!("the stage `{}` has no input `{}`, which `{uses}` needs", spec.name, port.name))
            .help(format!("add it to `in:`; it takes {}", in_words(port.format)));
    }
    let named = |key: &str| contract.inputs.iter().any(|port| port.name == key);
    if let Some(format) = contract.more_inputs
        && uses != "command"
        && inputs.entries().iter().all(|entry| named(&entry.key))
    {
        problems
            .at(spec.span, format!("the stage `{}` has nothing to {uses}", spec.name))
            .help(format!("add to `in:` at least one input, under any name, that is {}", in_words(format)));
    }
}
