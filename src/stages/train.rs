//! `train`: trains a BERT regressor, from scratch or from an earlier model.

mod reporter;
mod shape;

use crate::artifact::Format;
use crate::collective::MOST_RANKS;
use crate::data;
use crate::data::labelled::Labelled;
use crate::device::Device;
use crate::digest::Digest;
use crate::model::device::{gains_by_bf16, target};
use crate::model::folder::{Model, Tokenizer};
use crate::model::{Bert, Layout, ModelError, Precision, with_threads};
use crate::name::PortName;
use crate::seed::Seed;
use crate::stage::{Contract, Estimate, Machine, Port, Prefix, Resources, Size, Stage, StageContext, StageError};
use crate::training::checkpoint::{self, Checkpoints, Saved};
use crate::training::{
    self, FitError, Fitted, Fused, Kept, LabelScale, Learner, Loss, OnGpu, OnProcessor, Schedule, Training, fit,
};
use reporter::Reporter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

pub use shape::ModelShape;

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
    /// Trains on labels shifted and scaled to mean 0 and standard deviation 1; the written model puts out expression all
    /// the same, and losses and `huber_delta` are in the labels' own unit.
    pub standardize_labels: bool,
    pub precision: Precision,
    pub seed: u64,
    /// Processes that share each batch, said beside `with`: `ranks: 4`. They add up in another order than one alone, so their
    /// number is part of the key; one alone has the key that it always had.
    #[serde(skip_serializing_if = "is_one")]
    #[schemars(skip)]
    pub ranks: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like that")]
fn is_one(ranks: &u32) -> bool {
    *ranks == 1
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
            standardize_labels: false,
            precision: Precision::F32,
            seed: 42,
            ranks: 1,
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

    fn ranks(&self) -> u32 {
        self.ranks
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
        let seconds = (machine.flops > 0.0)
            .then(|| flops / (machine.flops * efficiency(shape.hidden, self.precision, machine.device)));
        Estimate { samples: Some(samples), flops: Some(flops), seconds, ..Estimate::default() }
    }

    fn saves_state(&self) -> bool {
        true
    }

    fn left(&self, state: &Path, inputs: &BTreeMap<PortName, Size>) -> f64 {
        let rows = inputs.iter().find(|(port, _)| port.as_str() == "train").and_then(|(_, size)| size.rows);
        let (Some(rows), Some(step)) = (rows, checkpoint::newest_step(state)) else { return 1.0 };
        let steps = fit::Options::steps_per_epoch(rows as usize, self.batch_size) * u64::from(self.epochs);
        1.0 - (step as f64 / steps.max(1) as f64).min(1.0)
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
        wants(
            (1..=MOST_RANKS).contains(&self.ranks),
            "ranks",
            format!("a training has 1 to {MOST_RANKS} ranks, not {}", self.ranks),
        );
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

    fn prefixes(&self) -> Vec<Prefix> {
        // The linear schedule's rates depend on the number of all steps: its epochs are no shorter training's.
        let epochs = if self.schedule == ScheduleName::Constant { self.epochs } else { 0 };
        let prefix = |epoch: u32| Prefix {
            what: format!("epoch {epoch}"),
            params: crate::stages::params_of(&self.until(epoch)),
            share: f64::from(epoch) / f64::from(self.epochs),
        };
        (1..=epochs).map(prefix).collect()
    }

    fn starts_anew(&self, param: &str) -> Option<&'static str> {
        (param == "epochs" && self.schedule == ScheduleName::Linear).then_some(
            "starts anew: with `schedule: linear` the learning rate of every step depends on the number of all steps (with \
             `constant`, more epochs cost only those)",
        )
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        let threads = ctx.threads;
        self.check_ranks(ctx)?;
        let made = with_threads(threads, || self.train(ctx))??;
        if !ctx.is_first() {
            return Ok(());
        }
        let folder = ctx.output("model", Format::Model);
        let path = ctx.output("metrics", Format::Metrics);
        self.write(made, &folder, &path)
    }
}

/// The speed of a whole training step, as a share of the f32 product's, by the width of the model (`benches/train.rs`): on
/// processors, and on an H100.
fn efficiency(hidden: usize, precision: Precision, device: Device) -> f64 {
    let width = match hidden {
        0..=95 => 0,
        96..=191 => 1,
        192..=511 => 2,
        _ => 3,
    };
    let shares = match (device, precision) {
        (Device::Cpu, Precision::Bf16) if gains_by_bf16() => [0.35, 0.8, 1.0, 1.4],
        (Device::Cpu, _) => [0.3, 0.5, 0.7, 0.85],
        (Device::Cuda(_), Precision::F32) => [0.05, 0.11, 0.34, 0.68],
        (Device::Cuda(_), Precision::Bf16) => [0.05, 0.13, 0.54, 2.0],
    };
    shares[width]
}

