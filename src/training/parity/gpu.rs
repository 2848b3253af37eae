//! A GPU computes what the processor does: outputs, losses, every gradient with dropout on, whole trainings; and the same
//! bits again each time. Skipped where there is no GPU that this program can use.

use super::*;
use crate::collective::Single;
use crate::device::Device;
use crate::model::Layout;
use crate::model::device::{Gpu, choose, gpus};
use crate::training::{Learner, OnGpu};
use std::io::Write;
use std::ops::Range;

/// The first GPU, unless the test is to be skipped.
fn gpu() -> Option<Device> {
    if let Err(why) = gpus() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
        return None;
    }
    choose(None).ok().filter(|device| *device != Device::Cpu)
}

/// How far each parameter's gradient is off, of its largest value; all of them, so that a wrong kernel can be told.
fn compare(at: &str, layout: &Layout, ours: &[f32], theirs: &[f32], bound: f32) {
    let off = layout.entries.iter().map(|entry| {
        let [ours, theirs] = [ours, theirs].map(|all| &all[entry.range.clone()]);
        // Mathematically 0: both sides hold rounding noise.
        let size = if entry.name.ends_with("key.bias") { 0.2 } else { largest(theirs.iter().copied()) };
        (largest(ours.iter().zip(theirs).map(|(a, b)| a - b)) / size, &entry.name)
    });
    let off: Vec<_> = off.filter(|(off, _)| off.is_nan() || *off > bound).collect();
    assert!(off.is_empty(), "{at}: {off:?}");
}

#[test]
fn a_gpu_gives_the_gradients_of_the_processor_with_dropout_on() {
    let Some(device) = gpu() else { return };
    let (bert, start, rows) = odd();
    for (precision, bound) in [(Precision::F32, 1e-4), (Precision::Bf16, 3e-2)] {
        let bert = bert.clone().with_precision(precision);
        let engine = Fused::new(bert.clone());
        let parameters = Var::from_vec(start.clone(), start.len(), &candle_core::Device::Cpu).expect("small");
        let mut on_gpu = Gpu::new(&bert, &start, device).expect("there is one");
        for (name, loss, delta) in [("mse", Loss::Mse, None), ("huber", Loss::Huber { delta: 0.5 }, Some(0.5))] {
            let at = format!("{name} {precision:?}");
            let batch = Batch::new(rows.iter().map(|row| &row[..]));
            let targets = vec![0.3_f32, -1.0, 2.0, 0.1];
            let gradient = Gradient::default();
            let value = engine
                .step(&parameters, Part::whole(batch.clone(), targets.clone()), loss, KEY, &gradient)
                .expect("runs");
            let gradient = gradient.lock().expect("ours").clone();
            on_gpu.gradient(&batch, &targets, targets.len(), delta, KEY).expect("runs");
            let (theirs, norm) = on_gpu.measure().expect("runs");
            assert!((theirs / value - 1.0).abs() < f64::from(bound), "{at}: {theirs} {value}");
            compare(&at, &bert.layout, &on_gpu.last_gradient().expect("there"), &gradient, bound);
            let wanted = optimizer::gradient_norm(&bert.layout, &gradient);
            assert!((norm / wanted - 1.0).abs() < f64::from(bound), "{at}: {norm} {wanted}");
        }
        let batch = Batch::new(rows.iter().cycle().take(30).map(|row| &row[..]));
        let [ours, theirs] = [on_gpu.predict(&batch).expect("runs"), bert.predict(&start, &batch)];
        let off = largest(ours.iter().zip(&theirs).map(|(a, b)| a - b));
        assert!(off < 10.0 * bound * largest(theirs.into_iter()), "{precision:?}: {off}");
    }
}

#[test]
fn shares_of_a_batch_give_the_whole_ones_loss_and_gradient_with_its_masks() {
    let Some(device) = gpu() else { return };
    let (bert, start, rows) = odd();
    let mut gpu = Gpu::new(&bert, &start, device).expect("there is one");
    let targets = [0.3_f32, -1.0, 2.0, 0.1];
    let mut share = |range: Range<usize>| {
        let batch = Batch::new(rows[range.clone()].iter().map(|row| &row[..]));
        let key = StepKey { first_row: range.start as u32, ..KEY };
        gpu.gradient(&batch, &targets[range], targets.len(), None, key).expect("runs");
        let (loss, _) = gpu.measure().expect("runs");
        (loss, gpu.last_gradient().expect("there"))
    };
    let (loss, whole) = share(0..4);
    // More ranks than rows: one of them has none.
    let shares = [0..1, 1..4, 4..4].map(&mut share);
    let sum = shares.iter().map(|(loss, _)| loss).sum::<f64>();
    assert!((sum / loss - 1.0).abs() < 1e-5, "{sum} {loss}");
    let mut gradient = vec![0.0; whole.len()];
    shares.iter().for_each(|(_, share)| gradient.iter_mut().zip(share).for_each(|(sum, x)| *sum += x));
    compare("shares", &bert.layout, &gradient, &whole, 1e-4);
    assert!(shares[2].1.iter().all(|x| *x == 0.0));
}

