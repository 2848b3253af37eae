//! The parameters of a stage: given to the catalogue, its complaints brought back to their places in the file.

use super::command;
use super::diagnostics::{Diagnostics, Span};
use super::nearest::suggestion;
use super::node::{Content, Node};
use super::not_yaml::joined;
use super::spec::StageSpec;
use crate::stages::{ParamProblem, StageKind};
use serde_json::{Map, Value};

/// Makes a stage of its parameters, told which inputs are connected. `None` where something is wrong, now reported.
///
/// `with` is what the user wrote, for positions; `params` is what the catalogue reads. Of `told` parameters enough has
/// been said.
pub fn make(
    spec: &StageSpec,
    uses: &str,
    with: &Node,
    params: &Map<String, Value>,
    connected: &[&str],
    told: &[String],
    problems: &mut Diagnostics<'_>,
) -> Option<StageKind> {
    if with.has_invalid() {
        return None;
    }
    let mut complaints = Vec::new();
    let mut kind = match StageKind::parse(uses, params)? {
        Ok(kind) => Some(kind),
        Err(found) => {
            complaints = found;
            None
        }
    };
    if let Some(kind) = &mut kind {
        let given: Vec<&str> = with.entries().iter().map(|entry| entry.key.as_str()).collect();
        complaints = kind.settle(connected, &given);
    }
    for complaint in complaints.iter().filter(|complaint| !told.contains(&complaint.param)) {
        report(spec, uses, with, complaint, problems);
    }
    kind.filter(|_| complaints.is_empty())
}

/// `with:` as a map of parameters. `None` where it is something else, now reported.
pub fn params_of(with: &Node, problems: &mut Diagnostics<'_>) -> Option<Map<String, Value>> {
    match &with.content {
        Content::Map(_) => match with.to_value() {
            Value::Object(map) => Some(map),
            _ => None,
        },
        Content::Scalar(Value::Null) => Some(Map::new()),
        Content::Invalid => None,
        _ => {
            let found = with.describe();
            problems.at(with.span, format!("`with` is a map of parameters, not {found}")).help =
                with.text().and_then(|text| joined(text, &[]).or_else(|| joined(text, &command::KEYS)));
            None
        }
    }
}

fn report(spec: &StageSpec, uses: &str, with: &Node, complaint: &ParamProblem, problems: &mut Diagnostics<'_>) {
    let ParamProblem { param, message } = complaint;
    let place = find(with, param);
    let defaults = StageKind::defaults(uses).unwrap_or_default();
    if let Some(siblings) = unknown(&defaults, param).filter(|_| complaint.is_unknown()) {
        let last = param.rsplit('.').next().unwrap_or(param);
        let group = param.strip_suffix(last).map_or("", |group| group.trim_end_matches('.'));
        let of = if group.is_empty() { format!("`{uses}`") } else { format!("`{group}` of `{uses}`") };
        let what = if siblings.is_empty() { "parameters" } else { "its parameters" };
        problems
            .at(place.map_or(spec.span, |(key, _)| key), format!("{of} has no parameter `{last}`"))
            .help(suggestion(last, siblings.iter().map(String::as_str), what));
        return;
    }
    let span = place.map_or(spec.span, |(_, value)| value);
    let (message, help) = clean(message);
    let message = match param.as_str() {
        "" => message,
        // Some messages name their parameter themselves.
        param if message.contains(&format!("`{param}`")) => message,
        param => format!("`{param}`: {message}"),
    };
    let message = if place.is_none() { format!("the stage `{}`: {message}", spec.name) } else { message };
    problems.at(span, message).help = help;
}

/// The places of key and value of a dotted parameter, as deep as the file goes.
fn find(with: &Node, param: &str) -> Option<(Span, Span)> {
    let (mut node, mut place) = (with, None);
    for part in param.split('.') {
        let Some(entry) = node.get(part) else { break };
        place = Some((entry.key_span, entry.value.span));
        node = &entry.value;
    }
    place
}

/// The parameters beside one that does not exist; `None` where it does.
fn unknown(defaults: &Map<String, Value>, param: &str) -> Option<Vec<String>> {
    let mut group = defaults;
    for part in param.split('.').filter(|part| !part.is_empty()) {
        match group.get(part) {
            None => return Some(group.keys().cloned().collect()),
            Some(Value::Object(inner)) => group = inner,
            Some(_) => return None,
        }
    }
    None
}

/// Puts serde's wording into the words of a pipeline file.
fn clean(message: &str) -> (String, Option<String>) {
    let message = message.rfind(" at line ").map_or(message, |at| &message[..at]);
    if let Some(rest) = message.strip_prefix("unknown variant `")
        && let Some((found, expected)) = rest.split_once("`, expected ")
    {
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        return (format!("there is no choice `{found}`"), Some(suggestion(found, known.iter().copied(), "choices")));
    }
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = rest.and_then(|rest| rest.rsplit_once(", expected ")) {
        return (format!("expected {}, found {}", expected_in_words(expected), found_in_words(found)), None);
    }
    (message.to_owned(), None)
}

fn expected_in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "text",
        "a sequence" => "a list",
        "string or map" => "one of its choices, as text",
        other if other.starts_with("struct ") => "a map",
        other => other,
    }
}

fn found_in_words(found: &str) -> String {
    if let Some(text) = found.strip_prefix("string ") {
        return format!("the text {text}");
    }
    for kind in ["integer ", "floating point ", "boolean "] {
        if let Some(value) = found.strip_prefix(kind) {
            return value.trim_matches('`').to_owned();
        }
    }
    match found {
        "null" | "unit value" | "Option value" => "nothing".to_owned(),
        "map" => "a map".to_owned(),
        "sequence" => "a list".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(uses: &str, params: Value) -> String {
        let Value::Object(map) = params else { panic!("a map") };
        let complaints = StageKind::parse(uses, &map).expect("a stage").expect_err("wrong");
        clean(&complaints[0].message).0
    }

    #[test]
    fn serdes_wording_becomes_ours() {
        assert_eq!(
            message("train", json!({"epochs": "abc"})),
            "expected a whole number, 0 or more, found the text \"abc\""
        );
        assert_eq!(message("train", json!({"epochs": -1})), "expected a whole number, 0 or more, found -1");
        assert_eq!(message("train", json!({"shuffle": 1})), "expected true or false, found 1");
        assert_eq!(message("train", json!({"learning_rate": [1]})), "expected a number, found a list");
        assert_eq!(message("train", json!({"loss": "hubert"})), "there is no choice `hubert`");
        assert_eq!(message("train", json!({"model": 3})), "expected a map, found 3");
        assert_eq!(message("report", json!({"title": null})), "expected text, found nothing");
    }
}
