//! Parameters in one flat vector, seen as named tensors by the published names.

use super::{BertConfig, ModelError};
use crate::seed::{Seed, normal};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

/// A parameter's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub shape: Vec<usize>,
    pub range: Range<usize>,
}

impl Entry {
    /// Weight decay is for weights alone: not for biases, not for LayerNorm.
    pub fn decays(&self) -> bool {
        !self.name.ends_with(".bias") && !self.name.contains("LayerNorm")
    }
}

/// Where an encoder layer's parameters stand.
#[derive(Debug, Clone)]
pub(super) struct LayerRanges {
    /// Query, key and value weights one after the other: one product makes all three.
    pub qkv: Range<usize>,
    pub qkv_bias: Range<usize>,
    pub attend: Range<usize>,
    pub attend_bias: Range<usize>,
    pub attend_norm: [Range<usize>; 2],
    pub inner: Range<usize>,
    pub inner_bias: Range<usize>,
    pub outer: Range<usize>,
    pub outer_bias: Range<usize>,
    pub norm: [Range<usize>; 2],
}

/// All parameters of a configuration, in the order in which they lie.
#[derive(Debug, Clone)]
pub struct Layout {
    pub entries: Vec<Entry>,
    pub(super) embeddings: [Range<usize>; 3],
    pub(super) embedding_norm: [Range<usize>; 2],
    pub(super) layers: Vec<LayerRanges>,
    pub(super) pooler: [Range<usize>; 2],
    pub(super) head: [Range<usize>; 2],
    len: usize,
}

impl Layout {
    pub fn new(config: &BertConfig) -> Self {
        let (h, f) = (config.hidden_size, config.intermediate_size);
        let mut entries: Vec<Entry> = Vec::new();
        let mut len = 0;
        let mut add = |name: String, shape: &[usize]| {
            let range = len..len + shape.iter().product::<usize>();
            len = range.end;
            entries.push(Entry { name, shape: shape.to_vec(), range: range.clone() });
            range
        };
        let table = |name: &str| format!("bert.embeddings.{name}.weight");
        let embeddings = [
            add(table("word_embeddings"), &[config.vocab_size, h]),
            add(table("position_embeddings"), &[config.max_position_embeddings, h]),
            add(table("token_type_embeddings"), &[config.type_vocab_size, h]),
        ];
        let embedding_norm = ["weight", "bias"].map(|part| add(format!("bert.embeddings.LayerNorm.{part}"), &[h]));
        let mut layers = Vec::new();
        for layer in 0..config.num_hidden_layers {
            let at = |rest: &str| format!("bert.encoder.layer.{layer}.{rest}");
            let three = ["query", "key", "value"];
            let qkv = three.map(|part| add(at(&format!("attention.self.{part}.weight")), &[h, h]));
            let qkv_bias = three.map(|part| add(at(&format!("attention.self.{part}.bias")), &[h]));
            layers.push(LayerRanges {
                qkv: qkv[0].start..qkv[2].end,
                qkv_bias: qkv_bias[0].start..qkv_bias[2].end,
                attend: add(at("attention.output.dense.weight"), &[h, h]),
                attend_bias: add(at("attention.output.dense.bias"), &[h]),
                attend_norm: ["weight", "bias"]
                    .map(|part| add(at(&format!("attention.output.LayerNorm.{part}")), &[h])),
                inner: add(at("intermediate.dense.weight"), &[f, h]),
                inner_bias: add(at("intermediate.dense.bias"), &[f]),
                outer: add(at("output.dense.weight"), &[h, f]),
                outer_bias: add(at("output.dense.bias"), &[h]),
                norm: ["weight", "bias"].map(|part| add(at(&format!("output.LayerNorm.{part}")), &[h])),
            });
        }
        let pooler =
            [add("bert.pooler.dense.weight".to_owned(), &[h, h]), add("bert.pooler.dense.bias".to_owned(), &[h])];
        let head = [add("classifier.weight".to_owned(), &[1, h]), add("classifier.bias".to_owned(), &[1])];
        Self { entries, embeddings, embedding_norm, layers, pooler, head, len }
    }

    /// How many numbers all parameters have.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The places of the head's weights.
    pub fn head_weights(&self) -> Range<usize> {
        self.head[0].clone()
    }

