//! The section about a comparison: a row for each name, a column for each branch.

use super::html::{Html, Table};
use super::{Alarm, order};
use serde_json::Value;

pub fn section(port: &str, value: &Value, alarms: &mut Vec<Alarm>) -> Html {
    let mut html = Html::default();
    for name in texts(value, "constant") {
        let alarm = format!("{port}: {name}: predicts the same value for every row");
        html.alarm(&alarm);
        alarms.push(alarm);
    }
    // Many numbers of few branches: the page reads better with the branches as columns.
    let mut branches = texts(value, "rows");
    branches.sort_by(|a, b| order::by_name(a, b));
    let mut titles = vec![""];
    titles.extend(&branches);
    let mut table = Table::new(&titles);
    for name in texts(value, "columns") {
        table.row(|row| {
            row.header(name);
            for branch in &branches {
                let found = value.get("values").and_then(|all| all.get(branch)?.get(name)?.as_f64());
                row.value(found.filter(|number| number.is_finite()));
            }
        });
    }
    html.push(&table.finish());
    html
}

fn texts<'v>(value: &'v Value, key: &str) -> Vec<&'v str> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}
