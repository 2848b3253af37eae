//! Every kernel's backward against finite differences of its forward; dropout's masks stay fixed.

use super::attention::{Band, Grads, Shape};
use super::dropout::Masks;
use super::matmul::{Mat, Onto, matmul};
use super::norm::{self, Dropping, Place};
use super::{embedding, gelu, reduce};
use crate::model::Precision;
use crate::seed::{Seed, normal};

fn numbers(name: &str, n: usize) -> Vec<f32> {
    let mut rng = Seed(11).rng(name);
    (0..n).map(|_| normal(&mut rng) as f32).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Moves each input along random directions: the value must change as the gradients say. A direction has length 1, so one
/// wrong element of `n` shows as 1 / n of the gradient's length.
fn check(what: &str, inputs: &[&[f32]], gradients: &[&[f32]], value: impl Fn(&[Vec<f32>]) -> f64) {
    const STEP: f64 = 4e-3;
    for (i, gradient) in gradients.iter().enumerate() {
        assert_eq!(gradient.len(), inputs[i].len(), "{what}, input {i}");
        let length = dot(gradient, gradient).sqrt();
        assert!(length > 0.0, "{what}, input {i}: no gradient");
        for round in 0..8 {
            let mut direction = numbers(&format!("{what} {i} {round}"), gradient.len());
            let norm = dot(&direction, &direction).sqrt();
            direction.iter_mut().for_each(|x| *x /= norm as f32);
            let moved = |by: f64| {
                let mut inputs: Vec<Vec<f32>> = inputs.iter().map(|input| input.to_vec()).collect();
                inputs[i].iter_mut().zip(&direction).for_each(|(x, d)| *x += by as f32 * d);
                value(&inputs)
            };
            let (seen, told) = ((moved(STEP) - moved(-STEP)) / (2.0 * STEP), dot(gradient, &direction));
            assert!(
                (seen - told).abs() < 1e-3 * length,
                "{what}, input {i}: slope {seen}, gradient {told} of {length}"
            );
        }
    }
}

fn masks() -> Masks {
    Masks::new(7, 3, 0.3).expect("something is dropped")
}

#[test]
fn linear() {
    let (rows, inputs, outputs) = (9, 13, 7);
    let (x, w, b) = (numbers("x", rows * inputs), numbers("w", outputs * inputs), numbers("b", outputs));
    let pull = numbers("pull", rows * outputs);
    let (dy, weight) = (Mat::new(&pull, rows, outputs), Mat::new(&w, outputs, inputs));
    let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; b.len()]);
    matmul(Precision::F32, dy, weight, Onto::Nothing, &mut dx);
    matmul(Precision::F32, dy.transposed(), Mat::new(&x, rows, inputs), Onto::Nothing, &mut dw);
    reduce::add_columns(&pull, &mut db);
    check("linear", &[&x, &w, &b], &[&dx, &dw, &db], |v| {
        let mut y = vec![0.0; rows * outputs];
        let weight = Mat::new(&v[1], outputs, inputs).transposed();
        matmul(Precision::F32, Mat::new(&v[0], rows, inputs), weight, Onto::Row(&v[2]), &mut y);
        dot(&y, &pull)
    });
}

#[test]
fn gelu_() {
    let x: Vec<f32> = numbers("x", 60).iter().map(|x| 2.0 * x).collect();
    let pull = numbers("pull", x.len());
    let (mut slopes, mut same) = (x.clone(), vec![0.0; x.len()]);
    gelu::slope(&mut slopes, &mut same);
    let mut y = vec![0.0; x.len()];
    gelu::forward(&x, &mut y);
    assert_eq!(y, same);
    let mut dx = pull.clone();
    reduce::multiply(&mut dx, &slopes);
    check("gelu", &[&x], &[&dx], |v| {
        let mut y = vec![0.0; v[0].len()];
        gelu::forward(&v[0], &mut y);
        dot(&y, &pull)
    });
}

#[test]
fn dropout() {
    let (x, pull) = (numbers("x", 90), numbers("pull", 90));
    let mask = masks().row(2, 5);
    let (mut dx, mut same) = (pull.clone(), vec![0.0; 90]);
    mask.apply(&mut dx, 17);
    mask.write(&pull, 17, &mut same);
    assert_eq!(dx, same);
    assert!((10..50).contains(&dx.iter().filter(|d| **d == 0.0).count()));
    check("dropout", &[&x], &[&dx], |v| {
        let mut y = v[0].clone();
        mask.apply(&mut y, 17);
        dot(&y, &pull)
    });
}

