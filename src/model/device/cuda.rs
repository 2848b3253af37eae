//! BERT on an NVIDIA GPU: forward, backward and optimiser by our own kernels, products by cuBLAS. candle opens the device.
//!
//! The same model, masks and order of work as on the processor (`bert.rs`), on padded rows. Everything runs on one stream;
//! sums have a fixed order, and cuBLAS gives equal bits for equal products on equal GPUs: so does a training.

mod arena;
mod backward;
mod driver;
mod forward;
mod pass;
mod product;
mod sum;

use super::super::bert::StepKey;
use super::super::{Batch, Bert, ModelError};
use crate::collective::MOST_RANKS;
use crate::device::Device;
use arena::Arena;
use driver::{Arg, Driver, Floats, Memory, Threads};
use pass::Pass;
use product::{Kind, Side, Sizes};
use std::ops::Range;
use std::time::Instant;

pub use driver::gpus;

/// A model on a GPU.
#[derive(Debug)]
pub struct Gpu {
    bert: Bert,
    parameters: Memory,
    /// What predictions use in place of the parameters.
    others: Option<Memory>,
    training: Option<Training>,
    arena: Arena,
    // Last: memory is given back before the device is.
    driver: Driver,
}

/// What training keeps beside the parameters.
#[derive(Debug)]
struct Training {
    /// The gradient, the loss, and room for what the last piece of a sum over ranks is filled up with.
    numbers: Memory,
    first: Memory,
    second: Memory,
    /// The gradient's sum of squares as f64, the loss, and partial sums.
    results: Memory,
    /// What other ranks send; of a GPU alone, nothing.
    received: Option<Memory>,
}

impl Training {
    fn gradient(&self) -> Floats {
        self.numbers.floats.part(&(0..self.first.floats.len))
    }

    fn loss(&self) -> Floats {
        let at = self.first.floats.len;
        self.numbers.floats.part(&(at..at + 1))
    }

    /// What ranks add up: the gradient, and the loss behind it.
    fn summed(&self) -> Floats {
        self.numbers.floats.part(&(0..self.first.floats.len + 1))
    }
}

/// Numbers of `Training::results` before the partial sums.
const RESULTS: usize = 4;

impl Gpu {
    /// Brings a model to a GPU.
    pub fn new(bert: &Bert, parameters: &[f32], device: Device) -> Result<Self, ModelError> {
        let driver = Driver::open(device)?;
        driver.enter()?;
        let memory = driver.allocate(parameters.len())?;
        driver.upload(memory.floats.at, parameters)?;
        Ok(Self {
            bert: bert.clone(),
            parameters: memory,
            others: None,
            training: None,
            arena: Arena::default(),
            driver,
        })
    }

    /// How fast a GPU multiplies matrices in f32, in floating-point operations per second.
    pub fn speed(device: Device) -> Result<f64, ModelError> {
        const SIZE: usize = 4096;
        let driver = Driver::open(device)?;
        driver.enter()?;
        let memory = driver.allocate(2 * SIZE * SIZE)?;
        driver.clear(memory.floats)?;
        let [a, out] = [0, 1].map(|i| memory.floats.part(&(i * SIZE * SIZE..(i + 1) * SIZE * SIZE)));
        let side = Side::new(a.at, SIZE);
        let mut best = f64::MAX;
        for _ in 0..4 {
            let began = Instant::now();
            driver.product(Kind::F32, side, side, Sizes::one(SIZE, SIZE, SIZE), out)?;
            driver.download(out.part(&(0..1)))?;
            best = best.min(began.elapsed().as_secs_f64());
        }
        Ok(2.0 * (SIZE as f64).powi(3) / best)
    }

    /// Has predictions use other parameters of this shape; `None` has them use the model's own again.
    pub fn predict_with(&mut self, parameters: Option<&[f32]>) -> Result<(), ModelError> {
        self.driver.enter()?;
        self.others = None;
        if let Some(parameters) = parameters {
            let memory = self.driver.allocate(parameters.len())?;
            self.driver.upload(memory.floats.at, parameters)?;
            self.others = Some(memory);
        }
        Ok(())
    }

    /// One output for each row.
    pub fn predict(&mut self, batch: &Batch) -> Result<Vec<f32>, ModelError> {
        let parameters = self.others.as_ref().unwrap_or(&self.parameters).floats;
        let mut pass = Pass::new(&self.driver, &mut self.arena, &self.bert, parameters, batch, None)?;
        let outputs = pass.forward(false)?.outputs;
        self.driver.download(outputs)
    }

