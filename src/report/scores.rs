//! The sections about the challenge's scores, and about any other numbers.

use super::html::{Html, Table};
use super::{json, leaves};
use serde_json::Value;

/// What the challenge's entries scored: Pearson Score, Spearman Score, and on which of its two boards.
const PUBLISHED: [(&str, Option<f64>, Option<f64>, &str); 5] = [
    ("first place", Some(0.818), Some(0.854), "private"),
    ("second place", Some(0.791), Some(0.845), "private"),
    ("third place", Some(0.766), Some(0.823), "private"),
    ("the organisers' reference model", Some(0.695), Some(0.762), "private"),
    ("UTK Bioinformatics", Some(0.628), None, "public"),
];

pub fn section(value: &Value) -> Html {
    let mut html = Html::default();
    let mut table = Table::new(&["", "Pearson Score", "Spearman Score", "board"]);
    table.row(|row| {
        row.header("these predictions");
        row.value(json::number(value, "pearson_score"));
        row.value(json::number(value, "spearman_score"));
        row.text("");
    });
    for (name, pearson, spearman, board) in PUBLISHED {
        table.row(|row| {
            row.header(name);
            row.value(pearson);
            row.value(spearman);
            row.text(board);
        });
    }
    html.push(&table.finish());
    html.note("The lower rows are as published; the two boards hold different rows of the test set, so compare like with like.");
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
