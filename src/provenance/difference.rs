//! Why two actions differ: a comparison of their manifests, field by field.

use crate::action::ActionManifest;
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One thing that differs between two manifests, or another reason to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Because {
    /// `new`, `param`, `input`, `code`, `device`, `forced`, `missing-object`, `upstream`.
    pub what: String,
    /// The parameter (dotted), the port, the stage.
    pub name: String,
    pub old: Value,
    pub new: Value,
    /// Of an input: what makes the new one, `split.train`, or the path of the user's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// All fields in which two manifests differ: code, device, parameters (dotted), inputs.
pub fn differences(old: &ActionManifest, new: &ActionManifest) -> Vec<Because> {
    let mut found = Vec::new();
    let mut compare = |what: &str, name: &str, old: Value, new: Value| {
        if old != new {
            found.push(Because { what: what.to_owned(), name: name.to_owned(), old, new, from: None });
        }
    };
    if old.stage != new.stage {
        compare("code", "uses", old.stage.clone().into(), new.stage.clone().into());
    }
    compare("code", "version", old.version.into(), new.version.into());
    compare("code", "schema", old.schema.clone().into(), new.schema.clone().into());
    compare("device", "target", old.target.clone().into(), new.target.clone().into());
    both(&flat(&old.params), &flat(&new.params), |name, old, new| compare("param", name, old, new));
    let inputs = |manifest: &ActionManifest| -> BTreeMap<String, Value> {
        manifest.inputs.iter().map(|(port, digest)| (port.to_string(), digest.to_string().into())).collect()
    };
    both(&inputs(old), &inputs(new), |name, old, new| compare("input", name, old, new));
    found
}

/// Walks the names of both maps; what one lacks is null.
fn both(old: &BTreeMap<String, Value>, new: &BTreeMap<String, Value>, mut visit: impl FnMut(&str, Value, Value)) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let of = |map: &BTreeMap<String, Value>| map.get(name).cloned().unwrap_or(Value::Null);
        visit(name, of(old), of(new));
    }
}

/// Parameters by dotted name: `model.layers`.
fn flat(params: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    fn walk(name: &str, value: &Value, flat: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(group) if !group.is_empty() => {
                group.iter().for_each(|(key, value)| walk(&format!("{name}.{key}"), value, flat));
            }
            leaf => {
                flat.insert(name.to_owned(), leaf.clone());
            }
        }
    }
    let mut flat = BTreeMap::new();
    params.iter().for_each(|(name, value)| walk(name, value, &mut flat));
    flat
}

/// Says a reason in words.
pub fn in_words(reason: &Because) -> String {
    let Because { what, name, old, new, from } = reason;
    match what.as_str() {
        "new" => "it has no result yet".to_owned(),
        "param" => format!("{name}: {} -> {}", short(old), short(new)),
        "input" => {
            let from = from.as_ref().map(|from| format!(" ({})", from.chars().flat_map(visible).collect::<String>()));
            format!("input {name}{}: {} -> {}", from.unwrap_or_default(), short(old), short(new))
        }
        "code" => format!("code of {name}: {} -> {}", short(old), short(new)),
        "device" => format!("device: {} -> {}", short(old), short(new)),
        "forced" => "forced".to_owned(),
        "missing-object" => format!("missing or damaged: {name}"),
        "upstream" => format!("waits for {name}"),
        other => format!("{other} {name}: {} -> {}", short(old), short(new)),
    }
}

/// A value that fits a line: digests and long texts are cut.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => match text.parse::<Digest>() {
            Ok(digest) => digest.short(),
            Err(_) if text.chars().count() > 60 => {
                format!("{:?}", text.chars().take(57).chain("...".chars()).collect::<String>())
            }
            Err(_) => text.chars().flat_map(visible).collect(),
        },
        other => other.to_string(),
    }
}

/// A terminal obeys control characters: they are shown as escapes.
fn visible(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::manifest;
    use crate::digest::Digest;
    use serde_json::json;

    #[test]
    fn every_difference_is_named_once_and_equal_manifests_have_none() {
        let mut old = manifest("train", &[("train", Digest::of(b"a")), ("init", Digest::of(b"i"))]);
        old.params.insert("model".into(), json!({"layers": 2, "hidden": 64}));
        let mut new = manifest("train", &[("train", Digest::of(b"b"))]);
        new.params.insert("model".into(), json!({"layers": 3, "hidden": 64}));
        new.version = 2;
        new.target = Some("cpu-avx2".into());
        let found: Vec<String> =
            differences(&old, &new).iter().map(|b| format!("{} {} {} {}", b.what, b.name, b.old, b.new)).collect();
        let text = |bytes: &[u8]| format!("\"{}\"", Digest::of(bytes));
        assert_eq!(
            found,
            [
                "code version 1 2".to_owned(),
                "device target null \"cpu-avx2\"".to_owned(),
                "param model.layers 2 3".to_owned(),
                format!("input init {} null", text(b"i")),
                format!("input train {} {}", text(b"a"), text(b"b")),
            ]
        );
        assert_eq!(differences(&old, &old), []);
    }

    #[test]
    fn reasons_read_as_words() {
        let because = |what: &str, name: &str, old: Value, new: Value| Because {
            what: what.to_owned(),
            name: name.to_owned(),
            old,
            new,
            from: None,
        };
        let digest = |text: &str| Value::String(Digest::of(text.as_bytes()).to_string());
        assert_eq!(in_words(&because("param", "per_bin", 3000.into(), 25000.into())), "per_bin: 3000 -> 25000");
        let mut input = because("input", "rows", digest("a"), digest("b"));
        let change = format!("{} -> {}", Digest::of(b"a").short(), Digest::of(b"b").short());
        assert_eq!(in_words(&input), format!("input rows: {change}"));
        input.from = Some("split.train".to_owned());
        assert_eq!(in_words(&input), format!("input rows (split.train): {change}"));
    }
}
