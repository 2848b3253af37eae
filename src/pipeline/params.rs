//! Parameters: defaults, overlaid by profiles, overlaid by `--set`; and `${name}` in the values of stages.

use super::diagnostics::{Diagnostics, Span};
use super::growth::{Growth, size_of};
use super::nearest::suggestion;
use super::node::{Content, Entry, Node, describe};
use super::source;
use super::{Options, Problem};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The parameters of a pipeline, as chosen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params(pub BTreeMap<String, Value>, Growth);

/// What is wrong, and what would be right.
type Wrong = (String, Option<String>);

fn tell(problem: &mut Problem, help: Option<String>) {
    problem.help = help;
}

impl Params {
    /// Overlays the defaults of the file with the profiles, in the order given, and then with `--set`.
    pub fn resolve(defaults: &[Entry], profiles: &[Entry], options: &Options, problems: &mut Diagnostics<'_>) -> Self {
        let mut values = Map::new();
        for Entry { key, key_span, value } in defaults {
            if !is_name(key) {
                problems
                    .at(*key_span, format!("{key:?} can't be the name of a parameter"))
                    .help("use letters, digits and `_`, starting with a letter");
            } else if let Some(value) = plain(value, problems) {
                values.insert(key.clone(), value);
            }
        }
        // Profiles that are not chosen are checked too: a slip in one should not wait for its user.
        let mut read: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for profile in profiles {
            let before = problems.count();
            let map = plain(&profile.value, problems);
            match map {
                Some(Value::Object(map)) => {
                    overlay(&mut values.clone(), &map, &profile.value, problems);
                    read.insert(&profile.key, map);
                }
                Some(Value::Null) => {
                    read.insert(&profile.key, Map::new());
                }
                _ if problems.count() > before => {
                    read.insert(&profile.key, Map::new());
                }
                _ => {
                    let found = profile.value.describe();
                    problems.at(profile.value.span, format!("a profile is a map of parameters, not {found}"));
                }
            }
        }
        for name in &options.profiles {
            match read.get(name.as_str()) {
                Some(map) => merge(&mut values, map),
                None => {
                    let known = suggestion(name, read.keys().copied(), "profiles of this pipeline");
                    problems.option("--profile", format!("there is no profile `{name}`")).help(known);
                }
            }
        }
        for text in &options.sets {
            if let Err((message, help)) = set(&mut values, text) {
                tell(problems.option("--set", message), help);
            }
        }
        Self(values.into_iter().collect(), Growth::default())
    }

    /// Finds a parameter, `per_bin` or `model.layers`.
    fn find(&self, path: &str) -> Result<&Value, Wrong> {
        let mut parts = path.split('.');
        let first = parts.next().expect("split gives at least one part");
        let mut found = self.0.get(first).ok_or_else(|| {
            (
                format!("there is no parameter `{first}`"),
                Some(suggestion(first, self.0.keys().map(String::as_str), "parameters")),
            )
        })?;
        let mut so_far = first.to_owned();
        for part in parts {
            let Value::Object(map) = found else {
                return Err((format!("the parameter `{so_far}` is {}, not a map", describe(found)), None));
            };
            let names = map.keys().map(String::as_str);
            found = map.get(part).ok_or_else(|| {
                (format!("the parameter `{so_far}` has no `{part}`"), Some(suggestion(part, names, "its keys")))
            })?;
            so_far = format!("{so_far}.{part}");
        }
        Ok(found)
    }

    /// A parameter as text, for a place where only text can stand.
    pub fn text_of(&self, path: &str) -> Result<String, (String, Option<String>)> {
        match self.find(path)? {
            Value::String(text) => Ok(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
            other => Err((format!("the parameter `{path}` is {}, and can't be part of a text", describe(other)), None)),
        }
    }

    /// Fills in `${name}` everywhere in a value; what can't be filled in is reported and becomes `Invalid`.
    pub fn fill(&self, node: &Node, problems: &mut Diagnostics<'_>) -> Node {
        let content = match &node.content {
            Content::Scalar(Value::String(text)) => match self.fill_text(text) {
                Ok(value) => return Node::placed(node.span, &value),
                Err((message, help)) => {
                    tell(problems.at(node.span, message), help);
                    Content::Invalid
                }
            },
            Content::List(items) => Content::List(items.iter().map(|item| self.fill(item, problems)).collect()),
            Content::Map(entries) => Content::Map(
                entries
                    .iter()
                    .map(|entry| Entry { value: self.fill(&entry.value, problems), ..entry.clone() })
                    .collect(),
            ),
            other => other.clone(),
        };
        Node::new(node.span, content)
    }

    fn fill_text(&self, text: &str) -> Result<Value, Wrong> {
        let parts = parts(text)?;
        if let [Part::Name(name)] = parts[..] {
            let value = self.find(name)?;
            self.1.add(size_of(value))?;
            return Ok(value.clone());
        }
        let mut filled = String::with_capacity(text.len());
        for part in parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Name(name) => {
                    let text = self.text_of(name)?;
                    self.1.add(text.len())?;
                    filled.push_str(&text);
                }
            }
        }
        Ok(Value::String(filled))
    }
}