#[test]
fn layer_norm_with_residual_and_dropout() {
    // More rows than one task takes.
    let (rows, width) = (70, 11);
    let places: Vec<Place> = (0..rows as u32).map(|row| (row / 10, row % 10)).collect();
    let [x, residual] = ["x", "residual"].map(|name| numbers(name, rows * width));
    let (scale, shift, pull) = (numbers("scale", width), numbers("shift", width), numbers("pull", rows * width));
    let on = |site| Some((masks(), site));
    for dropping in [
        Dropping::default(),
        Dropping { before: on(1), after: None },
        Dropping { before: None, after: on(2) },
        Dropping { before: on(1), after: on(2) },
    ] {
        let forward = |x: &[f32], residual: &[f32], scale: &[f32], shift: &[f32]| {
            let (mut unit, mut out) = (x.to_vec(), vec![0.0; x.len()]);
            let inverse = norm::forward(&mut unit, Some(residual), [scale, shift], 1e-6, &places, dropping, &mut out);
            (unit, inverse, out)
        };
        let (unit, inverse, out) = forward(&x, &residual, &scale, &shift);
        let mut again = vec![0.0; out.len()];
        norm::output(&unit, [&scale, &shift], &places, dropping, &mut again);
        assert_eq!(out, again);
        let (mut d, mut branch) = (pull.clone(), vec![0.0; pull.len()]);
        let (mut d_scale, mut d_shift) = (vec![0.0; width], vec![0.0; width]);
        let grads = [&mut d_scale[..], &mut d_shift[..]];
        norm::backward(&mut d, Some(&mut branch), (&unit, &inverse), &scale, grads, &places, dropping);
        check("layer norm", &[&x, &residual, &scale, &shift], &[&branch, &d, &d_scale, &d_shift], |v| {
            dot(&forward(&v[0], &v[1], &v[2], &v[3]).2, &pull)
        });
    }
}

#[test]
fn embeddings() {
    let (width, padding) = (5, Some(0));
    let ids = [3_u8, 1, 2, 0, 1, 1, 3];
    let (starts, places) = ([0, 3, 7], [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)]);
    let (words, positions, types) = (numbers("w", 4 * width), numbers("p", 6 * width), numbers("t", 2 * width));
    let pull = numbers("pull", ids.len() * width);
    let [mut d_words, mut d_positions, mut d_types] = [4, 6, 2].map(|rows| vec![f32::NAN; rows * width]);
    let tables = [&mut d_words[..], &mut d_positions[..], &mut d_types[..]];
    embedding::backward(&pull, &ids, &starts, tables, width, padding);
    // The padding word is read and not trained.
    assert!(d_words[..width].iter().all(|d| *d == 0.0));
    d_words[..width].copy_from_slice(&pull[3 * width..4 * width]);
    check("embeddings", &[&words, &positions, &types], &[&d_words, &d_positions, &d_types], |v| {
        let mut y = vec![0.0; ids.len() * width];
        embedding::forward(&ids, &places, [&v[0], &v[1], &v[2]], width, &mut y);
        dot(&y, &pull)
    });
}

#[test]
fn attention_of_all_tokens_and_of_the_first() {
    for (queries, keys, heads, width) in [(6, 6, 2, 3), (1, 7, 3, 2), (1, 1, 1, 4), (20, 20, 1, 1)] {
        let shape = Shape { queries, keys, heads, width, positions: 32 };
        let hidden = heads * width;
        let q = numbers("q", queries * hidden);
        let [k, v] = ["k", "v"].map(|name| numbers(name, keys * hidden));
        let pull = numbers("pull", queries * hidden);
        for mask in [None, Some(masks().row(1, 4))] {
            let forward = |q: &[f32], k: &[f32], v: &[f32]| {
                let bands = [q, k, v].map(|data| Band { data, stride: hidden });
                let (mut weights, mut out) = (vec![0.0; shape.weights()], vec![0.0; queries * hidden]);
                shape.forward(bands, mask, &mut weights, &mut Vec::new(), &mut out);
                (weights, out)
            };
            let (weights, out) = forward(&q, &k, &v);
            assert!(out.iter().any(|x| *x != 0.0), "the masks leave something");
            let bands = [&q, &k, &v].map(|data| Band { data, stride: hidden });
            let (mut dq, mut rest) = (vec![0.0; q.len()], vec![0.0; 2 * keys * hidden]);
            let mut grads = Grads { queries: Some(&mut dq), rest: &mut rest, hidden };
            shape.backward(bands, mask, &weights, &pull, &mut Default::default(), &mut grads);
            let side = |which: usize| -> Vec<f32> {
                rest.chunks(2 * hidden).flat_map(|row| &row[which * hidden..][..hidden]).copied().collect()
            };
            if keys == 1 {
                // A single weight is 1 whatever the scores are.
                assert!(dq.iter().chain(&side(0)).all(|d| *d == 0.0));
            } else {
                let value = |v: &[Vec<f32>]| dot(&forward(&v[0], &v[1], &v[2]).1, &pull);
                check("attention", &[&q, &k, &v], &[&dq, &side(0), &side(1)], value);
            }
        }
    }
}
