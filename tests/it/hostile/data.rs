//! Files of rows, predictions, models and tokenizers that lie, or that are small and become large.

use super::{is_calm, outcomes, pipeline, records, refused};
use crate::workspace::Workspace;
use cistage::data::predictions::{self, Predictions};
use cistage::data::rows::{self, Rows};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A mebibyte of memory.
const MIB: u64 = 1 << 20;

fn gzipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn some_rows() -> Rows {
    let mut all = Rows::default();
    (0..60).for_each(|i| all.push(i, &b"ACGTN".repeat(i as usize % 5 + 1), (i % 7 > 0).then_some(i as f64 / 3.0)));
    all
}

/// Runs a pipeline whose stages all read bad files: each fails and names its own.
fn all_fail(ws: &Workspace, files: &[String]) {
    let (_, found) = outcomes(ws, &[]);
    let is_right = |n: usize| {
        let (outcome, error) = &found[&format!("s{n}")];
        is_calm(error);
        outcome == "failed" && error.contains(files[n].as_str())
    };
    let wrong: Vec<_> = (0..files.len()).filter(|&n| !is_right(n)).map(|n| (n, &found[&format!("s{n}")])).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(records(ws), 0);
}

#[test]
fn a_table_that_unpacks_to_gigabytes_takes_little_memory() {
    let block = vec![b'A'; 16 << 20];
    let long = |packed: Vec<u8>| [&packed[..], &packed.repeat(63)].concat();
    let mut wide = zstd::stream::Encoder::new(Vec::new(), 1).expect("memory");
    wide.window_log(30).expect("a window");
    wide.write_all(b"A\t1\n").expect("memory");
    let empty = gzipped(&vec![b'\n'; 16 << 20]);
    let wrong = gzipped(&b"X\t1\n".repeat(4 << 20));
    let table = [
        ("one line in gzip", long(gzipped(&block)), ":1:"),
        ("one line in zstd", long(zstd::encode_all(&block[..], 1).expect("memory")), ":1:"),
        ("empty lines", [empty.repeat(16), gzipped(b"A\t1\n")].concat(), ":1:1: the line is empty"),
        ("wrong lines", wrong.repeat(16), ":1:1"),
        ("a window of a gigabyte", wide.finish().expect("memory"), "zstd"),
        ("cut off", gzipped(&block)[..5000].to_vec(), "ends early"),
        ("garbage after it", [gzipped(b"A\t1\n"), b"garbage".to_vec()].concat(), "after 1 whole lines"),
    ];
    for (what, bytes, part) in table {
        let ws = Workspace::with(&pipeline(&["s0: { uses: import-sequences, in: { file: d.tsv } }".to_owned()]));
        ws.write("d.tsv", bytes);
        refused(&ws, &["run", "p.yaml"], "d.tsv");
        let shown = ws.cistage(&["show", "--format", "json"]).stdout;
        assert!(shown.contains(part), "{what}: {shown}");
        let record: Value = serde_json::from_str(&shown).expect("JSON");
        let peak = record.pointer("/record/steps/0/cost/peak_memory");
        let peak = peak.and_then(Value::as_u64).unwrap_or_else(|| panic!("no cost in {shown}"));
        assert!(peak < 700 * MIB, "{what}: {} MiB", peak / MIB);
        assert_eq!(records(&ws), 0);
    }
}

/// A file with one byte changed, for each of some places.
fn flipped(whole: &[u8], places: impl Iterator<Item = usize>, with: u8) -> Vec<Vec<u8>> {
    let change = |at: usize| {
        let mut bytes = whole.to_owned();
        bytes[at] ^= with;
        bytes
    };
    places.map(change).collect()
}

