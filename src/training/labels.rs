//! Labels on a scale of their own while a model trains.

use super::Loss;
use crate::model::weights::Layout;

/// The line from what a model puts out in training to a label: `shift + scale * output`.
///
/// A model that comes out of training has it folded into its head, so that its outputs are labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelScale {
    shift: f64,
    scale: f64,
}

impl Default for LabelScale {
    fn default() -> Self {
        Self { shift: 0.0, scale: 1.0 }
    }
}

impl LabelScale {
    /// Gives these labels mean 0 and standard deviation 1; equal ones are shifted alone.
    pub fn standard(labels: &[f64]) -> Self {
        let n = labels.len().max(1) as f64;
        let shift = labels.iter().sum::<f64>() / n;
        let scale = (labels.iter().map(|y| (y - shift) * (y - shift)).sum::<f64>() / n).sqrt();
        Self { shift, scale: if scale > 0.0 { scale } else { 1.0 } }
    }

    /// What an output should be for a label.
    pub fn target(self, label: f64) -> f64 {
        (label - self.shift) / self.scale
    }

    /// The label that an output stands for.
    pub fn label(self, output: f64) -> f64 {
        self.shift + self.scale * output
    }

    /// The loss of outputs that is a loss of labels but for a factor: Huber's delta is a distance of labels.
    pub fn loss_of_outputs(self, loss: Loss) -> Loss {
        match loss {
            Loss::Mse => Loss::Mse,
            Loss::Huber { delta } => Loss::Huber { delta: delta / self.scale },
        }
    }

    /// That factor: both losses are quadratic in the unit of their differences.
    pub fn loss_of_labels(self, loss: f64) -> f64 {
        loss * self.scale * self.scale
    }

    /// Changes the head from one that puts out training's outputs to one that puts out labels.
    pub fn fold(self, layout: &Layout, parameters: &mut [f32]) {
        let bias = layout.head_bias();
        parameters[layout.head_weights()].iter_mut().for_each(|w| *w = (f64::from(*w) * self.scale) as f32);
        parameters[bias] = self.label(f64::from(parameters[bias])) as f32;
    }

    /// The reverse of [`LabelScale::fold`].
    pub fn unfold(self, layout: &Layout, parameters: &mut [f32]) {
        let bias = layout.head_bias();
        parameters[layout.head_weights()].iter_mut().for_each(|w| *w = (f64::from(*w) / self.scale) as f32);
        parameters[bias] = self.target(f64::from(parameters[bias])) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokens::Tokens;
    use crate::model::{Bert, BertConfig, predict};
    use crate::seed::Seed;

    #[test]
    fn a_folded_head_puts_out_labels() {
        let bert = Bert::new(BertConfig::new(10, 1, 16, 2, 32));
        let mut parameters = bert.layout.init(&bert.config, Seed(1));
        let mut rows = Tokens::new(10);
        [[5, 6, 7], [8, 8, 5]].iter().for_each(|row| rows.push(row));
        let labels = LabelScale::standard(&[3.0, 11.0, 16.0]);
        let outputs = predict::encoded(&bert, &parameters, &rows);
        let start = parameters.clone();
        labels.fold(&bert.layout, &mut parameters);
        for (folded, output) in predict::encoded(&bert, &parameters, &rows).iter().zip(&outputs) {
            assert!((folded - labels.label(*output)).abs() < 1e-5, "{folded} {output}");
            assert!((labels.target(*folded) - output).abs() < 1e-5);
        }
        labels.unfold(&bert.layout, &mut parameters);
        assert!(parameters.iter().zip(&start).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn losses_of_outputs_and_labels_differ_by_one_factor() {
        let labels = LabelScale::standard(&[0.0, 4.0, 17.0]);
        for loss in [Loss::Mse, Loss::Huber { delta: 1.0 }] {
            for difference in [0.1, 0.9, 5.0] {
                let of_outputs = labels.loss_of_outputs(loss).value(difference / labels.scale);
                assert!((labels.loss_of_labels(of_outputs) - loss.value(difference)).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn no_scale_changes_no_bit() {
        let (none, third) = (LabelScale::default(), 1.0 / 3.0);
        assert_eq!((none.target(third), none.label(third), none.loss_of_labels(third)), (third, third, third));
        assert_eq!(LabelScale::standard(&[5.0, 5.0]).target(5.5), 0.5);
    }
}
