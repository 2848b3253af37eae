//! `command` stages: what the plan adds to what the user wrote, so that the key holds all that the program sees.

use super::diagnostics::{Diagnostics, Span};
use super::foreign::{self, Foreign, Known};
use super::matrix::Axis;
use super::nearest::suggestion;
use super::node::{Content, Entry, Node};
use super::not_yaml::joined;
use super::params::{Params, is_name};
use super::spec::StageSpec;
use super::unused::mentions;
use crate::stages::shell::{self, Piece, Place};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What the user may write under `with:`.
pub const KEYS: [&str; 3] = ["run", "argv", "env"];

/// What stands beside `with:`, not in it.
const STAGE_KEYS: [&str; 8] = ["in", "out", "when", "matrix", "resources", "secrets", "hint", "about"];

/// Variables by which a parameter of the same name would change bash or the program itself.
const NEVER_VALUES: [&str; 16] = [
    "PATH",
    "HOME",
    "IFS",
    "PWD",
    "OLDPWD",
    "SHELL",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "LANG",
    "TERM",
    "ENV",
    "CDPATH",
    "SHELLOPTS",
    "BASHOPTS",
    "UID",
];

/// Of one text, more problems than these are not looked for.
const ENOUGH: usize = 100;

fn is_safe_value(name: &str) -> bool {
    !NEVER_VALUES.contains(&name) && !name.starts_with("LC_") && !name.starts_with("LD_") && !name.starts_with("BASH")
}

/// Fills in the parameters of a command's `with:`; the text of `run` stays for bash.
pub fn fill(with: &Node, params: &Params, problems: &mut Diagnostics<'_>) -> Node {
    let Content::Map(entries) = &with.content else { return params.fill(with, problems) };
    let entries = entries.iter().map(|entry| {
        let value = if entry.key == "run" { entry.value.clone() } else { params.fill(&entry.value, problems) };
        Entry { value, ..entry.clone() }
    });
    Node::new(with.span, Content::Map(entries.collect()))
}

/// Everything of a command's parameters, with what the plan knows. `None` where something is wrong, now reported.
///
/// `endings` are the file name endings of the inputs, by port.
pub fn complete(
    spec: &StageSpec,
    with: &Node,
    ports: &BTreeSet<&str>,
    endings: BTreeMap<String, String>,
    params: &Params,
    problems: &mut Diagnostics<'_>,
) -> Option<Map<String, Value>> {
    let before = problems.count();
    for entry in with.entries().iter().filter(|entry| !KEYS.contains(&entry.key.as_str())) {
        let key = &entry.key;
        let help = if params.0.contains_key(key) {
            format!("remove it: `{{param.{key}}}` in `run` is the pipeline's parameter `{key}` already")
        } else {
            let known = suggestion(key, KEYS, "its parameters");
            match joined(key, &KEYS) {
                Some(help) => help,
                None if STAGE_KEYS.contains(&key.as_str()) => known,
                None => format!(
                    "{known}; a value for the program stands under `params:`, and is `{{param.{key}}}` in `run`"
                ),
            }
        };
        problems.at(entry.key_span, format!("`command` has no parameter `{key}`")).help(help);
    }
    match (with.get("run"), with.get("argv")) {
        (Some(_), Some(argv)) => {
            problems.at(argv.key_span, "a command has either `run` or `argv`, not both").help("remove one of the two")
        }
        (None, None) => problems
            .at(spec.span, format!("the command `{}` says nothing to run", spec.name))
            .help("add `with: { run: \"…\" }`, or `argv: [program, argument, …]`"),
        _ => {}
    }
    let mut values = BTreeMap::new();
    let mut scan = Scan { spec, ports, params, values: &mut values, problems };
    if let Some(run) = with.get("run").filter(|run| is_text(&run.value, scan.problems)) {
        scan.script(run.value.text().unwrap_or_default(), run.value.span);
        scan.shell_names(run.value.text().unwrap_or_default(), run.value.span, with);
    }
    if let Some(argv) = with.get("argv") {
        scan.argv(&argv.value);
    }
    let environment = environment(with, problems);
    let secrets = spec.secrets.as_ref().map(|entry| secrets(entry, problems)).unwrap_or_default();
    for name in secrets.keys().filter(|name| environment.contains_key(*name) || values.contains_key(*name)) {
        let span = spec.secrets.as_ref().expect("it has a name in it").key_span;
        let other = if environment.contains_key(name) { "stands in `env`" } else { "is a parameter" };
        problems
            .at(span, format!("the secret `{name}` {other}, too"))
            .help("values of `env` and parameters are part of keys and records: give the secret another name");
    }
    if problems.count() > before {
        return None;
    }
    let mut map = match with.to_value() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let out: BTreeMap<_, _> =
        spec.out.iter().flatten().map(|(port, declared)| (port.clone(), declared.clone())).collect();
    let json = |value: serde_json::Result<Value>| value.expect("maps of text are plain data");
    map.insert("environment".to_owned(), json(serde_json::to_value(environment)));
    map.insert("values".to_owned(), json(serde_json::to_value(values)));
    map.insert("endings".to_owned(), json(serde_json::to_value(endings)));
    map.insert("out".to_owned(), json(serde_json::to_value(out)));
    if !secrets.is_empty() {
        map.insert("secrets".to_owned(), json(serde_json::to_value(secrets)));
    }
    Some(map)
}