/// A valid name of a parameter: also a valid name of an environment variable, since commands see them so.
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

enum Part<'t> {
    Text(&'t str),
    Name(&'t str),
}

/// Parts a text at its `${name}`s; `$${` stands for `${`.
fn parts(text: &str) -> Result<Vec<Part<'_>>, Wrong> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            parts.extend([Part::Text(&rest[..at - 1]), Part::Text("${")]);
            rest = &rest[at + 2..];
            continue;
        }
        let (name, after) = rest[at + 2..].split_once('}').ok_or_else(|| {
            ("`${` without its `}`".to_owned(), Some("write `$${` where the text itself shall have `${`".to_owned()))
        })?;
        if name.is_empty()
            || !name
                .split('.')
                .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        {
            let help =
                "inside `${}` stands the name of one parameter; write `$${` where the text itself shall have `${`";
            return Err((format!("`${{{name}}}` names no parameter"), Some(help.to_owned())));
        }
        if at > 0 {
            parts.push(Part::Text(&rest[..at]));
        }
        parts.push(Part::Name(name));
        rest = after;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

/// A parameter's own value: no `${name}` in it, so that no order of evaluation has to be known.
fn plain(node: &Node, problems: &mut Diagnostics<'_>) -> Option<Value> {
    fn check(node: &Node, problems: &mut Diagnostics<'_>) -> Node {
        let content = match &node.content {
            Content::Scalar(Value::String(text)) => match parts(text) {
                Ok(parts) => {
                    let text: Option<String> = parts
                        .iter()
                        .map(|part| match part {
                            Part::Text(text) => Some(*text),
                            Part::Name(_) => None,
                        })
                        .collect();
                    match text {
                        Some(text) => Content::Scalar(Value::String(text)),
                        None => {
                            problems
                                .at(node.span, "a parameter can't refer to other parameters")
                                .help("use both parameters where the value is needed; `$${` stands for `${`");
                            Content::Invalid
                        }
                    }
                }
                Err((message, help)) => {
                    tell(problems.at(node.span, message), help);
                    Content::Invalid
                }
            },
            Content::List(items) => Content::List(items.iter().map(|item| check(item, problems)).collect()),
            Content::Map(entries) => {
                Content::Map(entries.iter().map(|e| Entry { value: check(&e.value, problems), ..e.clone() }).collect())
            }
            other => other.clone(),
        };
        Node::new(node.span, content)
    }
    let checked = check(node, problems);
    (!checked.has_invalid()).then(|| checked.to_value())
}

/// Lays a profile over the defaults, reporting keys that the defaults do not have.
fn overlay(values: &mut Map<String, Value>, profile: &Map<String, Value>, node: &Node, problems: &mut Diagnostics<'_>) {
    for (key, value) in profile {
        let entry = node.get(key);
        let span = entry.map_or(node.span, |entry| entry.key_span);
        match (values.get_mut(key), value) {
            (None, _) => {
                let help = suggestion(key, values.keys().map(String::as_str), "parameters");
                problems
                    .at(span, format!("there is no parameter `{key}`: a profile changes parameters that `params` has"))
                    .help(help);
            }
            (Some(Value::Object(inner)), Value::Object(map)) if !inner.is_empty() => {
                overlay(inner, map, entry.map_or(node, |entry| &entry.value), problems);
            }
            (Some(Value::Object(inner)), other) if !inner.is_empty() && !other.is_object() => {
                problems.at(span, format!("`{key}` is a map in `params`, and {} here", describe(other)));
            }
            _ => {}
        }
    }
}