#[test]
fn a_gpu_gives_the_outputs_and_gradients_of_transformers() {
    let Some(device) = gpu() else { return };
    let reference = Reference::load();
    let batch = Batch::new(reference.rows.iter().map(|row| &row[..]));
    for (precision, bounds) in &BOUNDS {
        let bert = Bert::clone(&reference.bert).with_precision(*precision);
        let mut gpu = Gpu::new(&bert, &reference.start, device).expect("there is one");
        let outputs = gpu.predict(&batch).expect("runs");
        let off = largest(outputs.iter().zip(reference.tensor("logits")).map(|(a, b)| a - b));
        assert!(off <= bounds.outputs, "{precision:?}: {off}");
        for (name, _) in LOSSES {
            let delta = (name == "huber").then_some(1.0);
            gpu.gradient(&batch, &reference.targets, reference.targets.len(), delta, KEY).expect("runs");
            let (loss, _) = gpu.measure().expect("runs");
            let stored = reference.number(&format!("loss_{name}"));
            assert!((loss / stored - 1.0).abs() <= bounds.loss, "{precision:?} {name}: {loss} {stored}");
            let mut theirs = vec![0.0; reference.start.len()];
            for entry in &bert.layout.entries {
                theirs[entry.range.clone()].copy_from_slice(&reference.tensor(&format!("grad_{name}.{}", entry.name)));
            }
            let ours = gpu.last_gradient().expect("there");
            compare(&format!("{precision:?} {name}"), &bert.layout, &ours, &theirs, bounds.gradient);
        }
    }
}

/// Some of the steps that `twenty_steps` makes: losses and norms.
fn trained(reference: &Reference, learner: &mut OnGpu, steps: Range<usize>, loss: Loss) -> Vec<[f64; 2]> {
    let step = |step: usize| {
        let rows: Vec<usize> = (0..4).map(|i| (step * 4 + i) % 16).collect();
        let batch = Batch::new(rows.iter().map(|&row| &reference.rows[row][..]));
        let targets = rows.iter().map(|&row| reference.targets[row]).collect();
        let slope = learner.look(Part::whole(batch, targets), loss, KEY, &Single).expect("runs");
        learner.update(slope.norm, 1e-3 * (20 - step) as f64 / 20.0).expect("runs");
        [slope.loss, slope.norm]
    };
    steps.map(step).collect()
}

#[test]
fn twenty_steps_on_a_gpu_are_those_of_transformers_and_have_the_same_bits_again() {
    let Some(device) = gpu() else { return };
    let reference = Reference::load();
    for ((precision, bounds), (name, loss)) in BOUNDS.iter().flat_map(|bounds| LOSSES.map(|loss| (bounds, loss))) {
        let decay = reference.info[format!("run_{name}")]["weight_decay"].as_f64().expect("a number");
        let learner = || {
            let bert = Bert::clone(&reference.bert).with_precision(*precision);
            OnGpu::new(bert, &reference.start, decay, 1.0, device).expect("there is one")
        };
        let mut first = learner();
        let made = trained(&reference, &mut first, 0..20, loss);
        let stored = reference.series(name, "losses").into_iter().zip(reference.series(name, "grad_norms"));
        for (step, ([loss, norm], (stored_loss, stored_norm))) in made.iter().zip(stored).enumerate() {
            let off = [(loss / stored_loss - 1.0).abs(), (norm / stored_norm - 1.0).abs()];
            assert!(off[0] <= bounds.losses && off[1] <= bounds.norms, "{precision:?} {name} {step}: {off:?}");
        }
        let bits = |learner: &OnGpu| -> Vec<u32> {
            learner.parameters().expect("there").into_iter().map(f32::to_bits).collect()
        };
        let mut again = learner();
        assert_eq!(trained(&reference, &mut again, 0..20, loss), made);
        assert!(bits(&again) == bits(&first), "{precision:?} {name}: other bits");

        // And from a state in the middle.
        let mut half = learner();
        trained(&reference, &mut half, 0..12, loss);
        let mut state = [const { Vec::new() }; 3];
        half.with_state(&mut |values| state = values.map(<[f32]>::to_vec)).expect("there");
        let mut resumed = learner();
        resumed.restore(12, state).expect("fits");
        assert_eq!(trained(&reference, &mut resumed, 12..20, loss), made[12..]);
        assert!(bits(&resumed) == bits(&first), "{precision:?} {name}: other bits after a restart");
    }
}
