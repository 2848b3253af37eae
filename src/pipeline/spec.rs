//! The shape of a pipeline file: which keys stand where, before any of their values is looked at.

use super::diagnostics::{Diagnostics, Span};
use super::nearest::suggestion;
use super::node::{Content, Entry, Node};
use super::not_yaml::joined;
use crate::artifact::Format;
use crate::name::{PortName, StageName};
use crate::stages::{Declared, StageKind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Component, Path};

const TOP: [&str; 8] = ["cistage", "name", "about", "verify", "params", "profiles", "stages", "publish"];
const STAGE: [&str; 12] =
    ["uses", "in", "with", "when", "matrix", "out", "secrets", "ranks", "resources", "executor", "hint", "about"];
const OUTPUT: [&str; 2] = ["path", "format"];

/// A pipeline file, its values not yet filled in.
#[derive(Debug)]
pub struct PipelineSpec {
    pub name: Option<String>,
    pub about: Option<String>,
    pub verify_always: bool,
    pub params: Vec<Entry>,
    pub profiles: Vec<Entry>,
    /// In the order of the file.
    pub stages: Vec<StageSpec>,
    pub publish: Vec<Entry>,
}

/// One entry of `stages:`.
#[derive(Debug)]
pub struct StageSpec {
    pub name: String,
    pub span: Span,
    /// A name of the catalogue; `None` where another was written, which has been reported.
    pub uses: Option<&'static str>,
    pub inputs: Node,
    pub with: Node,
    pub when: Option<Node>,
    pub matrix: Node,
    /// Declared outputs of a command; `None` where they can't be read, which has been reported.
    pub out: Option<BTreeMap<String, Declared>>,
    /// Of a command: what it is told in secret.
    pub secrets: Option<Entry>,
    /// Of a training: the processes that share it.
    pub ranks: Option<Entry>,
    pub resources: Option<Node>,
    /// Where it runs, where that is not as for the others.
    pub executor: Option<Node>,
    pub hint: Option<String>,
}

impl PipelineSpec {
    /// Takes the parts of a file, and reports keys that have no place, or a wrong one.
    pub fn read(root: &Node, problems: &mut Diagnostics<'_>) -> Option<Self> {
        let Content::Map(entries) = &root.content else {
            let found = root.describe();
            problems.at(root.span, format!("a pipeline file is a map with `cistage: 1` and `stages:`, not {found}"));
            return None;
        };
        for entry in entries {
            if !TOP.contains(&entry.key.as_str()) {
                unknown_key(entry, "a pipeline", &TOP, problems);
            }
        }
        version(root, problems);
        let params = entries_of(root, "params", problems).to_vec();
        let profiles = entries_of(root, "profiles", problems).to_vec();
        let publish = entries_of(root, "publish", problems).to_vec();
        let stages = entries_of(root, "stages", problems);
        let stages: Vec<_> = stages.iter().filter_map(|entry| StageSpec::read(entry, problems)).collect();
        if root.get("stages").is_none_or(|entry| {
            entry.value.is_null() || matches!(&entry.value.content, Content::Map(map) if map.is_empty())
        }) {
            let span = root.get("stages").map_or(root.span, |entry| entry.key_span);
            problems
                .at(Span { width: 1, ..span }, "the pipeline has no stages")
                .help("add `stages:` with at least one stage");
        }
        let name = line_of(root, "name", problems);
        let about = line_of(root, "about", problems);
        let verify_always = verify_always(root, problems);
        Some(Self { name, about, verify_always, params, profiles, stages, publish })
    }
}

