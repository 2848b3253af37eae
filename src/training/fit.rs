//! The loop over epochs and steps.

use super::checkpoint::{Checkpoints, Saved};
use super::course::{Agreement, Best, Course, Curves, Epoch};
use super::learner::{Learner, Slope, Talk};
use super::{LabelScale, Loss, Part, Schedule, Shape};
use crate::collective::Collective;
use crate::data::labelled::Labelled;
use crate::data::tokens::Tokens;
use crate::digest::Digest;
use crate::model::bert::StepKey;
use crate::model::{Batch, Layout, ModelError};
use crate::seed::{Seed, shuffle};
use std::io;
use std::path::Path;
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
    /// Of labels, whatever scale they are trained on.
    pub loss: Loss,
    pub labels: LabelScale,
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

    /// Whether a longer training makes the very steps of this one first.
    pub fn is_prefix(&self) -> bool {
        self.schedule.shape == Shape::Constant
    }

    /// Names a training on so many ranks by what decides its steps, apart from the rows' content; for checkpoints, which lie
    /// in a folder that is named by that.
    pub fn identity(&self, start: &[f32], rows: usize, ranks: usize) -> Digest {
        let mut options = self.clone();
        if self.is_prefix() {
            (options.epochs, options.schedule.steps) = (0, 0);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{options:?} on {rows} rows").as_bytes());
        if ranks > 1 {
            hasher.update(format!(" on {ranks} ranks").as_bytes());
        }
        start.chunks(1 << 16).for_each(|part| {
            hasher.update(&part.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        });
        Digest::from_hash(hasher.finalize())
    }
}

/// Told what happens; may stop the training.
pub trait Watch {
    /// The training goes on from after this step.
    fn resumed(&mut self, _step: u64, _of: u64) {}
    /// A step was made: counted from 1; loss and norm are from before its update.
    fn step(&mut self, step: u64, of: u64, loss: f64, norm: f64, rate: f64);
    /// Rows through whole steps: the median over about a second.
    fn speed(&mut self, step: u64, samples_per_second: f64);
    /// The shares of that time for which this rank waited for others, and in which gradients were added.
    fn talk(&mut self, _step: u64, _waited: f64, _summed: f64) {}
    fn epoch(&mut self, epoch: &Epoch);
    /// An epoch ended at which a shorter training would have ended; of the last one, too.
    fn reached(&mut self, _training: &Training<'_>) -> Result<(), FitError> {
        Ok(())
    }
    /// A checkpoint was saved, or could not be.
    fn checkpoint(&mut self, _step: u64, _saved: io::Result<Duration>) {}
    fn is_cancelled(&self) -> bool;
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
    /// Stopped on request; a checkpoint was saved if there is a folder for it.
    #[error("cancelled after step {step} of {of}")]
    Cancelled { step: u64, of: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<candle_core::Error> for FitError {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

/// A training under way. All of its methods want a pool of threads of their own around them.
///
/// Between its start and its end the parameters put out what `Options::labels` makes of labels.
pub struct Training<'a> {
    learner: Box<dyn Learner + 'a>,
    together: &'a dyn Collective,
    train: Rows<'a>,
    validation: Option<Rows<'a>>,
    options: &'a Options,
    course: Course,
    /// The loss of each step.
    losses: Vec<f32>,
    /// The parameters of the best epoch, where they are wanted.
    best: Option<Vec<f32>>,
}

impl<'a> Training<'a> {
    /// Training of a model that `learner` makes, from what `start` becomes where labels are scaled.
    pub fn new(
        layout: &Layout,
        mut start: Vec<f32>,
        train: Rows<'a>,
        validation: Option<Rows<'a>>,
        options: &'a Options,
        together: &'a dyn Collective,
        learner: impl FnOnce(Vec<f32>) -> Result<Box<dyn Learner + 'a>, ModelError>,
    ) -> Result<Self, FitError> {
        options.labels.unfold(layout, &mut start);
        Ok(Self {
            learner: learner(start)?,
            together,
            train,
            validation,
            options,
            course: Course::default(),
            losses: Vec::new(),
            best: None,
        })
    }

    /// Steps made so far.
    pub fn step(&self) -> u64 {
        self.course.step
    }

    /// Epochs that are over.
    pub fn epochs(&self) -> u32 {
        self.course.epochs.len() as u32
    }

    /// Goes back to a saved state of this training.
    pub fn restore(&mut self, saved: Saved) -> Result<(), FitError> {
        let mut sections = saved.sections.into_iter();
        let mut next = || sections.next().unwrap_or_default();
        let (parameters, first, second, losses) = (next(), next(), next(), next());
        let best = sections.next();
        let len = self.learner.bert().layout.len();
        let whole = [&parameters, &first, &second].iter().all(|section| section.len() == len)
            && best.as_ref().is_none_or(|best| best.len() == len)
            && losses.len() as u64 == saved.course.step;
        if !whole {
            return Err(io::Error::other("a saved state does not fit its training").into());
        }
        self.learner.restore(saved.course.step, [parameters, first, second])?;
        (self.course, self.losses, self.best) = (saved.course, losses, best);
        Ok(())
    }

    /// Hands the state to `keep`: what [`Training::restore`] goes back to.
    fn with_state<T>(&self, keep: impl FnOnce(&Course, &[&[f32]]) -> io::Result<T>) -> Result<T, FitError> {
        let (mut keep, mut kept) = (Some(keep), None);
        self.learner.with_state(&mut |[parameters, first, second]| {
            let mut sections = vec![parameters, first, second, &self.losses];
            sections.extend(self.best.as_deref());
            kept = keep.take().map(|keep| keep(&self.course, &sections));
        })?;
        Ok(kept.expect("a learner hands its state out once")?)
    }

    /// Writes the state to a file, for a longer training to go on from.
    pub fn save(&self, path: &Path, training: Digest) -> Result<(), FitError> {
        self.with_state(|course, sections| super::checkpoint::file::write(path, training, course, sections))
    }

    /// Makes all steps that are left.
    pub fn run(
        &mut self,
        mut checkpoints: Option<&mut Checkpoints>,
        watch: &mut dyn Watch,
    ) -> Result<Fitted, FitError> {
        let total = self.options.schedule.steps;
        if self.course.step > 0 {
            watch.resumed(self.course.step, total);
        }
        let mut clock = Clock::default();
        while self.epochs() < self.options.epochs {
            let ended = self.epoch(checkpoints.as_deref_mut(), &mut clock, watch);
            if let (Err(FitError::NotFinite { .. } | FitError::Cancelled { .. }), Some(checkpoints)) =
                (&ended, checkpoints.as_deref_mut())
            {
                self.checkpoint(checkpoints, watch)?;
            }
            ended?;
            if self.options.is_prefix() {
                watch.reached(self)?;
            }
        }
        self.fitted()
    }

    /// What the training has made where it stands: the end of an epoch.
    pub fn fitted(&self) -> Result<Fitted, FitError> {
        let mut parameters = match &self.best {
            Some(best) => best.clone(),
            None => self.learner.parameters()?,
        };
        self.options.labels.fold(&self.learner.bert().layout, &mut parameters);
        let some = self.validation.unwrap_or(self.train).tokens.first(512);
        let spread = deviation(&self.learner.predict(&parameters, &some)?);
        Ok(Fitted { parameters, curves: Curves::of(&self.course, &self.losses), spread })
    }

    /// The rest of the epoch under way.
    fn epoch(
        &mut self,
        mut checkpoints: Option<&mut Checkpoints>,
        clock: &mut Clock,
        watch: &mut dyn Watch,
    ) -> Result<(), FitError> {
        let (epoch, rows) = (self.epochs() + 1, self.train.targets.len());
        let per_epoch = Options::steps_per_epoch(rows, self.options.batch_size);
        let done = self.course.step - u64::from(self.epochs()) * per_epoch;
        for batch in order(rows, epoch, self.options).chunks(self.options.batch_size).skip(done as usize) {
            // All stop at the same step, whichever of them was told to.
            if self.together.any(watch.is_cancelled()) {
                return Err(FitError::Cancelled { step: self.course.step, of: self.options.schedule.steps });
            }
            let began = Instant::now();
            let talk = self.make_step(batch, watch)?;
            if let Some(pace) = clock.tick(batch.len(), began.elapsed(), talk) {
                watch.speed(self.course.step, pace.rows);
                if let Some([waited, summed]) = pace.talk {
                    watch.talk(self.course.step, waited, summed);
                }
            }
            if let Some(checkpoints) = checkpoints.as_deref_mut().filter(|checkpoints| checkpoints.is_due()) {
                self.checkpoint(checkpoints, watch)?;
            }
        }
        let agreement = match self.validation {
            Some(rows) => {
                let mut predictions = self.predict(rows.tokens)?;
                predictions.iter_mut().for_each(|value| *value = self.options.labels.label(*value));
                Some(Agreement::of(rows.targets, &predictions))
            }
            None => None,
        };
        let done = Epoch { epoch, loss: self.course.sum / rows as f64, validation: agreement };
        watch.epoch(&done);
        self.course.sum = 0.0;
        self.course.epochs.push(done);
        if self.options.kept == Kept::Best {
            let r2 = agreement.and_then(|a| a.r2);
            let order = |r2: Option<f64>| r2.unwrap_or(f64::NEG_INFINITY);
            if self.course.best.is_none_or(|best| order(r2) > order(best.r2)) {
                self.course.best = Some(Best { epoch, r2 });
                self.best = Some(self.learner.parameters()?);
            }
        }
        Ok(())
    }

    /// Predicts with the parameters as they are; each rank for its share of the rows, which changes no bit.
    fn predict(&self, rows: &Tokens) -> Result<Vec<f64>, FitError> {
        let parameters = self.learner.parameters()?;
        if self.together.world() == 1 {
            return Ok(self.learner.predict(&parameters, rows)?);
        }
        let own = self.learner.predict(&parameters, &rows.slice(self.together.share(rows.len())))?;
        let own: Vec<f32> = own.into_iter().map(|value| value as f32).collect();
        Ok(self.together.gather(&own, rows.len()).into_iter().map(f64::from).collect())
    }

    /// One optimiser step; after an error nothing has changed.
    fn make_step(&mut self, rows: &[usize], watch: &mut dyn Watch) -> Result<Option<Talk>, FitError> {
        let step = self.course.step + 1;
        let labels = self.options.labels;
        let share = self.together.share(rows.len());
        let own = &rows[share.clone()];
        let targets = own.iter().map(|&row| labels.target(self.train.targets[row]) as f32).collect();
        let part = Part { rows: Batch::of(self.train.tokens, own), targets, of: rows.len() };
        let key = StepKey { seed: self.options.seed.0, step, first_row: share.start as u32 };
        let loss = labels.loss_of_outputs(self.options.loss);
        let Slope { loss, norm, talk } = self.learner.look(part, loss, key, self.together)?;
        let loss = labels.loss_of_labels(loss);
        for (what, value) in [("loss", loss), ("gradient", norm)] {
            if !value.is_finite() {
                let mut parameters = self.learner.parameters()?;
                labels.fold(&self.learner.bert().layout, &mut parameters);
                return Err(FitError::NotFinite { what, step, parameters });
            }
        }
        let rate = self.options.schedule.rate(step - 1);
        self.learner.update(norm, rate)?;
        self.course.step = step;
        self.course.sum += loss * rows.len() as f64;
        self.losses.push(loss as f32);
        watch.step(step, self.options.schedule.steps, loss, norm, rate);
        Ok(talk)
    }

    /// Saves a checkpoint; where that fails the training goes on, and `watch` hears of it.
    fn checkpoint(&self, checkpoints: &mut Checkpoints, watch: &mut dyn Watch) -> Result<(), FitError> {
        if self.course.step == 0 {
            return Ok(());
        }
        match self.with_state(|course, sections| checkpoints.save(course, sections)) {
            Ok(Some(took)) => watch.checkpoint(self.course.step, Ok(took)),
            Ok(None) => {}
            Err(FitError::Io(error)) => watch.checkpoint(self.course.step, Err(error)),
            Err(other) => return Err(other),
        }
        Ok(())
    }
}

/// The rows of an epoch, in its order.
fn order(rows: usize, epoch: u32, options: &Options) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    if options.shuffle {
        shuffle(&mut options.seed.rng(&format!("order of epoch {epoch}")), &mut order);
    }
    order
}

fn deviation(values: &[f64]) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt()
}

/// Rates of steps over about a second.
#[derive(Default)]
struct Clock {
    rates: Vec<f64>,
    spent: Duration,
    talk: Option<Talk>,
}

/// What about a second of steps came to.
struct Pace {
    /// A second, by the median step.
    rows: f64,
    /// Shares of the time: waited for the last rank, and spent on sums.
    talk: Option<[f64; 2]>,
}

impl Clock {
    fn tick(&mut self, rows: usize, took: Duration, talk: Option<Talk>) -> Option<Pace> {
        self.rates.push(rows as f64 / took.as_secs_f64().max(1e-9));
        self.spent += took;
        if let Some(talk) = talk {
            let all = self.talk.get_or_insert_default();
            all.waited += talk.waited;
            all.summed += talk.summed;
        }
        if self.spent < Duration::from_secs(1) {
            return None;
        }
        let mut rates = std::mem::take(&mut self.rates);
        let share = |part: Duration| part.as_secs_f64() / self.spent.as_secs_f64();
        let talk = self.talk.take().map(|talk| [share(talk.waited), share(talk.summed)]);
        self.spent = Duration::ZERO;
        rates.sort_by(f64::total_cmp);
        Some(Pace { rows: rates[rates.len() / 2], talk })
    }
}
