//! A folder that we write, read by another implementation: `candle-transformers`.

use super::Model;
use crate::data::rows::Sequences;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(super) fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference")
}

/// The regressor's outputs by candle's own layers and operations.
fn by_candle(folder: &Path, ids: &Tensor, mask: &Tensor) -> candle_core::Result<Vec<f32>> {
    let config = fs_err::read(folder.join("config.json")).expect("written");
    let config: Config = serde_json::from_slice(&config).expect("candle-transformers reads our config.json");
    let weights = fs_err::read(folder.join("model.safetensors")).expect("written");
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
    let bert = BertModel::load(weights.pp("bert"), &config)?;
    let hidden = bert.forward(ids, &ids.zeros_like()?, Some(mask))?;
    let first = hidden.narrow(1, 0, 1)?.squeeze(1)?;
    let linear = |x: &Tensor, name: &str, inputs: usize, outputs: usize| {
        let weight = weights.get((outputs, inputs), &format!("{name}.weight"))?;
        x.matmul(&weight.t()?)?.broadcast_add(&weights.get(outputs, &format!("{name}.bias"))?)
    };
    let pooled = linear(&first.contiguous()?, "bert.pooler.dense", config.hidden_size, config.hidden_size)?.tanh()?;
    linear(&pooled, "classifier", config.hidden_size, 1)?.flatten_all()?.to_vec1()
}

fn near(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    for (row, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= 2e-6, "row {row}: {a} {b}");
    }
}

#[test]
fn candle_transformers_gives_the_same_outputs_from_a_folder_that_we_wrote() {
    let model = Model::read(&reference()).expect("a fixture");
    let written = tempfile::tempdir().expect("a folder");
    model.write(written.path(), &json!({})).expect("written");

    let tensors = fs_err::read(reference().join("reference.safetensors")).expect("a fixture");
    let tensors = candle_core::safetensors::load_buffer(&tensors, &Device::Cpu).expect("a fixture");
    let theirs = by_candle(written.path(), &tensors["input_ids"], &tensors["attention_mask"]).expect("runs");

    let info = fs_err::read(reference().join("sequences.json")).expect("a fixture");
    let info: Value = serde_json::from_slice(&info).expect("a fixture");
    let mut rows = Sequences::default();
    for row in info["sequences"].as_array().expect("a list") {
        rows.push(row.as_str().expect("text").as_bytes());
    }
    let predict = |model: &Model| -> Vec<f32> {
        let values = model
            .on(crate::device::Device::Cpu)
            .expect("always there")
            .predict(&rows, 1, &mut |_| true)
            .expect("runs")
            .expect("not stopped");
        values.into_iter().map(|value| value as f32).collect()
    };
    let ours = predict(&model);
    assert_eq!(ours.len(), 16);
    near(&ours, &theirs);
    let stored: Vec<f32> = tensors["logits"].flatten_all().and_then(|t| t.to_vec1()).expect("a fixture");
    near(&theirs, &stored);

    let again = Model::read(written.path()).expect("our own folder");
    assert_eq!(predict(&again), ours);
    assert_eq!(again.parameters, model.parameters);
    assert_eq!(again.tokenizer, model.tokenizer);
}