impl StageSpec {
    fn read(entry: &Entry, problems: &mut Diagnostics<'_>) -> Option<Self> {
        let (name, span, node) = (&entry.key, entry.key_span, &entry.value);
        if name.contains('@') || StageName::parse(name).is_err() {
            problems
                .at(span, format!("{name:?} can't be the name of a stage"))
                .help("use letters, digits, `-` and `_`, starting with a letter, 64 characters at most");
        }
        if !matches!(node.content, Content::Map(_)) {
            if node.content != Content::Invalid {
                let found = node.describe();
                problems.at(node.span, format!("the stage `{name}` is a map with `uses:`, not {found}"));
            }
            return None;
        }
        for entry in node.entries() {
            if !STAGE.contains(&entry.key.as_str()) {
                unknown_key(entry, "a stage", &STAGE, problems);
            }
        }
        let uses = uses(name, span, node, problems);
        let mut out = Some(BTreeMap::new());
        if let Some(entry) = node.get("out") {
            if uses.is_some_and(|uses| uses != "command") {
                problems
                    .at(entry.key_span, "only a `command` declares its outputs")
                    .help(format!("remove `out`; the outputs of a `{}` are fixed", uses.unwrap_or_default()));
            } else {
                out = outputs(entry, problems);
            }
        } else if uses == Some("command") {
            problems.at(span, format!("the command `{name}` declares no outputs")).help("add `out: { NAME: FILE }`");
            out = None;
        }
        let secrets = node.get("secrets").cloned();
        if let Some(entry) = secrets.as_ref().filter(|_| uses.is_some_and(|uses| uses != "command")) {
            problems.at(entry.key_span, "only a `command` takes secrets").help("remove `secrets`");
        }
        let ranks = node.get("ranks").cloned();
        if let Some(entry) = ranks.as_ref().filter(|_| uses.is_some_and(|uses| uses != "train")) {
            problems.at(entry.key_span, "only a `train` is shared by several ranks").help("remove `ranks`");
        }
        if let Some(entry) = node.get("with").and_then(|with| with.value.get("ranks")).filter(|_| uses == Some("train"))
        {
            problems
                .at(entry.key_span, "`ranks` stands beside `with`, not in it")
                .help("move it up: it says how the stage runs, as `resources` does");
        }
        line_of(node, "about", problems);
        Some(Self {
            name: name.clone(),
            span,
            uses,
            inputs: value_of(node, "in"),
            with: value_of(node, "with"),
            when: node.get("when").map(|entry| entry.value.clone()),
            matrix: value_of(node, "matrix"),
            out,
            secrets,
            ranks: ranks.filter(|_| uses == Some("train")),
            resources: node.get("resources").map(|entry| entry.value.clone()),
            executor: node.get("executor").map(|entry| entry.value.clone()),
            hint: text_of(node, "hint", problems),
        })
    }
}

fn unknown_key(entry: &Entry, of: &str, known: &[&str], problems: &mut Diagnostics<'_>) {
    let help = joined(&entry.key, known)
        .or_else(|| if known == STAGE { of_another_tool(&entry.key).map(str::to_owned) } else { None })
        .unwrap_or_else(|| suggestion(&entry.key, known.iter().copied(), "its keys"));
    problems.at(entry.key_span, format!("unknown key `{}` of {of}", entry.key)).help(help);
}

/// What a key of a stage is here that another tool calls so.
fn of_another_tool(key: &str) -> Option<&'static str> {
    Some(match key {
        "input" | "inputs" | "deps" => "inputs stand under `in:`, each with a name: `in: { NAME: FILE }`",
        "output" | "outputs" | "outs" => "outputs stand under `out:`, each with a name: `out: { NAME: FILE }`",
        "shell" | "cmd" | "script" | "run" | "command" => "a command's text is a parameter: `with: { run: \"…\" }`",
        "argv" | "env" => "it is a parameter of a command: write it under `with:`",
        "params" => {
            "values of a stage's own stand under `with:`; those that a command's text uses under `params:` at the top"
        }
        "threads" | "cpus" => "write `resources: { cpus: N }`",
        _ => return None,
    })
}

fn version(root: &Node, problems: &mut Diagnostics<'_>) {
    match root.get("cistage") {
        Some(entry) if entry.value.content == Content::Scalar(Value::from(1)) => {}
        Some(entry) => {
            let found = entry.value.describe();
            problems
                .at(entry.value.span, format!("`cistage` has to be 1, the version of the file's form; found {found}"));
        }
        None => {
            let start = Span { width: 1, ..root.span };
            problems
                .at(start, "`cistage: 1` is missing")
                .help("add it as the first line: it says which form the file has");
        }
    }
}

