//! AdamW over flat parameters: clip, moments, decay and step in one pass.

use crate::model::kernels::reduce;
use crate::model::kernels::simd::multiversion;
use crate::model::weights::Layout;
use candle_core::{CpuStorage, InplaceOp1, Layout as TensorLayout, Result, Var, bail};
use rayon::prelude::*;
use std::sync::Mutex;

/// The moments, and what each step applies.
#[derive(Debug, Clone)]
pub struct AdamW {
    pub decay: f64,
    /// The gradient's norm is clipped to this; 0 for no clipping.
    pub clip: f64,
    steps: u64,
    first: Vec<f32>,
    second: Vec<f32>,
}

const BETAS: (f64, f64) = (0.9, 0.999);
const EPSILON: f32 = 1e-8;
const SPAN: usize = 1 << 14;

/// One step's numbers for one parameter.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// What the gradient is multiplied by.
    pub clip: f32,
    /// What is left of a parameter after decay.
    pub keep: f32,
    pub rate: f32,
    /// 1 / sqrt(1 - beta2^t).
    pub root: f32,
}

impl Rates {
    /// Those of step `step`, counted from 1, for a gradient with this norm.
    pub fn new(step: u64, clip: f64, norm: f64, rate: f64, decay: f64) -> Self {
        let clip = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let bias = (1.0 - BETAS.0.powi(step as i32), 1.0 - BETAS.1.powi(step as i32));
        Self {
            clip: clip as f32,
            keep: (1.0 - rate * decay) as f32,
            rate: (rate / bias.0) as f32,
            root: (1.0 / bias.1.sqrt()) as f32,
        }
    }
}

multiversion! {
    pub fn update_span(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], rates: Rates) {
        let (one, two) = (BETAS.0 as f32, BETAS.1 as f32);
        let (one_rest, two_rest) = ((1.0 - BETAS.0) as f32, (1.0 - BETAS.1) as f32);
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * rates.clip;
            *m = *m * one + g * one_rest;
            *v = *v * two + g * g * two_rest;
            *p = *p * rates.keep - rates.rate * *m / (v.sqrt() * rates.root + EPSILON);
        }
    }
}

impl AdamW {
    pub fn new(len: usize, decay: f64, clip: f64) -> Self {
        Self { decay, clip, steps: 0, first: vec![0.0; len], second: vec![0.0; len] }
    }

    /// The moments, for a checkpoint.
    pub fn moments(&self) -> [&[f32]; 2] {
        [&self.first, &self.second]
    }

    /// Goes back to the moments after so many steps.
    pub fn restore(&mut self, steps: u64, first: Vec<f32>, second: Vec<f32>) {
        assert!([&first, &second].iter().all(|moments| moments.len() == self.first.len()), "they are of this model");
        (self.steps, self.first, self.second) = (steps, first, second);
    }

    /// Changes the parameters by one step; `norm` is the gradient's.
    pub fn step(&mut self, layout: &Layout, parameters: &Var, gradient: &[f32], norm: f64, rate: f64) -> Result<()> {
        let update = Update { adam: Mutex::new(self), layout, gradient, rate, norm };
        parameters.as_tensor().inplace_op1(&update)
    }

    fn apply(&mut self, layout: &Layout, values: &mut [f32], gradient: &[f32], rate: f64, norm: f64) {
        self.steps += 1;
        for entry in &layout.entries {
            let decay = if entry.decays() { self.decay } else { 0.0 };
            let rates = Rates::new(self.steps, self.clip, norm, rate, decay);
            let range = entry.range.clone();
            values[range.clone()]
                .par_chunks_mut(SPAN)
                .zip(self.first[range.clone()].par_chunks_mut(SPAN))
                .zip(self.second[range.clone()].par_chunks_mut(SPAN))
                .zip(gradient[range].par_chunks(SPAN))
                .for_each(|(((p, m), v), g)| update_span(p, m, v, g, rates));
        }
    }
}

/// The norm of the whole gradient: parameters in their order.
pub fn gradient_norm(layout: &Layout, gradient: &[f32]) -> f64 {
    layout.entries.iter().map(|entry| reduce::sum_of_squares(&gradient[entry.range.clone()])).sum::<f64>().sqrt()
}

/// The step as candle's operation on the parameters in place.
struct Update<'a> {
    adam: Mutex<&'a mut AdamW>,
    layout: &'a Layout,
    gradient: &'a [f32],
    rate: f64,
    norm: f64,
}

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &TensorLayout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("the parameters lie end to end") };
        let CpuStorage::F32(values) = storage else { bail!("the parameters are f32") };
        let mut adam = self.adam.lock().expect("no step panicked");
        adam.apply(self.layout, &mut values[start..end], self.gradient, self.rate, self.norm);
        Ok(())
    }
}
