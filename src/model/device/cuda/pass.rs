//! One pass over a batch: its sizes, its dropout, and the steps that forward and backward share.

use super::arena::Arena;
use super::driver::{Arg, Driver, Dropping, Floats, Threads};
use super::product::{Kind, Side, Sizes};
use crate::model::bert::StepKey;
use crate::model::kernels::dropout::Masks;
use crate::model::{Batch, Bert, ModelError, Precision};
use std::ops::Range;

/// What a pass works with.
pub struct Pass<'p> {
    pub driver: &'p Driver,
    pub arena: &'p mut Arena,
    pub bert: &'p Bert,
    pub parameters: Floats,
    /// All parameters as bfloat16, where products take those.
    rounded: Option<Floats>,
    pub rows: usize,
    /// Tokens of the longest row: all rows are padded to it.
    pub length: usize,
    pub ids: u64,
    pub lengths: u64,
    pub hidden: Dropping,
    pub attention: Dropping,
    pub head: Dropping,
    /// Rounded copies of a product's two sides.
    sides: [Option<Floats>; 2],
    /// Partial sums of columns.
    parts: Floats,
}

/// A matrix of activations: so many rows and columns.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    pub floats: Floats,
    pub columns: usize,
}

impl Matrix {
    pub fn rows(self) -> usize {
        self.floats.len / self.columns
    }
}

impl<'p> Pass<'p> {
    /// Brings a batch to the GPU; with `key`, dropout is on.
    pub fn new(
        driver: &'p Driver,
        arena: &'p mut Arena,
        bert: &'p Bert,
        parameters: Floats,
        batch: &Batch,
        key: Option<StepKey>,
    ) -> Result<Self, ModelError> {
        driver.enter()?;
        arena.clear(driver)?;
        let config = &bert.config;
        let (rows, length) = (batch.rows(), batch.longest());
        let widest = config.intermediate_size.max(3 * config.hidden_size).max(config.vocab_size);
        let largest = rows * length * widest.max(config.num_attention_heads);
        if i32::try_from(largest).is_err() {
            return Err(ModelError::Device(format!(
                "{rows} rows of {length} tokens are too many for a GPU's kernels at once: lower `batch_size`"
            )));
        }
        let padding = config.pad_token_id.unwrap_or(0) as u32;
        let mut ids = vec![padding; rows * length];
        for row in 0..rows {
            let range = batch.range(row);
            ids[row * length..][..range.len()]
                .iter_mut()
                .zip(&batch.ids[range])
                .for_each(|(to, id)| *to = u32::from(*id));
        }
        let lengths: Vec<u32> = batch.lengths().map(|n| n as u32).collect();
        let place = arena.take(driver, ids.len() + lengths.len())?;
        let lengths_at = place.at + 4 * ids.len() as u64;
        driver.upload(place.at, &ids)?;
        driver.upload(lengths_at, &lengths)?;
        let parts = arena.take(driver, 64 * widest)?;
        let (mut rounded, mut sides) = (None, [None; 2]);
        if bert.precision == Precision::Bf16 {
            let all = arena.take(driver, parameters.len.div_ceil(2))?;
            round(driver, parameters, all)?;
            rounded = Some(all);
            for side in &mut sides {
                *side = Some(arena.take(driver, (rows * length * widest).div_ceil(2))?);
            }
        }
        let dropping = |probability| {
            let masks = key.and_then(|key| Some(Masks::new(key.seed, key.step, probability)?.from_row(key.first_row)));
            masks.map_or_else(Dropping::default, |masks| {
                let (key, threshold, scale, first_row) = masks.parts();
                Dropping { key, threshold, scale, first_row }
            })
        };
        Ok(Self {
            hidden: dropping(config.hidden_dropout_prob),
            attention: dropping(config.attention_probs_dropout_prob),
            head: dropping(config.head_dropout()),
            driver,
            arena,
            bert,
            parameters,
            rounded,
            rows,
            length,
            ids: place.at,
            lengths: lengths_at,
            sides,
            parts,
        })
    }

    pub fn tokens(&self) -> usize {
        self.rows * self.length
    }

    pub fn width(&self) -> usize {
        self.bert.config.hidden_size
    }

