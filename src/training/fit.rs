//! The loop over epochs and steps.

use super::{AdamW, Loss, Schedule};
use crate::data::labelled::Labelled;
use crate::data::tokens::Tokens;
use crate::model::bert::StepKey;
use crate::model::op::{BertOp, Gradient, with_values};
use crate::model::{Batch, Bert, ModelError, predict};
use crate::seed::{Seed, shuffle};
use candle_core::{Device, Tensor, Var};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Encoded rows with their labels.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Token ids of each row.
    pub tokens: &'a Tokens,
    pub targets: &'a [f64],
}

impl<'a> From<&'a Labelled> for Rows<'a> {
    fn from(rows: &'a Labelled) -> Self {
        Self { tokens: &rows.tokens, targets: &rows.targets }
    }
}

/// Which epoch's weights come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Last,
    /// The highest R2 on the validation rows; the earlier one of equals.
    Best,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub epochs: u32,
    pub batch_size: usize,
    pub schedule: Schedule,
    pub loss: Loss,
    pub weight_decay: f64,
    pub clip_norm: f64,
    pub kept: Kept,
    pub shuffle: bool,
    pub seed: Seed,
}

impl Options {
    /// Optimiser steps of one epoch; the last partial batch is one of them.
    pub fn steps_per_epoch(rows: usize, batch_size: usize) -> u64 {
        rows.div_ceil(batch_size) as u64
    }
}

/// Told what happens; may stop the training.
pub trait Watch {
    /// A step was made: counted from 1; loss and norm are from before its update.
    fn step(&mut self, step: u64, of: u64, loss: f64, norm: f64, rate: f64);
    /// Rows through whole steps: the median over about a second.
    fn speed(&mut self, step: u64, samples_per_second: f64);
    fn epoch(&mut self, epoch: &Epoch);
    fn is_cancelled(&self) -> bool;
}

/// How well predictions agree with labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u32,
    /// Mean loss over the epoch's rows, each before its step's update.
    pub loss: f64,
    pub validation: Option<Agreement>,
}

/// The course of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Curves {
    pub epochs: Vec<Epoch>,
    pub kept_epoch: u32,
    /// Steps that one value of `loss` is the mean of.
    pub loss_every: u64,
    pub loss: Vec<f64>,
}

