//! What a training tells its stage: progress, metrics, and the epochs at which shorter trainings end.

use super::{Counts, Train, made};
use crate::digest::Digest;
use crate::model::folder::Model;
use crate::name::PortName;
use crate::stage::{Reached, StageContext, StageError};
use crate::training::{Epoch, FitError, Training, Watch};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Passes the loop's news on to the stage's context.
pub(super) struct Reporter<'a, 'b> {
    pub ctx: &'a StageContext<'b>,
    pub stage: &'a Train,
    pub start: &'a Model,
    pub counts: Counts,
    pub batch: u64,
    pub identity: Digest,
    /// When a state was last left for longer trainings.
    pub sealed: Instant,
}

/// A state takes three times the room of a model: shorter stretches of training are rather made again.
const WORTH_A_STATE: Duration = Duration::from_secs(60);

impl Reporter<'_, '_> {
    fn progress(&self, step: u64, of: u64) {
        let rows = self.counts.rows as u64;
        let per_epoch = rows.div_ceil(self.batch);
        let done = step / per_epoch * rows + (step % per_epoch) * self.batch;
        self.ctx.progress(done, of / per_epoch * rows, "samples");
    }

    /// Leaves what a training of so many epochs would have made, and the state that a longer one goes on from.
    fn seal(&mut self, training: &Training<'_>) -> Result<Reached, StageError> {
        let epoch = training.epochs();
        let name = PathBuf::from(format!("epoch-{epoch}"));
        let folder = self.ctx.output_dir.join(&name);
        fs_err::create_dir_all(&folder)?;
        let failed = |e: FitError| StageError::Failed(e.to_string());
        let mut outputs = BTreeMap::new();
        let ends = epoch == self.stage.epochs;
        if !ends {
            let fitted = training.fitted().map_err(failed)?;
            let made = made(self.start, fitted, training.step(), self.counts);
            let files = ["model", "metrics.json"].map(|file| name.join(file));
            let [model, metrics] = files.clone().map(|file| self.ctx.output_dir.join(file));
            self.stage.until(epoch).write(made, &model, &metrics)?;
            let port = |name: &str| PortName::parse(name).expect("our own port");
            outputs.extend(["model", "metrics"].map(port).into_iter().zip(files));
        }
        let mut state = None;
        if ends || self.sealed.elapsed() > WORTH_A_STATE {
            let file = name.join("state");
            training.save(&self.ctx.output_dir.join(&file), self.identity).map_err(failed)?;
            self.sealed = Instant::now();
            state = Some(file);
        }
        Ok(Reached { prefix: epoch as usize - 1, outputs, state })
    }
}

impl Watch for Reporter<'_, '_> {
    fn resumed(&mut self, step: u64, of: u64) {
        self.ctx.note(&format!("resumed at step {step} of {of}"));
        self.progress(step, of);
    }

    fn step(&mut self, step: u64, of: u64, loss: f64, norm: f64, rate: f64) {
        self.ctx.metric("loss", step, loss);
        self.ctx.metric("grad_norm", step, norm);
        self.ctx.metric("learning_rate", step, rate);
        self.progress(step, of);
    }

    fn reached(&mut self, training: &Training<'_>) -> Result<(), FitError> {
        if !self.ctx.is_first() {
            return Ok(());
        }
        match self.seal(training) {
            Ok(reached) => self.ctx.reached(reached),
            // A full disk must not end a training of days: what fails here is only of use to others.
            Err(error) => self.ctx.warning(&format!("epoch {} can't be kept: {error}", training.epochs())),
        }
        Ok(())
    }

    fn checkpoint(&mut self, step: u64, saved: std::io::Result<Duration>) {
        match saved {
            Ok(took) => self.ctx.metric("checkpoint_seconds", step, took.as_secs_f64()),
            Err(error) => self.ctx.warning(&format!(
                "no checkpoint could be saved after step {step}: {error}; the training goes on, a kill would cost what \
                 was made since the last one"
            )),
        }
    }

    fn speed(&mut self, step: u64, samples_per_second: f64) {
        self.ctx.metric("samples_per_second", step, samples_per_second);
    }

    fn talk(&mut self, step: u64, waited: f64, summed: f64) {
        self.ctx.metric("waiting_share", step, waited);
        self.ctx.metric("all_reduce_share", step, summed);
    }

    fn epoch(&mut self, epoch: &Epoch) {
        let number = u64::from(epoch.epoch);
        self.ctx.metric("epoch_loss", number, epoch.loss);
        let Some(agreement) = epoch.validation else { return };
        self.ctx.metric("validation_mse", number, agreement.mse);
        for (name, value) in [("validation_r2", agreement.r2), ("validation_pearson", agreement.pearson)] {
            if let Some(value) = value {
                self.ctx.metric(name, number, value);
            }
        }
    }

    fn is_cancelled(&self) -> bool {
        self.ctx.is_cancelled()
    }
}
