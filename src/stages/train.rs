//! `train`: trains a BERT regressor, from scratch or from an earlier model.

use crate::artifact::Format;
use crate::data;
use crate::data::labelled::Labelled;
use crate::model::folder::{Model, Tokenizer};
use crate::model::{Bert, BertConfig, Layout, ModelError, with_threads};
use crate::name::PortName;
use crate::seed::Seed;
use crate::stage::{Contract, Estimate, Machine, Port, Resources, Size, Stage, StageContext, StageError};
use crate::training::{self, Epoch, FitError, Fitted, Kept, Loss, Schedule, Watch, fit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

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

    fn estimate(&self, inputs: &BTreeMap<PortName, Size>, machine: &Machine) -> Estimate {
        let rows = |port: &str| inputs.get(port).and_then(|size| size.rows);
        let (Some(rows_in), Some(shape)) = (rows("train"), &self.model) else { return Estimate::default() };
        let config = shape.config(10, 0);
        // The challenge's rows have 110 bases, with few exceptions.
        let tokens = self.max_length.min(if self.special_tokens { 112 } else { 110 }) as f64;
        let forward = config.forward_flops(tokens);
        let samples = rows_in * u64::from(self.epochs);
        let validated = rows("validation").unwrap_or(0) * u64::from(self.epochs);
        let flops = forward * (3.0 * samples as f64 + validated as f64);
        let seconds = (machine.flops > 0.0).then(|| flops / (machine.flops * efficiency(shape.hidden)));
        Estimate { samples: Some(samples), flops: Some(flops), seconds, ..Estimate::default() }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut wants = |holds: bool, name: &'static str, message: String| {
            if !holds {
                problems.push((name, message));
            }
        };
        if let Some(shape) = &self.model {
            if let Err(message) = shape.config(10, 0).check() {
                wants(false, "model", shape.own_words(&message));
            }
            wants(
                self.max_length <= shape.max_positions,
                "max_length",
                format!("{} tokens don't fit the model's {} positions", self.max_length, shape.max_positions),
            );
        }
        let least = if self.special_tokens { 3 } else { 1 };
        wants(self.max_length >= least, "max_length", format!("must be at least {least}"));
        wants(self.epochs >= 1, "epochs", "must be at least 1".to_owned());
        wants(self.batch_size >= 1, "batch_size", "must be at least 1".to_owned());
        let rate = self.learning_rate;
        wants(rate.is_finite() && rate > 0.0, "learning_rate", format!("{rate} is not a positive number"));
        let delta = self.huber_delta;
        wants(delta.is_finite() && delta > 0.0, "huber_delta", format!("{delta} is not a positive number"));
        let decay = self.weight_decay;
        wants(decay.is_finite() && decay >= 0.0, "weight_decay", format!("{decay} is not 0 or a positive number"));
        let clip = self.clip_norm;
        wants(
            clip.is_finite() && clip >= 0.0,
            "clip_norm",
            format!("{clip} is not 0 (no clipping) or a positive number"),
        );
        wants(
            self.precision == Precision::F32,
            "precision",
            "bf16 is not available in this version: use f32".to_owned(),
        );
        problems
    }

    fn settle(&mut self, inputs: &[&str], given: &[&str]) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.keep == Keep::Best && !inputs.contains(&"validation") {
            let message = "`best` needs rows on the `validation` input; connect some, or keep the `last` epoch";
            problems.push(("keep", message.to_owned()));
        }
        if inputs.contains(&"init") {
            self.model = None;
            if given.contains(&"model") {
                let message = "`init` brings a model with its own size: remove `model`, or remove `init`";
                problems.push(("model", message.to_owned()));
            }
        }
        problems
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        let threads = ctx.threads;
        let (model, metrics) = with_threads(threads, || self.train(ctx))??;
        let training =
            json!({ "format": "cistage/training/1", "parameters": self, "curves": metrics["curves"].clone() });
        let folder = ctx.output("model", Format::Model);
        model.write(&folder, &training)?;
        let path = ctx.output("metrics", Format::Metrics);
        let text = serde_json::to_string_pretty(&metrics).expect("plain data");
        fs_err::write(path, text + "\n")?;
        Ok(())
    }
}

