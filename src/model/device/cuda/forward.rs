//! The forward pass.

use super::driver::{Arg, Floats, Threads};
use super::pass::{Matrix, Pass};
use super::product::Side;
use crate::model::ModelError;
use crate::model::bert::{SITES, site};
use crate::model::weights::LayerRanges;
use std::ops::Range;

/// A LayerNorm: its rows with mean 0 and variance 1, and 1 / standard deviation of each.
#[derive(Debug, Clone, Copy)]
pub struct Normed {
    pub unit: Matrix,
    pub inverse: Floats,
}

/// What backward needs of a layer.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    pub input: Matrix,
    /// Queries, keys and values, head by head.
    pub qkv: Floats,
    pub weights: Floats,
    pub context: Matrix,
    pub attended: Normed,
    pub hidden: Matrix,
    /// Before GELU.
    pub inner: Matrix,
    pub normed: Normed,
    pub output: Matrix,
}

/// What backward needs of a pass.
#[derive(Debug)]
pub struct Forward {
    pub embedded: Normed,
    pub layers: Vec<Layer>,
    pub first: Matrix,
    pub pooled: Matrix,
    pub dropped: Matrix,
    /// One for each row.
    pub outputs: Floats,
}

/// Where layers put what nobody needs after them.
struct Scratch {
    qkv: Matrix,
    dropped: Floats,
    context: Floats,
    active: Matrix,
}

