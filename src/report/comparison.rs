//! A comparison: a row for each name, a column for each branch.

use super::html::{Html, Table};
use super::{Alarm, order};
use serde_json::Value;

/// What the stage `compare` wrote, to be shown.
pub struct Comparison<'v> {
    values: &'v Value,
    /// In the order that people expect.
    pub branches: Vec<&'v str>,
    /// Dotted names of the numbers.
    pub names: Vec<&'v str>,
    /// Branch and name of what predicts the same value for every row.
    pub constant: Vec<&'v str>,
}

impl<'v> Comparison<'v> {
    /// `None` of other metrics.
    pub fn of(value: &'v Value) -> Option<Self> {
        let values = value.get("values").filter(|values| values.is_object())?;
        value.get("columns").filter(|names| names.is_array())?;
        let mut branches = texts(value, "rows");
        branches.sort_by(|a, b| order::by_name(a, b));
        Some(Self { values, branches, names: texts(value, "columns"), constant: texts(value, "constant") })
    }

    /// The number of a branch, where it has one.
    pub fn number(&self, branch: &str, name: &str) -> Option<&'v Value> {
        self.values.get(branch)?.get(name).filter(|value| value.is_number())
    }
}

pub(super) fn section(port: &str, value: &Value, alarms: &mut Vec<Alarm>) -> Html {
    let mut html = Html::default();
    let Some(comparison) = Comparison::of(value) else { return html };
    for name in &comparison.constant {
        let alarm = format!("{port}: {name}: predicts the same value for every row");
        html.alarm(&alarm);
        alarms.push(alarm);
    }
    // Many numbers of few branches: the page reads better with the branches as columns.
    let mut titles = vec![""];
    titles.extend(&comparison.branches);
    let mut table = Table::new(&titles);
    for name in &comparison.names {
        table.row(|row| {
            row.header(name);
            for branch in &comparison.branches {
                let found = comparison.number(branch, name).and_then(Value::as_f64);
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
