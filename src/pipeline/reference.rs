//! The generated part of `docs/pipeline-reference.md`: stages, ports and parameters as the catalogue has them.

use super::wiring::in_words;
use crate::stages::StageKind;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

const BEGIN: &str = "<!-- generated from the catalogue by `make schema` -->\n";
const END: &str = "<!-- end of the generated part -->\n";

fn stages() -> String {
    let mut text = String::new();
    for (name, schema) in StageKind::schemas() {
        let contract = StageKind::contract(name).expect("a name of the catalogue");
        let schema = schema.to_value();
        let about = schema["description"].as_str().and_then(|text| text.lines().next()).unwrap_or_default();
        writeln!(text, "\n### `{name}`\n\n{about}\n").expect("text grows");
        let mut inputs: Vec<String> = contract
            .inputs
            .iter()
            .map(|port| {
                format!("`{}` ({}{})", port.name, in_words(port.format), if port.required { "" } else { "; optional" })
            })
            .collect();
        if let Some(format) = contract.more_inputs {
            inputs.push(format!("any number under names of your own ({})", in_words(format)));
        }
        let mut outputs: Vec<String> =
            contract.outputs.iter().map(|(port, format)| format!("`{port}` ({})", in_words(*format))).collect();
        if name == "command" {
            outputs.push("as declared under `out`".to_owned());
        }
        let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
        writeln!(text, "in: {}\n\nout: {}", list(inputs), list(outputs)).expect("text grows");
        let defaults = StageKind::defaults(name).expect("a name of the catalogue");
        let properties = schema["properties"].as_object().cloned().unwrap_or_default();
        if !properties.is_empty() {
            writeln!(text, "\n| parameter | default | |\n|---|---|---|").expect("text grows");
        }
        for (key, property) in properties {
            let default = match &defaults[&key] {
                Value::Null => "none".to_owned(),
                value => format!("`{value}`"),
            };
            let about = property["description"].as_str().unwrap_or_default().replace('\n', " ");
            writeln!(text, "| `{key}` | {default} | {about} |").expect("text grows");
        }
    }
    text
}

#[test]
fn the_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pipeline-reference.md");
    let stored = fs_err::read_to_string(&path).expect("the reference is part of the repository");
    let (before, rest) = stored.split_once(BEGIN).expect("the marker before the generated part");
    let (_, after) = rest.split_once(END).expect("the marker after it");
    let current = format!("{before}{BEGIN}{}\n{END}{after}", stages());
    if std::env::var_os("CISTAGE_UPDATE").is_some() {
        fs_err::write(&path, &current).expect("the repository can be written");
        return;
    }
    assert!(stored == current, "docs/pipeline-reference.md is stale: run `make schema`");
}
