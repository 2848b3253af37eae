//! What a training changes step by step: the parameters, and what their optimiser keeps.

use super::optimizer::{self, AdamW, Rates};
use super::{Engine, Loss, Part};
use crate::collective::{Adder, Collective};
use crate::data::tokens::Tokens;
use crate::device::Device;
use crate::model::bert::StepKey;
use crate::model::device::Gpu;
use crate::model::op::{Gradient, with_values};
use crate::model::{Bert, ModelError, predict};
use candle_core::{Device as CandleDevice, Var};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A batch's mean loss, and the norm of its gradient: not a finite number where the loss is none.
#[derive(Debug, Clone, Copy)]
pub struct Slope {
    pub loss: f64,
    pub norm: f64,
    /// Of ranks on processors: on GPUs nobody waits to look at a clock.
    pub talk: Option<Talk>,
}

/// The time that ranks spend on each other in one step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Talk {
    /// Until the last one has its gradient.
    pub waited: Duration,
    /// Until all of them have the sum.
    pub summed: Duration,
}

/// A model under training, wherever it lies.
pub trait Learner: Send {
    /// The model's shape.
    fn bert(&self) -> &Bert;

    /// Computes the gradient of a batch's mean loss, of which each rank brings its part, for [`Learner::update`] to follow.
    fn look(&mut self, part: Part, loss: Loss, key: StepKey, together: &dyn Collective) -> Result<Slope, ModelError>;

    /// Makes one step of the optimiser; `norm` is the gradient's.
    fn update(&mut self, norm: f64, rate: f64) -> Result<(), ModelError>;

    fn parameters(&self) -> Result<Vec<f32>, ModelError>;

    /// Hands out parameters, first and second moments.
    fn with_state(&self, keep: &mut dyn FnMut([&[f32]; 3])) -> Result<(), ModelError>;

    /// Goes back to what [`Learner::with_state`] handed out after so many steps.
    fn restore(&mut self, steps: u64, state: [Vec<f32>; 3]) -> Result<(), ModelError>;

    /// Predicts for rows of token ids, with any parameters of this shape.
    fn predict(&self, parameters: &[f32], rows: &Tokens) -> Result<Vec<f64>, ModelError>;
}

/// On the processor, in candle's memory; its methods want a pool of threads around them.
pub struct OnProcessor<'e> {
    engine: &'e dyn Engine,
    parameters: Var,
    adam: AdamW,
    /// Where each step leaves its gradient.
    gradient: Gradient,
    adder: Adder,
}

impl<'e> OnProcessor<'e> {
    pub fn new(engine: &'e dyn Engine, start: Vec<f32>, decay: f64, clip: f64) -> Result<Self, ModelError> {
        let len = engine.bert().layout.len();
        Ok(Self {
            engine,
            parameters: Var::from_vec(start, len, &CandleDevice::Cpu)?,
            adam: AdamW::new(len, decay, clip),
            gradient: Gradient::default(),
            adder: Adder::default(),
        })
    }
}

impl Learner for OnProcessor<'_> {
    fn bert(&self) -> &Bert {
        self.engine.bert()
    }

    fn look(&mut self, part: Part, loss: Loss, key: StepKey, together: &dyn Collective) -> Result<Slope, ModelError> {
        let layout = &self.engine.bert().layout;
        let loss = if part.targets.is_empty() {
            // More ranks than rows: this one adds nothing.
            let mut gradient = self.gradient.lock().expect("no pass panicked");
            gradient.clear();
            gradient.resize(layout.len(), 0.0);
            0.0
        } else {
            self.engine.step(&self.parameters, part, loss, key, &self.gradient)?
        };
        let began = Instant::now();
        let loss = together.each(loss as f32).into_iter().map(f64::from).sum::<f64>();
        let waited = began.elapsed();
        if !loss.is_finite() {
            return Ok(Slope { loss, norm: f64::NAN, talk: None });
        }
        let mut gradient = self.gradient.lock().expect("no pass panicked");
        let began = Instant::now();
        self.adder.sum(together, &mut gradient);
        let talk = (together.world() > 1).then(|| Talk { waited, summed: began.elapsed() });
        Ok(Slope { loss, norm: optimizer::gradient_norm(layout, &gradient), talk })
    }

    fn update(&mut self, norm: f64, rate: f64) -> Result<(), ModelError> {
        let gradient = self.gradient.lock().expect("no pass panicked");
        Ok(self.adam.step(&self.engine.bert().layout, &self.parameters, &gradient, norm, rate)?)
    }

    fn parameters(&self) -> Result<Vec<f32>, ModelError> {
        Ok(self.parameters.to_vec1()?)
    }

    fn with_state(&self, keep: &mut dyn FnMut([&[f32]; 3])) -> Result<(), ModelError> {
        let [first, second] = self.adam.moments();
        Ok(with_values(&self.parameters, |parameters| keep([parameters, first, second]))?)
    }

    fn restore(&mut self, steps: u64, [parameters, first, second]: [Vec<f32>; 3]) -> Result<(), ModelError> {
        let len = parameters.len();
        self.parameters = Var::from_vec(parameters, len, &CandleDevice::Cpu)?;
        self.adam.restore(steps, first, second);
        Ok(())
    }

    fn predict(&self, parameters: &[f32], rows: &Tokens) -> Result<Vec<f64>, ModelError> {
        Ok(self.engine.predict(parameters, rows)?)
    }
}