#[test]
fn parquet_that_is_damaged_anywhere_is_an_error_with_its_name() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    rows::write(&at("rows"), &some_rows()).expect("written");
    let three = Predictions { pos: vec![1, 2, 3], prediction: vec![0.5, 1.5, -2.0] };
    three.write(&at("predictions")).expect("written");
    type Read = fn(&Path) -> Result<usize, String>;
    let readers: [(&str, Read); 2] = [
        ("rows", |path| rows::read_named(path, "bad").map(|rows| rows.len()).map_err(|e| e.to_string())),
        ("predictions", |path| predictions::read(path, "bad").map(|all| all.pos.len()).map_err(|e| e.to_string())),
    ];
    for (name, read) in readers {
        let whole = fs_err::read(at(name)).expect("read");
        let rows = read(&at(name)).expect("it is good");
        let cut = (0..whole.len()).map(|end| whole[..end].to_owned());
        let changed = [0x01, 0x80, 0xff].into_iter().flat_map(|with| flipped(&whole, 4..whole.len(), with));
        let longer = [[&whole[..], b"PAR1"].concat(), [&whole[..4], &whole[..]].concat()];
        for bytes in cut.chain(changed).chain(longer) {
            fs_err::write(at("bad"), &bytes).expect("written");
            // What is changed in a value without a checksum is another value; the footer of an empty file is a byte away.
            match read(&at("bad")) {
                Ok(found) => assert!(found == rows || found == 0, "{name}: {found}"),
                Err(message) => assert!(message.contains("bad"), "{name}: {message}"),
            }
        }
    }
}

/// A training of a moment.
const TINY: &str = "model: { layers: 1, hidden: 8, heads: 1, intermediate: 8 }, epochs: 1, max_length: 16";

/// The file with another number of rows in its footer.
fn with_rows(whole: &[u8], rows: i64) -> Vec<u8> {
    use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter};
    let bytes = bytes::Bytes::copy_from_slice(whole);
    let good = ParquetMetaDataReader::new().parse_and_finish(&bytes).expect("it is good");
    let file = good.file_metadata();
    let file = FileMetaData::new(
        file.version(),
        rows,
        file.created_by().map(str::to_owned),
        file.key_value_metadata().cloned(),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let groups = good.row_groups().iter().map(|group| {
        let columns = group.columns().iter().map(|column| column.clone().into_builder().set_num_values(rows).build());
        let columns = columns.collect::<Result<_, _>>().expect("whole");
        group.clone().into_builder().set_num_rows(rows).set_column_metadata(columns).build().expect("whole")
    });
    let mut out = whole.to_owned();
    ParquetMetaDataWriter::new(&mut out, &ParquetMetaData::new(file, groups.collect())).finish().expect("memory");
    out
}

#[test]
fn stages_outlive_parquet_that_lies() {
    let ws = Workspace::new();
    rows::write(&ws.path("good"), &some_rows()).expect("written");
    let whole = fs_err::read(ws.path("good")).expect("read");
    let footer = whole.len() - 8 - u32::from_le_bytes(whole[whole.len() - 8..][..4].try_into().expect("four")) as usize;
    let end = whole.len();
    let places = (4..64)
        .step_by(5)
        .chain((64..footer).step_by(footer / 6))
        .chain((footer..end - 8).step_by((end - footer) / 24));
    let mut bad = flipped(&whole, places, 0x7f);
    bad.extend([4, 8, footer, end - 9, end - 1].map(|cut| whole[..cut].to_owned()));
    bad.extend(flipped(&whole, end - 8..end - 4, 0xff));
    let damaged = bad.len();
    bad.extend([-1, 0, 59, 61, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 60, i64::MAX].map(|rows| with_rows(&whole, rows)));
    let mut stages = Vec::new();
    for (n, bytes) in bad.iter().enumerate() {
        ws.write(&format!("bad{n}"), bytes);
        stages
            .push(format!("i{n}: {{ uses: import-sequences, in: {{ file: bad{n} }}, with: {{ labels: optional }} }}"));
        // A training meets false counts alone: a changed label is another label.
        let uses = match n % 2 {
            _ if n >= damaged => {
                format!(
                    "train, in: {{ train: bad{n}, validation: bad{n}, tokenizer: tokenizer.json }}, with: {{ {TINY} }}"
                )
            }
            0 => format!("split, in: {{ rows: bad{n} }}, with: {{ test: 0.5 }}"),
            _ => format!("sample-bins, in: {{ rows: bad{n} }}, with: {{ per_bin: 1, empty_bins: allow }}"),
        };
        stages.push(format!("s{n}: {{ uses: {uses} }}"));
    }
    ws.write("tokenizer.json", fs_err::read(fixture("tokenizer.json")).expect("a fixture"));
    ws.write("p.yaml", pipeline(&stages));
    let (code, found) = outcomes(&ws, &["--yes"]);
    assert!(code == 1 || code == 2, "{code}");
    assert_eq!(found.len(), stages.len());
    let mut failed = 0;
    for (stage, (outcome, error)) in &found {
        is_calm(error);
        if outcome == "failed" {
            failed += 1;
            assert!(error.contains(&format!("bad{}", &stage[1..])), "{stage}: {error}");
        }
    }
    assert!(failed > stages.len() / 3, "{failed}");
    assert_eq!(records(&ws), stages.len() - failed);
}

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference").join(file)
}

