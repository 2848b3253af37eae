//! Model folders that can't be used: each gives an error that names the file, and none a panic.

use super::interop::reference;
use super::{BertConfig, Model, Weights};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use tempfile::TempDir;

const FILES: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

/// A copy of the reference model.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in FILES {
        fs_err::copy(reference().join(file), folder.path().join(file)).expect("copied");
    }
    folder
}

/// The message of reading a folder, one file of which has these bytes.
fn message(file: &str, bytes: &[u8]) -> String {
    let folder = copy();
    fs_err::write(folder.path().join(file), bytes).expect("written");
    let message = Model::read(folder.path()).expect_err("refused").to_string();
    assert!(message.contains(&folder.path().join(file).display().to_string()), "{file} is not named: {message}");
    message
}

fn bytes(file: &str) -> Vec<u8> {
    fs_err::read(reference().join(file)).expect("a fixture")
}

/// The file with some of its values changed.
fn changed(file: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::from_slice(&bytes(file)).expect("a fixture");
    change(&mut value);
    value.to_string().into_bytes()
}

fn config(name: &str, value: Value) -> String {
    message("config.json", &changed("config.json", |config| config[name] = value))
}

/// The weights with an edited list of tensors: name, shape, bytes.
fn tensors(edit: impl FnOnce(&mut Vec<(String, Vec<usize>, Vec<u8>)>)) -> Vec<u8> {
    let bytes = bytes("model.safetensors");
    let all = safetensors::SafeTensors::deserialize(&bytes).expect("a fixture");
    let mut list: Vec<_> =
        all.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec())).collect();
    list.sort();
    edit(&mut list);
    let views = list.iter().map(|(name, shape, data)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).expect("whole");
        (name.clone(), view)
    });
    safetensors::serialize(views, None::<HashMap<String, String>>).expect("distinct")
}

#[test]
fn the_copy_itself_is_good() {
    let folder = copy();
    assert!(Model::read(folder.path()).is_ok());
    fs_err::write(folder.path().join("model.safetensors"), tensors(|_| ())).expect("written");
    assert!(Model::read(folder.path()).is_ok());
}

#[test]
fn a_folder_without_one_of_its_files_says_which() {
    for file in FILES {
        let folder = copy();
        fs_err::remove_file(folder.path().join(file)).expect("removed");
        for is_folder in [false, true] {
            if is_folder {
                fs_err::create_dir(folder.path().join(file)).expect("made");
            }
            let message = Model::read(folder.path()).expect_err("refused").to_string();
            assert!(message.contains(&format!("it has no `{file}`")), "{message}");
            assert!(message.contains(&folder.path().display().to_string()), "{message}");
        }
    }
    assert!(Model::read(Path::new("no/such/folder")).is_err());
}

#[test]
fn a_tensor_of_another_shape_or_none_is_named() {
    let name = "bert.encoder.layer.1.output.dense.weight";
    let turned = tensors(|all| all.iter_mut().filter(|t| t.0 == name).for_each(|t| t.1.reverse()));
    let text = message("model.safetensors", &turned);
    assert!(text.contains(name) && text.contains("[64, 32]") && text.contains("[32, 64]"), "{text}");
    let names: Vec<String> = Weights::from_safetensors(
        &BertConfig::read(&reference().join("config.json")).expect("a fixture"),
        &bytes("model.safetensors"),
        "r",
    )
    .expect("a fixture")
    .layout
    .entries
    .into_iter()
    .map(|entry| entry.name)
    .collect();
    for name in names {
        let text = message("model.safetensors", &tensors(|all| all.retain(|t| t.0 != name)));
        assert!(text.contains(&format!("no tensor `{name}`")), "{text}");
    }
    let text = message("model.safetensors", &tensors(|all| all[0].2[..4].copy_from_slice(&f32::NAN.to_le_bytes())));
    assert!(text.contains("finite"), "{text}");
}

#[test]
fn weights_cut_anywhere_or_with_a_false_header_length_are_refused() {
    let whole = bytes("model.safetensors");
    let header = u64::from_le_bytes(whole[..8].try_into().expect("eight"));
    let cuts = (0..64).chain((64..whole.len()).step_by(997)).chain([header as usize + 8, whole.len() - 1]);
    for cut in cuts {
        message("model.safetensors", &whole[..cut]);
    }
    message("model.safetensors", &[&whole[..], &[0]].concat());
    for length in
        [0, 1, header - 1, header + 1, whole.len() as u64, 99_999_999, 1 << 40, 1 << 63, u64::MAX - 7, u64::MAX]
    {
        message("model.safetensors", &[&length.to_le_bytes(), &whole[8..]].concat());
    }
}

