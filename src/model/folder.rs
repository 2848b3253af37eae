//! The folder a model is kept in: what `transformers` loads, and how the model was trained.

use super::weights::Weights;
use super::{Bert, BertConfig, ModelError};
use crate::data::encode::Encoder;
use crate::data::tokenizer;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A model with its tokenizer.
#[derive(Debug, Clone)]
pub struct Model {
    pub bert: Bert,
    pub parameters: Vec<f32>,
    pub tokenizer: Tokenizer,
    /// Where it was read from.
    pub folder: PathBuf,
}

/// `training.json`: how a model was trained, without any clock.
pub type Training = Value;

/// What a `tokenizer.json` says about rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokenizer {
    /// The whole file.
    pub json: Value,
    /// Longer rows are cut to this many tokens.
    pub max_length: Option<usize>,
    /// Whether `[CLS]` and `[SEP]` are added.
    pub special_tokens: bool,
}

impl Tokenizer {
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let text = tokenizer::read_text(path, &path.display().to_string())?;
        let json: Value = serde_json::from_str(&text)
            .map_err(|e| ModelError::Input(format!("{}: not a tokenizer.json: {e}", path.display())))?;
        if !json.is_object() {
            return Err(ModelError::Input(format!("{}: not a tokenizer.json: it holds no object", path.display())));
        }
        let max_length = json["truncation"]["max_length"].as_u64().map(|n| n as usize);
        let special_tokens = !json["post_processor"].is_null();
        Ok(Self { json, max_length, special_tokens })
    }

    /// The id of a word.
    pub fn id(&self, word: &str) -> Option<usize> {
        self.json["model"]["vocab"][word].as_u64().map(|id| id as usize)
    }

    /// How many rows an embedding of all words needs: ids may leave gaps.
    pub fn words(&self) -> usize {
        let words = self.json["model"]["vocab"].as_object().into_iter().flat_map(|words| words.values());
        let added = self.json["added_tokens"].as_array().into_iter().flatten().map(|token| &token["id"]);
        words.chain(added).filter_map(Value::as_u64).max().map_or(0, |id| (id as usize).saturating_add(1))
    }

    /// The same words, cutting and padding to `max_length`, with or without special tokens: what `transformers` reads, and
    /// what a later prediction reads its limit from.
    pub fn with(mut self, max_length: usize, special_tokens: bool) -> Self {
        let padding = self.id("[PAD]").unwrap_or(0);
        self.json["truncation"] =
            json!({"direction": "Right", "max_length": max_length, "strategy": "LongestFirst", "stride": 0});
        self.json["padding"] = json!({
            "strategy": {"Fixed": max_length}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": padding, "pad_type_id": 0, "pad_token": "[PAD]",
        });
        self.json["post_processor"] = match (special_tokens, self.id("[CLS]"), self.id("[SEP]")) {
            (true, Some(cls), Some(sep)) => {
                let special = |word: &str| json!({"SpecialToken": {"id": word, "type_id": 0}});
                let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
                json!({
                    "type": "TemplateProcessing",
                    "single": [special("[CLS]"), sequence("A"), special("[SEP]")],
                    "pair": [special("[CLS]"), sequence("A"), special("[SEP]"), sequence("B"), special("[SEP]")],
                    "special_tokens": {
                        "[CLS]": {"id": "[CLS]", "ids": [cls], "tokens": ["[CLS]"]},
                        "[SEP]": {"id": "[SEP]", "ids": [sep], "tokens": ["[SEP]"]},
                    },
                })
            }
            _ => Value::Null,
        };
        self.max_length = Some(max_length);
        self.special_tokens = special_tokens;
        self
    }
}

impl Model {
    /// Reads and checks a model folder.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            if !folder.join(file).is_file() {
                let name = folder.display();
                return Err(ModelError::Input(format!(
                    "{name} is not a model folder: it has no `{file}` (a model has config.json, model.safetensors and tokenizer.json)"
                )));
            }
        }
        let config = BertConfig::read(&folder.join("config.json"))?;
        let path = folder.join("model.safetensors");
        let bytes = fs_err::read(&path)?;
        let weights = Weights::from_safetensors(&config, &bytes, &path.display().to_string())?;
        let tokenizer = Tokenizer::read(&folder.join("tokenizer.json"))?;
        let model = Self { bert: Bert::new(config), parameters: weights.values, tokenizer, folder: folder.to_owned() };
        model.encoder()?;
        Ok(model)
    }

    /// The limit on a row's tokens.
    pub fn max_length(&self) -> usize {
        let positions = self.bert.config.max_position_embeddings;
        self.tokenizer.max_length.unwrap_or(positions).min(positions)
    }

    /// The encoder of this model's rows.
    pub fn encoder(&self) -> Result<Encoder, ModelError> {
        let path = self.folder.join("tokenizer.json");
        let text = self.tokenizer.json.to_string();
        let label = path.display().to_string();
        let encoder = Encoder::new(&text, &label, self.max_length(), self.tokenizer.special_tokens)?;
        let words = encoder.vocab_size().max(self.tokenizer.words());
        let rows = self.bert.config.vocab_size;
        if words > rows {
            return Err(ModelError::Input(format!(
                "{label}: the tokenizer's words need `vocab_size` {words}, but the model's config.json says {rows}"
            )));
        }
        Ok(encoder)
    }

    /// Writes the folder: the same model gives the same bytes.
    pub fn write(&self, folder: &Path, training: &Training) -> Result<(), ModelError> {
        fs_err::create_dir_all(folder)?;
        let json = |file: &str, value: &Value| {
            let text = serde_json::to_string_pretty(value).expect("plain data");
            fs_err::write(folder.join(file), text + "\n")
        };
        json("config.json", &self.bert.config.to_json())?;
        json("tokenizer.json", &self.tokenizer.json)?;
        json(
            "tokenizer_config.json",
            &json!({
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": self.max_length(),
                "clean_up_tokenization_spaces": false,
                "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
                "mask_token": "[MASK]",
            }),
        )?;
        json("training.json", training)?;
        let weights = Weights { layout: self.bert.layout.clone(), values: self.parameters.clone() };
        fs_err::write(folder.join("model.safetensors"), weights.to_safetensors())?;
        Ok(())
    }
}