    /// Lines of attention weights: one for each query of each head.
    pub fn lines(&self) -> usize {
        self.tokens() * self.bert.config.num_attention_heads
    }

    /// Width of a head.
    pub fn head_width(&self) -> usize {
        self.width() / self.bert.config.num_attention_heads
    }

    pub fn take(&mut self, len: usize) -> Result<Floats, ModelError> {
        self.arena.take(self.driver, len)
    }

    /// Room for a matrix with a row for each token.
    pub fn take_tokens(&mut self, columns: usize) -> Result<Matrix, ModelError> {
        Ok(Matrix { floats: self.take(self.tokens() * columns)?, columns })
    }

    pub fn launch(&self, name: &'static str, threads: Threads, args: &[Arg]) -> Result<(), ModelError> {
        self.driver.launch(name, threads, args)
    }

    pub fn parameter(&self, range: &Range<usize>) -> Floats {
        self.parameters.part(range)
    }

    fn kind(&self) -> Kind {
        if self.rounded.is_some() { Kind::Bf16 } else { Kind::F32 }
    }

    /// Activations as products take them; `which` of two places a rounded copy may have.
    fn side(&self, which: usize, x: Matrix) -> Result<Side, ModelError> {
        match self.sides[which] {
            None => Ok(Side::new(x.floats.at, x.columns)),
            Some(place) => {
                round(self.driver, x.floats, place)?;
                Ok(Side::new(place.at, x.columns))
            }
        }
    }

    fn weights(&self, range: &Range<usize>, inputs: usize) -> Side {
        let at = match self.rounded {
            None => self.parameter(range).at,
            Some(all) => all.at + 2 * range.start as u64,
        };
        Side::new(at, inputs)
    }

    /// `out = x * weights^T`, without a bias: the kernel after it adds that.
    pub fn linear(&self, x: Matrix, weights: &Range<usize>, out: Matrix) -> Result<(), ModelError> {
        let sizes = Sizes::one(x.rows(), out.columns, x.columns);
        let weights = self.weights(weights, x.columns).turned();
        self.driver.product(self.kind(), self.side(0, x)?, weights, sizes, out.floats)
    }

    /// From the gradient of a linear layer's outputs: that of its weights, and of its inputs.
    pub fn linear_backward(
        &self,
        d: Matrix,
        x: Matrix,
        weights: &Range<usize>,
        gradient: Floats,
        dx: Matrix,
    ) -> Result<(), ModelError> {
        let (outputs, inputs) = (d.columns, x.columns);
        let [d_side, x_side] = [self.side(0, d)?, self.side(1, x)?];
        let of_weights = Sizes::one(outputs, inputs, d.rows());
        self.driver.product(self.kind(), d_side.turned(), x_side, of_weights, gradient.part(weights))?;
        let of_inputs = Sizes::one(d.rows(), inputs, outputs);
        self.driver.product(self.kind(), d_side, self.weights(weights, inputs), of_inputs, dx.floats)
    }

    /// Sums over tokens, for each column, of `x` and of `x * y`.
    pub fn columns(&self, x: Matrix, y: Option<Matrix>, sums: Floats, dots: Floats) -> Result<(), ModelError> {
        let (tokens, width) = (x.rows(), x.columns);
        let y = y.map_or(Floats::NONE, |y| y.floats);
        let args = [x.floats.into(), y.into(), self.parts.into(), tokens.into(), width.into()];
        self.launch("columns", Threads::Columns(width), &args)?;
        let args = [self.parts.into(), sums.into(), dots.into(), width.into()];
        self.launch("columns_end", Threads::Each(width), &args)
    }

    /// A product for each head of each row; `a` and `b` have so many numbers each.
    pub fn heads(&self, a: Side, b: Side, [m, n, k]: [usize; 3], out: Floats) -> Result<(), ModelError> {
        let count = self.rows * self.bert.config.num_attention_heads;
        let sizes = Sizes { m, n, k, count, apart: [m * k, k * n, m * n] };
        self.driver.product(Kind::F32, a, b, sizes, out)
    }
}

fn round(driver: &Driver, from: Floats, to: Floats) -> Result<(), ModelError> {
    driver.launch("round_to_bf16", Threads::Each(from.len), &[from.into(), to.into(), Arg::Size(from.len as u64)])
}