/// What a training was made on.
#[derive(Clone, Copy)]
struct Counts {
    rows: usize,
    validation: Option<usize>,
}

/// A trained model and its metrics.
struct Made {
    model: Model,
    metrics: serde_json::Value,
}

impl Train {
    /// The same training with so many epochs.
    fn until(&self, epochs: u32) -> Self {
        Self { epochs, ..self.clone() }
    }

    /// Refuses ranks that would not make the bytes that the key stands for.
    fn check_ranks(&self, ctx: &StageContext<'_>) -> Result<(), StageError> {
        let world = ctx.together.world();
        if world != self.ranks as usize {
            let (ranks, first) = (self.ranks, "the launcher started them each by itself");
            let wanted = match ctx.device {
                Device::Cpu => "it has to belong to the MPI library that the program was built with",
                Device::Cuda(_) => "it has to be srun, mpirun of Open MPI, or set what torchrun sets",
            };
            return Err(StageError::Failed(format!("{world} of {ranks} ranks met: {first}; {wanted}")));
        }
        let here = target(ctx.device);
        let first = String::from_utf8_lossy(&ctx.together.of_first(here.clone().into_bytes())).into_owned();
        let differs = here != first;
        if ctx.together.any(differs) {
            return Err(StageError::Failed(format!(
                "the ranks compute on hardware of different kinds (rank {}: {here}, rank 0: {first}): the bytes would not be \
                 those that the key stands for",
                ctx.together.rank()
            )));
        }
        Ok(())
    }

    /// Everything but writing the outputs.
    fn train(&self, ctx: &StageContext<'_>) -> Result<Made, StageError> {
        let tokenizer = Tokenizer::read(ctx.input("tokenizer"))?.with(self.max_length, self.special_tokens);
        let mut start = match ctx.optional_input("init") {
            Some(folder) => self.from_init(folder, &tokenizer, &ctx.label("init"))?,
            None => self.from_scratch(tokenizer)?,
        };
        let encoder = start.encoder()?;
        let encoded = |port: &str| -> Result<Labelled, StageError> {
            Ok(Labelled::read(ctx.input(port), &ctx.label(port), &encoder)?)
        };
        let train = encoded("train")?;
        let validation = ctx.optional_input("validation").map(|_| encoded("validation")).transpose()?;

        // From here on the training holds the only copy of the parameters.
        let mut parameters = std::mem::take(&mut start.parameters);
        let labels = match self.standardize_labels {
            true => LabelScale::standard(&train.targets),
            false => LabelScale::default(),
        };
        if ctx.optional_input("init").is_none() {
            // The published start is one for outputs of this scale.
            labels.fold(&start.bert.layout, &mut parameters);
        }
        if self.center_labels {
            let mean = train.targets.iter().sum::<f64>() / train.targets.len() as f64;
            parameters[start.bert.layout.head_bias()] = mean as f32;
        }
        let rows = train.targets.len();
        let counts = Counts { rows, validation: validation.as_ref().map(|rows| rows.targets.len()) };
        let options = self.options(rows, labels);
        let identity = options.identity(&parameters, rows, ctx.together.world());
        // The first rank alone reads and writes them: only it holds the folder.
        let mut checkpoints = ctx.is_first().then(|| Checkpoints::open(ctx.scratch(), identity)).transpose()?;
        let saved = match &mut checkpoints {
            Some(checkpoints) => newest(ctx, checkpoints, identity)?,
            None => None,
        };
        let saved = Saved::of_first(saved, ctx.together);
        let bert = start.bert.clone().with_precision(self.precision);
        let engine = Fused::new(bert.clone());
        let learner = |parameters: Vec<f32>| -> Result<Box<dyn Learner>, ModelError> {
            let (decay, clip) = (options.weight_decay, options.clip_norm);
            Ok(match ctx.device {
                Device::Cpu => Box::new(OnProcessor::new(&engine, parameters, decay, clip)?),
                device @ Device::Cuda(_) => Box::new(OnGpu::new(bert, &parameters, decay, clip, device)?),
            })
        };
        let validation = validation.as_ref().map(training::Rows::from);
        let layout = &start.bert.layout;
        let mut training = Training::new(
            layout,
            parameters,
            training::Rows::from(&train),
            validation,
            &options,
            ctx.together,
            learner,
        )
        .map_err(|e| StageError::Failed(e.to_string()))?;
        if let Some(saved) = saved {
            training.restore(saved).map_err(|e| StageError::Failed(e.to_string()))?;
        }
        let batch = self.batch_size as u64;
        let mut watch = Reporter { ctx, stage: self, start: &start, counts, batch, identity, sealed: Instant::now() };
        let fitted = match training.run(checkpoints.as_mut(), &mut watch) {
            Ok(fitted) => fitted,
            Err(error) => {
                return Err(match &checkpoints {
                    Some(checkpoints) => failed(error, start, checkpoints, ctx),
                    None => followed(error),
                });
            }
        };
        warn_if_constant(&fitted, &train.targets, ctx);
        Ok(made(&start, fitted, options.schedule.steps, counts))
    }