#[test]
fn a_header_that_is_no_list_of_tensors_is_refused() {
    let span = |shape: &str, span: &str| {
        format!(r#"{{"classifier.bias":{{"dtype":"F32","shape":{shape},"data_offsets":{span}}}}}"#)
    };
    let headers = [
        "{}".to_owned(),
        "[]".to_owned(),
        "\u{0}".to_owned(),
        "[".repeat(100_000),
        span("[1]", "[4,0]"),
        span("[1]", "[0,18446744073709551615]"),
        span("[4294967296,4294967296]", "[0,4]"),
        span("[-1]", "[0,4]"),
        span("[2]", "[0,4]"),
        span("[1]", "[0,4]"),
    ];
    for header in headers {
        let length = (header.len() as u64).to_le_bytes();
        message("model.safetensors", &[&length[..], header.as_bytes(), &[0; 4]].concat());
    }
}

#[test]
fn a_configuration_that_is_garbage_or_impossible_is_refused() {
    let deep = "[".repeat(100_000);
    for text in [&b""[..], b"garbage", b"{", b"{}", b"[]", b"null", b"\xff\xfe\x00", deep.as_bytes()] {
        message("config.json", text);
    }
    assert!(config("num_attention_heads", json!(5)).contains("divided"));
    let sizes = "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size \
                 max_position_embeddings type_vocab_size";
    for size in sizes.split_whitespace() {
        for value in [json!(0), json!(u64::MAX), json!(1_u64 << 40), json!(-1), json!(1.5), json!("2"), json!(null)] {
            config(size, value);
        }
    }
    for (name, value) in [
        ("hidden_dropout_prob", json!(1.0)),
        ("classifier_dropout", json!(-0.5)),
        ("layer_norm_eps", json!(-1.0)),
        ("hidden_act", json!("relu")),
        ("position_embedding_type", json!("relative_key")),
        ("model_type", json!("roberta")),
        ("id2label", json!({"0": "a", "1": "b"})),
    ] {
        config(name, value);
    }
}

#[test]
fn sizes_that_the_weights_do_not_have_take_no_memory() {
    for (name, value) in [
        ("vocab_size", 1 << 24),
        ("hidden_size", 1 << 16),
        ("num_hidden_layers", 1 << 10),
        ("intermediate_size", 1 << 20),
        ("max_position_embeddings", 1 << 24),
    ] {
        let folder = copy();
        let text = changed("config.json", |config| config[name] = json!(value));
        fs_err::write(folder.path().join("config.json"), text).expect("written");
        let message = Model::read(folder.path()).expect_err("refused").to_string();
        assert!(message.contains("model.safetensors: "), "{name}: {message}");
    }
}

#[test]
fn a_tokenizer_that_does_not_fit_the_model_is_refused() {
    for text in ["", "garbage", "{", "{}", "[]", "null", "3", "\"words\""] {
        message("tokenizer.json", text.as_bytes());
    }
    let with = |change: fn(&mut Value)| message("tokenizer.json", &changed("tokenizer.json", change));
    // A word more; as few words, one of them past the embedding's end; one added beside the vocabulary.
    let larger: [fn(&mut Value); 3] = [
        |t| t["model"]["vocab"]["B"] = json!(10),
        |t| t["model"]["vocab"]["T"] = json!(200),
        |t| {
            t["added_tokens"] = json!([{"id": 10, "content": "U", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": false}]);
        },
    ];
    for change in larger {
        let text = with(change);
        assert!(text.contains("config.json says 10"), "{text}");
    }
    with(|t| t["model"]["vocab"]["A"] = json!(u64::MAX));
    with(|t| t["model"]["vocab"]["A"] = json!(-1));
    with(|t| drop(t["model"]["vocab"].as_object_mut().expect("words").remove("G")));
    with(|t| drop(t["model"]["vocab"].as_object_mut().expect("words").remove("[PAD]")));
    with(|t| t["truncation"]["max_length"] = json!(0));
}
