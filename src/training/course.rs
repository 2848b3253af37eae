//! The course of a training: how far it came, and what its losses were.

use serde::{Deserialize, Serialize};

/// How well predictions agree with labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    pub mse: f64,
    /// Null where the labels are all equal.
    pub r2: Option<f64>,
    /// Null where labels or predictions are all equal.
    pub pearson: Option<f64>,
}

impl Agreement {
    pub fn of(targets: &[f64], predictions: &[f64]) -> Self {
        let n = targets.len().max(1) as f64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
        let (y, z) = (mean(targets), mean(predictions));
        let pairs = || targets.iter().zip(predictions);
        let residual: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
        let total: f64 = targets.iter().map(|a| (a - y) * (a - y)).sum();
        let spread: f64 = predictions.iter().map(|b| (b - z) * (b - z)).sum();
        let together: f64 = pairs().map(|(a, b)| (a - y) * (b - z)).sum();
        let product = total.sqrt() * spread.sqrt();
        Self {
            mse: residual / n,
            r2: (total > 0.0).then(|| 1.0 - residual / total),
            pearson: (product > 0.0).then(|| (together / product).clamp(-1.0, 1.0)),
        }
    }
}

/// What became of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u32,
    /// Mean loss over the epoch's rows, each before its step's update.
    pub loss: f64,
    pub validation: Option<Agreement>,
}

/// The epoch with the best agreement so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    pub epoch: u32,
    pub r2: Option<f64>,
}

/// How far a training came: with weights, moments and losses, all that it needs to go on. Orders of rows and dropout are
/// drawn anew from the seed and these counters.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// Optimiser steps made.
    pub step: u64,
    /// Rows times loss, summed over the steps of the epoch under way.
    pub sum: f64,
    /// The epochs that are over.
    pub epochs: Vec<Epoch>,
    pub best: Option<Best>,
}

/// The curves that a model's training leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Curves {
    pub epochs: Vec<Epoch>,
    pub kept_epoch: u32,
    /// Steps that one value of `loss` is the mean of.
    pub loss_every: u64,
    pub loss: Vec<f64>,
}

/// More steps than this are recorded as means over runs of steps.
const LOSS_POINTS: u64 = 2000;

impl Curves {
    /// The curves of a training that ends here, with the loss of each of its steps.
    pub fn of(course: &Course, losses: &[f32]) -> Self {
        let every = course.step.div_ceil(LOSS_POINTS).max(1);
        let mean = |run: &[f32]| run.iter().map(|loss| f64::from(*loss)).sum::<f64>() / run.len() as f64;
        Self {
            epochs: course.epochs.clone(),
            kept_epoch: course.best.map_or(course.epochs.len() as u32, |best| best.epoch),
            loss_every: every,
            loss: losses.chunks(every as usize).map(mean).collect(),
        }
    }
}