/// On a GPU, moments and all: one number or two come back from it at each step.
pub struct OnGpu {
    bert: Bert,
    gpu: Mutex<Gpu>,
    decay: f64,
    clip: f64,
    steps: u64,
}

impl OnGpu {
    pub fn new(bert: Bert, start: &[f32], decay: f64, clip: f64, device: Device) -> Result<Self, ModelError> {
        let gpu = Mutex::new(Gpu::new(&bert, start, device)?);
        Ok(Self { bert, gpu, decay, clip, steps: 0 })
    }

    fn gpu(&self) -> MutexGuard<'_, Gpu> {
        self.gpu.lock().expect("no pass panicked")
    }
}

impl Learner for OnGpu {
    fn bert(&self) -> &Bert {
        &self.bert
    }

    fn look(
        &mut self,
        Part { rows, targets, of }: Part,
        loss: Loss,
        key: StepKey,
        together: &dyn Collective,
    ) -> Result<Slope, ModelError> {
        let delta = match loss {
            Loss::Mse => None,
            Loss::Huber { delta } => Some(delta as f32),
        };
        let mut gpu = self.gpu();
        gpu.gradient(&rows, &targets, of, delta, key)?;
        // The loss goes along: where it is no number on one rank, it is none on all of them.
        gpu.sum(together)?;
        let (loss, norm) = gpu.measure()?;
        Ok(Slope { loss, norm, talk: None })
    }

    fn update(&mut self, norm: f64, rate: f64) -> Result<(), ModelError> {
        self.steps += 1;
        let rates = |decay| Rates::new(self.steps, self.clip, norm, rate, decay);
        let (plain, decayed) = (rates(0.0), rates(self.decay));
        // Parameters of one kind that lie side by side are one span.
        let mut spans: Vec<(Range<usize>, f32)> = Vec::new();
        for entry in &self.bert.layout.entries {
            let keep = if entry.decays() { decayed.keep } else { plain.keep };
            match spans.last_mut() {
                Some((range, last)) if *last == keep && range.end == entry.range.start => range.end = entry.range.end,
                _ => spans.push((entry.range.clone(), keep)),
            }
        }
        self.gpu().update(&spans, [plain.clip, plain.rate, plain.root])
    }

    fn parameters(&self) -> Result<Vec<f32>, ModelError> {
        self.gpu().parameters()
    }

    fn with_state(&self, keep: &mut dyn FnMut([&[f32]; 3])) -> Result<(), ModelError> {
        let state = self.gpu().state()?;
        keep([&state[0], &state[1], &state[2]]);
        Ok(())
    }

    fn restore(&mut self, steps: u64, state: [Vec<f32>; 3]) -> Result<(), ModelError> {
        self.steps = steps;
        self.gpu().restore([&state[0], &state[1], &state[2]])
    }

    fn predict(&self, parameters: &[f32], rows: &Tokens) -> Result<Vec<f64>, ModelError> {
        let mut gpu = self.gpu();
        gpu.predict_with(Some(parameters))?;
        let made = predict::in_batches(rows, predict::GPU_TOKENS, &mut |batch| gpu.predict(batch));
        gpu.predict_with(None)?;
        made
    }
}
