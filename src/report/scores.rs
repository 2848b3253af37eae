//! The sections about the challenge's scores, and about any other numbers.

use super::html::{Html, Table};
use super::{json, leaves};
use serde_json::Value;

pub fn section(value: &Value) -> Html {
    let mut html = Html::default();
    let mut table = Table::new(&["score", "value"]);
    for (key, name) in [("pearson_score", "Pearson Score"), ("spearman_score", "Spearman Score")] {
        table.row(|row| {
            row.header(name);
            row.value(json::number(value, key));
        });
    }
    html.push(&table.finish());
    let mut table = Table::new(&["subset", "Pearson r", "Spearman ρ", "n"]);
    for (name, subset) in json::members(value, "subsets") {
        table.row(|row| {
            row.header(name);
            for keys in [&["pearson"][..], &["spearman"], &["n", "rows"]] {
                row.value(json::any_number(subset, keys));
            }
        });
    }
    html.push(&table.finish());
    html
}

/// All numbers under their dotted names.
pub fn leaves_table(value: &Value) -> Html {
    let numbers = leaves::collect(value).numbers;
    if numbers.is_empty() {
        return Html::default();
    }
    let mut table = Table::new(&["name", "value"]);
    for (name, number) in numbers {
        table.row(|row| {
            row.header(&name);
            row.value(Some(number));
        });
    }
    table.finish()
}
