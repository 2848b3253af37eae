//! Lenient reading of metrics: what is missing or of another type is simply not there.

use serde_json::Value;

/// A finite number under `key`.
pub fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::as_f64).filter(|v| v.is_finite())
}

/// The first of `keys` that holds a number.
pub fn any_number(value: &Value, keys: &[&str]) -> Option<f64> {
    keys.iter().find_map(|key| number(value, key))
}

/// The entries under `key` that are objects.
pub fn objects<'v>(value: &'v Value, key: &str) -> Vec<&'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().filter(|v| v.is_object()).collect()
}

/// The members under `key` that are objects, in the order people expect.
pub fn members<'v>(value: &'v Value, key: &str) -> Vec<(&'v str, &'v Value)> {
    let mut members: Vec<(&str, &Value)> = value
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, v)| v.is_object())
        .map(|(name, v)| (name.as_str(), v))
        .collect();
    members.sort_by(|a, b| super::order::by_name(a.0, b.0));
    members
}

/// A bin as people see it: its number from 1, and the range of values.
pub struct Bin<'v> {
    pub number: String,
    pub range: String,
    pub value: &'v Value,
}

/// The bins of an evaluation or of a sample.
pub fn bins(value: &Value) -> Vec<Bin<'_>> {
    let bins = objects(value, "bins");
    // Bins are shown from 1; a writer that counts from 0 is put right by its first bin.
    let shift = if bins.first().and_then(|bin| number(bin, "bin")) == Some(0.0) { 1.0 } else { 0.0 };
    bins.into_iter()
        .enumerate()
        .map(|(i, value)| {
            let at = number(value, "bin").map_or((i + 1) as f64, |bin| bin + shift);
            let range = match (number(value, "from"), number(value, "to")) {
                (Some(from), Some(to)) => format!("{} – {}", plain(from), plain(to)),
                (Some(from), None) => format!("from {}", plain(from)),
                (None, Some(to)) => format!("up to {}", plain(to)),
                (None, None) => String::new(),
            };
            Bin { number: plain(at), range, value }
        })
        .collect()
}

fn plain(value: f64) -> String {
    format!("{value}")
}
