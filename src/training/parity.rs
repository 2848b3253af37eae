//! Our numbers against those that `transformers` gave (`tests/fixtures/reference`), and against themselves.

mod gpu;

use super::{AdamW, Engine, Fused, Loss, Part, optimizer};
use crate::model::bert::StepKey;
use crate::model::op::{BertOp, Gradient, with_values};
use crate::model::{self, Batch, Bert, BertConfig, Precision, Weights, with_threads};
use crate::seed::Seed;
use candle_core::{Device, Tensor, Var};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference")
}

struct Reference {
    bert: Arc<Bert>,
    start: Vec<f32>,
    rows: Vec<Vec<u8>>,
    targets: Vec<f32>,
    info: Value,
    tensors: Vec<u8>,
}

impl Reference {
    fn load() -> Self {
        let folder = reference();
        let read = |file: &str| fs_err::read(folder.join(file)).expect("a fixture");
        let config = BertConfig::read(&folder.join("config.json")).expect("a fixture");
        let weights = Weights::from_safetensors(&config, &read("model.safetensors"), "reference").expect("a fixture");
        let info: Value = serde_json::from_slice(&read("sequences.json")).expect("a fixture");
        let tensors = read("reference.safetensors");
        let all = SafeTensors::deserialize(&tensors).expect("a fixture");
        let whole = |name: &str| -> Vec<i64> {
            let eight = all.tensor(name).expect("a fixture").data().chunks_exact(8).map(|b| b.try_into().expect("8"));
            eight.map(i64::from_le_bytes).collect()
        };
        let (ids, mask) = (whole("input_ids"), whole("attention_mask"));
        let rows = ids.chunks(128).zip(mask.chunks(128));
        let rows =
            rows.map(|(ids, mask)| ids.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(i, _)| *i as u8).collect());
        let targets = info["targets"].as_array().expect("a list").iter().map(|t| t.as_f64().expect("a number") as f32);
        let (rows, targets) = (rows.collect(), targets.collect());
        Self { bert: Arc::new(Bert::new(config)), start: weights.values, rows, targets, info, tensors }
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let all = SafeTensors::deserialize(&self.tensors).expect("a fixture");
        let four = all.tensor(name).expect("a fixture").data().chunks_exact(4).map(|b| b.try_into().expect("4"));
        four.map(f32::from_le_bytes).collect()
    }

    fn number(&self, name: &str) -> f64 {
        self.info[name].as_f64().expect("a number")
    }

    fn series(&self, run: &str, name: &str) -> Vec<f64> {
        let values = self.info[format!("run_{run}")][name].as_array().expect("a list");
        values.iter().map(|v| v.as_f64().expect("a number")).collect()
    }

    /// Loss and gradient of some rows.
    fn gradient(
        &self,
        engine: &dyn Engine,
        parameters: &Var,
        rows: &[usize],
        loss: Loss,
        key: StepKey,
    ) -> (f64, Vec<f32>) {
        let gradient = Gradient::default();
        let batch = Batch::new(rows.iter().map(|&row| &self.rows[row][..]));
        let targets = rows.iter().map(|&row| self.targets[row]).collect();
        let value = engine.step(parameters, Part::whole(batch, targets), loss, key, &gradient).expect("runs");
        let gradient = gradient.lock().expect("ours").clone();
        (value, gradient)
    }

    fn engines(&self, precision: Precision) -> [(&'static str, Box<dyn Engine>); 2] {
        let bert = || Bert::clone(&self.bert).with_precision(precision);
        [("fused", Box::new(Fused::new(bert()))), ("plain", Box::new(model::Reference::new(bert())))]
    }

    fn var(&self) -> Var {
        Var::from_vec(self.start.clone(), self.start.len(), &Device::Cpu).expect("small")
    }
}

const LOSSES: [(&str, Loss); 2] = [("mse", Loss::Mse), ("huber", Loss::Huber { delta: 1.0 })];
const KEY: StepKey = StepKey { seed: 1, step: 1, first_row: 0 };

/// How far an engine may be off: outputs, loss (relative), each gradient (of its largest), 20 steps' losses and gradient
/// norms (relative), parameters after 5 steps.
struct Bounds {
    outputs: f32,
    loss: f64,
    gradient: f32,
    losses: f64,
    norms: f64,
    parameters: f32,
}

const BOUNDS: [(Precision, Bounds); 2] = [
    (Precision::F32, Bounds { outputs: 2e-6, loss: 1e-6, gradient: 2e-5, losses: 2e-5, norms: 5e-5, parameters: 1e-4 }),
    // AdamW divides by the gradient's own size: where that is rounding noise, a parameter may move by a whole step more.
    (
        Precision::Bf16,
        Bounds { outputs: 1e-2, loss: 1e-3, gradient: 2e-2, losses: 2e-3, norms: 2e-2, parameters: 1e-2 },
    ),
];

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |top, x| top.max(x.abs()))
}

