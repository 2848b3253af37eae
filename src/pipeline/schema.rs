//! The JSON Schema of pipeline files, made from the catalogue of stages, for editors and for checks elsewhere.

use super::wiring::in_words;
use crate::artifact::Format;
use crate::collective::MOST_RANKS;
use crate::stages::StageKind;
use serde_json::{Map, Value, json};

/// Makes the schema; equal catalogues give equal values.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    definitions.insert(
        "parameter".to_owned(),
        json!({ "description": "the value of a parameter of the pipeline", "type": "string", "pattern": r"\$\{" }),
    );
    let (mut kinds, mut abouts) = (Vec::new(), Vec::new());
    for (name, schema) in StageKind::schemas() {
        let with = with_schema(schema.to_value(), &mut definitions);
        abouts.push(with["description"].clone());
        kinds.push(stage_kind(name, with));
    }
    definitions.insert("stage".to_owned(), stage(kinds, &abouts));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cistage pipeline",
        "type": "object",
        "required": ["cistage", "stages"],
        "additionalProperties": false,
        "properties": {
            "cistage": { "description": "the version of the file's form", "const": 1 },
            "name": { "description": "the name in records; the file's own name where absent", "type": "string" },
            "about": { "description": "one line about the pipeline", "type": "string" },
            "params": {
                "description": "values that ${name} stands for in the stages; chosen with --set name=value",
                "type": ["object", "null"],
                "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$" }
            },
            "profiles": {
                "description": "other values for params, chosen together with --profile",
                "type": ["object", "null"],
                "additionalProperties": { "type": ["object", "null"] }
            },
            "stages": {
                "description": "the work: a name for each stage, what it uses, what it reads, its parameters",
                "type": "object",
                "minProperties": 1,
                "propertyNames": { "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,63}$" },
                "additionalProperties": { "$ref": "#/$defs/stage" }
            },
            "verify": {
                "description": "which files a run reads to know that they are what they were: those that look changed, or all of them",
                "enum": ["changed", "always"]
            },
            "publish": {
                "description": "path below the working directory: STAGE.PORT, placed there after a successful run",
                "type": ["object", "null"],
                "additionalProperties": { "type": "string" }
            }
        },
        "$defs": definitions
    })
}

/// What all stages have; the rest depends on `uses`. `abouts` says what each stage of the catalogue does.
fn stage(kinds: Vec<Value>, abouts: &[Value]) -> Value {
    let formats: Vec<&str> = Format::ALL.iter().map(|format| format.as_str()).collect();
    json!({
        "type": "object",
        "required": ["uses"],
        "additionalProperties": false,
        "properties": {
            "uses": {
                "description": "the stage of the catalogue",
                "enum": StageKind::NAMES,
                // No keyword of JSON Schema: editors show these over a name, and beside the names that they offer.
                "enumDescriptions": abouts
            },
            "in": { "description": "port: STAGE.PORT or a path", "type": ["object", "string", "null"], "additionalProperties": { "type": ["string", "null"] } },
            "with": { "description": "parameters of the stage", "type": ["object", "string", "null"] },
            "when": {
                "description": "false leaves the stage out",
                "anyOf": [{ "type": "boolean" }, { "$ref": "#/$defs/parameter" }]
            },
            "matrix": {
                "description": "one branch of the stage, and of those after it, for each combination of these parameters",
                "type": ["object", "string", "null"],
                "additionalProperties": { "anyOf": [
                    { "type": "array", "minItems": 1, "items": { "type": ["string", "number", "boolean"] } },
                    { "$ref": "#/$defs/parameter" }
                ] }
            },
            "out": {
                "description": "outputs of a command: where the program leaves them in its work directory",
                "type": "object",
                "additionalProperties": { "anyOf": [
                    { "type": "string" },
                    {
                        "type": "object",
                        "required": ["path"],
                        "additionalProperties": false,
                        "properties": { "path": { "type": "string" }, "format": { "enum": formats } }
                    }
                ] }
            },
            "secrets": {
                "description": "environment variables whose values a command sees and nothing keeps: a list of names, or NAME: VERSION to be raised when the stage has to run again",
                "anyOf": [
                    { "type": "array", "items": { "type": "string" } },
                    { "type": "object", "additionalProperties": { "type": ["string", "number", "null"] } }
                ]
            },
            "ranks": {
                "description": "processes that share a training, by MPI; part of its key",
                "anyOf": [{ "type": "integer", "minimum": 1, "maximum": MOST_RANKS }, { "$ref": "#/$defs/parameter" }]
            },
            "resources": {
                "description": "what the stage may use; never part of a key",
                "type": ["object", "string", "null"],
                "additionalProperties": false,
                "properties": {
                    "cpus": { "description": "processors", "anyOf": [{ "type": "integer", "minimum": 1 }, { "$ref": "#/$defs/parameter" }] },
                    "memory": { "description": "500MB, 2GiB, or bytes", "type": ["string", "integer"] },
                    "gpus": { "description": "GPUs", "anyOf": [{ "type": "integer", "minimum": 0 }, { "$ref": "#/$defs/parameter" }] },
                    "time": { "description": "90s, 30m, 1h30m", "type": "string" }
                }
            },
            "executor": {
                "description": "where the stage runs, if not where --executor says; never part of a key",
                "type": ["string", "null"],
                "anyOf": [{ "enum": ["local", "slurm", null] }, { "$ref": "#/$defs/parameter" }]
            },
            "hint": { "description": "what to do when an input file of this stage is missing", "type": "string" },
            "about": { "description": "one line about the stage", "type": "string" }
        },
        "allOf": kinds
    })
}

