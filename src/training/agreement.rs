//! The two engines against each other: every size, loss and schedule, with dropout off and on.

use super::{Engine, Fused, Loss, Part, Schedule, Shape, optimizer};
use crate::model::bert::StepKey;
use crate::model::op::Gradient;
use crate::model::{Batch, Bert, BertConfig, Reference};
use crate::seed::{Seed, normal};
use crate::training::AdamW;
use candle_core::{Device, Var};

/// Layers, hidden, heads, intermediate: odd widths, a single layer, a head of one column.
const SIZES: [[usize; 4]; 4] = [[2, 21, 3, 37], [1, 16, 2, 32], [3, 24, 4, 50], [2, 7, 7, 5]];
const LOSSES: [Loss; 3] = [Loss::Mse, Loss::Huber { delta: 0.4 }, Loss::Huber { delta: 1.0 }];

struct Case {
    fused: Fused,
    plain: Reference,
    start: Vec<f32>,
    rows: Vec<Vec<u8>>,
}

impl Case {
    fn new([layers, hidden, heads, inner]: [usize; 4], dropout: f64) -> Self {
        let mut config = BertConfig::new(10, layers, hidden, heads, inner);
        (config.hidden_dropout_prob, config.attention_probs_dropout_prob) = (dropout, dropout / 2.0);
        config.max_position_embeddings = 70;
        let bert = Bert::new(config);
        let mut rng = Seed(3).rng("test");
        let mut start = bert.layout.init(&bert.config, Seed(5));
        start.iter_mut().for_each(|x| *x += (0.2 * normal(&mut rng)) as f32);
        let rows = [1, 5, 66, 30].map(|n| (0..n).map(|i| (5 + (i * 7 + n) % 5) as u8).collect());
        Self { fused: Fused::new(bert.clone()), plain: Reference::new(bert), start, rows: rows.to_vec() }
    }

    fn step(&self, engine: &dyn Engine, parameters: &Var, loss: Loss, step: u64) -> (f64, Vec<f32>) {
        let gradient = Gradient::default();
        let batch = Batch::new(self.rows.iter().map(|row| &row[..]));
        let targets = vec![0.5, -1.0, 2.0, 0.1];
        let key = StepKey { seed: 9, step, first_row: 0 };
        let value = engine.step(parameters, Part::whole(batch, targets), loss, key, &gradient).expect("runs");
        let gradient = gradient.lock().expect("ours").clone();
        (value, gradient)
    }

    fn var(&self) -> Var {
        Var::from_vec(self.start.clone(), self.start.len(), &Device::Cpu).expect("small")
    }
}

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |top, x| top.max(x.abs()))
}

#[test]
fn losses_and_gradients_agree_at_every_size_and_loss_with_dropout_off_and_on() {
    for (size, dropout) in SIZES.into_iter().flat_map(|size| [0.0, 0.3].map(|dropout| (size, dropout))) {
        let case = Case::new(size, dropout);
        for loss in LOSSES {
            let (a, ours) = case.step(&case.fused, &case.var(), loss, 1);
            let (b, theirs) = case.step(&case.plain, &case.var(), loss, 1);
            assert!((a / b - 1.0).abs() < 1e-5, "{size:?} {dropout} {loss:?}: {a} {b}");
            for entry in &case.fused.bert().layout.entries {
                let (ours, theirs) = (&ours[entry.range.clone()], &theirs[entry.range.clone()]);
                let (off, top) =
                    (largest(ours.iter().zip(theirs).map(|(a, b)| a - b)), largest(theirs.iter().copied()));
                // Mathematically 0: both hold rounding noise.
                let bound = if entry.name.ends_with("key.bias") { 1e-4 } else { 5e-5 * top.max(1e-3) };
                assert!(off <= bound, "{size:?} {dropout} {loss:?} {}: {off:.1e} of {top:.1e}", entry.name);
            }
        }
    }
}

#[test]
fn both_engines_train_alike_under_every_schedule() {
    for shape in [Shape::Linear, Shape::Constant] {
        let case = Case::new(SIZES[0], 0.2);
        let schedule = Schedule { peak: 1e-3, shape, warmup: 3, steps: 12 };
        let train = |engine: &dyn Engine| -> Vec<f64> {
            let (parameters, layout) = (case.var(), &engine.bert().layout);
            let mut adam = AdamW::new(layout.len(), 0.01, 1.0);
            let make = |step| {
                let (loss, gradient) = case.step(engine, &parameters, Loss::Mse, step + 1);
                let norm = optimizer::gradient_norm(layout, &gradient);
                adam.step(layout, &parameters, &gradient, norm, schedule.rate(step)).expect("runs");
                loss
            };
            (0..12).map(make).collect()
        };
        let (ours, theirs) = (train(&case.fused), train(&case.plain));
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a / b - 1.0).abs() < 1e-3, "{shape:?}: {ours:?} {theirs:?}");
        }
        assert!(ours[11] < 0.9 * ours[0], "{ours:?}");
    }
}

#[test]
fn the_plain_engine_predicts_what_the_fused_one_does() {
    let case = Case::new(SIZES[2], 0.1);
    let mut rows = crate::data::tokens::Tokens::new(10);
    case.rows.iter().for_each(|row| rows.push(row));
    let [ours, theirs] =
        [&case.fused as &dyn Engine, &case.plain].map(|engine| engine.predict(&case.start, &rows).expect("runs"));
    assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-5), "{ours:?} {theirs:?}");
}
