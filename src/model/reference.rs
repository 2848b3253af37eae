//! The same model in plain differentiable candle: the oracle that the kernels are tested against, and the way to other
//! devices.
//!
//! Rows are padded and keys masked, as in the published code; all tokens pass through all of the last layer. Nothing here
//! uses candle-nn's LayerNorm or fused softmax: gradients end before them without a word (candle issues 2168, 3011).
//! Dropout takes the kernels' own masks, so that both engines can be compared with dropout on.

use super::bert::{SITES, StepKey, site};
use super::kernels::dropout::Masks;
use super::{Batch, Bert, Precision};
use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::softmax;

/// A model's shape; its parameters are handed to each pass.
#[derive(Debug, Clone)]
pub struct Reference {
    pub bert: Bert,
}

/// One pass over padded rows.
struct Pass<'a> {
    bert: &'a Bert,
    /// All parameters, flat.
    flat: &'a Tensor,
    key: Option<StepKey>,
    rows: usize,
    /// Tokens of the longest row.
    length: usize,
    /// 0 for a token, minus infinity for padding: `[rows, 1, 1, length]`.
    absent: Tensor,
}

impl Reference {
    pub fn new(bert: Bert) -> Self {
        Self { bert }
    }

    /// One output for each row, differentiable in the flat parameters; with `key`, dropout is on.
    pub fn forward(&self, parameters: &Tensor, batch: &Batch, key: Option<StepKey>) -> Result<Tensor> {
        let (rows, length) = (batch.rows(), batch.longest());
        let padding = self.bert.config.pad_token_id.unwrap_or(0) as u32;
        let (mut ids, mut absent) = (vec![padding; rows * length], vec![f32::NEG_INFINITY; rows * length]);
        for row in 0..rows {
            for (i, id) in batch.ids[batch.range(row)].iter().enumerate() {
                ids[row * length + i] = u32::from(*id);
                absent[row * length + i] = 0.0;
            }
        }
        let device = parameters.device();
        let absent = Tensor::from_vec(absent, (rows, 1, 1, length), device)?;
        let pass = Pass { bert: &self.bert, flat: parameters, key, rows, length, absent };
        pass.forward(&Tensor::from_vec(ids, rows * length, device)?)
    }
}