/// Whether `run` is text; a text that begins with a brace is a map to YAML.
fn is_text(run: &Node, problems: &mut Diagnostics<'_>) -> bool {
    if !matches!(run.content, Content::Map(_) | Content::List(_)) {
        return true;
    }
    let found = run.describe();
    problems
        .at(run.span, format!("`run` is text, not {found}"))
        .help("what begins with `{` or `[` is a map or a list to YAML: put quotes around all of it, or use `run: |`");
    false
}

/// Refuses to vary a parameter of the pipeline that the command has no use for: all branches would do the same.
pub fn refuse_unused(spec: &StageSpec, axes: &[Axis], params: &Params, problems: &mut Diagnostics<'_>) {
    let varied = axes.iter().filter(|axis| params.0.contains_key(&axis.key) && !KEYS.contains(&axis.key.as_str()));
    // Of one that an input would have to vary over, more is said elsewhere.
    for axis in varied.filter(|axis| !mentions(&spec.with, &axis.key) && !mentions(&spec.inputs, &axis.key)) {
        let text = if spec.with.get("argv").is_some() { "argv" } else { "run" };
        problems
            .at(axis.key_span, format!("`matrix` varies `{}`, which nothing in `{text}` uses", axis.key))
            .help(format!("write `{{param.{}}}` where its value belongs", axis.key));
    }
}

/// Refuses inputs that would have to vary with a command's matrix: they are the same in all its branches.
pub fn refuse_in_inputs(inputs: &Node, key: &str, problems: &mut Diagnostics<'_>) {
    let reference = format!("${{{key}}}");
    for entry in
        inputs.entries().iter().filter(|entry| entry.value.text().is_some_and(|text| text.contains(&reference)))
    {
        problems
            .at(entry.value.span, format!("an input can't vary over `matrix`, as `{reference}` would here"))
            .help("declare the folder that holds the files, and choose among them in `run`; or write a stage for each");
    }
}

/// All extensions of a file's name, `.tsv.gz`; empty where it has none.
pub fn ending(path: &str) -> &str {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let first = name.char_indices().skip(1).find(|(_, c)| *c == '.');
    first.map_or("", |(at, _)| &name[at..])
}

type Find = for<'t> fn(&'t str, &Known<'_>) -> Vec<Foreign<'t>>;

struct Scan<'a, 't> {
    spec: &'a StageSpec,
    ports: &'a BTreeSet<&'a str>,
    params: &'a Params,
    values: &'a mut BTreeMap<String, String>,
    problems: &'a mut Diagnostics<'t>,
}

