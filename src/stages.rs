//! The catalogue of stages: a closed enum, each variant holding the parameters that are the stage.

use crate::stage::Stage;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[cfg(test)]
mod bench;
mod command;
mod compare;
mod data_error;
mod evaluate;
mod import_sequences;
mod predict;
mod predicting;
mod report;
mod sample_bins;
mod score_benchmark;
mod split;
mod synthesize;
mod train;
mod train_tokenizer;

pub use command::{Command, Declared, Invocation, shell};
pub use compare::Compare;
pub use evaluate::Evaluate;
pub use import_sequences::{ImportSequences, Labels};
pub use predict::Predict;
pub use report::Report;
pub use sample_bins::SampleBins;
pub use score_benchmark::ScoreBenchmark;
pub use split::Split;
pub use synthesize::Synthesize;
pub use train::Train;
pub use train_tokenizer::TrainTokenizer;

/// What is said of a parameter that a stage does not have.
const UNKNOWN: &str = "there is no such parameter";

/// A parameter that can't be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamProblem {
    /// Dotted, `model.layers`; empty where the whole is meant.
    pub param: String,
    pub message: String,
}

impl ParamProblem {
    /// Whether the stage has no such parameter.
    pub fn is_unknown(&self) -> bool {
        self.message.starts_with(UNKNOWN)
    }
}

macro_rules! catalogue {
    ($($name:literal => $variant:ident),+ $(,)?) => {
        /// A stage with its parameters.
        #[derive(Debug, Clone, PartialEq)]
        pub enum StageKind {
            $($variant($variant)),+
        }

        impl StageKind {
            /// What `uses:` may say, in the order of the documentation.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The name after `uses:`.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name),+ }
            }

            /// Reads the parameters of the stage called `name`, defaults filled in; gives all problems at once.
            /// `None` where there is no such stage.
            pub fn parse(name: &str, with: &Map<String, Value>) -> Option<Result<Self, Vec<ParamProblem>>> {
                match name {
                    $($name => Some(params::<$variant>(with).map(Self::$variant)),)+
                    _ => None,
                }
            }

            /// The parameters of the stage called `name`, with their defaults.
            pub fn defaults(name: &str) -> Option<Map<String, Value>> {
                match name {
                    $($name => Some(as_map(&$variant::default())),)+
                    _ => None,
                }
            }

            /// The ports of the stage called `name`, which no parameter changes but a command's outputs.
            pub fn contract(name: &str) -> Option<crate::stage::Contract> {
                match name {
                    $($name => Some($variant::default().contract()),)+
                    _ => None,
                }
            }

            /// The JSON Schema of each stage's parameters, by name.
            pub fn schemas() -> Vec<(&'static str, schemars::Schema)> {
                vec![$(($name, schemars::schema_for!($variant))),+]
            }

            /// All parameters, defaults filled in: what the key is made of.
            pub fn params(&self) -> BTreeMap<String, Value> {
                match self { $(Self::$variant(stage) => params_of(stage)),+ }
            }

            pub fn stage(&self) -> &dyn Stage {
                match self { $(Self::$variant(stage) => stage),+ }
            }

            /// Told which inputs are connected and which parameters were given, drops what does not apply then.
            pub fn settle(&mut self, inputs: &[&str], given: &[&str]) -> Vec<ParamProblem> {
                let problems = match self { $(Self::$variant(stage) => stage.settle(inputs, given)),+ };
                problems.into_iter().map(|(param, message)| ParamProblem { param: param.to_owned(), message }).collect()
            }
        }
    };
}

catalogue! {
    "synthesize" => Synthesize,
    "import-sequences" => ImportSequences,
    "train-tokenizer" => TrainTokenizer,
    "split" => Split,
    "sample-bins" => SampleBins,
    "train" => Train,
    "predict" => Predict,
    "evaluate" => Evaluate,
    "score-benchmark" => ScoreBenchmark,
    "compare" => Compare,
    "report" => Report,
    "command" => Command,
}

