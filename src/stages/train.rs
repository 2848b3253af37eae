//! `train`: trains a BERT regressor, from scratch or from an earlier model.

use crate::artifact::Format;
use crate::stage::{Contract, Port, Resources, Stage, StageContext, StageError};
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LossName {
    /// Mean squared error.
    Mse,
    /// Huber's loss with `huber_delta`, mean over the rows.
    Huber,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleName {
    /// Warm-up, then linear decay to 0 at the last step.
    Linear,
    /// Warm-up, then constant.
    Constant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    Last,
    /// The epoch with the highest R2 on the `validation` rows.
    Best,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    F32,
    /// bf16 products with f32 accumulation and master weights.
    Bf16,
}

/// Trains a BERT regressor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// The size of a model from scratch; refused beside `init`, whose model has its size.
    pub model: Option<ModelShape>,
    /// Tokens; longer sequences are cut.
    pub max_length: usize,
    /// Whether `[CLS]` and `[SEP]` are added.
    pub special_tokens: bool,
    pub loss: LossName,
    pub huber_delta: f64,
    pub epochs: u32,
    pub batch_size: usize,
    /// The peak rate.
    pub learning_rate: f64,
    pub schedule: ScheduleName,
    /// Optimiser steps of linear warm-up.
    pub warmup_steps: u64,
    /// AdamW's decay; never of biases and LayerNorm.
    pub weight_decay: f64,
    /// The gradient's norm is clipped to this; 0 for no clipping.
    pub clip_norm: f64,
    pub keep: Keep,
    /// A new seeded order each epoch.
    pub shuffle: bool,
    /// The head's bias starts at the labels' mean.
    pub center_labels: bool,
    pub precision: Precision,
    pub seed: u64,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            model: Some(ModelShape::default()),
            max_length: 128,
            special_tokens: false,
            loss: LossName::Mse,
            huber_delta: 1.0,
            epochs: 3,
            batch_size: 36,
            learning_rate: 1e-5,
            schedule: ScheduleName::Linear,
            warmup_steps: 0,
            weight_decay: 0.0,
            clip_norm: 1.0,
            keep: Keep::Last,
            shuffle: true,
            center_labels: false,
            precision: Precision::F32,
            seed: 42,
        }
    }
}

impl Stage for Train {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![
                Port::required("train", Format::Rows),
                Port::required("tokenizer", Format::Tokenizer),
                Port::optional("validation", Format::Rows),
                Port::optional("init", Format::Model),
            ],
            outputs: vec![("model".to_owned(), Format::Model), ("metrics".to_owned(), Format::Metrics)],
            device: true,
            ..Contract::default()
        }
    }

    fn needs(&self) -> Resources {
        Resources::ALL_CPUS
    }

    fn settle(&mut self, inputs: &[&str], given: &[&str]) -> Vec<(&'static str, String)> {
        if !inputs.contains(&"init") {
            return Vec::new();
        }
        self.model = None;
        if given.contains(&"model") {
            return vec![(
                "model",
                "`init` brings a model with its own size: remove `model`, or remove `init`".to_owned(),
            )];
        }
        Vec::new()
    }

    fn run(&self, _ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        todo!()
    }
}
