//! Attention of one sequence: scores, softmax with dropout, weighted values, for each head.
//!
//! Queries, keys and values stay where the linear layers left them: a head is a band of columns.

use super::dropout::RowMask;
use super::matmul::{Mat, product};
use super::simd::{change, dot, exp, largest, multiversion, sum_by};

/// Sizes of one sequence's attention.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Tokens that ask: all of them, or the first alone.
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    /// Columns of one head.
    pub width: usize,
    /// Positions of the model: the stride of dropout's counter.
    pub positions: usize,
}

/// A band of columns within rows that are `stride` apart.
#[derive(Debug, Clone, Copy)]
pub struct Band<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

impl<'a> Band<'a> {
    fn head(self, rows: usize, head: usize, width: usize) -> Mat<'a> {
        Mat::strided(&self.data[head * width..], rows, width, self.stride)
    }
}

multiversion! {
    /// Softmax of one row, in place.
    pub fn softmax_row(row: &mut [f32]) {
        let top = largest(row);
        change(row, |_, x| exp(x - top));
        let inverse = 1.0 / sum_by(row, |x| x);
        change(row, |_, x| x * inverse);
    }

    /// The gradient of the scores, in place of that of the weights.
    pub fn softmax_backward_row(grad: &mut [f32], weights: &[f32]) {
        let along = dot(grad, weights);
        for (g, w) in grad.iter_mut().zip(weights) {
            *g = w * (*g - along);
        }
    }
}

impl Shape {
    /// Weights of one sequence: heads, queries, keys.
    pub fn weights(&self) -> usize {
        self.heads * self.queries * self.keys
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    fn counter(&self, head: usize, query: usize) -> u32 {
        ((head * self.positions + query).wrapping_mul(self.positions)) as u32
    }

    /// Writes weights (before dropout) and context; `spare` is room for one head's weights.
    pub fn forward(
        &self,
        [q, k, v]: [Band<'_>; 3],
        mask: Option<RowMask>,
        weights: &mut [f32],
        spare: &mut Vec<f32>,
        context: &mut [f32],
    ) {
        let size = self.queries * self.keys;
        for (head, weights) in weights.chunks_mut(size).enumerate() {
            let (q, k) = (q.head(self.queries, head, self.width), k.head(self.keys, head, self.width));
            product(self.scale(), q, k.transposed(), weights, self.keys);
            weights.chunks_mut(self.keys).for_each(softmax_row);
            let kept = self.dropped(weights, mask, head, spare);
            let out = &mut context[head * self.width..];
            let weights = Mat::new(kept, self.queries, self.keys);
            product(1.0, weights, v.head(self.keys, head, self.width), out, self.heads * self.width);
        }
    }

    /// The weights as they met the values.
    fn dropped<'a>(
        &self,
        weights: &'a [f32],
        mask: Option<RowMask>,
        head: usize,
        spare: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        let Some(mask) = mask else { return weights };
        spare.resize(weights.len(), 0.0);
        for (query, (row, out)) in weights.chunks(self.keys).zip(spare.chunks_mut(self.keys)).enumerate() {
            mask.write(row, self.counter(head, query), out);
        }
        spare
    }

    /// Writes the gradients of queries, keys and values.
    pub fn backward(
        &self,
        [q, k, v]: [Band<'_>; 3],
        mask: Option<RowMask>,
        weights: &[f32],
        context_grad: &[f32],
        spare: &mut [Vec<f32>; 2],
        grads: &mut Grads<'_>,
    ) {
        let size = self.queries * self.keys;
        let [spare, scores] = spare;
        for (head, weights) in weights.chunks(size).enumerate() {
            let columns = head * self.width;
            let out = Mat::strided(&context_grad[columns..], self.queries, self.width, self.heads * self.width);
            let kept = Mat::new(self.dropped(weights, mask, head, spare), self.queries, self.keys);
            let (into, stride) = grads.target(2, columns);
            product(1.0, kept.transposed(), out, into, stride);

            scores.resize(size, 0.0);
            let v = v.head(self.keys, head, self.width);
            product(1.0, out, v.transposed(), scores, self.keys);
            for (query, (row, weights)) in scores.chunks_mut(self.keys).zip(weights.chunks(self.keys)).enumerate() {
                if let Some(mask) = mask {
                    mask.apply(row, self.counter(head, query));
                }
                softmax_backward_row(row, weights);
            }
            let scores = Mat::new(scores, self.queries, self.keys);
            let (q, k) = (q.head(self.queries, head, self.width), k.head(self.keys, head, self.width));
            let (into, stride) = grads.target(0, columns);
            product(self.scale(), scores, k, into, stride);
            let (into, stride) = grads.target(1, columns);
            product(self.scale(), scores.transposed(), q, into, stride);
        }
    }
}

/// Where the gradients of one sequence's queries, keys and values go.
pub struct Grads<'a> {
    /// The queries' own rows; `None` where queries stand before keys and values in the same rows.
    pub queries: Option<&'a mut [f32]>,
    /// Rows of (queries,) keys and values, side by side.
    pub rest: &'a mut [f32],
    /// Columns of each of the three.
    pub hidden: usize,
}

impl Grads<'_> {
    /// The slice that begins at a column of queries (0), keys (1) or values (2), and its stride.
    fn target(&mut self, which: usize, column: usize) -> (&mut [f32], usize) {
        match (&mut self.queries, which) {
            (Some(queries), 0) => (&mut queries[column..], self.hidden),
            (Some(_), _) => (&mut self.rest[(which - 1) * self.hidden + column..], 2 * self.hidden),
            (None, _) => (&mut self.rest[which * self.hidden + column..], 3 * self.hidden),
        }
    }
}