/// The part of a stage that depends on `uses`: its ports and its parameters.
fn stage_kind(name: &str, with: Value) -> Value {
    let contract = StageKind::contract(name).expect("a name of the catalogue");
    let port = |format: Format, required: bool| {
        let text = format!("{}: STAGE.PORT or a path", in_words(format));
        json!({ "description": text, "type": if required { json!("string") } else { json!(["string", "null"]) } })
    };
    let ports: Map<String, Value> =
        contract.inputs.iter().map(|input| (input.name.to_owned(), port(input.format, input.required))).collect();
    let required: Vec<&str> = contract.inputs.iter().filter(|port| port.required).map(|port| port.name).collect();
    let more = contract.more_inputs.map_or(Value::Bool(false), |format| port(format, false));
    let mut then = json!({
        "properties": {
            "in": { "properties": ports, "required": required, "additionalProperties": more },
            "with": with
        }
    });
    if !required.is_empty() {
        then["required"] = json!(["in"]);
    }
    if name == "command" {
        then["required"] = json!(["with", "out"]);
    } else {
        then["properties"]["out"] = Value::Bool(false);
        then["properties"]["secrets"] = Value::Bool(false);
    }
    if name != "train" {
        then["properties"]["ranks"] = Value::Bool(false);
    }
    json!({ "if": { "properties": { "uses": { "const": name } } }, "then": then })
}

/// A stage's parameters as they stand in a file: each may be `${name}`, and none but a command's has to be there.
fn with_schema(mut schema: Value, definitions: &mut Map<String, Value>) -> Value {
    if let Some(Value::Object(own)) = schema.as_object_mut().and_then(|map| map.remove("$defs")) {
        for (name, mut definition) in own {
            open(&mut definition);
            definitions.insert(name, definition);
        }
    }
    open(&mut schema);
    if let Some(map) = schema.as_object_mut() {
        for key in ["$schema", "title"] {
            map.remove(key);
        }
        map.insert("type".to_owned(), json!(["object", "string", "null"]));
    }
    schema
}

/// Lets every property be given by a parameter of the pipeline.
fn open(schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for property in properties.values_mut() {
        let mut inner = property.take();
        open(&mut inner);
        let mut outer = Map::new();
        for key in ["description", "default"] {
            if let Some(value) = inner.as_object_mut().and_then(|map| map.remove(key)) {
                outer.insert(key.to_owned(), value);
            }
        }
        outer.insert("anyOf".to_owned(), json!([inner, { "$ref": "#/$defs/parameter" }]));
        *property = Value::Object(outer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_schema_beside_the_pipelines_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/schema.json");
        let current = serde_json::to_string_pretty(&schema()).expect("plain data") + "\n";
        if std::env::var_os("CISTAGE_UPDATE").is_some() {
            fs_err::write(&path, &current).expect("the repository can be written");
        }
        let stored = fs_err::read_to_string(&path).unwrap_or_default();
        assert!(stored == current, "pipelines/schema.json is stale: run `make schema`");
    }

    #[test]
    fn every_reference_of_the_schema_leads_somewhere() {
        fn check(value: &Value, root: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                        assert!(root.pointer(target.trim_start_matches('#')).is_some(), "{target}");
                    }
                    map.values().for_each(|value| check(value, root));
                }
                Value::Array(items) => items.iter().for_each(|value| check(value, root)),
                _ => {}
            }
        }
        let schema = schema();
        check(&schema, &schema);
        assert_eq!(schema["$defs"]["stage"]["allOf"].as_array().map(Vec::len), Some(StageKind::NAMES.len()));
    }
}
