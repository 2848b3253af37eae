//! `compare`: puts the metrics of several stages side by side.

use crate::artifact::Format;
use crate::report::leaves;
use crate::stage::{Contract, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Puts the metrics of several stages side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Compare {}

/// What the stage writes.
#[derive(Debug, Serialize)]
struct Comparison {
    /// The ports.
    rows: BTreeSet<String>,
    /// Dotted names of the numbers that any of them has.
    columns: BTreeSet<String>,
    values: BTreeMap<String, BTreeMap<String, Value>>,
    /// Port and dotted name of what predicts the same value for every row.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    constant: BTreeSet<String>,
}

impl Stage for Compare {
    /// 1: first.
    /// 2: whole numbers are written as such: `93`, not `93.0`.
    fn version(&self) -> u32 {
        2
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![],
            more_inputs: Some(Format::Metrics),
            gathers: true,
            outputs: vec![("metrics".to_owned(), Format::Metrics)],
            ..Contract::default()
        }
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        if ctx.inputs.is_empty() {
            return Err(StageError::Input(
                "`compare` has no inputs: name the metrics to set side by side under `in:`, for example `k: evaluate.metrics`"
                    .to_owned(),
            ));
        }
        let mut comparison = Comparison {
            rows: BTreeSet::new(),
            columns: BTreeSet::new(),
            values: BTreeMap::new(),
            constant: BTreeSet::new(),
        };
        for (port, path) in &ctx.inputs {
            let label = ctx.label(port.as_str());
            let value: Value = serde_json::from_slice(&fs_err::read(path)?)
                .map_err(|e| StageError::Input(format!("{label}: not JSON metrics: {e}")))?;
            let found = leaves::collect(&value);
            if found.numbers.is_empty() {
                ctx.warning(&format!("{label}: no numbers to compare"));
            }
            for name in found.constant {
                ctx.warning(&format!("{label}: {name} predicts the same value for every row"));
                comparison.constant.insert(if name.is_empty() { port.to_string() } else { format!("{port}: {name}") });
            }
            comparison.columns.extend(found.numbers.keys().cloned());
            let numbers = found.numbers.into_iter().map(|(name, number)| (name, plain(number))).collect();
            comparison.values.insert(port.to_string(), numbers);
            comparison.rows.insert(port.to_string());
        }
        let mut text = serde_json::to_string_pretty(&comparison).expect("plain data");
        text.push('\n');
        fs_err::write(ctx.output("metrics", Format::Metrics), text)?;
        Ok(())
    }
}

/// A number as people write it: counts have no decimals.
fn plain(number: f64) -> Value {
    /// Larger whole numbers are not exact as floats.
    const EXACT: f64 = (1_u64 << 53) as f64;
    if number.fract() == 0.0 && number.abs() < EXACT { Value::from(number as i64) } else { Value::from(number) }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::device::Device;
    use crate::name::PortName;
    use crate::stage::Sink;
    use std::path::Path;

    /// A sink that keeps nothing.
    pub struct Silent;

    impl Sink for Silent {
        fn progress(&self, _done: u64, _total: u64, _unit: &str) {}
        fn metric(&self, _name: &str, _step: u64, _value: f64) {}
        fn warning(&self, _message: &str) {}
        fn is_cancelled(&self) -> bool {
            false
        }
    }

    /// A context in `dir` whose inputs hold these texts.
    pub fn context<'a>(dir: &Path, sink: &'a Silent, inputs: &[(&str, &str)]) -> StageContext<'a> {
        let inputs = inputs
            .iter()
            .enumerate()
            .map(|(i, (port, text))| {
                let path = dir.join(format!("input-{i}"));
                fs_err::write(&path, text).expect("a temporary file");
                (PortName::parse(port).expect("a valid port"), path)
            })
            .collect();
        StageContext {
            device: Device::Cpu,
            inputs,
            labels: BTreeMap::new(),
            output_dir: dir.to_owned(),
            outputs: BTreeMap::new(),
            seals: BTreeMap::new(),
            scratch: dir.join("scratch"),
            prior: None,
            threads: 1,
            trace: None,
            together: &crate::collective::Single,
            sink,
        }
    }

    #[test]
    fn branches_stand_side_by_side() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let one = r#"{"rows":10,"models":{"after":{"mse":2.5,"pearson":0.5,"bins":[{"mse":1.0},{"mse":2.0}]}}}"#;
        let two = r#"{"rows":10,"models":{"after":{"mse":3.5,"pearson":null,"constant":true}}}"#;
        let mut ctx = context(dir.path(), &Silent, &[("k@per_bin=3000", one), ("k@per_bin=15000", two)]);
        Compare::default().run(&mut ctx).expect("a comparison");
        let text = fs_err::read_to_string(dir.path().join("metrics.json")).expect("metrics");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            value,
            serde_json::json!({
                "rows": ["k@per_bin=15000", "k@per_bin=3000"],
                "columns": ["models.after.bins.mean_mse", "models.after.mse", "models.after.pearson", "rows"],
                "values": {
                    "k@per_bin=15000": {"models.after.mse": 3.5, "rows": 10},
                    "k@per_bin=3000": {"models.after.bins.mean_mse": 1.5, "models.after.mse": 2.5, "models.after.pearson": 0.5, "rows": 10},
                },
                "constant": ["k@per_bin=15000: models.after"],
            })
        );
    }

    #[test]
    fn metrics_that_are_no_json_are_the_users_to_mend() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut ctx = context(dir.path(), &Silent, &[("a", "1.5 apples")]);
        assert!(matches!(Compare::default().run(&mut ctx), Err(StageError::Input(_))));
    }
}
