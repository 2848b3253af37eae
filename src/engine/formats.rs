//! Whether a file or folder looks like what its format says: a look at its beginning, not a proof.

use crate::artifact::Format;
use std::io::{self, Read};
use std::path::Path;

/// Files that a model folder needs.
const MODEL: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

/// Says what is wrong where the content can't be of this format.
pub(super) fn problem(path: &Path, format: Format) -> io::Result<Option<String>> {
    let is_dir = fs_err::metadata(path)?.is_dir();
    let wants_dir = matches!(format, Format::Model | Format::Subsets);
    Ok(match format {
        Format::Raw => None,
        _ if wants_dir && !is_dir => Some(format!("is a file, and {} must be a folder", name(format))),
        _ if !wants_dir && is_dir => Some(format!("is a folder, and {} must be a file", name(format))),
        Format::Model => {
            let missing: Vec<&str> = MODEL.into_iter().filter(|file| !path.join(file).is_file()).collect();
            (!missing.is_empty()).then(|| {
                format!("is not a model folder: it has no {} (needed: {})", missing.join(", "), MODEL.join(", "))
            })
        }
        Format::Rows => (!begins_with(path, b"PAR1")?)
            .then(|| "is not Parquet rows: pass the file through `import-sequences` first".to_owned()),
        Format::Tokenizer | Format::Metrics => json_problem(path)?,
        // Predictions come as Parquet or as text; subsets are lists of any name.
        Format::Predictions | Format::Subsets | Format::Report => None,
    })
}

fn name(format: Format) -> &'static str {
    match format {
        Format::Model => "a model",
        Format::Subsets => "a set of subset lists",
        Format::Rows => "a set of rows",
        Format::Tokenizer => "a tokenizer",
        Format::Metrics => "a metrics file",
        Format::Predictions => "a set of predictions",
        Format::Report => "a report",
        Format::Raw => "this",
    }
}

fn begins_with(path: &Path, magic: &[u8]) -> io::Result<bool> {
    let mut begin = Vec::new();
    fs_err::File::open(path)?.take(magic.len() as u64).read_to_end(&mut begin)?;
    Ok(begin == magic)
}

fn json_problem(path: &Path) -> io::Result<Option<String>> {
    let reader = io::BufReader::new(fs_err::File::open(path)?);
    let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_reader(reader);
    let Some(error) = parsed.err() else { return Ok(None) };
    let text = fs_err::read_to_string(path).unwrap_or_default();
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let from = line.char_indices().nth(error.column().saturating_sub(1)).map_or(line, |(at, _)| &line[at..]);
    // What Python's `json` writes for numbers that JSON does not have.
    let number = ["NaN", "Infinity", "-Infinity"].into_iter().find(|number| from.starts_with(number));
    Ok(Some(match number {
        Some(number) => format!("is not JSON: it holds {number} (line {}); write null in its place", error.line()),
        None => format!("is not JSON: {error}"),
    }))
}
