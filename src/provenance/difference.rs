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
    /// Of an input: what makes the new one, `split.train`, or the path of the user's file. Of a stage that one run has
    /// alone: the one of the other that it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// All fields in which two manifests differ: code, device, parameters (dotted), inputs; what follows from others last.
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
    let has_text = found.iter().any(|one| one.what == "param" && TEXTS.contains(&one.name.as_str()));
    found.sort_by_key(|one| one.follows(has_text));
    found
}

/// What stands as a missing object's name where nothing was lost: the reason itself.
pub const GIVEN_UP: &str = "given up by `cache gc`";

/// The parameters of a command that say what it does.
const TEXTS: [&str; 2] = ["run", "argv"];
/// Where a command's manifest keeps the values of parameters that it uses.
const VALUES: &str = "values.";

impl Because {
    /// Whether it follows from what the user changed elsewhere: a file's ending, a value that a changed text uses now.
    fn follows(&self, has_text: bool) -> bool {
        let is_new_value = has_text && (self.old.is_null() || self.new.is_null());
        self.what == "param"
            && (self.name.starts_with("endings.")
                || self.name.starts_with("out.")
                || (self.name.starts_with(VALUES) && is_new_value))
    }
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
        "param" => format!("{}: {}", name.strip_prefix(VALUES).unwrap_or(name), change(old, new)),
        "input" => {
            let from = from.as_ref().map(|from| format!(" ({})", from.chars().flat_map(visible).collect::<String>()));
            format!("input {name}{}: {} -> {}", from.unwrap_or_default(), short(old), short(new))
        }
        "code" => format!("code of {name}: {} -> {}", short(old), short(new)),
        "device" => format!("device: {} -> {}", short(old), short(new)),
        "forced" => "forced".to_owned(),
        "missing-object" if name == GIVEN_UP => GIVEN_UP.to_owned(),
        "missing-object" => format!("missing or damaged: {name}"),
        "upstream" => format!("waits for {name}"),
        "stage" => {
            let word = if old.is_null() { "added" } else { "removed" };
            from.as_ref().map_or_else(|| word.to_owned(), |base| format!("{word}; against {base}"))
        }
        "outcome" => format!("{} before, {} now", ending(old), ending(new)),
        "key" => "another action, of which one manifest is lost".to_owned(),
        other => format!("{other} {name}: {} -> {}", short(old), short(new)),
    }
}

/// The outcome of a step, as records have it, in words.
pub fn ending(outcome: &Value) -> &str {
    match outcome.as_str().unwrap_or_default() {
        "hit" => "served from the cache",
        "cancelled" => "interrupted",
        other => other,
    }
}

/// The first of several reasons in words, so short that it fits a line of a table.
pub fn brief(reasons: &[String]) -> Option<String> {
    let first = reasons.first()?;
    // What a long text was and is says nothing in so little room.
    let text = TEXTS.into_iter().find(|name| first.strip_prefix(name).is_some_and(|rest| rest.starts_with(": ")));
    let first = text.map_or_else(|| first.clone(), |name| format!("`{name}` changed"));
    Some(match reasons.len() - 1 {
        0 => first,
        more => format!("{first} and {more} more"),
    })
}

/// Two values; of long texts the part in which they differ.
fn change(old: &Value, new: &Value) -> String {
    if let (Value::String(a), Value::String(b)) = (old, new)
        && (a.chars().count() > LONG || b.chars().count() > LONG)
        && a.parse::<Digest>().is_err()
    {
        let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
        if same > LONG / 2 {
            // A few characters before, to see where.
            let from = |text: &str| Value::String("...".chars().chain(text.chars().skip(same - 12)).collect());
            return format!("{} -> {}", short(&from(a)), short(&from(b)));
        }
    }
    format!("{} -> {}", short(old), short(new))
}

/// Longer texts don't fit a line.
const LONG: usize = 60;

/// A value that fits a line: digests and long texts are cut.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => match text.parse::<Digest>() {
            Ok(digest) => digest.short(),
            Err(_) if text.chars().count() > LONG => {
                format!("{:?}", text.chars().take(LONG - 3).chain("...".chars()).collect::<String>())
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
    fn what_the_user_changed_comes_first_and_the_rest_is_counted() {
        let command = |params: Value| {
            let mut command = manifest("command", &[("rows", Digest::of(b"a"))]);
            command.params = serde_json::from_value(params).expect("a map");
            command
        };
        let run = |end: &str| format!("python3 {{in.script}} --min {{param.min_score}} --all-of-it --and-more {end}");
        let old = command(json!({"endings": {"rows": ".tsv"}, "values": {"min_score": "1"}, "run": run("a")}));
        let new = command(json!({"endings": {"rows": ".tsv.gz"}, "values": {"min_score": "2"}, "run": run("a")}));
        let words = |old, new| -> Vec<String> { differences(old, new).iter().map(in_words).collect() };
        assert_eq!(words(&old, &new), ["min_score: 1 -> 2", "endings.rows: .tsv -> .tsv.gz"]);
        assert_eq!(brief(&words(&old, &new)).as_deref(), Some("min_score: 1 -> 2 and 1 more"));
        let text = command(json!({"endings": {"rows": ".tsv"}, "values": {}, "run": run("b")}));
        let found = words(&old, &text);
        assert_eq!(brief(&found).as_deref(), Some("`run` changed and 2 more"));
        assert_eq!(found[0], "run: ... --and-more a -> ... --and-more b");
        assert_eq!(brief(&[]), None);
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
