//! The gradient of every parameter.

use super::{Bert, Normed, Saved, SavedLayer, StepMasks, TOGETHER, parts};
use crate::model::Batch;
use crate::model::buffers::Buffer;
use crate::model::kernels::attention::{Grads, Shape};
use crate::model::kernels::matmul::{Mat, Onto, matmul};
use crate::model::kernels::norm::{self, Dropping, Place};
use crate::model::kernels::{embedding, gelu, reduce};
use crate::model::weights::LayerRanges;
use rayon::prelude::*;
use std::ops::Range;

/// The same field of two neighbouring ranges, as two mutable slices.
fn pair<'a>(values: &'a mut [f32], [first, second]: &[Range<usize>; 2]) -> [&'a mut [f32]; 2] {
    let (low, high) = values[first.start..second.end].split_at_mut(second.start - first.start);
    [&mut low[..first.len()], high]
}

impl Bert {
    /// Writes the gradient of every parameter, given those of the outputs. `grads` is overwritten.
    pub fn backward(&self, p: &[f32], batch: &Batch, saved: Saved, logits_grad: &[f32], grads: &mut [f32]) {
        let Saved { masks, embedded, mut layers, first, pooled, dropped } = saved;
        let mut d = self.linear_backward(p, &dropped, logits_grad, self.layout.head.each_ref(), grads, None);
        masks.drop_head(&self.config, &mut d);
        d.iter_mut().zip(&*pooled).for_each(|(d, y)| *d *= 1.0 - y * y);
        let mut d = self.linear_backward(p, &first, &d, self.layout.pooler.each_ref(), grads, None);
        let norm = &self.layout.embedding_norm;
        while let Some(kept) = layers.pop() {
            let layer = layers.len();
            let input = match layers.last() {
                Some(before) => {
                    let norm = &self.layout.layers[layer - 1].norm;
                    self.normed(p, &before.normed, norm, &batch.places, Dropping::default())
                }
                None => self.normed(p, &embedded, norm, &batch.places, masks.embeddings()),
            };
            d = self.layer_backward(p, layer, kept, input, batch, &masks, d, grads);
        }
        self.norm_backward(p, &mut d, None, &embedded, norm, &batch.places, masks.embeddings(), grads);
        let h = self.config.hidden_size;
        let [words, positions, types] = &self.layout.embeddings;
        let (words_grad, rest) = grads[..types.end].split_at_mut(words.end);
        let (positions_grad, types_grad) = rest.split_at_mut(positions.len());
        let tables = [words_grad, positions_grad, types_grad];
        embedding::backward(&d, &batch.ids, &batch.starts, tables, h, self.config.pad_token_id);
    }

    /// What a LayerNorm gave, made again.
    fn normed(
        &self,
        p: &[f32],
        normed: &Normed,
        affine: &[Range<usize>; 2],
        places: &[Place],
        dropping: Dropping,
    ) -> Buffer {
        let mut out = self.buffers.take(normed.unit.len());
        norm::output(&normed.unit, affine.each_ref().map(|range| &p[range.clone()]), places, dropping, &mut out);
        out
    }

    #[expect(clippy::too_many_arguments, reason = "a LayerNorm's backward has these many sides")]
    fn norm_backward(
        &self,
        p: &[f32],
        d: &mut [f32],
        branch: Option<&mut [f32]>,
        Normed { unit, inverse }: &Normed,
        affine: &[Range<usize>; 2],
        places: &[Place],
        dropping: Dropping,
        grads: &mut [f32],
    ) {
        let (scale, grads) = (&p[affine[0].clone()], pair(grads, affine));
        norm::backward(d, branch, (unit, inverse), scale, grads, places, dropping);
    }

    /// Writes the gradients of weight and bias; adds that of the input to `dx`, or makes it.
    fn linear_backward(
        &self,
        p: &[f32],
        x: &[f32],
        dy: &[f32],
        ranges: [&Range<usize>; 2],
        grads: &mut [f32],
        dx: Option<Buffer>,
    ) -> Buffer {
        self.weights_backward(x, dy, ranges, grads, Onto::Nothing);
        let onto = if dx.is_some() { Onto::Out } else { Onto::Nothing };
        let mut dx = dx.unwrap_or_else(|| self.buffers.take(x.len()));
        self.input_backward(p, dy, ranges, onto, &mut dx);
        dx
    }

    /// The gradients of weight and bias, added to what is there or not.
    fn weights_backward(
        &self,
        x: &[f32],
        dy: &[f32],
        [weight, bias]: [&Range<usize>; 2],
        grads: &mut [f32],
        onto: Onto<'_>,
    ) {
        let (out, inputs) = (bias.len(), weight.len() / bias.len());
        let rows = x.len() / inputs;
        if matches!(onto, Onto::Nothing) {
            grads[bias.clone()].fill(0.0);
        }
        reduce::add_columns(dy, &mut grads[bias.clone()]);
        let dy = Mat::new(dy, rows, out).transposed();
        matmul(self.precision, dy, Mat::new(x, rows, inputs), onto, &mut grads[weight.clone()]);
    }

