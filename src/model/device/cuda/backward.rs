//! The backward pass: from the slope of the loss at each output to the gradient of every parameter.

use super::driver::{Arg, Floats, Threads};
use super::forward::{Forward, Layer, Normed};
use super::pass::{Matrix, Pass};
use super::product::{Kind, Side, Sizes};
use crate::model::ModelError;
use crate::model::bert::{SITES, site};
use crate::model::weights::LayerRanges;
use std::ops::Range;

/// Where layers put what nobody needs after them.
struct Scratch {
    branch: Matrix,
    active: Matrix,
    d_active: Matrix,
    dropped: Floats,
    d_weights: Floats,
    context: Matrix,
    d_context: Floats,
    d_heads: Floats,
    d_qkv: Matrix,
}

/// The gradient of a layer's output: the sum of these two.
#[derive(Clone, Copy)]
struct Arriving {
    main: Matrix,
    more: Matrix,
    /// Room for the next `main`.
    spare: Matrix,
}

impl Pass<'_> {
    /// Leaves the gradient of every parameter in `gradient`, which is all 0.
    pub fn backward(&mut self, made: &Forward, slopes: Floats, gradient: Floats) -> Result<(), ModelError> {
        let (rows, width, tokens) = (self.rows, self.width(), self.tokens());
        let inner = self.bert.config.intermediate_size;
        let square = self.lines() * self.length;
        let [d_pooled, d_first] =
            [self.take(rows * width)?, self.take(rows * width)?].map(|floats| Matrix { floats, columns: width });
        let [main, more, spare] = [self.take_tokens(width)?, self.take_tokens(width)?, self.take_tokens(width)?];
        let scratch = Scratch {
            branch: self.take_tokens(width)?,
            active: self.take_tokens(inner)?,
            d_active: self.take_tokens(inner)?,
            dropped: if self.attention.scale > 0.0 { self.take(square)? } else { Floats::NONE },
            d_weights: self.take(square)?,
            context: self.take_tokens(width)?,
            d_context: self.take(tokens * width)?,
            d_heads: self.take(3 * tokens * width)?,
            d_qkv: self.take_tokens(3 * width)?,
        };

        let layout = &self.bert.layout;
        let ([pooler, pooler_bias], [head, head_bias]) = (&layout.pooler, &layout.head);
        let args = [
            slopes.into(),
            made.dropped.floats.into(),
            made.pooled.floats.into(),
            self.parameter(head).into(),
            gradient.part(head).into(),
            gradient.part(head_bias).into(),
            d_pooled.floats.into(),
            gradient.part(pooler_bias).into(),
            rows.into(),
            width.into(),
            self.head.into(),
            site(layout.layers.len(), 0).into(),
        ];
        self.launch("head_backward", Threads::Each(width), &args)?;
        self.linear_backward(d_pooled, made.first, pooler, gradient, d_first)?;
        let args = [d_first.floats.into(), main.floats.into(), rows.into(), self.length.into(), width.into()];
        self.launch("scatter_first", Threads::Each(tokens * width), &args)?;
        self.driver.clear(more.floats)?;

        let mut arriving = Arriving { main, more, spare };
        for (i, ranges) in layout.layers.iter().enumerate().rev() {
            arriving = self.layer_backward(i, ranges, &made.layers[i], arriving, &scratch, gradient)?;
        }
        self.embeddings_backward(made.embedded, arriving, gradient)
    }

    fn layer_backward(
        &self,
        i: usize,
        ranges: &LayerRanges,
        layer: &Layer,
        arriving: Arriving,
        scratch: &Scratch,
        gradient: Floats,
    ) -> Result<Arriving, ModelError> {
        let Arriving { main, more, spare } = arriving;
        let (branch, nothing) = (scratch.branch, Floats::NONE);
        // Feed-forward.
        self.norm_backward(main, more, layer.normed, &ranges.norm, [spare, branch], site(i, 2), gradient)?;
        self.columns(branch, None, gradient.part(&ranges.outer_bias), nothing)?;
        let count = layer.inner.floats.len;
        let args = [layer.inner.floats.into(), scratch.active.floats.into(), count.into()];
        self.launch("gelu_again", Threads::Each(count), &args)?;
        self.linear_backward(branch, scratch.active, &ranges.outer, gradient, scratch.d_active)?;
        let args = [scratch.d_active.floats.into(), layer.inner.floats.into(), count.into()];
        self.launch("gelu_backward", Threads::Each(count), &args)?;
        self.columns(scratch.d_active, None, gradient.part(&ranges.inner_bias), nothing)?;
        self.linear_backward(scratch.d_active, layer.hidden, &ranges.inner, gradient, more)?;
        // Attention; what reached the norm's sum reaches its residual as it is.
        self.norm_backward(spare, more, layer.attended, &ranges.attend_norm, [main, branch], site(i, 1), gradient)?;
        self.columns(branch, None, gradient.part(&ranges.attend_bias), nothing)?;
        self.linear_backward(branch, layer.context, &ranges.attend, gradient, scratch.context)?;
        self.split_heads(scratch.context, nothing, scratch.d_context, 1)?;
        self.attention_backward(i, layer, scratch)?;
        self.merge_heads(scratch.d_heads, scratch.d_qkv, 3)?;
        self.columns(scratch.d_qkv, None, gradient.part(&ranges.qkv_bias), nothing)?;
        self.linear_backward(scratch.d_qkv, layer.input, &ranges.qkv, gradient, more)?;
        Ok(Arriving { main, more, spare })
    }

    fn attention_backward(&self, i: usize, layer: &Layer, scratch: &Scratch) -> Result<(), ModelError> {
        let (length, lines, head) = (self.length, self.lines(), self.head_width());
        let positions = self.bert.config.max_position_embeddings as u32;
        let sizes: [Arg; 4] =
            [lines.into(), length.into(), self.bert.config.num_attention_heads.into(), positions.into()];
        let weights = if scratch.dropped.len == 0 {
            layer.weights
        } else {
            let ends: [Arg; 2] = [self.attention.into(), site(i, 0).into()];
            let args = [&[layer.weights.into(), scratch.dropped.into()][..], &sizes, &ends].concat();
            self.launch("drop_weights", Threads::Lines(lines), &args)?;
            scratch.dropped
        };
        let wide = |floats: Floats| Side::new(floats.at, length);
        let slim = |floats: Floats| Side::new(floats.at, head);
        let [query, key, value] = self.parts_of(layer.qkv);
        let [d_query, d_key, d_value] = self.parts_of(scratch.d_heads);
        let d = slim(scratch.d_context);
        self.heads(wide(weights).turned(), d, [length, head, length], d_value)?;
        self.heads(d, slim(value).turned(), [length, length, head], scratch.d_weights)?;
        let ends: [Arg; 3] = [self.factor().into(), self.attention.into(), site(i, 0).into()];
        let args = [&[scratch.d_weights.into(), layer.weights.into()][..], &sizes, &ends].concat();
        self.launch("softmax_backward", Threads::Lines(lines), &args)?;
        self.heads(wide(scratch.d_weights), slim(key), [length, head, length], d_query)?;
        self.heads(wide(scratch.d_weights).turned(), slim(query), [length, head, length], d_key)
    }

    /// Leaves the gradient of a norm's sum, and of the branch that was added, in `out`.
    #[expect(clippy::too_many_arguments, reason = "as many as there are places to read and to write")]
    fn norm_backward(
        &self,
        main: Matrix,
        more: Matrix,
        normed: Normed,
        [scale, shift]: &[Range<usize>; 2],
        [sum, branch]: [Matrix; 2],
        site: u32,
        gradient: Floats,
    ) -> Result<(), ModelError> {
        self.launch_norm_backward(main, more, normed, scale, [sum.floats, branch.floats], site, false)?;
        self.columns(main, Some(normed.unit), gradient.part(shift), gradient.part(scale))
    }

    #[expect(clippy::too_many_arguments, reason = "as many as the kernel has")]
    fn launch_norm_backward(
        &self,
        main: Matrix,
        more: Matrix,
        normed: Normed,
        scale: &Range<usize>,
        [sum, branch]: [Floats; 2],
        site: u32,
        after: bool,
    ) -> Result<(), ModelError> {
        let args = [
            main.floats.into(),
            more.floats.into(),
            normed.unit.floats.into(),
            normed.inverse.into(),
            self.parameter(scale).into(),
            sum.into(),
            branch.into(),
            self.tokens().into(),
            self.length.into(),
            self.width().into(),
            self.hidden.into(),
            site.into(),
            after.into(),
        ];
        self.launch("norm_backward", Threads::Lines(self.tokens()), &args)
    }

    fn embeddings_backward(
        &mut self,
        embedded: Normed,
        arriving: Arriving,
        gradient: Floats,
    ) -> Result<(), ModelError> {
        let Arriving { main, more, spare } = arriving;
        let (tokens, width, words) = (self.tokens(), self.width(), self.bert.config.vocab_size);
        let layout = &self.bert.layout;
        let [scale, shift] = &layout.embedding_norm;
        self.launch_norm_backward(main, more, embedded, scale, [spare.floats, Floats::NONE], site(0, SITES - 1), true)?;
        self.columns(main, Some(embedded.unit), gradient.part(shift), gradient.part(scale))?;
        let [of_words, of_positions, of_types] = layout.embeddings.each_ref().map(|range| gradient.part(range));
        self.columns(spare, None, of_types.part(&(0..width)), Floats::NONE)?;
        let args = [spare.floats.into(), of_positions.into(), self.rows.into(), self.length.into(), width.into()];
        self.launch("positions_backward", Threads::Each(self.length * width), &args)?;
        let hot = self.take(tokens * words)?;
        let args = [Arg::At(self.ids), hot.into(), tokens.into(), words.into()];
        self.launch("one_hot", Threads::Each(tokens * words), &args)?;
        let hot = Side::new(hot.at, words).turned();
        let sizes = Sizes::one(words, width, tokens);
        self.driver.product(Kind::F32, hot, Side::new(spare.floats.at, width), sizes, of_words)
    }
}