/// All parameters of a stage, as in its key.
fn params_of<T: Serialize>(stage: &T) -> BTreeMap<String, Value> {
    as_map(stage).into_iter().collect()
}

fn as_map<T: Serialize>(stage: &T) -> Map<String, Value> {
    match serde_json::to_value(stage).expect("parameters are plain data") {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        other => unreachable!("a parameter struct became {other}"),
    }
}

/// Reads each parameter by itself first, so that every wrong one is reported, each under its own name.
fn params<T>(with: &Map<String, Value>) -> Result<T, Vec<ParamProblem>>
where
    T: Stage + Default + Serialize + DeserializeOwned,
{
    let defaults = as_map(&T::default());
    let whole = T::deserialize(with);
    // What is right as a whole needs no second look, but for what the type itself lets pass.
    let is_group = |key: &String| matches!(defaults.get(key), Some(Value::Object(group)) if !group.is_empty());
    let mut problems = Vec::new();
    for (key, value) in with.iter().filter(|&(key, value)| whole.is_err() || inexact(value).is_some() || is_group(key))
    {
        if let Some(number) = inexact(value) {
            let message = format!("{number} can't be kept exactly: whole numbers end at 2^53 (9007199254740992)");
            problems.push(ParamProblem { param: key.clone(), message });
            continue;
        }
        check_one::<T>(&defaults, &[], key, value, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let stage = whole.map_err(|e| vec![ParamProblem { param: String::new(), message: e.to_string() }])?;
    let problems = stage.problems();
    if problems.is_empty() {
        Ok(stage)
    } else {
        Err(problems.into_iter().map(|(param, message)| ParamProblem { param: param.to_owned(), message }).collect())
    }
}

/// A whole number that canonical JSON (RFC 8785) would round: two such seeds could share a key.
fn inexact(value: &Value) -> Option<&serde_json::Number> {
    const LIMIT: u64 = 1 << 53;
    match value {
        Value::Number(n) => {
            let beyond = n.as_u64().is_some_and(|n| n > LIMIT) || n.as_i64().is_some_and(|n| n.unsigned_abs() > LIMIT);
            beyond.then_some(n)
        }
        Value::Array(items) => items.iter().find_map(inexact),
        Value::Object(map) => map.values().find_map(inexact),
        Value::Null | Value::Bool(_) | Value::String(_) => None,
    }
}

fn check_one<T: DeserializeOwned>(
    defaults: &Map<String, Value>,
    path: &[&str],
    key: &str,
    value: &Value,
    problems: &mut Vec<ParamProblem>,
) {
    let at = |key: &str| path.iter().copied().chain([key]).collect::<Vec<_>>().join(".");
    let whole: Vec<&str> = path.iter().copied().chain([key]).collect();
    let nested = whole.iter().rev().fold(value.clone(), |inner, name| single(name, inner));
    let Some(default) = defaults.get(key) else {
        // What keys leave out while it has its default is known all the same.
        match serde_json::from_value::<T>(nested).map_err(|error| error.to_string()) {
            Ok(_) => return,
            Err(message) if !message.starts_with("unknown field") => {
                problems.push(ParamProblem { param: at(key), message });
                return;
            }
            Err(_) => {}
        }
        let known: Vec<&str> = defaults.keys().map(String::as_str).collect();
        let message = if known.is_empty() {
            format!("{UNKNOWN}; this stage has none")
        } else {
            format!("{UNKNOWN}; this stage has: {}", known.join(", "))
        };
        problems.push(ParamProblem { param: at(key), message });
        return;
    };
    // A group of parameters (`model:`) is read key by key too.
    if let (Value::Object(group), Value::Object(inner)) = (default, value)
        && !group.is_empty()
    {
        for (name, value) in inner {
            let path: Vec<&str> = path.iter().copied().chain([key]).collect();
            check_one::<T>(group, &path, name, value, problems);
        }
        return;
    }
    if let Err(error) = serde_json::from_value::<T>(nested) {
        problems.push(ParamProblem { param: at(key), message: error.to_string() });
    }
}

fn single(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}
