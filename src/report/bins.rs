//! The section about a sample by bins: rows per bin before and after.

use super::charts::{self, Bars};
use super::html::{Html, Table};
use super::json;
use serde_json::Value;

const COUNTS: [&str; 2] = ["before", "after"];

pub fn section(value: &Value) -> Html {
    let bins = json::bins(value);
    let categories: Vec<String> = bins.iter().map(|bin| bin.number.clone()).collect();
    let mut html = Html::default();
    let pieces: Vec<Html> = COUNTS
        .iter()
        .filter_map(|count| {
            // One chart each: before, the crowded middle holds a hundred times the rows of the ends.
            let kind = Bars { name: (*count).to_owned(), values: counts(&bins, count) };
            let chart = charts::bars("bin", "rows", &categories, &[kind])?;
            let mut piece = Html::default();
            piece.figure(&format!("Rows per bin, {count} sampling"), &chart);
            Some(piece)
        })
        .collect();
    html.side_by_side(&pieces);

    let mut table = Table::new(&["bin", "values", "rows before", "rows after"]);
    for bin in &bins {
        table.row(|row| {
            row.header(&bin.number);
            row.text(&bin.range);
            for count in COUNTS {
                row.value(json::number(bin.value, count));
            }
        });
    }
    table.row(|row| {
        row.header("all");
        row.text("");
        for count in COUNTS {
            row.value(Some(counts(&bins, count).into_iter().flatten().sum()));
        }
    });
    html.push(&table.finish());
    html
}

fn counts(bins: &[json::Bin<'_>], count: &str) -> Vec<Option<f64>> {
    bins.iter().map(|bin| json::number(bin.value, count)).collect()
}
