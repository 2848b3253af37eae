//! The whole model over packed tokens: its forward pass.
//!
//! Tokens of all rows lie end to end: padding never enters, which is exact, as masked keys have weight 0. The pooler reads
//! token 0 alone, so the last layer makes keys and values for all tokens, and everything else for first tokens only.

mod backward;
mod masks;

use super::buffers::{Buffer, Buffers};
use super::kernels::attention::{Band, Shape};
use super::kernels::matmul::{Mat, Onto, matmul};
use super::kernels::norm::{self, Dropping, Place};
use super::kernels::{embedding, gelu, simd};
use super::weights::{LayerRanges, Layout};
use super::{Batch, BertConfig, Precision};
use masks::StepMasks;
use rayon::prelude::*;
use std::ops::Range;

pub(super) use masks::{SITES, site};

/// A model's shape; its parameters are handed to each pass.
#[derive(Debug, Clone)]
pub struct Bert {
    pub config: BertConfig,
    pub layout: Layout,
    /// In which numbers the linear layers multiply, forward and backward.
    pub precision: Precision,
    buffers: Buffers,
}

/// The dropout of one optimiser step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepKey {
    pub seed: u64,
    pub step: u64,
    /// The place in the whole batch of the first row here.
    pub first_row: u32,
}

/// What backward needs of a forward pass. What is quickly made again is not kept: outputs of LayerNorm and GELU.
#[derive(Debug)]
pub struct Saved {
    masks: StepMasks,
    embedded: Normed,
    layers: Vec<SavedLayer>,
    /// First tokens out of the last layer, and after the pooler's tanh and dropout.
    first: Buffer,
    pooled: Buffer,
    dropped: Buffer,
}

#[derive(Debug)]
struct SavedLayer {
    /// Queries, keys and values; in the last layer keys and values.
    qkv: Buffer,
    /// The last layer's first tokens and their queries.
    first: Option<[Buffer; 2]>,
    weights: Buffer,
    context: Buffer,
    attended: Normed,
    /// Before GELU.
    inner: Buffer,
    normed: Normed,
}

/// A LayerNorm before its scale and shift.
#[derive(Debug)]
struct Normed {
    /// Rows with mean 0 and variance 1.
    unit: Buffer,
    /// 1 / standard deviation of each row.
    inverse: Vec<f32>,
}

/// Tokens that pass the feed-forward layers at a time: what those need beside what is kept stays small. A multiple of the
/// depth at which a product cuts its sums, whatever the precision: the gradients' bits do not depend on it.
const TOGETHER: usize = 2048;

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

impl Bert {
    pub fn new(config: BertConfig) -> Self {
        let layout = Layout::new(&config);
        Self { config, layout, precision: Precision::default(), buffers: Buffers::default() }
    }

    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    fn linear(&self, p: &[f32], x: &[f32], ranges: [&Range<usize>; 2]) -> Buffer {
        let [weight, bias] = ranges.map(Range::len);
        let mut y = self.buffers.take(x.len() / (weight / bias) * bias);
        self.linear_into(p, x, ranges, &mut y);
        y
    }

    fn linear_into(&self, p: &[f32], x: &[f32], [weight, bias]: [&Range<usize>; 2], y: &mut [f32]) {
        let (out, inputs) = (bias.len(), weight.len() / bias.len());
        let weight = Mat::new(&p[weight.clone()], out, inputs);
        let bias = Onto::Row(&p[bias.clone()]);
        matmul(self.precision, Mat::new(x, x.len() / inputs, inputs), weight.transposed(), bias, y);
    }