#[test]
fn outputs_losses_and_every_gradient_are_those_of_transformers() {
    let reference = Reference::load();
    for (precision, bounds) in &BOUNDS {
        for (engine_name, engine) in reference.engines(*precision) {
            one_step(&reference, &format!("{engine_name} {precision:?}"), &*engine, bounds);
        }
    }
    let batch = Batch::new(reference.rows.iter().map(|row| &row[..]));
    let predicted = reference.bert.predict(&reference.start, &batch);
    assert!(largest(predicted.iter().zip(reference.tensor("logits")).map(|(a, b)| a - b)) <= 2e-6);
}

fn one_step(reference: &Reference, at: &str, engine: &dyn Engine, bounds: &Bounds) {
    let batch = Batch::new(reference.rows.iter().map(|row| &row[..]));
    let outputs = engine.outputs(&reference.var(), batch, KEY, &Gradient::default()).expect("runs");
    let outputs = outputs.to_vec1::<f32>().expect("one for each row");
    let off = largest(outputs.iter().zip(reference.tensor("logits")).map(|(a, b)| a - b));
    assert!(off <= bounds.outputs, "{at}: {off}");
    let all: Vec<usize> = (0..16).collect();
    for (name, loss) in LOSSES {
        let (value, gradient) = reference.gradient(engine, &reference.var(), &all, loss, KEY);
        let stored = reference.number(&format!("loss_{name}"));
        assert!((value / stored - 1.0).abs() <= bounds.loss, "{at} {name}: {value} {stored}");
        let norm = optimizer::gradient_norm(&reference.bert.layout, &gradient);
        let off = (norm / reference.number(&format!("grad_norm_{name}")) - 1.0).abs();
        assert!(off <= bounds.norms / 5.0, "{at} {name}: {off}");
        for entry in &reference.bert.layout.entries {
            let ours = &gradient[entry.range.clone()];
            let theirs = reference.tensor(&format!("grad_{name}.{}", entry.name));
            let off = largest(ours.iter().zip(&theirs).map(|(a, b)| a - b));
            if entry.name.ends_with("key.bias") {
                // Mathematically 0: both sides hold rounding noise.
                assert!(off < 5.0 * bounds.gradient, "{at} {}: {off}", entry.name);
                continue;
            }
            let relative = off / largest(theirs.iter().copied());
            assert!(relative <= bounds.gradient, "{at} {name} {}: {relative:.2e}", entry.name);
        }
    }
}

#[test]
fn twenty_optimiser_steps_are_those_of_transformers() {
    let reference = Reference::load();
    for (precision, bounds) in &BOUNDS {
        for ((engine_name, engine), run) in
            reference.engines(*precision).iter().flat_map(|engine| LOSSES.map(|loss| (engine, loss)))
        {
            twenty_steps(&reference, &format!("{engine_name} {precision:?}"), &**engine, run, bounds);
        }
    }
}

fn twenty_steps(reference: &Reference, at: &str, engine: &dyn Engine, (name, loss): (&str, Loss), bounds: &Bounds) {
    let decay = reference.info[format!("run_{name}")]["weight_decay"].as_f64().expect("a number");
    let parameters = reference.var();
    let layout = &reference.bert.layout;
    let mut adam = AdamW::new(layout.len(), decay, 1.0);
    let (losses, norms) = (reference.series(name, "losses"), reference.series(name, "grad_norms"));
    for step in 0..20 {
        let rows: Vec<usize> = (0..4).map(|i| (step * 4 + i) % 16).collect();
        let (value, gradient) = reference.gradient(engine, &parameters, &rows, loss, KEY);
        let norm = optimizer::gradient_norm(layout, &gradient);
        let at = format!("{at} {name} {step}");
        assert!((value / losses[step] - 1.0).abs() <= bounds.losses, "{at}: {value} {}", losses[step]);
        assert!((norm / norms[step] - 1.0).abs() <= bounds.norms, "{at}: {norm} {}", norms[step]);
        adam.step(layout, &parameters, &gradient, norm, 1e-3 * (20 - step) as f64 / 20.0).expect("runs");
        if step == 4 {
            let ours = parameters.to_vec1::<f32>().expect("flat");
            for entry in layout.entries.iter().filter(|entry| !entry.name.ends_with("key.bias")) {
                let theirs = reference.tensor(&format!("step5_{name}.{}", entry.name));
                let off = largest(ours[entry.range.clone()].iter().zip(&theirs).map(|(a, b)| a - b));
                assert!(off <= bounds.parameters, "{at} {}: {off:.2e}", entry.name);
            }
        }
    }
}