    fn input_backward(
        &self,
        p: &[f32],
        dy: &[f32],
        [weight, bias]: [&Range<usize>; 2],
        onto: Onto<'_>,
        dx: &mut [f32],
    ) {
        let (out, inputs) = (bias.len(), weight.len() / bias.len());
        let weight = Mat::new(&p[weight.clone()], out, inputs);
        matmul(self.precision, Mat::new(dy, dy.len() / out, out), weight, onto, dx);
    }

    /// The gradients of the feed-forward layers; adds that of their input to `d`.
    #[expect(clippy::too_many_arguments, reason = "both layers' sides")]
    fn feed_forward_backward(
        &self,
        p: &[f32],
        ranges: &LayerRanges,
        x: &[f32],
        inner: &mut [f32],
        branch: &[f32],
        d: &mut [f32],
        grads: &mut [f32],
    ) {
        let h = self.config.hidden_size;
        let (inside, outside) = ([&ranges.inner, &ranges.inner_bias], [&ranges.outer, &ranges.outer_bias]);
        let tokens = x.chunks(TOGETHER * h).zip(inner.chunks_mut(TOGETHER * ranges.inner_bias.len()));
        let grad = branch.chunks(TOGETHER * h).zip(d.chunks_mut(TOGETHER * h));
        let mut onto = Onto::Nothing;
        for ((x, inner), (branch, d)) in tokens.zip(grad) {
            let mut activated = self.buffers.take(inner.len());
            gelu::slope(inner, &mut activated);
            self.weights_backward(&activated, branch, outside, grads, onto);
            let mut wide = activated;
            self.input_backward(p, branch, outside, Onto::Nothing, &mut wide);
            reduce::multiply(&mut wide, inner);
            self.weights_backward(x, &wide, inside, grads, onto);
            self.input_backward(p, &wide, inside, Onto::Out, d);
            onto = Onto::Out;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "everything that a layer's backward reads and writes")]
    fn layer_backward(
        &self,
        p: &[f32],
        layer: usize,
        kept: SavedLayer,
        input: Buffer,
        batch: &Batch,
        masks: &StepMasks,
        mut d: Buffer,
        grads: &mut [f32],
    ) -> Buffer {
        let h = self.config.hidden_size;
        let ranges = &self.layout.layers[layer];
        let SavedLayer { qkv, first, weights, context, attended, mut inner, normed } = kept;
        let places = if first.is_some() { &batch.firsts } else { &batch.places };

        let mut branch = self.buffers.take(d.len());
        let dropping = masks.before(layer, 2);
        self.norm_backward(p, &mut d, Some(&mut branch), &normed, &ranges.norm, places, dropping, grads);
        drop(normed);
        let hidden = self.normed(p, &attended, &ranges.attend_norm, places, Dropping::default());
        self.feed_forward_backward(p, ranges, &hidden, &mut inner, &branch, &mut d, grads);
        drop((hidden, inner));

        let dropping = masks.before(layer, 1);
        self.norm_backward(p, &mut d, Some(&mut branch), &attended, &ranges.attend_norm, places, dropping, grads);
        drop(attended);
        let attend = [&ranges.attend, &ranges.attend_bias];
        let context_grad = self.linear_backward(p, &context, &branch, attend, grads, None);
        drop((context, branch));

        let columns = qkv.len() / batch.tokens().max(1);
        let mut rest = self.buffers.take(qkv.len());
        let mut queries = self.buffers.take(if first.is_some() { batch.rows() * h } else { 0 });
        let query_parts: Vec<Option<&mut [f32]>> = match first {
            Some(_) => queries.chunks_mut(h).map(Some).collect(),
            None => (0..batch.rows()).map(|_| None).collect(),
        };
        let shapes = self.shapes(layer, batch);
        // Where each row's weights begin.
        let starts = shapes.iter().scan(0, |at, shape| Some(std::mem::replace(at, *at + shape.weights())));
        parts(&mut rest, batch.lengths().map(|tokens| tokens * columns))
            .into_par_iter()
            .zip(query_parts)
            .zip(starts.collect::<Vec<_>>())
            .enumerate()
            .for_each_init(Default::default, |spare, (row, ((rest, queries), start))| {
                let shape: &Shape = &shapes[row];
                let weights = &weights[start..][..shape.weights()];
                let asked = if first.is_some() { row..row + 1 } else { batch.range(row) };
                let context = &context_grad[asked.start * h..asked.end * h];
                let bands = self.bands(&qkv, first.as_ref(), batch, row);
                let mut grads = Grads { queries, rest, hidden: h };
                shape.backward(bands, masks.attention(layer, row), weights, context, spare, &mut grads);
            });
        drop((qkv, weights, context_grad));
        let Some([first, _]) = first else {
            return self.linear_backward(p, &input, &rest, [&ranges.qkv, &ranges.qkv_bias], grads, Some(d));
        };
        let [query, keys] = self.split_qkv(ranges);
        let d = self.linear_backward(p, &first, &queries, query.each_ref(), grads, Some(d));
        let mut all = self.linear_backward(p, &input, &rest, keys.each_ref(), grads, None);
        for (row, d) in d.chunks(h).enumerate() {
            reduce::add(&mut all[batch.starts[row] * h..][..h], d);
        }
        all
    }
}
