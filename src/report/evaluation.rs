//! The section about an evaluation: models beside one another, overall and per bin.

use super::charts::{self, Bars};
use super::html::{Html, Table};
use super::json::{self, Bin};
use super::{Alarm, numbers};
use serde_json::Value;

/// Key, what it is called, and whether more is better.
const OVERALL: [(&str, &str, &str); 6] = [
    ("pearson", "Pearson r", "higher is better"),
    ("spearman", "Spearman ρ", "higher is better"),
    ("r2", "R²", "higher is better"),
    ("mse", "mean squared error", "lower is better"),
    ("mae", "mean absolute error", "lower is better"),
    ("sd", "s.d. of the predictions", ""),
];
const THIRDS: [(&str, &str); 3] = [("low", "low third"), ("middle", "middle third"), ("high", "high third")];
/// Predictions that vary less than this on a scale of 0 to 17 are as good as constant.
const FLAT: f64 = 1e-3;

pub fn section(port: &str, value: &Value, alarms: &mut Vec<Alarm>) -> Html {
    let models = json::members(value, "models");
    let mut html = Html::default();
    for (name, model) in &models {
        if is_constant(model) {
            let alarm = format!(
                "{port}: `{name}` predicts the same value for every row: it has learned nothing but the mean, and has no correlation"
            );
            html.alarm(&alarm);
            alarms.push(alarm);
        }
    }
    if let Some(rows) = json::number(value, "rows") {
        html.note(&format!("Measured on {} rows.", numbers::short(rows)));
    }
    html.push(&overall(&models));
    html.push(&thirds(&models));
    html.push(&per_bin(&models));
    html
}

fn is_constant(model: &Value) -> bool {
    model.get("constant") == Some(&Value::Bool(true)) || json::number(model, "sd").is_some_and(|sd| sd < FLAT)
}

fn overall(models: &[(&str, &Value)]) -> Html {
    let mut columns = vec![""];
    columns.extend(models.iter().map(|(name, _)| *name));
    columns.push("");
    let mut table = Table::new(&columns);
    for (key, name, note) in OVERALL {
        if models.iter().all(|(_, model)| model.get(key).is_none()) {
            continue;
        }
        table.row(|row| {
            row.header(name);
            for (_, model) in models {
                let value = json::number(model, key);
                if is_constant(model) && (key == "sd" || value.is_none()) {
                    row.alarm(&value.map_or("constant".to_owned(), |v| format!("constant ({})", numbers::short(v))));
                } else {
                    row.value_with(value, &interval(model, key));
                }
            }
            row.text(note);
        });
    }
    let mut html = Html::default();
    html.element("h3", "Overall");
    html.push(&table.finish());
    let intervals = models.iter().filter_map(|(_, model)| model.get("intervals").filter(|found| found.is_object()));
    if let Some(found) = intervals.into_iter().next() {
        let level = json::number(found, "level").unwrap_or(0.95) * 100.0;
        html.note(&format!("In brackets: the bootstrap's {level:.0} % interval."));
    }
    html
}

/// `[0.41, 0.52]` where the evaluation has it.
fn interval(model: &Value, key: &str) -> String {
    let ends = model.get("intervals").and_then(|all| all.get(key)).and_then(Value::as_array);
    match ends.map(Vec::as_slice) {
        Some([low, high]) => match (low.as_f64(), high.as_f64()) {
            (Some(low), Some(high)) => format!("[{}, {}]", numbers::short(low), numbers::short(high)),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

fn thirds(models: &[(&str, &Value)]) -> Html {
    let mut html = Html::default();
    let parts: Vec<_> =
        THIRDS.iter().filter(|(key, _)| models.iter().any(|(_, m)| m.get(key).is_some_and(Value::is_object))).collect();
    if parts.is_empty() {
        return html;
    }
    let mut columns = vec!["rows with".to_owned(), "rows".to_owned()];
    let measures = [("mse", "MSE"), ("mae", "MAE"), ("bias", "bias")];
    for (_, measure) in measures {
        columns.extend(models.iter().map(|(name, _)| format!("{measure} {name}")));
    }
    let mut table = Table::new(&columns);
    for (key, name) in parts {
        table.row(|row| {
            let part = |model: &Value, field: &str| model.get(key).and_then(|part| json::number(part, field));
            let range = models.iter().find_map(|(_, m)| Some((part(m, "from")?, part(m, "to")?)));
            row.header(
                &range.map_or((*name).to_owned(), |(a, b)| {
                    format!("{name}, {} – {}", numbers::short(a), numbers::short(b))
                }),
            );
            row.value(models.iter().find_map(|(_, m)| part(m, "rows")));
            for (field, _) in measures {
                for (_, model) in models {
                    row.value(part(model, field));
                }
            }
        });
    }
    html.element("h3", "Low, middle and high expression");
    html.push(&table.finish());
    html
}

fn per_bin(models: &[(&str, &Value)]) -> Html {
    let mut html = Html::default();
    let binned: Vec<(&str, Vec<Bin<'_>>)> =
        models.iter().map(|(name, model)| (*name, json::bins(model))).filter(|(_, bins)| !bins.is_empty()).collect();
    let Some((_, longest)) = binned.iter().max_by_key(|(_, bins)| bins.len()) else { return html };

    html.element("h3", "Per bin of measured expression");
    let measures = [("mse", "mean squared error"), ("bias", "bias (predicted − measured)")];
    let categories: Vec<String> = longest.iter().map(|bin| bin.number.clone()).collect();
    let mut pieces = Vec::new();
    for (field, title) in measures {
        let kinds: Vec<Bars> = binned
            .iter()
            .map(|(name, bins)| Bars {
                name: (*name).to_owned(),
                values: bins.iter().map(|bin| json::number(bin.value, field)).collect(),
            })
            .collect();
        if let Some(chart) = charts::bars("bin", title, &categories, &kinds) {
            let mut piece = Html::default();
            piece.figure(&format!("{title}, per bin"), &chart);
            pieces.push(piece);
        }
    }
    html.side_by_side(&pieces);

    let mut columns = vec!["bin".to_owned(), "values".to_owned(), "rows".to_owned()];
    for measure in ["MSE", "MAE", "bias"] {
        columns.extend(binned.iter().map(|(name, _)| format!("{measure} {name}")));
    }
    let mut table = Table::new(&columns);
    for (i, bin) in longest.iter().enumerate() {
        table.row(|row| {
            row.header(&bin.number);
            row.text(&bin.range);
            row.value(json::number(bin.value, "rows"));
            for field in ["mse", "mae", "bias"] {
                for (_, bins) in &binned {
                    row.value(bins.get(i).and_then(|bin| json::number(bin.value, field)));
                }
            }
        });
    }
    html.push(&table.finish());
    html
}
