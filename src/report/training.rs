//! The section about a training: its loss, and the numbers of its epochs.

use super::charts::{self, Line};
use super::html::{Html, Table};
use super::{json, leaves};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub fn section(value: &Value) -> Html {
    let single = without_series(value);
    let value = value.get("curves").filter(|curves| curves.is_object()).unwrap_or(value);
    let mut html = Html::default();
    if let Some(epoch) = json::number(value, "kept_epoch") {
        html.note(&format!("The model of epoch {} was kept.", super::numbers::short(epoch)));
    }
    let mut pieces = Vec::new();
    if let Some(chart) = charts::lines("step", "loss", &[line("training loss", series(value, "loss"), false)]) {
        pieces.push(figure("Loss of each optimiser step (means of stretches where steps are many)", &chart));
    }
    let epochs = epochs(value);
    for (title, names) in [("loss", LOSSES.as_slice()), ("agreement", AGREEMENT.as_slice())] {
        let lines: Vec<Line> = names
            .iter()
            .map(|(keys, name)| {
                let points = epochs.iter().filter_map(|(at, epoch)| Some((*at, deep_number(epoch, keys)?))).collect();
                line(name, points, true)
            })
            .collect();
        if let Some(chart) = charts::lines("epoch", title, &lines) {
            pieces.push(figure(&format!("Per epoch: {title}"), &chart));
        }
    }
    for key in &STEPS[1..] {
        let name = key.replace('_', " ");
        if let Some(chart) = charts::lines("step", &name, &[line(&name, series(value, key), false)]) {
            pieces.push(figure(&format!("The {name} of each step"), &chart));
        }
    }
    html.side_by_side(&pieces);
    html.push(&epochs_table(&epochs));
    html.push(&super::scores::leaves_table(&single));
    html
}

/// The training loss over optimiser steps, where the metrics of a training hold it.
pub fn losses(value: &Value) -> Vec<(f64, f64)> {
    series(value.get("curves").filter(|curves| curves.is_object()).unwrap_or(value), "loss")
}

/// All numbers of a training that vary over its steps, and over its epochs (`epoch/NAME`), by name.
pub fn curves(value: &Value) -> Vec<(String, Vec<(f64, f64)>)> {
    let value = value.get("curves").filter(|curves| curves.is_object()).unwrap_or(value);
    let mut curves: Vec<_> = STEPS.iter().map(|name| ((*name).to_owned(), series(value, name))).collect();
    let mut by_epoch: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (at, epoch) in epochs(value) {
        for (name, number) in leaves::collect(epoch).numbers {
            if name != "epoch" {
                by_epoch.entry(format!("epoch/{name}")).or_default().push((at, number));
            }
        }
    }
    curves.extend(by_epoch);
    curves.retain(|(_, points)| !points.is_empty());
    curves
}

/// What a training notes at its steps.
const STEPS: [&str; 3] = ["loss", "learning_rate", "grad_norm"];

/// What epochs may call the same thing, the likeliest first.
type Names = (&'static [&'static str], &'static str);
const LOSSES: [Names; 3] = [
    (&["loss", "train_loss", "training_loss"], "training"),
    (&["validation.loss", "validation_loss"], "validation"),
    // Beside Huber's loss another scale.
    (&["validation.mse", "validation_mse"], "validation, squared error"),
];
const AGREEMENT: [Names; 2] = [
    (&["validation.r2", "validation_r2", "r2"], "R² on validation rows"),
    (&["validation.pearson", "validation_pearson", "pearson"], "Pearson r on validation rows"),
];

fn line(name: &str, points: Vec<(f64, f64)>, dots: bool) -> Line {
    Line { name: name.to_owned(), points, dots }
}

fn figure(caption: &str, chart: &Html) -> Html {
    let mut html = Html::default();
    html.figure(caption, chart);
    html
}

/// The first of the dotted `names` that leads to a number.
fn deep_number(value: &Value, names: &[&str]) -> Option<f64> {
    names.iter().find_map(|name| {
        name.split('.').try_fold(value, |value, key| value.get(key))?.as_f64().filter(|number| number.is_finite())
    })
}