impl Pass<'_> {
    fn take_normed(&mut self) -> Result<Normed, ModelError> {
        Ok(Normed { unit: self.take_tokens(self.width())?, inverse: self.take(self.tokens())? })
    }

    fn take_layer(&mut self, input: Matrix) -> Result<Layer, ModelError> {
        let (tokens, width) = (self.tokens(), self.width());
        Ok(Layer {
            input,
            qkv: self.take(3 * tokens * width)?,
            weights: self.take(self.lines() * self.length)?,
            context: self.take_tokens(width)?,
            attended: self.take_normed()?,
            hidden: self.take_tokens(width)?,
            inner: self.take_tokens(self.bert.config.intermediate_size)?,
            normed: self.take_normed()?,
            output: self.take_tokens(width)?,
        })
    }

    /// The outputs of a batch; with `keep`, what backward needs, layer by layer.
    pub fn forward(&mut self, keep: bool) -> Result<Forward, ModelError> {
        let config = &self.bert.config;
        let (tokens, width, layers) = (self.tokens(), self.width(), config.num_hidden_layers);
        let embedded = self.take_normed()?;
        let mut x = self.take_tokens(width)?;
        let [words, positions, types] = self.bert.layout.embeddings.each_ref().map(|range| self.parameter(range));
        let sizes: [Arg; 3] = [tokens.into(), self.length.into(), width.into()];
        let args = [Arg::At(self.ids), words.into(), positions.into(), types.into(), embedded.unit.floats.into()];
        self.launch("embed", Threads::Each(tokens * width), &[&args[..], &sizes].concat())?;
        let norm = &self.bert.layout.embedding_norm;
        self.norm_forward(embedded, Floats::NONE, Floats::NONE, norm, x, site(0, SITES - 1), true)?;

        let scratch = Scratch {
            qkv: self.take_tokens(3 * width)?,
            dropped: if self.attention.scale > 0.0 { self.take(self.lines() * self.length)? } else { Floats::NONE },
            context: self.take(tokens * width)?,
            active: self.take_tokens(config.intermediate_size)?,
        };
        let mut made: Vec<Layer> = Vec::new();
        for (i, ranges) in self.bert.layout.layers.iter().enumerate() {
            let layer = match made.first() {
                // Where nothing is kept, input and output of the one layer change places.
                Some(&only) if !keep => Layer { input: x, output: only.input, ..only },
                _ => self.take_layer(x)?,
            };
            self.layer_forward(i, ranges, &layer, &scratch)?;
            x = layer.output;
            if keep {
                made.push(layer);
            } else {
                made = vec![layer];
            }
        }

        let rows = self.rows;
        let matrix = |floats| Matrix { floats, columns: width };
        let [first, pooled, dropped] =
            [self.take(rows * width)?, self.take(rows * width)?, self.take(rows * width)?].map(matrix);
        let outputs = self.take(rows)?;
        let sizes: [Arg; 3] = [rows.into(), self.length.into(), width.into()];
        let args = [x.floats.into(), first.floats.into()];
        self.launch("gather_first", Threads::Each(rows * width), &[&args[..], &sizes].concat())?;
        let ([pooler, pooler_bias], [head, head_bias]) = (&self.bert.layout.pooler, &self.bert.layout.head);
        self.linear(first, pooler, pooled)?;
        let args = [
            pooled.floats.into(),
            self.parameter(pooler_bias).into(),
            dropped.floats.into(),
            rows.into(),
            width.into(),
            self.head.into(),
            site(layers, 0).into(),
        ];
        self.launch("pool_forward", Threads::Each(rows * width), &args)?;
        let (head, head_bias) = (self.parameter(head), self.parameter(head_bias));
        let args = [dropped.floats.into(), head.into(), head_bias.into(), outputs.into(), rows.into(), width.into()];
        self.launch("head_forward", Threads::Lines(rows), &args)?;
        Ok(Forward { embedded, layers: made, first, pooled, dropped, outputs })
    }

    fn layer_forward(
        &mut self,
        i: usize,
        ranges: &LayerRanges,
        layer: &Layer,
        scratch: &Scratch,
    ) -> Result<(), ModelError> {
        let (tokens, length, lines) = (self.tokens(), self.length, self.lines());
        let (head, heads) = (self.head_width(), self.bert.config.num_attention_heads);
        self.linear(layer.input, &ranges.qkv, scratch.qkv)?;
        self.split_heads(scratch.qkv, self.parameter(&ranges.qkv_bias), layer.qkv, 3)?;
        let [query, key, value] = self.parts_of(layer.qkv);
        let [query, key, value] = [query, key, value].map(|part| Side::new(part.at, head));
        self.heads(query, key.turned(), [length, length, head], layer.weights)?;
        let args = [
            layer.weights.into(),
            scratch.dropped.into(),
            Arg::At(self.lengths),
            lines.into(),
            length.into(),
            heads.into(),
            (self.bert.config.max_position_embeddings as u32).into(),
            self.factor().into(),
            self.attention.into(),
            site(i, 0).into(),
        ];
        self.launch("softmax_forward", Threads::Lines(lines), &args)?;
        let weights = if scratch.dropped.len > 0 { scratch.dropped } else { layer.weights };
        self.heads(Side::new(weights.at, length), value, [length, head, length], scratch.context)?;
        self.merge_heads(scratch.context, layer.context, 1)?;
        self.linear(layer.context, &ranges.attend, layer.attended.unit)?;
        let bias = self.parameter(&ranges.attend_bias);
        self.norm_forward(
            layer.attended,
            bias,
            layer.input.floats,
            &ranges.attend_norm,
            layer.hidden,
            site(i, 1),
            false,
        )?;
        self.linear(layer.hidden, &ranges.inner, layer.inner)?;
        let inner_bias = self.parameter(&ranges.inner_bias);
        let count = tokens * layer.inner.columns;
        let [inner, active] = [layer.inner, scratch.active].map(|x| Arg::from(x.floats));
        let args = [inner, inner_bias.into(), active, count.into(), layer.inner.columns.into()];
        self.launch("gelu_forward", Threads::Each(count), &args)?;
        self.linear(scratch.active, &ranges.outer, layer.normed.unit)?;
        let bias = self.parameter(&ranges.outer_bias);
        self.norm_forward(layer.normed, bias, layer.hidden.floats, &ranges.norm, layer.output, site(i, 2), false)
    }

    #[expect(clippy::too_many_arguments, reason = "as many as the kernel has")]
    fn norm_forward(
        &self,
        normed: Normed,
        bias: Floats,
        residual: Floats,
        [scale, shift]: &[Range<usize>; 2],
        out: Matrix,
        site: u32,
        after: bool,
    ) -> Result<(), ModelError> {
        let args = [
            normed.unit.floats.into(),
            bias.into(),
            residual.into(),
            self.parameter(scale).into(),
            self.parameter(shift).into(),
            normed.inverse.into(),
            out.floats.into(),
            self.tokens().into(),
            self.length.into(),
            self.width().into(),
            (self.bert.config.layer_norm_eps as f32).into(),
            self.hidden.into(),
            site.into(),
            after.into(),
        ];
        self.launch("norm_forward", Threads::Lines(self.tokens()), &args)
    }

    /// Queries, keys and values of what lies one after the other.
    pub fn parts_of(&self, qkv: Floats) -> [Floats; 3] {
        let each = self.tokens() * self.width();
        [0, 1, 2].map(|i| qkv.part(&(i * each..(i + 1) * each)))
    }

    /// 1 / sqrt of a head's width: what scores are multiplied by.
    pub fn factor(&self) -> f32 {
        (1.0 / (self.head_width() as f64).sqrt()) as f32
    }

    fn head_sizes(&self, which: usize) -> [Arg; 5] {
        let heads = self.bert.config.num_attention_heads;
        [self.rows, self.length, heads, self.head_width(), which].map(Arg::from)
    }

    pub fn split_heads(&self, x: Matrix, bias: Floats, out: Floats, which: usize) -> Result<(), ModelError> {
        let args = [&[x.floats.into(), bias.into(), out.into()][..], &self.head_sizes(which)].concat();
        self.launch("split_heads", Threads::Each(x.floats.len), &args)
    }

    pub fn merge_heads(&self, x: Floats, out: Matrix, which: usize) -> Result<(), ModelError> {
        let args = [&[x.into(), out.floats.into()][..], &self.head_sizes(which)].concat();
        self.launch("merge_heads", Threads::Each(out.floats.len), &args)
    }
}