/// Reads `verify: always`, or `changed`, which is how it is without the key.
fn verify_always(root: &Node, problems: &mut Diagnostics<'_>) -> bool {
    let Some(Entry { value, .. }) = root.get("verify") else { return false };
    match value.text() {
        Some("always") => return true,
        Some("changed") => {}
        _ if value.content == Content::Invalid => {}
        _ => {
            let found = value.describe();
            problems
                .at(value.span, format!("`verify` is `changed` or `always`, not {found}"))
                .help("`changed` reads files again that look changed; `always` reads all of them at each run");
        }
    }
    false
}

fn uses(name: &str, span: Span, node: &Node, problems: &mut Diagnostics<'_>) -> Option<&'static str> {
    let Some(entry) = node.get("uses") else {
        problems
            .at(span, format!("the stage `{name}` does not say what it `uses`"))
            .help(format!("one of: {}", StageKind::NAMES.join(", ")));
        return None;
    };
    let Some(text) = entry.value.text() else {
        let found = entry.value.describe();
        problems.at(entry.value.span, format!("`uses` names a stage of the catalogue, not {found}"));
        return None;
    };
    let known = StageKind::NAMES.iter().find(|&&known| known == text).copied();
    if known.is_none() {
        let help = suggestion(text, StageKind::NAMES.iter().copied(), "what there is");
        problems.at(entry.value.span, format!("there is no stage `{text}` to use")).help(help);
    }
    known
}

/// What the map under a key holds; nothing where it is absent, empty or, reported, something else.
fn entries_of<'n>(node: &'n Node, key: &str, problems: &mut Diagnostics<'_>) -> &'n [Entry] {
    let Some(Entry { value, .. }) = node.get(key) else { return &[] };
    if !matches!(value.content, Content::Map(_) | Content::Invalid) && !value.is_null() {
        let found = value.describe();
        let help = match key {
            "stages" => "each stage has a name, which is its key: `stages: { NAME: { uses: … } }`".to_owned(),
            "publish" => {
                let reference = match &value.content {
                    Content::List(items) => items.iter().find_map(Node::text),
                    _ => value.text(),
                };
                let (stage, port) = reference.and_then(|text| text.rsplit_once('.')).unwrap_or(("STAGE", "PORT"));
                format!(
                    "write `publish: {{ FILE: STAGE.PORT }}`, for example `publish: {{ results/{port}: {stage}.{port} }}`"
                )
            }
            "profiles" => "write `profiles: { NAME: { PARAMETER: VALUE } }`".to_owned(),
            _ => format!("write `{key}: {{ NAME: VALUE }}`"),
        };
        problems.at(value.span, format!("`{key}` is a map, not {found}")).help(help);
    }
    value.entries()
}

fn value_of(node: &Node, key: &str) -> Node {
    node.get(key).map_or_else(|| Node::empty_map(node.span), |entry| entry.value.clone())
}

fn text_of(node: &Node, key: &str, problems: &mut Diagnostics<'_>) -> Option<String> {
    let value = &node.get(key)?.value;
    let text = value.text().map(str::to_owned);
    if text.is_none() && value.content != Content::Invalid {
        let found = value.describe();
        problems.at(value.span, format!("`{key}` is text, not {found}")).help("put it in quotes");
    }
    text
}

fn line_of(node: &Node, key: &str, problems: &mut Diagnostics<'_>) -> Option<String> {
    let text = text_of(node, key, problems)?.trim().to_owned();
    if text.is_empty() || text.chars().any(char::is_control) {
        let span = node.get(key)?.value.span;
        problems.at(span, format!("`{key}` is one line of text"));
        return None;
    }
    Some(text)
}

/// Reads `out:` of a command: `port: path`, or `port: { path: …, format: … }`; `None` where it is no map.
fn outputs(out: &Entry, problems: &mut Diagnostics<'_>) -> Option<BTreeMap<String, Declared>> {
    let mut declared: BTreeMap<String, Declared> = BTreeMap::new();
    if out.value.content == Content::Invalid {
        return None;
    }
    if !matches!(out.value.content, Content::Map(_)) {
        let found = out.value.describe();
        problems.at(out.value.span, format!("`out` gives each output a name and a file, not {found}")).help(format!(
            "write `out: {{ NAME: FILE }}`, for example `out: {{ {} }}`",
            example(&out.value, "table: table.tsv")
        ));
        return None;
    }
    for entry in out.value.entries() {
        if entry.key.contains('@') || PortName::parse(&entry.key).is_err() {
            problems
                .at(entry.key_span, format!("{:?} can't be the name of an output", entry.key))
                .help("use letters, digits, `-` and `_`, starting with a letter, 64 characters at most");
        }
        let (path, format) = match &entry.value.content {
            Content::Map(inner) => {
                for entry in inner {
                    if !OUTPUT.contains(&entry.key.as_str()) {
                        unknown_key(entry, "an output", &OUTPUT, problems);
                    }
                }
                (entry.value.get("path").map(|e| &e.value), entry.value.get("format").map(|e| &e.value))
            }
            _ => (Some(&entry.value), None),
        };
        let format = format.map_or(Format::Raw, |node| format_of(node, problems));
        let Some((span, text)) = path.and_then(|node| Some((node.span, node.text()?))) else {
            if entry.value.content != Content::Invalid {
                problems
                    .at(
                        path.map_or(entry.value.span, |node| node.span),
                        format!("the output `{}` needs a path, as text", entry.key),
                    )
                    .help("write `NAME: FILE`, or `NAME: { path: FILE, format: metrics }`");
            }
            declared.insert(entry.key.clone(), Declared { path: entry.key.clone(), format });
            continue;
        };
        match inside(text) {
            Err(message) => {
                problems
                    .at(span, format!("the output path {text:?} {message}"))
                    .help("outputs are files or folders in the command's own work directory, such as `figure.svg`");
                // Still an output, so that references to it are not told as further problems.
                declared.insert(entry.key.clone(), Declared { path: text.to_owned(), format });
            }
            Ok(path) => {
                if let Some((other, _)) = declared.iter().find(|(_, old)| overlaps(&old.path, &path)) {
                    problems
                        .at(span, format!("the outputs `{other}` and `{}` lie one within the other", entry.key))
                        .help("give each output a path of its own");
                }
                declared.insert(entry.key.clone(), Declared { path, format });
            }
        }
    }
    Some(declared)
}

/// What a list of files, or a file alone, would be with a name for each; else `usual`.
pub fn example(given: &Node, usual: &str) -> String {
    let files = match &given.content {
        Content::List(items) => items.as_slice(),
        _ => std::slice::from_ref(given),
    };
    let named = |file: &str| {
        let name = file.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
        PortName::parse(name).is_ok().then(|| format!("{name}: {file}"))
    };
    let named: Vec<String> = files.iter().filter_map(|file| named(file.text()?)).take(3).collect();
    if named.is_empty() { usual.to_owned() } else { named.join(", ") }
}

fn format_of(node: &Node, problems: &mut Diagnostics<'_>) -> Format {
    let known = Format::ALL.into_iter().find(|format| node.text() == Some(format.as_str()));
    known.unwrap_or_else(|| {
        let found = node.text().unwrap_or_default();
        let help = suggestion(found, Format::ALL.map(Format::as_str), "formats");
        let found = node.describe();
        problems.at(node.span, format!("there is no such format: {found}")).help(help);
        Format::Raw
    })
}

/// Cleans a relative path that stays where it starts, or says why it does not.
pub fn inside(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.chars().any(char::is_control) {
        return Err("contains control characters");
    }
    if text.contains("${") {
        return Err("contains `${`; parameters are not filled in here");
    }
    let mut clean = Vec::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(part) => clean.push(part.to_str().expect("a part of a text")),
            Component::CurDir => {}
            Component::ParentDir => return Err("leaves its folder with `..`"),
            Component::RootDir | Component::Prefix(_) => return Err("is absolute"),
        }
    }
    if clean.is_empty() { Err("names no file") } else { Ok(clean.join("/")) }
}

/// Whether two cleaned paths are equal, or one lies within the other.
pub fn overlaps(a: &str, b: &str) -> bool {
    Path::new(a).starts_with(b) || Path::new(b).starts_with(a)
}
