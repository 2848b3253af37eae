//! Forward and backward of the whole model over packed tokens.
//!
//! Tokens of all rows lie end to end: padding never enters, which is exact, as masked keys have weight 0. The pooler reads
//! token 0 alone, so the last layer makes keys and values for all tokens, and everything else for first tokens only.

use super::kernels::attention::{Band, Grads, Shape};
use super::kernels::dropout::{Masks, RowMask};
use super::kernels::matmul::{Mat, Onto, matmul};
use super::kernels::norm::{self, Dropping, Normed, Place};
use super::kernels::{embedding, gelu, reduce, simd};
use super::weights::{LayerRanges, Layout};
use super::{Batch, BertConfig, Precision};
use rayon::prelude::*;
use std::ops::Range;

/// A model's shape; its parameters are handed to each pass.
#[derive(Debug, Clone)]
pub struct Bert {
    pub config: BertConfig,
    pub layout: Layout,
    /// In which numbers the linear layers multiply, forward and backward.
    pub precision: Precision,
}

/// The dropout of one optimiser step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepKey {
    pub seed: u64,
    pub step: u64,
}

/// What backward needs of a forward pass.
#[derive(Debug)]
pub struct Saved {
    masks: StepMasks,
    embedded: Normed,
    layers: Vec<SavedLayer>,
    /// First tokens out of the last layer, and after the pooler's tanh and dropout.
    first: Vec<f32>,
    pooled: Vec<f32>,
    dropped: Vec<f32>,
}

#[derive(Debug)]
struct SavedLayer {
    input: Vec<f32>,
    /// Queries, keys and values; in the last layer keys and values.
    qkv: Vec<f32>,
    /// The last layer's first tokens and their queries.
    first: Option<[Vec<f32>; 2]>,
    weights: Vec<f32>,
    context: Vec<f32>,
    attended: Normed,
    hidden: Vec<f32>,
    inner: Vec<f32>,
    activated: Vec<f32>,
    normed: Normed,
}

#[derive(Debug, Clone, Copy, Default)]
struct StepMasks {
    hidden: Option<Masks>,
    attention: Option<Masks>,
    head: Option<Masks>,
}

/// Sites of dropout, numbered within a layer; the embeddings are layer 0's first, the head comes after all layers.
pub(super) const SITES: u32 = 4;

pub(super) fn site(layer: usize, which: u32) -> u32 {
    layer as u32 * SITES + which
}

impl StepMasks {
    fn new(config: &BertConfig, key: Option<StepKey>) -> Self {
        let Some(StepKey { seed, step }) = key else { return Self::default() };
        Self {
            hidden: Masks::new(seed, step, config.hidden_dropout_prob),
            attention: Masks::new(seed, step, config.attention_probs_dropout_prob),
            head: Masks::new(seed, step, config.head_dropout()),
        }
    }

    fn before(&self, layer: usize, which: u32) -> Dropping {
        Dropping { before: self.hidden.map(|masks| (masks, site(layer, which))), after: None }
    }

    fn embeddings(&self) -> Dropping {
        Dropping { before: None, after: self.hidden.map(|masks| (masks, site(0, 3))) }
    }

    fn attention(&self, layer: usize, row: usize) -> Option<RowMask> {
        self.attention.map(|masks| masks.row(site(layer, 0), row as u32))
    }
}

/// Cuts a slice into parts of these lengths.
fn parts<T>(mut all: &mut [T], lengths: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    lengths
        .map(|length| {
            let (part, rest) = std::mem::take(&mut all).split_at_mut(length);
            all = rest;
            part
        })
        .collect()
}

/// The same field of two neighbouring ranges, as two mutable slices.
fn pair<'a>(values: &'a mut [f32], [first, second]: &[Range<usize>; 2]) -> [&'a mut [f32]; 2] {
    let (low, high) = values[first.start..second.end].split_at_mut(second.start - first.start);
    [&mut low[..first.len()], high]
}

impl Bert {
    pub fn new(config: BertConfig) -> Self {
        let layout = Layout::new(&config);
        Self { config, layout, precision: Precision::default() }
    }

    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    fn linear(&self, p: &[f32], x: &[f32], weight: &Range<usize>, bias: &Range<usize>) -> Vec<f32> {
        let (out, rows) = (bias.len(), x.len() / (weight.len() / bias.len()));
        let inputs = weight.len() / out;
        let mut y = vec![0.0; rows * out];
        let weight = Mat::new(&p[weight.clone()], out, inputs);
        matmul(self.precision, Mat::new(x, rows, inputs), weight.transposed(), Onto::Row(&p[bias.clone()]), &mut y);
        y
    }

