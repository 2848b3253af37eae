//! Files given to typed ports: told by their content, before anything runs.

use super::wiring::in_words;
use crate::artifact::Format;
use serde_json::Value;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// What is wrong, and what to do.
pub type Refusal = (String, Option<String>);

/// What looks at the file of a port: [`check`].
pub type Look = fn(&str, Format) -> Result<(), Refusal>;

/// A larger JSON file is no tokenizer or metrics file of ours.
const MOST_JSON_BYTES: u64 = 64 << 20;

/// Checks that a path exists and holds what a port takes.
pub fn check(text: &str, wanted: Format) -> Result<(), Refusal> {
    let path = Path::new(text);
    let meta = match fs_err::metadata(path) {
        Ok(meta) => meta,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err((format!("there is no file `{text}`"), None));
        }
        Err(error) => return Err((format!("`{text}` can't be read: {}", reason(&error)), None)),
    };
    if !meta.is_file() && !meta.is_dir() {
        return Err((
            format!("`{text}` is neither a file nor a folder"),
            Some("copy what it gives into a file first".to_owned()),
        ));
    }
    let folder = matches!(wanted, Format::Model | Format::Subsets);
    if wanted != Format::Raw && meta.is_dir() != folder {
        let found = if meta.is_dir() { "a folder" } else { "a file" };
        return Err((
            format!("`{text}` is {found}; the port takes {}", in_words(wanted)),
            Some(form(wanted).to_owned()),
        ));
    }
    let good = match wanted {
        Format::Raw | Format::Report => Ok(true),
        Format::Rows => starts(path).map(|start| start.starts_with(b"PAR1")),
        Format::Predictions => starts(path).map(|start| start.starts_with(b"PAR1") || is_prediction_table(&start)),
        Format::Tokenizer => {
            json(path).map(|value| value.is_some_and(|value| value.get("model").is_some_and(Value::is_object)))
        }
        Format::Metrics => json(path).map(|value| value.is_some_and(|value| value.is_object())),
        Format::Model => return model(path, text),
        Format::Subsets => lists(path),
    };
    match good {
        Ok(true) => Ok(()),
        Ok(false) => Err((format!("`{text}` does not hold {}", in_words(wanted)), Some(form(wanted).to_owned()))),
        Err(error) => Err((format!("`{text}` can't be read: {}", reason(&error)), None)),
    }
}

/// How a file of a format is recognised, and how to get one.
fn form(format: Format) -> &'static str {
    match format {
        Format::Raw => "any file or folder will do",
        Format::Rows => "rows are a Parquet file; read a table of sequences with an `import-sequences` stage first",
        Format::Tokenizer => "a tokenizer is a `tokenizer.json`",
        Format::Model => "a model is a folder with `config.json`, `model.safetensors` and `tokenizer.json`",
        Format::Predictions => "predictions are a Parquet file, or a table whose first line is `pos<TAB>prediction`",
        Format::Metrics => "metrics are a JSON file with one object",
        Format::Subsets => "subset lists are a folder with `.tsv` files",
        Format::Report => "a report is an HTML file",
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

fn starts(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    fs_err::File::open(path)?.take(64).read_to_end(&mut start)?;
    Ok(start)
}

fn is_prediction_table(start: &[u8]) -> bool {
    let line = start.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line) == b"pos\tprediction"
}

fn json(path: &Path) -> std::io::Result<Option<Value>> {
    let mut text = Vec::new();
    fs_err::File::open(path)?.take(MOST_JSON_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}

fn model(path: &Path, text: &str) -> Result<(), Refusal> {
    let missing: Vec<&str> = ["config.json", "model.safetensors", "tokenizer.json"]
        .into_iter()
        .filter(|file| !path.join(file).is_file())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err((
        format!("the folder `{text}` is no model: it has no {}", missing.join(" and no ")),
        Some(form(Format::Model).to_owned()),
    ))
}

fn lists(path: &Path) -> std::io::Result<bool> {
    for entry in fs_err::read_dir(path)? {
        if entry?.path().extension().is_some_and(|extension| extension == "tsv") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_paths_are_told_by_their_content() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
        for (name, bytes) in [
            ("rows.parquet", &b"PAR1..."[..]),
            ("table.tsv", b"pos\tprediction\n0\t1.5\n"),
            ("other.tsv", b"ACGT\t1.5\n"),
            ("tokenizer.json", br#"{"model": {"type": "WordPiece"}}"#),
            ("metrics.json", br#"{"r": 1}"#),
            ("list.json", b"[1]"),
        ] {
            fs_err::write(at(name), bytes).expect("written");
        }
        for folder in ["model", "half", "lists", "empty"] {
            fs_err::create_dir(at(folder)).expect("made");
        }
        for file in [
            "model/config.json",
            "model/model.safetensors",
            "model/tokenizer.json",
            "half/config.json",
            "lists/high.tsv",
        ] {
            fs_err::write(at(file), b"").expect("written");
        }
        let good = [
            ("rows.parquet", Format::Rows),
            ("rows.parquet", Format::Predictions),
            ("table.tsv", Format::Predictions),
            ("tokenizer.json", Format::Tokenizer),
            ("metrics.json", Format::Metrics),
            ("model", Format::Model),
            ("lists", Format::Subsets),
            ("lists", Format::Raw),
            ("other.tsv", Format::Raw),
        ];
        for (name, format) in good {
            assert_eq!(check(&at(name), format), Ok(()), "{name} as {format}");
        }
        let bad = [
            ("table.tsv", Format::Rows),
            ("other.tsv", Format::Predictions),
            ("metrics.json", Format::Tokenizer),
            ("list.json", Format::Metrics),
            ("half", Format::Model),
            ("empty", Format::Subsets),
            ("empty", Format::Rows),
            ("rows.parquet", Format::Model),
            ("nothing", Format::Raw),
            ("other.tsv/x", Format::Raw),
        ];
        for (name, format) in bad {
            assert!(check(&at(name), format).is_err(), "{name} as {format}");
        }
    }
}