/// A trained model's parameters and the way there.
#[derive(Debug, Clone)]
pub struct Fitted {
    pub parameters: Vec<f32>,
    pub curves: Curves,
    /// Standard deviation of the predictions for validation rows, else for the first training rows.
    pub spread: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The parameters are those from before the step.
    #[error(
        "the {what} of step {step} is not a finite number: lower `learning_rate`, add `warmup_steps`, or look at the labels"
    )]
    NotFinite { what: &'static str, step: u64, parameters: Vec<f32> },
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<candle_core::Error> for FitError {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

/// More steps than this are recorded as means over runs of steps.
const LOSS_POINTS: u64 = 2000;

/// Trains; call it within a pool of threads of its own.
pub fn fit(
    bert: Bert,
    start: Vec<f32>,
    train: Rows<'_>,
    validation: Option<Rows<'_>>,
    options: &Options,
    watch: &mut dyn Watch,
) -> Result<Fitted, FitError> {
    let bert = Arc::new(bert);
    let parameters = Var::from_vec(start, bert.layout.len(), &Device::Cpu)?;
    let gradient = Gradient::default();
    let mut adam = AdamW::new(bert.layout.len(), options.weight_decay, options.clip_norm);
    let total = options.schedule.steps;
    let mut losses = Thinned::new(total.div_ceil(LOSS_POINTS).max(1));
    let mut curves = Curves { loss_every: losses.every, ..Curves::default() };
    let mut best: Option<(f64, Vec<f32>)> = None;
    let mut step = 0_u64;
    let mut clock = Clock::default();

    for epoch in 1..=options.epochs {
        let mut sum = 0.0;
        for rows in order(train.targets.len(), epoch, options).chunks(options.batch_size) {
            if watch.is_cancelled() {
                return Err(FitError::Cancelled);
            }
            step += 1;
            let began = Instant::now();
            let batch = Batch::of(train.tokens, rows);
            let targets: Vec<f32> = rows.iter().map(|&row| train.targets[row] as f32).collect();
            let targets = Tensor::from_vec(targets, rows.len(), &Device::Cpu)?;
            let key = StepKey { seed: options.seed.0, step };
            let outputs = parameters.apply_op1(BertOp::new(bert.clone(), batch, key, gradient.clone()))?;
            let loss = options.loss.of(&outputs, &targets)?;
            let value = f64::from(loss.to_scalar::<f32>()?);
            let not_finite = |what| -> Result<FitError, FitError> {
                Ok(FitError::NotFinite { what, step, parameters: parameters.to_vec1()? })
            };
            if !value.is_finite() {
                return Err(not_finite("loss")?);
            }
            loss.backward()?;
            let rate = options.schedule.rate(step - 1);
            let norm = {
                let gradient = gradient.lock().expect("no pass panicked");
                let norm = super::optimizer::gradient_norm(&bert.layout, &gradient);
                if !norm.is_finite() {
                    return Err(not_finite("gradient")?);
                }
                adam.step(&bert.layout, &parameters, &gradient, norm, rate)?;
                norm
            };
            sum += value * rows.len() as f64;
            losses.push(value);
            watch.step(step, total, value, norm, rate);
            if let Some(speed) = clock.tick(rows.len(), began.elapsed()) {
                watch.speed(step, speed);
            }
        }
        let agreement = match validation {
            Some(rows) => {
                let predictions = with_values(&parameters, |p| predict::encoded(&bert, p, rows.tokens))?;
                Some(Agreement::of(rows.targets, &predictions))
            }
            None => None,
        };
        let done = Epoch { epoch, loss: sum / train.targets.len() as f64, validation: agreement };
        watch.epoch(&done);
        curves.epochs.push(done);
        curves.kept_epoch = epoch;
        if options.kept == Kept::Best {
            let r2 = agreement.and_then(|a| a.r2).unwrap_or(f64::NEG_INFINITY);
            if best.as_ref().is_none_or(|(top, _)| r2 > *top) {
                best = Some((r2, parameters.to_vec1()?));
            }
        }
    }
    curves.loss = losses.finish();
    let parameters = match best {
        Some((top, parameters)) => {
            let r2 = |epoch: &Epoch| epoch.validation.and_then(|a| a.r2).unwrap_or(f64::NEG_INFINITY);
            curves.kept_epoch = curves.epochs.iter().find(|e| r2(e) == top).map_or(curves.kept_epoch, |e| e.epoch);
            parameters
        }
        None => parameters.to_vec1()?,
    };
    let spread = spread(&bert, &parameters, validation.unwrap_or(train).tokens);
    Ok(Fitted { parameters, curves, spread })
}

/// The rows of an epoch, in its order.
fn order(rows: usize, epoch: u32, options: &Options) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    if options.shuffle {
        shuffle(&mut options.seed.rng(&format!("order of epoch {epoch}")), &mut order);
    }
    order
}

/// The standard deviation of the predictions for some rows.
fn spread(bert: &Bert, parameters: &[f32], tokens: &Tokens) -> f64 {
    let predictions = predict::encoded(bert, parameters, &tokens.first(512));
    let mean = predictions.iter().sum::<f64>() / predictions.len().max(1) as f64;
    (predictions.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / predictions.len().max(1) as f64).sqrt()
}

/// Means over runs of steps.
struct Thinned {
    every: u64,
    held: Vec<f64>,
    means: Vec<f64>,
}

impl Thinned {
    fn new(every: u64) -> Self {
        Self { every, held: Vec::new(), means: Vec::new() }
    }

    fn push(&mut self, value: f64) {
        self.held.push(value);
        if self.held.len() as u64 == self.every {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.held.is_empty() {
            self.means.push(self.held.iter().sum::<f64>() / self.held.len() as f64);
            self.held.clear();
        }
    }

    fn finish(mut self) -> Vec<f64> {
        self.flush();
        self.means
    }
}

/// Rates of steps over about a second.
#[derive(Default)]
struct Clock {
    rates: Vec<f64>,
    spent: Duration,
}

impl Clock {
    fn tick(&mut self, rows: usize, took: Duration) -> Option<f64> {
        self.rates.push(rows as f64 / took.as_secs_f64().max(1e-9));
        self.spent += took;
        if self.spent < Duration::from_secs(1) {
            return None;
        }
        let mut rates = std::mem::take(&mut self.rates);
        self.spent = Duration::ZERO;
        rates.sort_by(f64::total_cmp);
        Some(rates[rates.len() / 2])
    }
}