    /// Writes the gradients of weight and bias; adds that of the input to `dx`, or makes it.
    #[expect(clippy::too_many_arguments, reason = "a linear layer's backward has these many sides")]
    fn linear_backward(
        &self,
        p: &[f32],
        x: &[f32],
        dy: &[f32],
        weight: &Range<usize>,
        bias: &Range<usize>,
        grads: &mut [f32],
        dx: Option<Vec<f32>>,
    ) -> Vec<f32> {
        let (out, inputs) = (bias.len(), weight.len() / bias.len());
        let rows = x.len() / inputs;
        reduce::column_sums(dy, &mut grads[bias.clone()]);
        let (x, dy) = (Mat::new(x, rows, inputs), Mat::new(dy, rows, out));
        matmul(self.precision, dy.transposed(), x, Onto::Nothing, &mut grads[weight.clone()]);
        let onto = if dx.is_some() { Onto::Out } else { Onto::Nothing };
        let mut dx = dx.unwrap_or_else(|| vec![0.0; rows * inputs]);
        matmul(self.precision, dy, Mat::new(&p[weight.clone()], out, inputs), onto, &mut dx);
        dx
    }

    fn attention(&self, queries: usize, keys: usize) -> Shape {
        Shape {
            queries,
            keys,
            heads: self.config.num_attention_heads,
            width: self.config.hidden_size / self.config.num_attention_heads,
            positions: self.config.max_position_embeddings,
        }
    }

    fn last(&self, layer: usize) -> bool {
        layer + 1 == self.config.num_hidden_layers
    }

    /// The last layer's query range, and that of its keys and values.
    fn split_qkv(&self, ranges: &LayerRanges) -> [[Range<usize>; 2]; 2] {
        let h = self.config.hidden_size;
        let (weight, bias) = (&ranges.qkv, &ranges.qkv_bias);
        [
            [weight.start..weight.start + h * h, bias.start..bias.start + h],
            [weight.start + h * h..weight.end, bias.start + h..bias.end],
        ]
    }

    fn norm(
        &self,
        p: &[f32],
        input: Vec<f32>,
        residual: Option<&[f32]>,
        ranges: &[Range<usize>; 2],
        places: &[Place],
        dropping: Dropping,
    ) -> (Normed, Vec<f32>) {
        let mut out = vec![0.0; input.len()];
        let affine = [&p[ranges[0].clone()], &p[ranges[1].clone()]];
        let epsilon = self.config.layer_norm_eps as f32;
        let normed = norm::forward(input, residual, affine, epsilon, places, dropping, &mut out);
        (normed, out)
    }

    /// One output for each row; with `key`, dropout is on.
    pub fn forward(&self, p: &[f32], batch: &Batch, key: Option<StepKey>) -> (Vec<f32>, Saved) {
        let mut saved = Vec::new();
        let (logits, rest) = self.pass(p, batch, key, |layer| saved.push(layer));
        let (masks, embedded, [first, pooled, dropped]) = rest;
        (logits, Saved { masks, embedded, layers: saved, first, pooled, dropped })
    }

    /// One output for each row, nothing kept, no dropout.
    pub fn predict(&self, p: &[f32], batch: &Batch) -> Vec<f32> {
        self.pass(p, batch, None, drop).0
    }

    #[expect(clippy::type_complexity, reason = "the loose ends that only `forward` keeps")]
    fn pass(
        &self,
        p: &[f32],
        batch: &Batch,
        key: Option<StepKey>,
        mut keep: impl FnMut(SavedLayer),
    ) -> (Vec<f32>, (StepMasks, Normed, [Vec<f32>; 3])) {
        let h = self.config.hidden_size;
        let masks = StepMasks::new(&self.config, key);
        let tables = self.layout.embeddings.clone().map(|range| &p[range]);
        let summed = embedding::forward(&batch.ids, &batch.places, tables, h);
        let norm = &self.layout.embedding_norm;
        let (embedded, mut x) = self.norm(p, summed, None, norm, &batch.places, masks.embeddings());
        for (layer, ranges) in self.layout.layers.iter().enumerate() {
            let (saved, out) = self.layer(p, layer, ranges, x, batch, &masks);
            keep(saved);
            x = out;
        }
        let mut pooled = self.linear(p, &x, &self.layout.pooler[0], &self.layout.pooler[1]);
        pooled.iter_mut().for_each(|v| *v = simd::tanh(*v));
        let mut dropped = pooled.clone();
        self.drop_head(&masks, &mut dropped);
        let logits = self.linear(p, &dropped, &self.layout.head[0], &self.layout.head[1]);
        (logits, (masks, embedded, [x, pooled, dropped]))
    }