/// Maps are overlaid key by key, all else is replaced.
fn merge(values: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (values.get_mut(key), value) {
            (Some(Value::Object(inner)), Value::Object(map)) => merge(inner, map),
            _ => {
                values.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Carries out one `--set key=value`.
fn set(values: &mut Map<String, Value>, text: &str) -> Result<(), Wrong> {
    let (path, value) =
        text.split_once('=').ok_or_else(|| (format!("`{text}` has no `=`: write `--set key=value`"), None))?;
    let mut problems = Diagnostics::new("--set", value);
    let nothing = Node::new(Span::default(), Content::Scalar(Value::Null));
    let node = if value.trim().is_empty() { nothing } else { source::read(value, &mut problems).unwrap_or(nothing) };
    if let Some(problem) = problems.finish().0.first() {
        return Err((
            format!("the value of `{path}` can't be read: {}", problem.message),
            Some(format!("values are typed as YAML; put text in quotes: --set '{path}=\"...\"'")),
        ));
    }
    // Looked up as an interpolation would be, so that both give the same messages.
    let known = Params(values.clone().into_iter().collect(), Growth::default());
    let old = known.find(path)?;
    let new = node.to_value();
    if old.as_object().is_some_and(|map| !map.is_empty()) && !new.is_object() {
        return Err((
            format!("`{path}` is a map of parameters, and {} was given", describe(&new)),
            Some(format!("set one of its keys: --set {path}.KEY=VALUE")),
        ));
    }
    let over = path.rsplit('.').fold(new, |inner, key| Value::Object(Map::from_iter([(key.to_owned(), inner)])));
    if let Some(map) = over.as_object() {
        merge(values, map);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FILE: &str = "params: {data: x.tsv, seed: 42, model: {layers: 12, hidden: 768}, on: true, none: ~}\n\
        profiles: {demo: {seed: 7, model: {layers: 2}}, other: {seed: 9}}\n";

    fn resolve(text: &str, profiles: &[&str], sets: &[&str]) -> (Params, String) {
        let mut problems = Diagnostics::new("p.yaml", text);
        let root = source::read(text, &mut problems).expect("readable");
        let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        let options = Options { profiles: owned(profiles), sets: owned(sets), to: None };
        let map = |key| root.get(key).map_or(&[][..], |entry| entry.value.entries());
        let params = Params::resolve(map("params"), map("profiles"), &options, &mut problems);
        (
            params,
            problems
                .finish()
                .0
                .iter()
                .map(|p| format!("{}: {} ({})\n", p.file, p.message, p.help.clone().unwrap_or_default()))
                .collect(),
        )
    }

    #[test]
    fn profiles_lie_over_defaults_and_sets_over_profiles() {
        let (params, problems) = resolve(FILE, &["demo", "other"], &["model.hidden=64", "data=[a, 1]", "on="]);
        assert_eq!(problems, "");
        assert_eq!(
            Value::Object(params.0.into_iter().collect()),
            json!({"data": ["a", 1], "seed": 9, "model": {"layers": 2, "hidden": 64}, "on": null, "none": null})
        );
    }

    #[test]
    fn unknown_names_are_told_with_the_nearest_one() {
        let (_, problems) = resolve(FILE, &["dem"], &["sed=1", "model.layer=2", "seed", "model=3", "data=a: b: c"]);
        assert_eq!(
            problems,
            "--profile: there is no profile `dem` (did you mean `demo`?)\n\
             --set: `model` is a map of parameters, and 3 was given (set one of its keys: --set model.KEY=VALUE)\n\
             --set: `seed` has no `=`: write `--set key=value` ()\n\
             --set: the parameter `model` has no `layer` (did you mean `layers`?)\n\
             --set: the value of `data` can't be read: this is not YAML: mapping values are not allowed in this context (values are typed as YAML; put text in quotes: --set 'data=\"...\"')\n\
             --set: there is no parameter `sed` (did you mean `seed`?)\n"
        );
    }

    #[test]
    fn a_value_that_is_only_a_name_keeps_its_type() {
        let (params, _) = resolve(FILE, &[], &[]);
        let fill = |text: &str| params.fill_text(text).map_err(|(message, _)| message);
        assert_eq!(fill("${seed}"), Ok(json!(42)));
        assert_eq!(fill("${model}"), Ok(json!({"layers": 12, "hidden": 768})));
        assert_eq!(fill("${model.layers}"), Ok(json!(12)));
        assert_eq!(fill("a${seed}-${on}.${data}"), Ok(json!("a42-true.x.tsv")));
        assert_eq!(fill("$${seed} costs $5"), Ok(json!("${seed} costs $5")));
        assert_eq!(fill(""), Ok(json!("")));
        assert_eq!(fill("x${none}"), Err("the parameter `none` is nothing, and can't be part of a text".into()));
        assert_eq!(fill("${sead}"), Err("there is no parameter `sead`".into()));
        assert_eq!(fill("${seed"), Err("`${` without its `}`".into()));
        assert_eq!(fill("${a b}"), Err("`${a b}` names no parameter".into()));
    }

    #[test]
    fn parameters_stand_for_themselves() {
        let (_, problems) = resolve("params: {a: 1, b: 'x${a}', c d: 2}\nprofiles: {p: {x: 1}, q: 3}", &[], &[]);
        assert_eq!(
            problems,
            "p.yaml: a parameter can't refer to other parameters (use both parameters where the value is needed; `$${` stands for `${`)\n\
             p.yaml: \"c d\" can't be the name of a parameter (use letters, digits and `_`, starting with a letter)\n\
             p.yaml: there is no parameter `x`: a profile changes parameters that `params` has (parameters: `a`)\n\
             p.yaml: a profile is a map of parameters, not 3 ()\n"
        );
    }
}