impl Pass<'_> {
    fn parameter(&self, name: &str) -> Result<Tensor> {
        let entry = self.bert.layout.entry(name).expect("the layout has every parameter of its configuration");
        self.flat.narrow(0, entry.range.start, entry.range.len())?.reshape(entry.shape.as_slice())
    }

    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (config, shape) = (&self.bert.config, (self.rows, self.length, self.bert.config.hidden_size));
        let table = |name: &str| self.parameter(&format!("bert.embeddings.{name}.weight"));
        let words = table("word_embeddings")?.index_select(ids, 0)?.reshape(shape)?;
        let positions = table("position_embeddings")?.narrow(0, 0, self.length)?;
        let types = table("token_type_embeddings")?.narrow(0, 0, 1)?;
        let summed = words.broadcast_add(&types)?.broadcast_add(&positions)?;
        let normed = self.norm(&summed, "bert.embeddings.LayerNorm")?;
        let mut x = self.drop_hidden(normed, site(0, SITES - 1))?;
        for layer in 0..config.num_hidden_layers {
            x = self.layer(layer, &x)?;
        }
        let first = x.narrow(1, 0, 1)?.squeeze(1)?; // [rows, hidden]
        let pooled = self.linear(&first, "bert.pooler.dense")?.tanh()?;
        let site = site(config.num_hidden_layers, 0);
        let dropped = self.drop(pooled, config.head_dropout(), |masks, out| {
            out.chunks_mut(config.hidden_size)
                .enumerate()
                .for_each(|(row, out)| masks.row(site, row as u32).apply(out, 0));
        })?;
        self.linear(&dropped, "classifier")?.squeeze(1)
    }

    fn layer(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let at = |rest: &str| format!("bert.encoder.layer.{layer}.{rest}");
        let attended = self.attention(layer, x)?;
        let branch = self.linear(&attended, &at("attention.output.dense"))?;
        let branch = self.drop_hidden(branch, site(layer, 1))?;
        let hidden = self.norm(&(x + branch)?, &at("attention.output.LayerNorm"))?;
        // candle's `gelu` is the tanh form.
        let inner = self.linear(&hidden, &at("intermediate.dense"))?.gelu_erf()?;
        let branch = self.drop_hidden(self.linear(&inner, &at("output.dense"))?, site(layer, 2))?;
        self.norm(&(hidden + branch)?, &at("output.LayerNorm"))
    }

    fn attention(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let config = &self.bert.config;
        let (heads, width) = (config.num_attention_heads, config.hidden_size / config.num_attention_heads);
        let part = |name: &str| {
            let y = self.linear(x, &format!("bert.encoder.layer.{layer}.attention.self.{name}"))?;
            y.reshape((self.rows, self.length, heads, width))?.transpose(1, 2)?.contiguous()
        };
        let (query, key, value) = (part("query")?, part("key")?, part("value")?);
        let scores = (query.matmul(&key.t()?)? * (1.0 / (width as f64).sqrt()))?;
        let weights = softmax(&scores.broadcast_add(&self.absent)?, D::Minus1)?;
        let positions = config.max_position_embeddings;
        let (site, length) = (site(layer, 0), self.length);
        let weights = self.drop(weights, config.attention_probs_dropout_prob, |masks, out| {
            for (line, out) in out.chunks_mut(length).enumerate() {
                let (row, head, query) = (line / length / heads, line / length % heads, line % length);
                let counter = (head * positions + query).wrapping_mul(positions) as u32;
                masks.row(site, row as u32).apply(out, counter);
            }
        })?;
        let context = weights.matmul(&value)?.transpose(1, 2)?;
        context.reshape((self.rows, self.length, config.hidden_size))
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let weight = self.parameter(&format!("{name}.weight"))?; // [out, in]
        let rows = x.elem_count() / x.dim(D::Minus1)?;
        let mut shape = x.dims().to_vec();
        *shape.last_mut().expect("a matrix at least") = weight.dim(0)?;
        let x = x.reshape((rows, weight.dim(1)?))?;
        let y = self.rounded(&x)?.matmul(&self.rounded(&weight)?.t()?)?;
        y.broadcast_add(&self.parameter(&format!("{name}.bias"))?)?.reshape(shape)
    }

    /// Numbers as a linear layer multiplies them. candle rounds a gradient where it comes out of a product, not where it
    /// goes in: in bf16 this engine's gradients agree with the kernels' as closely as rounded numbers can.
    fn rounded(&self, x: &Tensor) -> Result<Tensor> {
        match self.bert.precision {
            Precision::F32 => Ok(x.clone()),
            Precision::Bf16 => x.to_dtype(DType::BF16)?.to_dtype(DType::F32),
        }
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let unit = centred.broadcast_div(&(variance + self.bert.config.layer_norm_eps)?.sqrt()?)?;
        let scaled = unit.broadcast_mul(&self.parameter(&format!("{name}.weight"))?)?;
        scaled.broadcast_add(&self.parameter(&format!("{name}.bias"))?)
    }

    /// Dropout of hidden states, `[rows, length, hidden]`.
    fn drop_hidden(&self, x: Tensor, site: u32) -> Result<Tensor> {
        let (length, hidden) = (self.length, self.bert.config.hidden_size);
        self.drop(x, self.bert.config.hidden_dropout_prob, |masks, out| {
            for (row, out) in out.chunks_mut(length * hidden).enumerate() {
                masks.row(site, row as u32).apply(out, 0);
            }
        })
    }

    /// Multiplies by a mask, which `fill` makes of ones.
    fn drop(&self, x: Tensor, probability: f64, fill: impl FnOnce(&Masks, &mut [f32])) -> Result<Tensor> {
        let masks = self.key.and_then(|key| Some(Masks::new(key.seed, key.step, probability)?.from_row(key.first_row)));
        let Some(masks) = masks else { return Ok(x) };
        let mut mask = vec![1.0_f32; x.elem_count()];
        fill(&masks, &mut mask);
        let mask = Tensor::from_vec(mask, x.shape(), &Device::Cpu)?.to_device(x.device())?;
        x * mask
    }
}