    /// Has the GPU compute what rows add to the mean loss of a batch of so many (squared error, or Huber's with this delta),
    /// and the gradient of that. Both stay there, and [`Gpu::measure`] tells of them.
    pub fn gradient(
        &mut self,
        batch: &Batch,
        targets: &[f32],
        of: usize,
        huber_delta: Option<f32>,
        key: StepKey,
    ) -> Result<(), ModelError> {
        self.start_training()?;
        let training = self.training.as_ref().expect("just started");
        let (gradient, loss) = (training.gradient(), training.loss());
        self.driver.clear(training.numbers.floats)?;
        if targets.is_empty() {
            // More ranks than rows: this one adds nothing.
            return Ok(());
        }
        let parameters = self.parameters.floats;
        let mut pass = Pass::new(&self.driver, &mut self.arena, &self.bert, parameters, batch, Some(key))?;
        let made = pass.forward(true)?;
        let [aims, slopes] = [pass.take(targets.len())?, pass.take(targets.len())?];
        self.driver.upload(aims.at, targets)?;
        let delta = Arg::Float(huber_delta.unwrap_or(-1.0));
        let [rows, of] = [targets.len(), of].map(Arg::from);
        let args = [made.outputs.into(), aims.into(), slopes.into(), loss.into(), rows, of, delta];
        pass.launch("loss_and_slope", Threads::Blocks(1), &args)?;
        pass.backward(&made, slopes, gradient)
    }

    /// Waits for the last gradient: its loss, and its norm.
    pub fn measure(&self) -> Result<(f64, f64), ModelError> {
        self.driver.enter()?;
        let training = self.training.as_ref().expect("a gradient comes before its norm");
        let (gradient, results) = (training.gradient(), training.results.floats);
        let parts = results.part(&(RESULTS..results.len));
        let count = Arg::Size(gradient.len as u64);
        self.driver.launch("squares", Threads::Blocks(1024), &[gradient.into(), parts.into(), count])?;
        let args = [parts.into(), training.loss().into(), results.into()];
        self.driver.launch("squares_end", Threads::Blocks(1), &args)?;
        let made = self.driver.download(results.part(&(0..RESULTS)))?;
        let squares = f64::from_bits(u64::from(made[0].to_bits()) | (u64::from(made[1].to_bits()) << 32));
        Ok((f64::from(made[2]), squares.sqrt()))
    }

    /// Makes a step of AdamW along the last gradient: spans of parameters with what decay leaves of them; `rates` are the
    /// gradient's factor, the rate, and 1 / sqrt(1 - beta2^t).
    pub fn update(&mut self, spans: &[(Range<usize>, f32)], [clip, rate, root]: [f32; 3]) -> Result<(), ModelError> {
        self.driver.enter()?;
        let training = self.training.as_ref().expect("a gradient comes before its step");
        let [p, m, v] = [&self.parameters, &training.first, &training.second].map(|memory| memory.floats);
        let all = [p, m, v, training.gradient()];
        for (range, keep) in spans {
            let [p, m, v, g] = all.map(|floats| Arg::from(floats.part(range)));
            let args =
                [p, m, v, g, Arg::Size(range.len() as u64), clip.into(), (*keep).into(), rate.into(), root.into()];
            self.driver.launch("adamw", Threads::Each(range.len()), &args)?;
        }
        Ok(())
    }

    pub fn parameters(&self) -> Result<Vec<f32>, ModelError> {
        self.driver.enter()?;
        self.driver.download(self.parameters.floats)
    }

    /// Parameters, first and second moments.
    pub fn state(&mut self) -> Result<[Vec<f32>; 3], ModelError> {
        self.start_training()?;
        let training = self.training.as_ref().expect("just started");
        let [first, second] = [&training.first, &training.second].map(|memory| self.driver.download(memory.floats));
        Ok([self.parameters()?, first?, second?])
    }

    /// Goes back to what [`Gpu::state`] gave.
    pub fn restore(&mut self, [parameters, first, second]: [&[f32]; 3]) -> Result<(), ModelError> {
        self.start_training()?;
        let training = self.training.as_ref().expect("just started");
        for (memory, values) in [(&self.parameters, parameters), (&training.first, first), (&training.second, second)] {
            self.driver.upload(memory.floats.at, values)?;
        }
        Ok(())
    }

    /// The gradient that the last step was, or is to be, made along.
    #[cfg(test)]
    pub fn last_gradient(&self) -> Result<Vec<f32>, ModelError> {
        self.driver.download(self.training.as_ref().expect("trained").gradient())
    }

    fn start_training(&mut self) -> Result<(), ModelError> {
        self.driver.enter()?;
        if self.training.is_some() {
            return Ok(());
        }
        let len = self.parameters.floats.len;
        let numbers = self.driver.allocate(len + 1 + MOST_RANKS as usize)?;
        let [first, second] = [self.driver.allocate(len)?, self.driver.allocate(len)?];
        let results = self.driver.allocate(RESULTS + 2 * 1024)?;
        for moments in [&first, &second] {
            self.driver.clear(moments.floats)?;
        }
        self.training = Some(Training { numbers, first, second, results, received: None });
        Ok(())
    }
}
