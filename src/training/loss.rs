//! What training makes small.

use candle_core::{Result, Tensor};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Mean squared error.
    Mse,
    /// Quadratic up to `delta`, linear beyond; mean over the rows.
    Huber { delta: f64 },
}

impl Loss {
    /// These rows' part of the mean over the `of` rows of a batch, on candle's tape.
    pub fn of(self, outputs: &Tensor, targets: &Tensor, of: usize) -> Result<Tensor> {
        let difference = outputs.sub(targets)?;
        let losses = match self {
            Self::Mse => difference.sqr()?,
            Self::Huber { delta } => {
                let size = difference.abs()?;
                // With c = min(|d|, delta): c * (|d| - c / 2) is d^2 / 2 within delta, delta * (|d| - delta / 2) beyond.
                let near = size.minimum(delta)?;
                near.mul(&size.sub(&near.affine(0.5, 0.0)?)?)?
            }
        };
        losses.sum_all()? / of as f64
    }

    /// The loss of one row, in f64.
    pub fn value(self, difference: f64) -> f64 {
        match self {
            Self::Mse => difference * difference,
            Self::Huber { delta } => {
                let size = difference.abs();
                let near = size.min(delta);
                near * (size - near / 2.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn huber_is_quadratic_near_and_linear_far() {
        let loss = Loss::Huber { delta: 2.0 };
        assert_eq!([loss.value(1.0), loss.value(-2.0), loss.value(5.0)], [0.5, 2.0, 8.0]);
    }

    #[test]
    fn gradients_on_the_tape_are_the_derivatives() {
        let outputs = [0.5_f32, -3.0, 1.0, 9.0];
        let targets = [0.0_f32, 1.0, 1.5, 2.0];
        for loss in [Loss::Mse, Loss::Huber { delta: 1.0 }, Loss::Huber { delta: 4.5 }] {
            let x = Var::new(&outputs, &Device::Cpu).expect("small");
            let y = Tensor::new(&targets, &Device::Cpu).expect("small");
            let value = loss.of(&x, &y, 4).expect("shapes agree");
            let mean: f64 = (0..4).map(|i| loss.value(f64::from(outputs[i] - targets[i]))).sum::<f64>() / 4.0;
            assert!((f64::from(value.to_scalar::<f32>().expect("one number")) - mean).abs() < 1e-6);
            let grads = value.backward().expect("differentiable");
            let grads = grads.get(&x).expect("x has one").to_vec1::<f32>().expect("f32");
            for i in 0..4 {
                let d = f64::from(outputs[i] - targets[i]);
                let slope = (loss.value(d + 1e-6) - loss.value(d - 1e-6)) / 2e-6 / 4.0;
                assert!((f64::from(grads[i]) - slope).abs() < 1e-5, "{loss:?} {d}: {} {slope}", grads[i]);
            }
        }
    }
}