/// The epochs with their numbers, counted from 1 where they don't say.
fn epochs(value: &Value) -> Vec<(f64, &Value)> {
    json::objects(value, "epochs")
        .into_iter()
        .enumerate()
        .map(|(i, epoch)| (json::number(epoch, "epoch").unwrap_or((i + 1) as f64), epoch))
        .collect()
}

/// A series over steps, however it is written: `key: [..]`, `key: [[step, value], ..]`,
/// `steps: {key: [..]}`, or `steps: [{"step", key}, ..]`.
fn series(value: &Value, key: &str) -> Vec<(f64, f64)> {
    let steps = value.get("steps");
    let direct = value.get(key).or_else(|| steps?.get(key)).and_then(Value::as_array);
    // `steps: [10, 20, ..]` beside `loss: [..]`, or `steps: {"step": [..], "loss": [..]}`.
    let places = steps.and_then(|s| s.as_array().or_else(|| s.get("step")?.as_array()));
    let Some(entries) = direct.or_else(|| steps?.as_array()) else { return Vec::new() };
    // Where each value is the mean of several steps, it stands at the last of them.
    let every = json::number(value, &format!("{key}_every")).unwrap_or(1.0);
    entries
        .iter()
        .enumerate()
        .filter_map(|(i, entry)| match entry {
            Value::Number(y) if direct.is_some() => {
                let at = places.and_then(|places| places.get(i)?.as_f64()).unwrap_or((i + 1) as f64 * every);
                Some((at, y.as_f64()?))
            }
            Value::Array(pair) => Some((pair.first()?.as_f64()?, pair.get(1)?.as_f64()?)),
            Value::Object(_) => {
                let y = json::number(entry, key).or_else(|| json::number(entry, "value"))?;
                Some((json::number(entry, "step").unwrap_or((i + 1) as f64), y))
            }
            _ => None,
        })
        .collect()
}

fn epochs_table(epochs: &[(f64, &Value)]) -> Html {
    let collected: Vec<_> = epochs.iter().map(|(at, epoch)| (*at, leaves::collect(epoch).numbers)).collect();
    let columns: BTreeSet<&str> = collected
        .iter()
        .flat_map(|(_, numbers)| numbers.keys().map(String::as_str))
        .filter(|c| *c != "epoch")
        .collect();
    let mut html = Html::default();
    if columns.is_empty() {
        return html;
    }
    let mut titles = vec!["epoch".to_owned()];
    titles.extend(columns.iter().map(|column| column.replace('_', " ")));
    let mut table = Table::new(&titles);
    for (at, numbers) in &collected {
        table.row(|row| {
            row.header(&super::numbers::short(*at));
            for column in &columns {
                row.value(numbers.get(*column).copied());
            }
        });
    }
    html.element("h3", "Epochs");
    html.push(&table.finish());
    html
}

/// The single figures of a training: what is no series.
fn without_series(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(members) = value.as_object_mut() {
        members.retain(|key, value| {
            key != "epochs" && key != "curves" && !value.is_array() && !(key == "steps" && value.is_object())
        });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_loss_is_found_in_every_shape() {
        let expected = vec![(1.0, 4.0), (2.0, 3.0)];
        for value in [
            json!({"loss": [4.0, 3.0]}),
            json!({"loss": [[1, 4.0], [2, 3.0]]}),
            json!({"loss": [{"step": 1, "value": 4.0}, {"step": 2, "value": 3.0}]}),
            json!({"steps": [{"step": 1, "loss": 4.0}, {"step": 2, "loss": 3.0}]}),
            json!({"steps": {"loss": [4.0, 3.0]}}),
            json!({"steps": {"step": [1, 2], "loss": [4.0, 3.0]}}),
            json!({"steps": [1, 2], "loss": [4.0, 3.0]}),
        ] {
            assert_eq!(series(&value, "loss"), expected, "{value}");
        }
        assert_eq!(series(&json!({"loss_every": 10, "loss": [4.0, 3.0]}), "loss"), [(10.0, 4.0), (20.0, 3.0)]);
        assert_eq!(series(&json!({"steps": 7, "loss": 0.5}), "loss"), []);
    }
}