    fn drop_head(&self, masks: &StepMasks, values: &mut [f32]) {
        let Some(masks) = masks.head else { return };
        let site = site(self.config.num_hidden_layers, 0);
        for (row, values) in values.chunks_mut(self.config.hidden_size).enumerate() {
            masks.row(site, row as u32).apply(values, 0);
        }
    }

    fn layer(
        &self,
        p: &[f32],
        layer: usize,
        ranges: &LayerRanges,
        input: Vec<f32>,
        batch: &Batch,
        masks: &StepMasks,
    ) -> (SavedLayer, Vec<f32>) {
        let h = self.config.hidden_size;
        let (qkv, first) = if self.last(layer) {
            let [query, rest] = self.split_qkv(ranges);
            let first: Vec<f32> =
                (0..batch.rows()).flat_map(|row| &input[batch.starts[row] * h..][..h]).copied().collect();
            let queries = self.linear(p, &first, &query[0], &query[1]);
            (self.linear(p, &input, &rest[0], &rest[1]), Some([first, queries]))
        } else {
            (self.linear(p, &input, &ranges.qkv, &ranges.qkv_bias), None)
        };
        let trimmed = first.is_some();
        let shapes: Vec<Shape> =
            batch.lengths().map(|keys| self.attention(if trimmed { 1 } else { keys }, keys)).collect();
        let mut weights = vec![0.0; shapes.iter().map(Shape::weights).sum()];
        let mut context = vec![0.0; shapes.iter().map(|shape| shape.queries * h).sum()];
        parts(&mut weights, shapes.iter().map(Shape::weights))
            .into_par_iter()
            .zip(parts(&mut context, shapes.iter().map(|shape| shape.queries * h)))
            .enumerate()
            .for_each_init(Vec::new, |spare, (row, (weights, context))| {
                let bands = self.bands(&qkv, first.as_ref(), batch, row);
                shapes[row].forward(bands, masks.attention(layer, row), weights, spare, context);
            });
        let places = if trimmed { &batch.firsts } else { &batch.places };
        let residual = first.as_ref().map_or(&input, |[first, _]| first);
        let branch = self.linear(p, &context, &ranges.attend, &ranges.attend_bias);
        let (attended, hidden) =
            self.norm(p, branch, Some(residual), &ranges.attend_norm, places, masks.before(layer, 1));
        let inner = self.linear(p, &hidden, &ranges.inner, &ranges.inner_bias);
        let mut activated = vec![0.0; inner.len()];
        gelu::forward(&inner, &mut activated);
        let branch = self.linear(p, &activated, &ranges.outer, &ranges.outer_bias);
        let (normed, out) = self.norm(p, branch, Some(&hidden), &ranges.norm, places, masks.before(layer, 2));
        (SavedLayer { input, qkv, first, weights, context, attended, hidden, inner, activated, normed }, out)
    }