fn changed(file: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::from_slice(&fs_err::read(fixture(file)).expect("a fixture")).expect("JSON");
    change(&mut value);
    value.to_string().into_bytes()
}

/// The weights with another header.
fn weights(change: impl FnOnce(String) -> String) -> Vec<u8> {
    let whole = fs_err::read(fixture("model.safetensors")).expect("a fixture");
    let length = u64::from_le_bytes(whole[..8].try_into().expect("eight")) as usize;
    let header = change(String::from_utf8(whole[8..8 + length].to_owned()).expect("JSON"));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &whole[8 + length..]].concat()
}

#[test]
fn models_that_lie_are_refused_by_file() {
    let ws = Workspace::new();
    let name = "\"classifier.bias\":";
    let tokenizer = |change: fn(&mut Value)| ("tokenizer.json", changed("tokenizer.json", change));
    let merges = json!({"type": "BPE", "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "A": 4}, "merges": ["A CGTACGT"]});
    let table: Vec<(&str, Vec<u8>)> = vec![
        (
            "model.safetensors",
            weights(|h| {
                h.replacen('{', &format!("{{{name}{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}},"), 1)
            }),
        ),
        ("model.safetensors", weights(|h| h.replace("\"F32\"", "\"F64\""))),
        ("model.safetensors", weights(|h| h.replace("\"F32\"", "\"I32\""))),
        ("model.safetensors", weights(|h| h.replacen("\"data_offsets\":[", "\"data_offsets\":[1", 1))),
        ("config.json", changed("config.json", |c| c["hidden_size"] = json!(1_u64 << 60))),
        ("config.json", changed("config.json", |c| c["num_hidden_layers"] = json!(1_000_000_000))),
        ("config.json", b" ".repeat(64 << 20)),
        ("tokenizer.json", b" ".repeat(64 << 20)),
        ("tokenizer.json", changed("tokenizer.json", |t| t["model"] = merges)),
        tokenizer(|t| t["model"]["vocab"]["T"] = json!(u32::MAX)),
        tokenizer(|t| {
            t["pre_tokenizer"] =
                json!({"type": "Split", "pattern": {"Regex": "(((("}, "behavior": "Removed", "invert": false})
        }),
        tokenizer(
            |t| t["post_processor"] = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}], "pair": [], "special_tokens": {}}),
        ),
        tokenizer(|t| {
            t["normalizer"] = json!({"type": "Replace", "pattern": {"String": "A"}, "content": "A".repeat(1 << 20)})
        }),
    ];
    let files = predicting(&ws, &table);
    all_fail(&ws, &files);
}

#[test]
fn what_a_tokenizer_says_of_lengths_asks_for_no_memory() {
    let ws = Workspace::new();
    let changes: [fn(&mut Value); 3] = [
        |t| t["padding"]["strategy"] = json!({"Fixed": 1_u64 << 60}),
        |t| t["truncation"]["stride"] = json!(1000),
        |t| t["truncation"]["max_length"] = json!(u64::MAX),
    ];
    predicting(&ws, &changes.map(|change| ("tokenizer.json", changed("tokenizer.json", change))));
    assert_eq!(ws.run(&[]), ["s0 ran", "s1 ran", "s2 ran"]);
}

/// Writes the pipeline of predictions by models with one file of their own; gives the models' folders.
fn predicting(ws: &Workspace, table: &[(&str, Vec<u8>)]) -> Vec<String> {
    let mut stages = Vec::new();
    for (n, (other, bytes)) in table.iter().enumerate() {
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            let good = || fs_err::read(fixture(file)).expect("a fixture");
            ws.write(&format!("m{n}/{file}"), if file == *other { bytes.clone() } else { good() });
        }
        stages.push(format!("s{n}: {{ uses: predict, in: {{ model: m{n}, rows: rows.parquet }} }}"));
    }
    rows::write(&ws.path("rows.parquet"), &some_rows()).expect("written");
    ws.write("p.yaml", pipeline(&stages));
    (0..table.len()).map(|n| format!("m{n}")).collect()
}