    fn shapes(&self, layer: usize, batch: &Batch) -> Vec<Shape> {
        let shape = |keys| Shape {
            queries: if self.last(layer) { 1 } else { keys },
            keys,
            heads: self.config.num_attention_heads,
            width: self.config.hidden_size / self.config.num_attention_heads,
            positions: self.config.max_position_embeddings,
        };
        batch.lengths().map(shape).collect()
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

    /// LayerNorm of rows, which become what it keeps, and its output.
    fn norm(
        &self,
        p: &[f32],
        mut unit: Buffer,
        residual: Option<&[f32]>,
        affine: &[Range<usize>; 2],
        places: &[Place],
        dropping: Dropping,
    ) -> (Normed, Buffer) {
        let mut out = self.buffers.take(unit.len());
        let affine = affine.each_ref().map(|range| &p[range.clone()]);
        let epsilon = self.config.layer_norm_eps as f32;
        let inverse = norm::forward(&mut unit, residual, affine, epsilon, places, dropping, &mut out);
        (Normed { unit, inverse }, out)
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

    fn pass(
        &self,
        p: &[f32],
        batch: &Batch,
        key: Option<StepKey>,
        mut keep: impl FnMut(SavedLayer),
    ) -> (Vec<f32>, (StepMasks, Normed, [Buffer; 3])) {
        self.buffers.settle();
        let h = self.config.hidden_size;
        let masks = StepMasks::new(&self.config, key);
        let tables = self.layout.embeddings.clone().map(|range| &p[range]);
        let mut summed = self.buffers.take(batch.tokens() * h);
        embedding::forward(&batch.ids, &batch.places, tables, h, &mut summed);
        let norm = &self.layout.embedding_norm;
        let (embedded, mut x) = self.norm(p, summed, None, norm, &batch.places, masks.embeddings());
        for (layer, ranges) in self.layout.layers.iter().enumerate() {
            let (saved, out) = self.layer(p, layer, ranges, x, batch, &masks);
            keep(saved);
            x = out;
        }
        let mut pooled = self.linear(p, &x, self.layout.pooler.each_ref());
        pooled.iter_mut().for_each(|v| *v = simd::tanh(*v));
        let mut dropped = self.buffers.copy(&pooled);
        masks.drop_head(&self.config, &mut dropped);
        let logits = self.linear(p, &dropped, self.layout.head.each_ref());
        (logits.to_vec(), (masks, embedded, [x, pooled, dropped]))
    }

    fn layer(
        &self,
        p: &[f32],
        layer: usize,
        ranges: &LayerRanges,
        input: Buffer,
        batch: &Batch,
        masks: &StepMasks,
    ) -> (SavedLayer, Buffer) {
        let h = self.config.hidden_size;
        let (qkv, first) = if self.last(layer) {
            let [query, rest] = self.split_qkv(ranges);
            let mut first = self.buffers.take(batch.rows() * h);
            for (first, start) in first.chunks_mut(h).zip(&batch.starts) {
                first.copy_from_slice(&input[start * h..][..h]);
            }
            let queries = self.linear(p, &first, query.each_ref());
            (self.linear(p, &input, rest.each_ref()), Some([first, queries]))
        } else {
            (self.linear(p, &input, [&ranges.qkv, &ranges.qkv_bias]), None)
        };
        let shapes = self.shapes(layer, batch);
        let mut weights = self.buffers.take(shapes.iter().map(Shape::weights).sum());
        let mut context = self.buffers.take(shapes.iter().map(|shape| shape.queries * h).sum());
        parts(&mut weights, shapes.iter().map(Shape::weights))
            .into_par_iter()
            .zip(parts(&mut context, shapes.iter().map(|shape| shape.queries * h)))
            .enumerate()
            .for_each_init(Vec::new, |spare, (row, (weights, context))| {
                let bands = self.bands(&qkv, first.as_ref(), batch, row);
                shapes[row].forward(bands, masks.attention(layer, row), weights, spare, context);
            });
        let places = if first.is_some() { &batch.firsts } else { &batch.places };
        let branch = self.linear(p, &context, [&ranges.attend, &ranges.attend_bias]);
        let residual = first.as_ref().map_or(&input, |[first, _]| first);
        let (attended, hidden) =
            self.norm(p, branch, Some(residual), &ranges.attend_norm, places, masks.before(layer, 1));
        drop(input);
        let (mut inner, mut branch) =
            (self.buffers.take(hidden.len() / h * ranges.inner_bias.len()), self.buffers.take(hidden.len()));
        self.feed_forward(p, ranges, &hidden, &mut inner, &mut branch);
        let (normed, out) = self.norm(p, branch, Some(&hidden), &ranges.norm, places, masks.before(layer, 2));
        (SavedLayer { qkv, first, weights, context, attended, inner, normed }, out)
    }

    /// Writes what GELU is given, and the branch that joins the residual.
    fn feed_forward(&self, p: &[f32], ranges: &LayerRanges, x: &[f32], inner: &mut [f32], branch: &mut [f32]) {
        let h = self.config.hidden_size;
        let wide = TOGETHER * ranges.inner_bias.len();
        let tokens = x.chunks(TOGETHER * h).zip(inner.chunks_mut(wide)).zip(branch.chunks_mut(TOGETHER * h));
        for ((x, inner), branch) in tokens {
            self.linear_into(p, x, [&ranges.inner, &ranges.inner_bias], inner);
            let mut activated = self.buffers.take(inner.len());
            gelu::forward(inner, &mut activated);
            self.linear_into(p, &activated, [&ranges.outer, &ranges.outer_bias], branch);
        }
    }

    /// Where one row's queries, keys and values stand.
    fn bands<'a>(&self, qkv: &'a [f32], first: Option<&'a [Buffer; 2]>, batch: &Batch, row: usize) -> [Band<'a>; 3] {
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
}