/// A model with dropout, random in every parameter, on odd sizes.
fn odd() -> (Bert, Vec<f32>, Vec<Vec<u8>>) {
    let mut config = BertConfig::new(10, 2, 21, 3, 37);
    (config.hidden_dropout_prob, config.attention_probs_dropout_prob) = (0.2, 0.3);
    config.max_position_embeddings = 140;
    let bert = Bert::new(config);
    let mut rng = Seed(3).rng("test");
    let mut start = bert.layout.init(&bert.config, Seed(5));
    start.iter_mut().for_each(|x| *x += (0.2 * crate::seed::normal(&mut rng)) as f32);
    let rows = [1, 5, 130, 66].map(|n| (0..n).map(|i| (5 + (i * 7 + n) % 5) as u8).collect::<Vec<_>>());
    (bert, start, rows.to_vec())
}

#[test]
fn the_gradient_is_the_slope_with_dropout_on() {
    let (bert, start, rows) = odd();
    let batch = Batch::new(rows.iter().map(|row| &row[..]));
    let pull = [1.0_f32, -0.5, 0.7, 0.3];
    let value = |p: &[f32]| -> f64 {
        let (outputs, _) = bert.forward(p, &batch, Some(KEY));
        outputs.iter().zip(pull).map(|(a, b)| f64::from(*a) * f64::from(b)).sum()
    };
    let (_, saved) = bert.forward(&start, &batch, Some(KEY));
    let mut gradient = vec![f32::NAN; start.len()];
    bert.backward(&start, &batch, saved, &pull, &mut gradient);
    assert!(gradient.iter().all(|g| g.is_finite()));
    // Along each parameter's own gradient: f32 noise drowns single elements.
    for entry in &bert.layout.entries {
        let direction = &gradient[entry.range.clone()];
        let square = direction.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
        if entry.name.ends_with("key.bias") {
            assert!(square.sqrt() < 1e-4, "{}", entry.name);
            continue;
        }
        assert!(square > 0.0, "{} has no gradient", entry.name);
        let size = 2e-3 / square.sqrt();
        let moved = |sign: f64| {
            let mut p = start.clone();
            p[entry.range.clone()]
                .iter_mut()
                .zip(direction)
                .for_each(|(p, g)| *p += (sign * size * f64::from(*g)) as f32);
            value(&p)
        };
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * size);
        assert!((slope / square - 1.0).abs() < 0.02, "{}: {slope} {square}", entry.name);
    }
}

#[test]
fn threads_change_no_bit_and_every_tensor_moves() {
    let (bert, start, rows) = odd();
    for precision in [Precision::F32, Precision::Bf16] {
        trained_alike(Arc::new(bert.clone().with_precision(precision)), &start, &rows);
    }
}

fn trained_alike(bert: Arc<Bert>, start: &[f32], rows: &[Vec<u8>]) {
    let trained = |threads| {
        with_threads(threads, || {
            let parameters = Var::from_vec(start.to_vec(), start.len(), &Device::Cpu).expect("small");
            let mut adam = AdamW::new(start.len(), 0.01, 1.0);
            for step in 1..=3 {
                let gradient = Gradient::default();
                let batch = Batch::new(rows.iter().cycle().take(9).map(|row| &row[..]));
                let op = BertOp::new(bert.clone(), batch, StepKey { seed: 9, step, first_row: 0 }, gradient.clone());
                let outputs = parameters.apply_op1(op).expect("runs");
                let targets = Tensor::new(vec![1.0_f32; 9], &Device::Cpu).expect("small");
                Loss::Mse.of(&outputs, &targets, 4).expect("runs").backward().expect("runs");
                let gradient = gradient.lock().expect("ours");
                let norm = optimizer::gradient_norm(&bert.layout, &gradient);
                adam.step(&bert.layout, &parameters, &gradient, norm, 1e-3).expect("runs");
            }
            with_values(&parameters, <[f32]>::to_vec).expect("flat")
        })
        .expect("threads start")
    };
    let one = trained(1);
    assert!(one == trained(2) && one == trained(3));
    for entry in &bert.layout.entries {
        let moved = entry.range.clone().filter(|&i| one[i] != start[i]).count();
        assert!(moved > 0, "{} did not move", entry.name);
    }
    // Decay alone would move a weight: that each has a gradient is the test above's.
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_company() {
    let (bert, start, rows) = odd();
    for precision in [Precision::F32, Precision::Bf16] {
        let bert = bert.clone().with_precision(precision);
        let together = bert.predict(&start, &Batch::new(rows.iter().cycle().take(30).map(|row| &row[..])));
        for (row, value) in rows.iter().zip(&together) {
            assert_eq!(bert.predict(&start, &Batch::new([&row[..]])), [*value]);
        }
    }
}