    /// Writes both outputs.
    fn write(&self, Made { model, metrics }: Made, folder: &Path, path: &Path) -> Result<(), StageError> {
        let training =
            json!({ "format": "cistage/training/1", "parameters": self, "curves": metrics["curves"].clone() });
        model.write(folder, &training)?;
        let text = serde_json::to_string_pretty(&metrics).expect("plain data");
        fs_err::write(path, text + "\n")?;
        Ok(())
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

    fn options(&self, rows: usize, labels: LabelScale) -> fit::Options {
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
            labels,
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
}

/// The outputs, from what the loop made.
fn made(start: &Model, fitted: Fitted, steps: u64, counts: Counts) -> Made {
    let metrics = json!({
        "rows": counts.rows,
        "validation_rows": counts.validation,
        "parameters": start.bert.layout.len(),
        "steps": steps,
        "prediction_sd": fitted.spread,
        "curves": fitted.curves,
    });
    Made { model: Model { parameters: fitted.parameters, ..start.clone() }, metrics }
}

/// What the training goes on from: the newest checkpoint, or where a shorter training ended if that is farther.
fn newest(
    ctx: &StageContext<'_>,
    checkpoints: &mut Checkpoints,
    identity: Digest,
) -> Result<Option<Saved>, StageError> {
    let saved = checkpoints.read(&mut |text| ctx.warning(text))?;
    let Some(path) = &ctx.prior else { return Ok(saved) };
    match checkpoint::file::read(path, identity) {
        Ok(prior) if saved.as_ref().is_none_or(|saved| saved.course.step < prior.course.step) => Ok(Some(prior)),
        Ok(_) => Ok(saved),
        Err(why) => {
            ctx.warning(&format!("the state of a shorter training, {}, {why}: it is not used", path.display()));
            Ok(saved)
        }
    }
}

/// The failure of a rank that is not the first. What all agreed on, the first has words for.
fn followed(error: FitError) -> StageError {
    match error {
        FitError::Cancelled { .. } | FitError::NotFinite { .. } => StageError::Cancelled,
        FitError::Model(error) => error.into(),
        FitError::Io(error) => error.into(),
    }
}

/// Turns the loop's failure into the stage's; the last good weights stay in scratch.
fn failed(error: FitError, start: Model, checkpoints: &Checkpoints, ctx: &StageContext<'_>) -> StageError {
    let message = error.to_string();
    match error {
        FitError::Cancelled { step, of } => {
            if checkpoints.holds(step) {
                ctx.note(&format!(
                    "stopped after step {step} of {of}: run the same command again, it goes on from there"
                ));
            } else if step == 0 {
                ctx.note("stopped before its first step");
            }
            StageError::Cancelled
        }
        FitError::Model(error) => error.into(),
        FitError::Io(error) => error.into(),
        FitError::NotFinite { parameters, step, .. } => {
            let folder = ctx.scratch().join("last-good");
            let model = Model { parameters, ..start };
            let mut kept = match model.write(&folder, &json!({ "stopped": message })) {
                Ok(()) => format!("the model from before it is in {}", folder.display()),
                Err(error) => format!("the model from before it could not be written: {error}"),
            };
            if checkpoints.holds(step - 1) && step > 1 {
                kept += &format!(", its checkpoint in {}", checkpoints.folder().display());
            }
            StageError::Failed(format!("{message}; {kept}"))
        }
    }
}

fn warn_if_constant(fitted: &Fitted, targets: &[f64], ctx: &StageContext<'_>) {
    let labels = data::metrics::sd(targets).unwrap_or(0.0);
    if labels > 0.0 && fitted.spread < 0.01 * labels {
        ctx.warning(&format!(
            "the model predicts nearly the same for every row (standard deviation {:.2e}, of the labels {labels:.2}): a short \
             training needs `center_labels: true`, more `warmup_steps`, or more epochs; a loss that never falls wants a lower `learning_rate`, one that still falls a higher",
            fitted.spread
        ));
    }
}

impl From<ModelError> for StageError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Input(message) => Self::Input(message),
            ModelError::NoBases { .. } => Self::Input(error.to_string()),
            ModelError::Io(error) => error.into(),
            ModelError::Data(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}
