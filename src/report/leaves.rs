//! The numbers of a metrics file under dotted names.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The numbers in some metrics, and where they say that something is constant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leaves {
    /// `models.after.pearson` -> value.
    pub numbers: BTreeMap<String, f64>,
    /// Dotted names of objects with `"constant": true`.
    pub constant: BTreeSet<String>,
}

/// Fields of an array's entries worth a mean, a total: `bins.mean_mse`, `bins.total_rows`.
const AVERAGED: [&str; 2] = ["mse", "mae"];
const TOTALLED: [&str; 2] = ["before", "after"];

/// Collects every number under its dotted name; of an array only its summary.
///
/// Epochs are summarised by the last one, bins by mean errors (each bin weighing the same, so that
/// the crowded middle does not hide the ends) and total counts. Other arrays are series, not figures.
pub fn collect(value: &Value) -> Leaves {
    let mut leaves = Leaves::default();
    walk(value, "", &mut leaves);
    leaves
}

fn walk(value: &Value, name: &str, leaves: &mut Leaves) {
    match value {
        Value::Number(number) => {
            if let Some(number) = number.as_f64().filter(|n| n.is_finite()) {
                leaves.numbers.insert(name.to_owned(), number);
            }
        }
        Value::Object(members) => {
            if members.get("constant") == Some(&Value::Bool(true)) {
                leaves.constant.insert(name.to_owned());
            }
            // How intervals were drawn is no result.
            for (key, value) in members.iter().filter(|(key, _)| *key != "intervals") {
                walk(value, &join(name, key), leaves);
            }
        }
        Value::Array(entries) => summarise(entries, name, leaves),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn summarise(entries: &[Value], name: &str, leaves: &mut Leaves) {
    if name.rsplit('.').next() == Some("epochs") {
        if let Some(last) = entries.last() {
            walk(last, &join(name, "last"), leaves);
        }
        return;
    }
    for field in AVERAGED {
        let values = field_of(entries, field);
        if !values.is_empty() {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            leaves.numbers.insert(join(name, &format!("mean_{field}")), mean);
        }
    }
    for field in TOTALLED {
        let values = field_of(entries, field);
        if !values.is_empty() {
            leaves.numbers.insert(join(name, &format!("total_{field}")), values.iter().sum());
        }
    }
}

fn field_of(entries: &[Value], field: &str) -> Vec<f64> {
    entries.iter().filter_map(|entry| super::json::number(entry, field)).collect()
}

fn join(name: &str, key: &str) -> String {
    if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_get_dotted_names_and_arrays_their_summary() {
        let value = serde_json::json!({
            "rows": 3,
            "models": {"a": {"mse": 2.5, "pearson": null, "constant": true, "intervals": {"level": 0.95, "mse": [0.1, 0.2]},
                             "bins": [{"mse": 1.0, "rows": 2}, {"mse": 3.0, "rows": 0}, {"mse": null}]}},
            "epochs": [{"r2": 0.1}, {"r2": 0.2}],
        });
        let leaves = collect(&value);
        let shown: Vec<(&str, f64)> = leaves.numbers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(
            shown,
            [("epochs.last.r2", 0.2), ("models.a.bins.mean_mse", 2.0), ("models.a.mse", 2.5), ("rows", 3.0)]
        );
        assert_eq!(leaves.constant, BTreeSet::from(["models.a".to_owned()]));
    }
}