impl ModelShape {
    fn config(&self, vocab_size: usize, padding: usize) -> BertConfig {
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
    fn own_words(&self, message: &str) -> String {
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

/// The share of the product's speed that a whole training step reaches, by the width of the model: an assumption, to be
/// replaced by figures from a quiet machine (`benches/train.rs`).
fn efficiency(hidden: usize) -> f64 {
    match hidden {
        0..=95 => 0.3,
        96..=191 => 0.5,
        192..=511 => 0.7,
        _ => 0.85,
    }
}

impl Train {
    /// Everything but writing the outputs.
    fn train(&self, ctx: &StageContext<'_>) -> Result<(Model, serde_json::Value), StageError> {
        let tokenizer = Tokenizer::read(ctx.input("tokenizer"))?.with(self.max_length, self.special_tokens);
        let start = match ctx.optional_input("init") {
            Some(folder) => self.from_init(folder, &tokenizer, &ctx.label("init"))?,
            None => self.from_scratch(tokenizer)?,
        };
        let encoder = start.encoder()?;
        let encoded = |port: &str| -> Result<Labelled, StageError> {
            Ok(Labelled::read(ctx.input(port), &ctx.label(port), &encoder)?)
        };
        let train = encoded("train")?;
        let validation = ctx.optional_input("validation").map(|_| encoded("validation")).transpose()?;

        let mut parameters = start.parameters.clone();
        if self.center_labels {
            let mean = train.targets.iter().sum::<f64>() / train.targets.len() as f64;
            parameters[start.bert.layout.head_bias()] = mean as f32;
        }
        let options = self.options(train.targets.len());
        let mut watch = Reporter { ctx, rows: train.targets.len() as u64, batch: self.batch_size as u64 };
        let rows = validation.as_ref().map(training::Rows::from);
        let fitted = match fit(start.bert.clone(), parameters, training::Rows::from(&train), rows, &options, &mut watch)
        {
            Ok(fitted) => fitted,
            Err(error) => return Err(self.failed(error, start, ctx)),
        };
        self.warn_if_constant(&fitted, &train.targets, ctx);
        let metrics = json!({
            "rows": train.targets.len(),
            "validation_rows": validation.as_ref().map(|rows| rows.targets.len()),
            "parameters": start.bert.layout.len(),
            "steps": options.schedule.steps,
            "prediction_sd": fitted.spread,
            "curves": fitted.curves,
        });
        Ok((Model { parameters: fitted.parameters, ..start }, metrics))
    }

    fn from_scratch(&self, tokenizer: Tokenizer) -> Result<Model, StageError> {
        let shape = self.model.clone().unwrap_or_default();
        let padding = tokenizer.id("[PAD]").unwrap_or(0);
        let words = tokenizer.words();
        let config = shape.config(words, padding);
        config.check().map_err(StageError::Input)?;
        let layout = Layout::new(&config);
        let parameters = layout.init(&config, Seed(self.seed));
        Ok(Model { bert: Bert::new(config), parameters, tokenizer, folder: "the new model".into() })
    }

    fn from_init(&self, folder: &Path, tokenizer: &Tokenizer, label: &str) -> Result<Model, StageError> {
        let model = Model::read(folder)?;
        let positions = model.bert.config.max_position_embeddings;
        if self.max_length > positions {
            return Err(StageError::Input(format!(
                "`max_length` is {}, but the model of {label} has {positions} positions",
                self.max_length
            )));
        }
        if model.tokenizer.json["model"]["vocab"] != tokenizer.json["model"]["vocab"] {
            return Err(StageError::Input(format!(
                "the tokenizer has other words than the one that {label} was trained with: connect that one"
            )));
        }
        Ok(Model { tokenizer: tokenizer.clone(), ..model })
    }

    fn options(&self, rows: usize) -> fit::Options {
        let per_epoch = fit::Options::steps_per_epoch(rows, self.batch_size);
        fit::Options {
            epochs: self.epochs,
            batch_size: self.batch_size,
            schedule: Schedule {
                peak: self.learning_rate,
                shape: match self.schedule {
                    ScheduleName::Linear => training::Shape::Linear,
                    ScheduleName::Constant => training::Shape::Constant,
                },
                warmup: self.warmup_steps,
                steps: per_epoch * u64::from(self.epochs),
            },
            loss: match self.loss {
                LossName::Mse => Loss::Mse,
                LossName::Huber => Loss::Huber { delta: self.huber_delta },
            },
            weight_decay: self.weight_decay,
            clip_norm: self.clip_norm,
            kept: match self.keep {
                Keep::Last => Kept::Last,
                Keep::Best => Kept::Best,
            },
            shuffle: self.shuffle,
            seed: Seed(self.seed),
        }
    }

    /// Turns the loop's failure into the stage's; the last good weights stay in scratch.
    fn failed(&self, error: FitError, start: Model, ctx: &StageContext<'_>) -> StageError {
        let message = error.to_string();
        match error {
            FitError::Cancelled => StageError::Cancelled,
            FitError::Model(error) => error.into(),
            FitError::NotFinite { parameters, .. } => {
                let folder = ctx.scratch().join("last-good");
                let model = Model { parameters, ..start };
                let kept = match model.write(&folder, &json!({ "stopped": message })) {
                    Ok(()) => format!("the weights from before it are in {}", folder.display()),
                    Err(error) => format!("the weights from before it could not be written: {error}"),
                };
                StageError::Failed(format!("{message}; {kept}"))
            }
        }
    }

    fn warn_if_constant(&self, fitted: &Fitted, targets: &[f64], ctx: &StageContext<'_>) {
        let labels = data::metrics::sd(targets).unwrap_or(0.0);
        if labels > 0.0 && fitted.spread < 0.01 * labels {
            ctx.warning(&format!(
                "the model predicts nearly the same for every row (standard deviation {:.2e}, of the labels {labels:.2}): a short \
                 training needs `center_labels: true`, a higher `learning_rate` with `warmup_steps`, or more epochs",
                fitted.spread
            ));
        }
    }
}

/// Passes the loop's news on to the stage's context.
struct Reporter<'a, 'b> {
    ctx: &'a StageContext<'b>,
    rows: u64,
    batch: u64,
}

impl Watch for Reporter<'_, '_> {
    fn step(&mut self, step: u64, of: u64, loss: f64, norm: f64, rate: f64) {
        self.ctx.metric("loss", step, loss);
        self.ctx.metric("grad_norm", step, norm);
        self.ctx.metric("learning_rate", step, rate);
        let per_epoch = self.rows.div_ceil(self.batch);
        let in_epoch = ((step - 1) % per_epoch + 1) * self.batch;
        let done = (step - 1) / per_epoch * self.rows + in_epoch.min(self.rows);
        self.ctx.progress(done, of / per_epoch * self.rows, "samples");
    }

    fn speed(&mut self, step: u64, samples_per_second: f64) {
        self.ctx.metric("samples_per_second", step, samples_per_second);
    }

    fn epoch(&mut self, epoch: &Epoch) {
        let number = u64::from(epoch.epoch);
        self.ctx.metric("epoch_loss", number, epoch.loss);
        let Some(agreement) = epoch.validation else { return };
        self.ctx.metric("validation_mse", number, agreement.mse);
        for (name, value) in [("validation_r2", agreement.r2), ("validation_pearson", agreement.pearson)] {
            if let Some(value) = value {
                self.ctx.metric(name, number, value);
            }
        }
    }

    fn is_cancelled(&self) -> bool {
        self.ctx.is_cancelled()
    }
}

impl From<ModelError> for StageError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Input(message) => Self::Input(message),
            ModelError::Io(error) => error.into(),
            ModelError::Data(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}
