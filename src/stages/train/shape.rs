//! The size of a model, in the words of a pipeline file.

use crate::model::BertConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The size of a model trained from scratch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelShape {
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub intermediate: usize,
    /// Of hidden states, attention weights, and before the head.
    pub dropout: f64,
    pub max_positions: usize,
    pub layer_norm_eps: f64,
}

impl Default for ModelShape {
    fn default() -> Self {
        Self {
            layers: 12,
            hidden: 768,
            heads: 12,
            intermediate: 3072,
            dropout: 0.1,
            max_positions: 512,
            layer_norm_eps: 1e-12,
        }
    }
}

impl ModelShape {
    /// The published configuration of this size.
    pub(super) fn config(&self, vocab_size: usize, padding: usize) -> BertConfig {
        BertConfig {
            hidden_dropout_prob: self.dropout,
            attention_probs_dropout_prob: self.dropout,
            max_position_embeddings: self.max_positions,
            layer_norm_eps: self.layer_norm_eps,
            pad_token_id: Some(padding),
            ..BertConfig::new(vocab_size, self.layers, self.hidden, self.heads, self.intermediate)
        }
    }

    /// A message about `config.json`, in the words of these parameters.
    pub(super) fn own_words(&self, message: &str) -> String {
        [
            ("hidden_dropout_prob", "dropout"),
            ("hidden_size", "hidden"),
            ("num_hidden_layers", "layers"),
            ("num_attention_heads", "heads"),
            ("intermediate_size", "intermediate"),
            ("max_position_embeddings", "max_positions"),
        ]
        .iter()
        .fold(message.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
    }
}
