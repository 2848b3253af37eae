//! Where a model drops, and the masks of one step.

use super::StepKey;
use crate::model::BertConfig;
use crate::model::kernels::dropout::{Masks, RowMask};
use crate::model::kernels::norm::Dropping;

/// Sites of dropout, numbered within a layer; the embeddings are layer 0's last, the head comes after all layers.
pub const SITES: u32 = 4;

pub fn site(layer: usize, which: u32) -> u32 {
    layer as u32 * SITES + which
}

#[derive(Debug, Clone, Copy, Default)]
pub struct StepMasks {
    hidden: Option<Masks>,
    attention: Option<Masks>,
    head: Option<Masks>,
}

impl StepMasks {
    pub fn new(config: &BertConfig, key: Option<StepKey>) -> Self {
        let Some(StepKey { seed, step, first_row }) = key else { return Self::default() };
        let masks = |probability| Masks::new(seed, step, probability).map(|masks| masks.from_row(first_row));
        Self {
            hidden: masks(config.hidden_dropout_prob),
            attention: masks(config.attention_probs_dropout_prob),
            head: masks(config.head_dropout()),
        }
    }

    pub fn before(&self, layer: usize, which: u32) -> Dropping {
        Dropping { before: self.hidden.map(|masks| (masks, site(layer, which))), after: None }
    }

    pub fn embeddings(&self) -> Dropping {
        Dropping { before: None, after: self.hidden.map(|masks| (masks, site(0, SITES - 1))) }
    }

    pub fn attention(&self, layer: usize, row: usize) -> Option<RowMask> {
        self.attention.map(|masks| masks.row(site(layer, 0), row as u32))
    }

    /// Drops from the pooled rows, or from their gradient.
    pub fn drop_head(&self, config: &BertConfig, values: &mut [f32]) {
        let Some(masks) = self.head else { return };
        for (row, values) in values.chunks_mut(config.hidden_size).enumerate() {
            masks.row(site(config.num_hidden_layers, 0), row as u32).apply(values, 0);
        }
    }
}
