//! `config.json` as `transformers` writes and reads it, as far as this model needs it.

use super::ModelError;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// A configuration takes a kilobyte, and a few with the names of many labels.
const MOST_BYTES: u64 = 1 << 20;

/// The configuration of a `BertForSequenceClassification` with one output.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BertConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    #[serde(default = "default_dropout")]
    pub hidden_dropout_prob: f64,
    #[serde(default = "default_dropout")]
    pub attention_probs_dropout_prob: f64,
    /// Before the head; as `hidden_dropout_prob` where not said.
    #[serde(default)]
    pub classifier_dropout: Option<f64>,
    pub max_position_embeddings: usize,
    #[serde(default = "default_types")]
    pub type_vocab_size: usize,
    #[serde(default = "default_epsilon")]
    pub layer_norm_eps: f64,
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    #[serde(default = "default_padding")]
    pub pad_token_id: Option<usize>,
    #[serde(default = "default_activation")]
    pub hidden_act: String,
    /// transformers 5 writes none.
    #[serde(default)]
    pub position_embedding_type: Option<String>,
    #[serde(default)]
    pub model_type: Option<String>,
    #[serde(default)]
    pub num_labels: Option<usize>,
    #[serde(default)]
    pub id2label: Option<std::collections::BTreeMap<String, String>>,
}

fn default_dropout() -> f64 {
    0.1
}
fn default_types() -> usize {
    2
}
fn default_epsilon() -> f64 {
    1e-12
}
fn default_range() -> f64 {
    0.02
}
#[expect(clippy::unnecessary_wraps, reason = "the field may be null, and is 0 where absent")]
fn default_padding() -> Option<usize> {
    Some(0)
}
fn default_activation() -> String {
    "gelu".to_owned()
}

impl BertConfig {
    /// The configuration of a new model of this size.
    pub fn new(vocab_size: usize, layers: usize, hidden: usize, heads: usize, intermediate: usize) -> Self {
        Self {
            vocab_size,
            hidden_size: hidden,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            intermediate_size: intermediate,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            classifier_dropout: None,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            initializer_range: 0.02,
            pad_token_id: Some(0),
            hidden_act: default_activation(),
            position_embedding_type: None,
            model_type: None,
            num_labels: None,
            id2label: None,
        }
    }

    /// Reads and checks a `config.json`.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let name = path.display();
        if fs_err::metadata(path)?.len() > MOST_BYTES {
            return Err(ModelError::Input(format!(
                "{name}: larger than {} KiB: no configuration of a model",
                MOST_BYTES >> 10
            )));
        }
        let text = fs_err::read_to_string(path)?;
        let config: Self = serde_json::from_str(&text)
            .map_err(|e| ModelError::Input(format!("{name}: not the configuration of a BERT model: {e}")))?;
        config.check().map_err(|problem| ModelError::Input(format!("{name}: {problem}")))?;
        Ok(config)
    }

    /// Says what this model can't do.
    pub fn check(&self) -> Result<(), String> {
        // Bounds that no sum of sizes overflows, whatever a file says.
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 16),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
            ("type_vocab_size", self.type_vocab_size, 1 << 16),
        ];
        for (name, size, most) in sizes {
            if !(1..=most).contains(&size) {
                return Err(format!("`{name}` is {size}; it must be at least 1 and at most {most}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "`hidden_size` {} can't be divided among {} attention heads",
                self.hidden_size, self.num_attention_heads
            ));
        }
        let rates = [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
            ("classifier_dropout", self.head_dropout()),
        ];
        for (name, rate) in rates {
            if !(0.0..1.0).contains(&rate) {
                return Err(format!("`{name}` is {rate}; it must be at least 0 and below 1"));
            }
        }
        if self.hidden_act != "gelu" {
            return Err(format!("`hidden_act` is {:?}; only \"gelu\" is supported", self.hidden_act));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps >= 0.0) {
            return Err(format!("`layer_norm_eps` is {}; it must be a small positive number", self.layer_norm_eps));
        }
        if let Some(kind) = &self.position_embedding_type
            && kind != "absolute"
        {
            return Err(format!("`position_embedding_type` is {kind:?}; only \"absolute\" is supported"));
        }
        if let Some(kind) = &self.model_type
            && kind != "bert"
        {
            return Err(format!("`model_type` is {kind:?}; only \"bert\" is supported"));
        }
        let labels = self.num_labels.or(self.id2label.as_ref().map(|labels| labels.len()));
        if let Some(labels) = labels.filter(|n| *n != 1) {
            return Err(format!("the model has {labels} labels; a regressor has one"));
        }
        Ok(())
    }

    /// Dropout before the head.
    pub fn head_dropout(&self) -> f64 {
        self.classifier_dropout.unwrap_or(self.hidden_dropout_prob)
    }

    /// The text of `config.json`, as `transformers` reads it.
    pub fn to_json(&self) -> Value {
        json!({
            "architectures": ["BertForSequenceClassification"],
            "attention_probs_dropout_prob": self.attention_probs_dropout_prob,
            "classifier_dropout": self.classifier_dropout,
            "dtype": "float32",
            "hidden_act": self.hidden_act,
            "hidden_dropout_prob": self.hidden_dropout_prob,
            "hidden_size": self.hidden_size,
            "id2label": {"0": "LABEL_0"},
            "initializer_range": self.initializer_range,
            "intermediate_size": self.intermediate_size,
            "label2id": {"LABEL_0": 0},
            "layer_norm_eps": self.layer_norm_eps,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": "bert",
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "pad_token_id": self.pad_token_id,
            "position_embedding_type": "absolute",
            "problem_type": "regression",
            "type_vocab_size": self.type_vocab_size,
            "use_cache": false,
            "vocab_size": self.vocab_size,
        })
    }

    /// Floating-point operations of one forward pass over a row of `tokens`, last layer trimmed.
    pub fn forward_flops(&self, tokens: f64) -> f64 {
        let (h, f) = (self.hidden_size as f64, self.intermediate_size as f64);
        let full = tokens * (2.0 * (4.0 * h * h + 2.0 * h * f) + 4.0 * tokens * h);
        let last = tokens * 4.0 * h * h + 2.0 * (2.0 * h * h + 2.0 * h * f) + 4.0 * tokens * h;
        full * (self.num_hidden_layers as f64 - 1.0) + last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flops_are_those_of_the_design() {
        let gflops =
            |layers, hidden, inner| 3.0 * BertConfig::new(10, layers, hidden, 4, inner).forward_flops(110.0) / 1e9;
        for (ours, noted) in [(gflops(12, 768, 3072), 53.4), (gflops(4, 256, 1024), 1.76), (gflops(2, 128, 512), 0.171)]
        {
            assert!((ours / noted - 1.0).abs() < 0.01, "{ours} {noted}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let config = BertConfig::new(10, 2, 32, 2, 64);
        let read: BertConfig = serde_json::from_value(config.to_json()).expect("our own text");
        assert_eq!(read.check(), Ok(()));
        assert_eq!(read.to_json(), config.to_json());
        let wrong = BertConfig { num_attention_heads: 5, ..config };
        assert!(wrong.check().is_err_and(|e| e.contains("divided")));
    }
}
