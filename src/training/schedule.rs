//! The learning rate of each step.

/// How the rate goes on after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// To 0 at the end of the last step.
    Linear,
    Constant,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    pub peak: f64,
    pub shape: Shape,
    pub warmup: u64,
    /// All optimiser steps of the training.
    pub steps: u64,
}

impl Schedule {
    /// The rate of step `step`, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        match self.shape {
            Shape::Constant => self.peak,
            Shape::Linear => {
                let left = self.steps.saturating_sub(step) as f64;
                self.peak * left / self.steps.saturating_sub(self.warmup).max(1) as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_nothing() {
        let linear = Schedule { peak: 1.0, shape: Shape::Linear, warmup: 2, steps: 6 };
        let rates: Vec<f64> = (0..7).map(|step| linear.rate(step)).collect();
        assert_eq!(rates, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(Schedule { warmup: 0, ..linear }.rate(0), 1.0);
        assert_eq!(Schedule { shape: Shape::Constant, ..linear }.rate(5), 1.0);
    }
}