    /// Where one row's queries, keys and values stand.
    fn bands<'a>(&self, qkv: &'a [f32], first: Option<&'a [Vec<f32>; 2]>, batch: &Batch, row: usize) -> [Band<'a>; 3] {
        let h = self.config.hidden_size;
        let start = batch.starts[row];
        match first {
            None => {
                let data = &qkv[start * 3 * h..];
                [0, 1, 2].map(|part| Band { data: &data[part * h..], stride: 3 * h })
            }
            Some([_, queries]) => {
                let data = &qkv[start * 2 * h..];
                [
                    Band { data: &queries[row * h..], stride: h },
                    Band { data, stride: 2 * h },
                    Band { data: &data[h..], stride: 2 * h },
                ]
            }
        }
    }

    /// Writes the gradient of every parameter, given those of the outputs. `grads` is overwritten.
    pub fn backward(&self, p: &[f32], batch: &Batch, saved: Saved, logits_grad: &[f32], grads: &mut [f32]) {
        let [weight, bias] = &self.layout.head;
        let mut d = self.linear_backward(p, &saved.dropped, logits_grad, weight, bias, grads, None);
        self.drop_head(&saved.masks, &mut d);
        d.iter_mut().zip(&saved.pooled).for_each(|(d, y)| *d *= 1.0 - y * y);
        let [weight, bias] = &self.layout.pooler;
        let mut d = self.linear_backward(p, &saved.first, &d, weight, bias, grads, None);
        for (layer, kept) in saved.layers.into_iter().enumerate().rev() {
            d = self.layer_backward(p, layer, kept, batch, &saved.masks, d, grads);
        }
        let [scale, _] = self.layout.embedding_norm.clone();
        let affine = pair(grads, &self.layout.embedding_norm);
        norm::backward(&mut d, None, &saved.embedded, &p[scale], affine, &batch.places, saved.masks.embeddings());
        let h = self.config.hidden_size;
        let [words, positions, types] = &self.layout.embeddings;
        let (words_grad, rest) = grads[..types.end].split_at_mut(words.end);
        let (positions_grad, types_grad) = rest.split_at_mut(positions.len());
        let tables = [words_grad, positions_grad, types_grad];
        embedding::backward(&d, &batch.ids, &batch.starts, tables, h, self.config.pad_token_id);
    }

    #[expect(clippy::too_many_arguments, reason = "everything that a layer's backward reads and writes")]
    fn layer_backward(
        &self,
        p: &[f32],
        layer: usize,
        kept: SavedLayer,
        batch: &Batch,
        masks: &StepMasks,
        mut d: Vec<f32>,
        grads: &mut [f32],
    ) -> Vec<f32> {
        let h = self.config.hidden_size;
        let ranges = &self.layout.layers[layer];
        let trimmed = kept.first.is_some();
        let places = if trimmed { &batch.firsts } else { &batch.places };

        let mut branch = vec![0.0; d.len()];
        let scale = &p[ranges.norm[0].clone()];
        let affine = pair(grads, &ranges.norm);
        norm::backward(&mut d, Some(&mut branch), &kept.normed, scale, affine, places, masks.before(layer, 2));
        let outer = (&ranges.outer, &ranges.outer_bias);
        let mut wide = self.linear_backward(p, &kept.activated, &branch, outer.0, outer.1, grads, None);
        gelu::backward(&kept.inner, &mut wide);
        let inner = (&ranges.inner, &ranges.inner_bias);
        let mut d = self.linear_backward(p, &kept.hidden, &wide, inner.0, inner.1, grads, Some(d));
        drop(wide);

        let scale = &p[ranges.attend_norm[0].clone()];
        let affine = pair(grads, &ranges.attend_norm);
        norm::backward(&mut d, Some(&mut branch), &kept.attended, scale, affine, places, masks.before(layer, 1));
        let attend = (&ranges.attend, &ranges.attend_bias);
        let context = self.linear_backward(p, &kept.context, &branch, attend.0, attend.1, grads, None);

        let columns = kept.qkv.len() / batch.tokens().max(1);
        let mut rest = vec![0.0; kept.qkv.len()];
        let mut queries = vec![0.0; if trimmed { batch.rows() * h } else { 0 }];
        let query_parts: Vec<Option<&mut [f32]>> =
            if trimmed { queries.chunks_mut(h).map(Some).collect() } else { (0..batch.rows()).map(|_| None).collect() };
        let shapes: Vec<Shape> =
            batch.lengths().map(|keys| self.attention(if trimmed { 1 } else { keys }, keys)).collect();
        // Where each row's weights and context begin.
        let mut weights_at = 0;
        let starts: Vec<usize> = shapes
            .iter()
            .map(|shape| {
                let start = weights_at;
                weights_at += shape.weights();
                start
            })
            .collect();
        parts(&mut rest, batch.lengths().map(|tokens| tokens * columns))
            .into_par_iter()
            .zip(query_parts)
            .enumerate()
            .for_each_init(Default::default, |spare, (row, (rest, queries))| {
                let shape = &shapes[row];
                let weights = &kept.weights[starts[row]..][..shape.weights()];
                let asked = if trimmed { row..row + 1 } else { batch.range(row) };
                let context = &context[asked.start * h..asked.end * h];
                let bands = self.bands(&kept.qkv, kept.first.as_ref(), batch, row);
                let mut grads = Grads { queries, rest, hidden: h };
                shape.backward(bands, masks.attention(layer, row), weights, context, spare, &mut grads);
            });
        let Some([first, _]) = &kept.first else {
            let qkv = (&ranges.qkv, &ranges.qkv_bias);
            return self.linear_backward(p, &kept.input, &rest, qkv.0, qkv.1, grads, Some(d));
        };
        let [query, keys] = self.split_qkv(ranges);
        let d = self.linear_backward(p, first, &queries, &query[0], &query[1], grads, Some(d));
        let mut all = self.linear_backward(p, &kept.input, &rest, &keys[0], &keys[1], grads, None);
        for (row, d) in d.chunks(h).enumerate() {
            reduce::add(&mut all[batch.starts[row] * h..][..h], d);
        }
        all
    }
}
