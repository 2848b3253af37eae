//! The section about a sample by bins: rows per bin before and after.

use super::Alarm;
use super::charts::{self, Bars};
use super::html::{Html, Table};
use super::json;
use serde_json::Value;

const COUNTS: [&str; 2] = ["before", "after"];

pub fn section(value: &Value, _alarms: &mut Vec<Alarm>) -> Html {
    let bins = json::bins(value);
    let categories: Vec<String> = bins.iter().map(|bin| bin.number.clone()).collect();
    let mut html = Html::default();
    let pieces = COUNTS
        .iter()
        .enumerate()
        .filter_map(|(i, count)| {
            // One chart each: before, the crowded middle is a hundred times the ends. An empty
            // kind in front keeps the colours of `before` and `after` apart.
            let mut kinds = vec![Bars { name: (*count).to_owned(), values: counts(&bins, count) }];
            if i == 1 {
                kinds[0].name = "after (drawn)".to_owned();
            }
            let chart = charts::bars("bin", "rows", &categories, &kinds)?;
            let mut piece = Html::default();
            piece.figure(&format!("Rows per bin, {count} sampling"), chart);
            Some(piece)
        })
        .collect();
    html.side_by_side(pieces);

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
    html.push(table.finish());
    html
}

fn counts(bins: &[json::Bin<'_>], count: &str) -> Vec<Option<f64>> {
    bins.iter().map(|bin| json::number(bin.value, count)).collect()
}
