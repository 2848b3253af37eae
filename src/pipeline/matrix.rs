//! `matrix:` — one branch of a stage for each combination of values, and of the stages after it.

use super::diagnostics::{Diagnostics, Span};
use super::node::{Content, Entry, Node, describe};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// More branches of one stage are taken for a slip.
pub const MOST_BRANCHES: usize = 10_000;
/// More steps of one plan, too.
pub const MOST_STEPS: usize = 100_000;

/// A branch of more keys has no name: names end at 200 characters, four for each key.
const MOST_AXES: usize = 50;

/// One key of a stage's matrix.
#[derive(Debug, Clone)]
pub struct Axis {
    pub stage: String,
    pub key: String,
    pub key_span: Span,
    /// Each value as it stands in names, and as it goes into `with:`.
    pub choices: Vec<(String, Node)>,
}

/// Which value each axis has: indices into the list of all axes, and into its choices.
pub type Branch = BTreeMap<usize, usize>;

/// The matrix of a stage.
#[derive(Debug, Default)]
pub struct Matrix {
    pub axes: Vec<Axis>,
    /// Keys with values that can't be used, which has been reported: how many branches there are is not known then.
    pub wrong: Vec<String>,
}

/// Reads the matrix of a stage, its parameters filled in.
pub fn read(stage: &str, node: &Node, problems: &mut Diagnostics<'_>) -> Matrix {
    if !matches!(node.content, Content::Map(_) | Content::Invalid) && !node.is_null() {
        let found = node.describe();
        problems
            .at(node.span, format!("`matrix` is a map of lists, not {found}"))
            .help("for example: { per_bin: [3000, 25000] }");
    }
    let mut matrix = Matrix::default();
    for entry in node.entries() {
        match axis(stage, entry, problems) {
            Some(axis) => matrix.axes.push(axis),
            None => matrix.wrong.push(entry.key.clone()),
        }
    }
    matrix
}

fn axis(stage: &str, entry: &Entry, problems: &mut Diagnostics<'_>) -> Option<Axis> {
    let Entry { key, key_span, value } = entry;
    if let Some(name) = key.strip_prefix("param.") {
        problems
            .at(*key_span, format!("a matrix names a parameter without `param.`: `{key}`"))
            .help(format!("write `{name}`"));
        return None;
    }
    let Content::List(items) = &value.content else {
        if value.content != Content::Invalid {
            let found = value.describe();
            let one = match &value.content {
                Content::Scalar(Value::String(text)) if !text.contains(char::is_whitespace) => text.clone(),
                Content::Scalar(scalar @ (Value::Number(_) | Value::Bool(_))) => scalar.to_string(),
                _ => "VALUE".to_owned(),
            };
            problems
                .at(value.span, format!("`{key}` of a matrix is a list of values, not {found}"))
                .help(format!("write `{key}: [{one}]`, with a value for each branch"));
        }
        return None;
    };
    if items.is_empty() {
        problems.at(value.span, format!("`{key}` of a matrix has no values"));
        return None;
    }
    let mut choices: Vec<(String, Node)> = Vec::new();
    let mut seen = BTreeSet::new();
    for item in items {
        let text = match &item.content {
            Content::Invalid => return None,
            Content::Scalar(Value::String(text)) => text.clone(),
            Content::Scalar(scalar @ (Value::Number(_) | Value::Bool(_))) => scalar.to_string(),
            other => {
                let found = if let Content::Scalar(value) = other { describe(value) } else { item.describe() };
                problems.at(item.span, format!("a value of a matrix becomes part of names and has to be text, a number, true or false, not {found}"));
                return None;
            }
        };
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c)) {
            problems
                .at(item.span, format!("{text:?} can't become part of a stage's name"))
                .help("values of a matrix are written with letters, digits and `-_.+`");
            return None;
        }
        if !seen.insert(text.clone()) {
            problems.at(item.span, format!("{text} stands twice in `{key}` of this matrix"));
            return None;
        }
        choices.push((text, item.clone()));
    }
    Some(Axis { stage: stage.to_owned(), key: key.clone(), key_span: *key_span, choices })
}

/// All combinations over some axes, in the order of the file; `None` where they, or the axes, are too many.
pub fn branches(over: &BTreeSet<usize>, axes: &[Axis]) -> Option<Vec<Branch>> {
    if over.len() > MOST_AXES {
        return None;
    }
    let mut all = vec![Branch::new()];
    for &axis in over {
        let choices = axes[axis].choices.len();
        if all.len() * choices > MOST_BRANCHES {
            return None;
        }
        all = all
            .iter()
            .flat_map(|branch| {
                (0..choices).map(move |choice| branch.iter().map(|(&a, &c)| (a, c)).chain([(axis, choice)]).collect())
            })
            .collect();
    }
    Some(all)
}

/// What a branch adds to a name: `per_bin=3000,seed=1`; keys of the same name are told apart by their stages.
pub fn label(branch: &Branch, axes: &[Axis]) -> Option<String> {
    let part = |(&axis, &choice): (&usize, &usize)| {
        let Axis { stage, key, choices, .. } = &axes[axis];
        let shared = branch.keys().any(|&other| other != axis && axes[other].key == *key);
        let value = &choices[choice].0;
        if shared { format!("{stage}.{key}={value}") } else { format!("{key}={value}") }
    };
    (!branch.is_empty()).then(|| branch.iter().map(part).collect::<Vec<_>>().join(","))
}

/// The part of a branch that a stage with fewer axes has.
pub fn project(branch: &Branch, over: &BTreeSet<usize>) -> Branch {
    branch.iter().filter(|(axis, _)| over.contains(axis)).map(|(&a, &c)| (a, c)).collect()
}

/// Sets a parameter, `per_bin` or `model.layers`, in the map of a stage's `with:`.
pub fn set(with: &mut Node, key: &str, key_span: Span, value: &Node) {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    if !matches!(with.content, Content::Map(_)) {
        *with = Node::empty_map(value.span);
    }
    let Content::Map(entries) = &mut with.content else { unreachable!("made a map just now") };
    let at = entries.iter().position(|entry| entry.key == first).unwrap_or_else(|| {
        entries.push(Entry { key: first.to_owned(), key_span, value: Node::empty_map(value.span) });
        entries.len() - 1
    });
    match rest {
        Some(rest) => set(&mut entries[at].value, rest, key_span, value),
        None => entries[at] = Entry { key: first.to_owned(), key_span, value: value.clone() },
    }
}
