//! The reference of stages in README.md is made from the program, so that it can't be out of date.

use cistage::artifact::Format;
use cistage::stages::StageKind;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::Path;

const BEGIN: &str = "<!-- stages: made by `make schema`, checked by tests/it/readme.rs -->\n";
const END: &str = "<!-- end of stages -->\n";

/// What a stage that can't do without some parameter is given here.
fn minimal(name: &str) -> Map<String, Value> {
    let with = match name {
        "sample-bins" => json!({ "per_bin": 1 }),
        "command" => json!({ "run": "true" }),
        _ => json!({}),
    };
    with.as_object().expect("an object").clone()
}

fn reference() -> String {
    let schemas = StageKind::schemas();
    let mut text = String::new();
    for name in StageKind::NAMES {
        let kind = StageKind::parse(name, &minimal(name)).expect("a stage").expect("defaults are valid");
        let contract = kind.stage().contract();
        let schema = schemas.iter().find(|(stage, _)| stage == name).map(|(_, schema)| schema.as_value());
        let about = schema.and_then(|schema| schema.get("description")?.as_str()).unwrap_or_default();
        let first_line = about.lines().next().unwrap_or_default();
        let _ = writeln!(text, "- **`{name}`**: {first_line}");

        let port = |name: &str, format: Format| format!("`{name}` ({format})");
        let mut inputs: Vec<String> = Vec::new();
        for input in &contract.inputs {
            let optional = if input.required { "" } else { "optional " };
            inputs.push(format!("{optional}{}", port(input.name, input.format)));
        }
        if let Some(format) = contract.more_inputs {
            inputs.push(match format {
                Format::Raw => "any number of anything, each under a name of your choice".to_owned(),
                Format::Model => "any number of models, each under a name of your choice".to_owned(),
                format => format!("any number of {format}, each under a name of your choice"),
            });
        }
        let outputs: Vec<String> = contract.outputs.iter().map(|(name, format)| port(name, *format)).collect();
        let outputs = if outputs.is_empty() { vec!["as declared under `out:`".to_owned()] } else { outputs };
        let mut params = Vec::new();
        for (key, default) in StageKind::defaults(name).unwrap_or_default() {
            // Not in the schema: filled in by the plan, not the user's to give.
            if schema.is_none_or(|schema| schema.pointer(&format!("/properties/{key}")).is_none()) {
                continue;
            }
            let needed = minimal(name).contains_key(&key) && !default.is_null();
            let choices = schema.map(|schema| choices(schema, &key)).unwrap_or_default();
            list_params(&key, &default, &choices, needed, &mut params);
        }
        for (title, parts) in [("in", inputs), ("with", params), ("out", outputs)] {
            if !parts.is_empty() {
                let _ = writeln!(text, "  - {title}: {}", parts.join(", "));
            }
        }
    }
    text
}

/// The other values that a parameter may have, where they are few.
fn choices(schema: &Value, key: &str) -> Vec<String> {
    let property = schema.pointer(&format!("/properties/{key}"));
    let reference = property.and_then(|property| property.get("$ref")?.as_str()?.strip_prefix('#'));
    let Some(definition) = reference.and_then(|path| schema.pointer(path)) else { return Vec::new() };
    let one_of = definition.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let values = one_of.flat_map(|choice| match choice.get("enum").and_then(Value::as_array) {
        Some(values) => values.iter().collect(),
        None => choice.get("const").into_iter().collect::<Vec<_>>(),
    });
    let plain = definition.get("enum").and_then(Value::as_array).into_iter().flatten();
    values.chain(plain).filter_map(|value| Some(value.as_str()?.to_owned())).collect()
}

fn list_params(name: &str, default: &Value, choices: &[String], needed: bool, params: &mut Vec<String>) {
    match default {
        Value::Object(group) if !group.is_empty() => {
            for (key, value) in group {
                list_params(&format!("{name}.{key}"), value, &[], false, params);
            }
        }
        _ if needed => params.push(format!("`{name}` (has to be given)")),
        Value::Null | Value::Object(_) => params.push(format!("`{name}`")),
        Value::Array(entries) if entries.is_empty() => params.push(format!("`{name}`")),
        Value::String(text) if text.is_empty() => params.push(format!("`{name}`")),
        Value::String(text) => {
            let others: Vec<&str> = choices.iter().map(String::as_str).filter(|choice| choice != text).collect();
            let others = if others.is_empty() { String::new() } else { format!("; or {}", others.join(", ")) };
            params.push(format!("`{name}` ({text}{others})"));
        }
        other => params.push(format!("`{name}` ({other})")),
    }
}

#[test]
fn the_reference_of_stages_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs_err::read_to_string(&path).expect("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("README.md has the mark where the reference begins");
    let (written, after) = rest.split_once(END).expect("README.md has the mark where the reference ends");
    let current = reference();
    if std::env::var_os("CISTAGE_UPDATE").is_some() {
        fs_err::write(&path, format!("{before}{BEGIN}{current}{END}{after}")).expect("README.md can be written");
        return;
    }
    assert!(written == current, "README.md is out of date: run `make schema`. It should say\n{current}");
}