impl Scan<'_, '_> {
    /// Checks the placeholders of a text for bash, and that each stands where it can be quoted.
    fn script(&mut self, text: &str, span: Span) {
        let lines: Vec<&str> = text.split('\n').collect();
        let before = self.problems.count();
        self.foreign(text, span, &lines, foreign::in_script);
        let pieces = match shell::pieces(text) {
            Ok(pieces) => pieces,
            Err(trouble) => {
                let span = self.problems.line_of(span, &lines, trouble.line);
                return self.problems.at(span, format!("`run`: {}", trouble.what)).help(trouble.help);
            }
        };
        for piece in pieces {
            let Piece::Placeholder { inside, place, line } = piece else { continue };
            if self.problems.count() > before + ENOUGH {
                return;
            }
            let span = self.problems.line_of(span, &lines, line);
            self.placeholder(inside, span);
            let is_number = || {
                inside
                    .strip_prefix("param.")
                    .and_then(|name| self.values.get(name))
                    .is_some_and(|v| shell::is_whole_number(v))
            };
            if place == Place::Arithmetic && !is_number() {
                let what = format!("`run`: bash calculates with `{{{inside}}}`, which is not a whole number");
                let help =
                    "only a parameter that is a whole number can stand there: bash would run what another value says";
                self.problems.at(span, what).help(help);
            }
        }
    }

    /// Refuses placeholders as other tools have them.
    fn foreign(&mut self, text: &str, span: Span, lines: &[&str], find: Find) {
        let known = Known {
            inputs: self.ports.iter().copied().collect(),
            outputs: self.spec.out.iter().flatten().map(|(port, _)| port.as_str()).collect(),
            params: self.params.0.keys().map(String::as_str).collect(),
        };
        for Foreign { at, written, help } in find(text, &known) {
            let span = self.problems.line_of(span, lines, text[..at].matches('\n').count() + 1);
            self.problems.at(span, format!("`{written}` is no placeholder, and would stay as it is")).help(help);
        }
    }

    /// Checks every placeholder of an argument; other braces are the program's own.
    fn argument(&mut self, text: &str, span: Span) {
        let before = self.problems.count();
        self.foreign(text, span, &[], foreign::in_argument);
        for (at, _) in text.match_indices('{') {
            if self.problems.count() > before + ENOUGH {
                return;
            }
            if let Some(inside) = shell::placeholder(&text[at..]) {
                self.placeholder(inside, span);
            }
        }
    }

    fn placeholder(&mut self, inside: &str, span: Span) {
        let (kind, name) = inside.split_once('.').expect("a placeholder has a dot");
        let (what, known): (_, Vec<&str>) = match kind {
            "in" => ("input", self.ports.iter().copied().collect()),
            // What they are could not be read.
            "out" if self.spec.out.is_none() => return,
            "out" => ("output", self.spec.out.iter().flatten().map(|(port, _)| port.as_str()).collect()),
            _ => ("parameter", self.params.0.keys().map(String::as_str).collect()),
        };
        if !known.contains(&name) {
            let help = suggestion(name, known.iter().copied(), &format!("{what}s"));
            self.problems.at(span, format!("`{{{inside}}}`: there is no {what} `{name}`")).help(help);
        } else if kind == "param" {
            self.value(name, span);
        }
    }

    /// Parameters that bash will find by their `${name}`.
    fn shell_names(&mut self, text: &str, span: Span, with: &Node) {
        let declared = |name: &str| match with.get("env").map(|entry| &entry.value.content) {
            Some(Content::List(items)) => items.iter().any(|item| item.text() == Some(name)),
            _ => false,
        };
        let is_secret =
            |name: &str| self.spec.secrets.as_ref().is_some_and(|entry| names(&entry.value).any(|n| n == name));
        for (at, _) in text.match_indices("${") {
            let rest = &text[at + 2..];
            let name = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())];
            if is_name(name)
                && is_safe_value(name)
                && !declared(name)
                && !is_secret(name)
                && self.params.0.contains_key(name)
            {
                self.value(name, span);
            }
        }
    }

    fn argv(&mut self, argv: &Node) {
        let Content::List(items) = &argv.content else { return };
        if items.is_empty() {
            self.problems.at(argv.span, "`argv` is empty").help("its first item is the program, such as `python3`");
        }
        for item in items {
            match &item.content {
                Content::Scalar(Value::String(text)) => self.argument(text, item.span),
                Content::Invalid => {}
                _ => {
                    let found = item.describe();
                    self.problems
                        .at(item.span, format!("an argument is text, not {found}"))
                        .help("put it in quotes; `{param.NAME}` gives a parameter as text");
                }
            }
        }
    }

    fn value(&mut self, name: &str, span: Span) {
        match self.params.text_of(name) {
            Ok(text) => {
                self.values.insert(name.to_owned(), text);
            }
            Err((message, help)) => self.problems.at(span, message).help = help,
        }
    }
}