    /// The place of the head's bias.
    pub fn head_bias(&self) -> usize {
        self.head[1].start
    }

    /// Starts a model as the published one: normal(0, range) weights, zero biases, LayerNorm 1; the padding word is 0.
    pub fn init(&self, config: &BertConfig, seed: Seed) -> Vec<f32> {
        let mut values = vec![0.0_f32; self.len];
        for entry in &self.entries {
            let out = &mut values[entry.range.clone()];
            if entry.name.ends_with("LayerNorm.weight") {
                out.fill(1.0);
            } else if entry.decays() {
                // A generator for each tensor: a parameter more elsewhere moves no draw here.
                let mut rng = seed.rng(&format!("init {}", entry.name));
                out.iter_mut().for_each(|x| *x = (normal(&mut rng) * config.initializer_range) as f32);
            }
        }
        if let Some(padding) = config.pad_token_id.filter(|id| *id < config.vocab_size) {
            let h = config.hidden_size;
            values[self.embeddings[0].start + padding * h..][..h].fill(0.0);
        }
        values
    }
}

/// A tensor that the header of a safetensors file names twice: the crate takes the last one and says nothing.
fn named_twice(bytes: &[u8]) -> Option<String> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of tensors")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut seen, mut twice) = (BTreeSet::new(), None);
            while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
                if !seen.insert(name.clone()) {
                    twice = Some(name);
                }
            }
            Ok(twice)
        }
    }
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let header = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    serde_json::Deserializer::from_slice(header).deserialize_map(Names).ok()?
}

/// A model's weights, flat.
#[derive(Debug, Clone)]
pub struct Weights {
    pub layout: Layout,
    pub values: Vec<f32>,
}

impl Weights {
    /// The values of one parameter.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.layout.entry(name).map(|entry| &self.values[entry.range.clone()])
    }

    /// Reads named tensors; each parameter must be there, with its shape, in f32, once.
    pub fn from_safetensors(config: &BertConfig, bytes: &[u8], name: &str) -> Result<Self, ModelError> {
        let wrong = |text: String| ModelError::Input(format!("{name}: {text}"));
        let tensors = safetensors::SafeTensors::deserialize(bytes)
            .map_err(|e| wrong(format!("not a safetensors file, or a damaged one: {e}")))?;
        if let Some(name) = named_twice(bytes) {
            return Err(wrong(format!("`{name}` is there twice")));
        }
        let layout = Layout::new(config);
        // Grows as tensors are found: a configuration of any size takes no more memory than the file.
        let mut values: Vec<f32> = Vec::new();
        for entry in &layout.entries {
            let tensor = tensors.tensor(&entry.name).map_err(|_| {
                wrong(format!("there is no tensor `{}`: this is not a BERT model with pooler and head", entry.name))
            })?;
            if tensor.shape() != entry.shape {
                let (has, wants) = (tensor.shape(), &entry.shape);
                return Err(wrong(format!("`{}` has shape {has:?}, but config.json asks for {wants:?}", entry.name)));
            }
            if tensor.dtype() != safetensors::Dtype::F32 {
                return Err(wrong(format!("`{}` holds {:?}; only F32 is supported", entry.name, tensor.dtype())));
            }
            let fours = tensor.data().chunks_exact(4);
            values.extend(fours.map(|four| f32::from_le_bytes(four.try_into().expect("chunks of four"))));
            if values[entry.range.clone()].iter().any(|x| !x.is_finite()) {
                return Err(wrong(format!("`{}` holds a value that is not a finite number", entry.name)));
            }
        }
        Ok(Self { layout, values })
    }

    /// The bytes of `model.safetensors`: equal weights give equal bytes.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let bytes: Vec<u8> = self.values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let views = self.layout.entries.iter().map(|entry| {
            let data = &bytes[entry.range.start * 4..entry.range.end * 4];
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, entry.shape.clone(), data)
                .expect("a layout's ranges have their shapes' sizes");
            (entry.name.clone(), view)
        });
        // One key alone, so the order of the map does not matter; older readers refuse a file without it.
        let format = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(views, Some(format)).expect("names are distinct and views are whole")
    }
}
