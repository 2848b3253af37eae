//! The challenge's official scores: weighted correlations over subsets of the test set.

use super::DataError;
use super::metrics::{pearson, spearman};
use super::subsets::Subset;
use serde::Serialize;
use std::collections::BTreeMap;

/// The scores of one set of predictions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Weighted mean of squared Pearson correlations.
    pub pearson_score: f64,
    /// Weighted mean of Spearman correlations, not squared.
    pub spearman_score: f64,
    pub subsets: BTreeMap<String, SubsetScores>,
}

/// The correlations over one subset; null where predictions are constant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubsetScores {
    pub pearson: Option<f64>,
    pub spearman: Option<f64>,
    pub n: usize,
}

/// How messages name the three inputs.
pub struct Names {
    pub predictions: String,
    pub labels: String,
    pub subsets: String,
}

/// The subset of every labelled row, where the folder has no list of that name.
const ALL: &str = "all";

/// Puts numbers in order of their positions; a position that stands there twice is an error.
pub fn by_position(pairs: impl IntoIterator<Item = (i64, f64)>, label: &str) -> Result<BTreeMap<i64, f64>, DataError> {
    let mut found = BTreeMap::new();
    for (pos, value) in pairs {
        if found.insert(pos, value).is_some() {
            return Err(DataError::Input(format!("{label}: position {pos} stands there twice")));
        }
    }
    Ok(found)
}

impl Scores {
    /// Scores predictions against measured values; lists without a weight are shown and do not count.
    pub fn of(
        predicted: &BTreeMap<i64, f64>,
        measured: &BTreeMap<i64, f64>,
        mut lists: BTreeMap<String, Subset>,
        weights: &BTreeMap<String, f64>,
        names: &Names,
    ) -> Result<Self, DataError> {
        let listed: Vec<String> = lists.keys().cloned().collect();
        lists.entry(ALL.to_owned()).or_insert_with(|| Subset::Single(measured.keys().copied().collect()));
        if let Some(absent) = weights.keys().find(|name| !lists.contains_key(*name)) {
            return Err(DataError::Input(format!(
                "{}: there is no list {absent}.tsv, which `weights` names; the folder has: {}",
                names.subsets,
                listed.join(", ")
            )));
        }
        let mut subsets = BTreeMap::new();
        for (name, list) in lists {
            let missing = |what: &str, of: &str, pos| {
                DataError::Input(format!("{of}: no {what} for the row at position {pos}, which subset `{name}` needs"))
            };
            let y = list.values(measured).map_err(|pos| missing("expression", &names.labels, pos))?;
            let p = list.values(predicted).map_err(|pos| missing("prediction", &names.predictions, pos))?;
            subsets.insert(name, SubsetScores { pearson: pearson(&y, &p), spearman: spearman(&y, &p), n: list.len() });
        }
        let total: f64 = weights.values().sum();
        let score = |of: &dyn Fn(&SubsetScores) -> f64| {
            weights.iter().map(|(name, w)| w * of(&subsets[name])).sum::<f64>() / total
        };
        Ok(Self {
            pearson_score: score(&|s| s.pearson.unwrap_or(0.0).powi(2)),
            spearman_score: score(&|s| s.spearman.unwrap_or(0.0)),
            subsets,
        })
    }

    /// Subsets over which there is no correlation.
    pub fn undefined(&self) -> Vec<&str> {
        self.subsets.iter().filter(|(_, s)| s.pearson.is_none()).map(|(name, _)| name.as_str()).collect()
    }
}