/// Reads the declared variables: now, as part of the plan, so that the stage itself sees no environment.
fn environment(with: &Node, problems: &mut Diagnostics<'_>) -> BTreeMap<String, Option<String>> {
    let mut environment = BTreeMap::new();
    let Some(entry) = with.get("env") else { return environment };
    let Content::List(items) = &entry.value.content else { return environment };
    for item in items {
        let Some(name) = item.text().filter(|name| is_name(name)) else {
            if item.content != Content::Invalid {
                let found = item.describe();
                problems.at(item.span, format!("`env` lists names of environment variables, not {found}"));
            }
            continue;
        };
        let value = match std::env::var(name) {
            Ok(value) => Some(value),
            Err(std::env::VarError::NotPresent) => None,
            Err(std::env::VarError::NotUnicode(_)) => {
                problems.at(item.span, format!("the environment variable `{name}` is not valid UTF-8 text"));
                continue;
            }
        };
        if environment.insert(name.to_owned(), value).is_some() {
            problems.at(item.span, format!("`{name}` stands twice in `env`"));
        }
    }
    environment
}

/// The version of a secret of which none is said.
const FIRST: &str = "1";

/// The names in `secrets:`, in either of its forms.
fn names(secrets: &Node) -> impl Iterator<Item = &str> {
    let listed = match &secrets.content {
        Content::List(items) => items.as_slice(),
        _ => &[],
    };
    listed.iter().filter_map(Node::text).chain(secrets.entries().iter().map(|entry| entry.key.as_str()))
}

/// Reads `secrets: [NAME]`, or `secrets: { NAME: VERSION }`: never their values.
fn secrets(entry: &Entry, problems: &mut Diagnostics<'_>) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    let mut add = |name: Option<&str>, version: String, node: &Node, problems: &mut Diagnostics<'_>| {
        let Some(name) = name.filter(|name| is_name(name) && is_safe_value(name)) else {
            let found = node.describe();
            problems.at(node.span, format!("`secrets` lists names of environment variables, not {found}"));
            return;
        };
        if secrets.insert(name.to_owned(), version).is_some() {
            problems.at(node.span, format!("`{name}` stands twice in `secrets`"));
        }
    };
    match &entry.value.content {
        Content::List(items) => {
            for item in items.iter().filter(|item| item.content != Content::Invalid) {
                add(item.text(), FIRST.to_owned(), item, problems);
            }
        }
        Content::Map(entries) => {
            for Entry { key, key_span, value } in entries {
                let version = match &value.content {
                    Content::Scalar(Value::Null) | Content::Invalid => FIRST.to_owned(),
                    Content::Scalar(Value::String(text)) => text.clone(),
                    Content::Scalar(Value::Number(number)) => number.to_string(),
                    _ => {
                        let found = value.describe();
                        let what = format!("the version of the secret `{key}` is a number or text, not {found}");
                        problems.at(value.span, what).help("raise it to have the stage run again");
                        continue;
                    }
                };
                add(Some(key), version, &Node::new(*key_span, Content::Scalar(Value::from(key.as_str()))), problems);
            }
        }
        Content::Invalid => {}
        Content::Scalar(_) => {
            let found = entry.value.describe();
            problems
                .at(entry.value.span, format!("`secrets` is a list of names of environment variables, not {found}"))
                .help("write `secrets: [TOKEN]`, and give the value when you run: `TOKEN=… cistage run …`");
        }
    }
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_has_all_extensions_of_the_name() {
        for (path, expected) in [
            ("data/x.tsv.gz", ".tsv.gz"),
            ("a.b/x", ""),
            (".hidden", ""),
            (".hidden.json", ".json"),
            ("model/", ""),
            ("é.x", ".x"),
        ] {
            assert_eq!(ending(path), expected, "{path}");
        }
    }
}
