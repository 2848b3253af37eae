//! What an input turns out to be, judged by its content.

use super::comparison::Comparison;
use super::{files, files::Listed, files::ParquetSummary, files::Picture, json};
use crate::digest::Digest;
use serde_json::Value;
use std::io::{self, Read};
use std::path::Path;

/// Larger files than this are not read as JSON or shown as a picture.
const MAX_JSON: u64 = 512 << 20;
const MAX_PICTURE: u64 = 8 << 20;

/// An input, looked at once.
pub struct Inspected {
    pub name: String,
    pub bytes: u64,
    /// Of a file; a folder's is a matter of the cache.
    pub digest: Option<Digest>,
    pub subject: Subject,
}

/// What a file or folder is.
pub enum Subject {
    Evaluation(Value),
    Training(Value),
    BinSample(Value),
    Comparison(Value),
    Scores(Value),
    /// Other JSON: its numbers.
    Numbers(Value),
    Table(ParquetSummary),
    Picture(Picture),
    Folder(Vec<Listed>),
    /// Another HTML page.
    Page,
    Other,
}

impl Subject {
    /// Its place on a page.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Evaluation(_) => 0,
            Self::Comparison(_) | Self::Scores(_) => 1,
            Self::Training(_) => 2,
            Self::BinSample(_) | Self::Numbers(_) | Self::Picture(_) => 3,
            Self::Table(_) | Self::Folder(_) | Self::Page | Self::Other => 4,
        }
    }

    pub fn describe(&self) -> String {
        match self {
            Self::Evaluation(_) => "evaluation of models".to_owned(),
            Self::Training(_) => "a training".to_owned(),
            Self::BinSample(_) => "a sample by bins of expression".to_owned(),
            Self::Comparison(_) => "a comparison".to_owned(),
            Self::Scores(_) => "scores of the challenge".to_owned(),
            Self::Numbers(_) => "metrics".to_owned(),
            Self::Table(summary) => summary.describe(),
            Self::Picture(_) => "a picture".to_owned(),
            Self::Folder(files) => files::describe_folder(files),
            Self::Page => "an HTML page".to_owned(),
            Self::Other => "a file".to_owned(),
        }
    }
}

/// Looks at a file or a folder.
pub fn inspect(name: &str, path: &Path) -> io::Result<Inspected> {
    let name = name.to_owned();
    if fs_err::metadata(path)?.is_dir() {
        let files = files::list(path)?;
        let bytes = files.iter().map(|file| file.bytes).sum();
        return Ok(Inspected { name, bytes, digest: None, subject: Subject::Folder(files) });
    }
    let (digest, bytes) = Digest::of_file(path)?;
    let mut head = Vec::new();
    fs_err::File::open(path)?.take(256).read_to_end(&mut head)?;
    Ok(Inspected { name, bytes, digest: Some(digest), subject: of_file(path, &head, bytes)? })
}

fn of_file(path: &Path, head: &[u8], bytes: u64) -> io::Result<Subject> {
    if head.starts_with(b"PAR1") {
        return Ok(files::parquet_summary(path)?.map_or(Subject::Other, Subject::Table));
    }
    let text = head.trim_ascii_start();
    if text.starts_with(b"{") && bytes <= MAX_JSON {
        let content = fs_err::read(path)?;
        return Ok(serde_json::from_slice(&content).map_or(Subject::Other, of_json));
    }
    let lower = text[..text.len().min(64)].to_ascii_lowercase();
    if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") {
        return Ok(Subject::Page);
    }
    if bytes <= MAX_PICTURE
        && let Some(media_type) = Picture::media_type(text)
    {
        return Ok(Subject::Picture(Picture { media_type, content: fs_err::read(path)? }));
    }
    Ok(Subject::Other)
}

/// Tells metrics apart by what they hold: pages are made of files of other programs too.
fn of_json(value: Value) -> Subject {
    let bins = json::objects(&value, "bins");
    if !json::members(&value, "models").is_empty() {
        Subject::Evaluation(value)
    } else if Comparison::of(&value).is_some() {
        Subject::Comparison(value)
    } else if value.get("pearson_score").is_some() && value.get("subsets").is_some_and(Value::is_object) {
        Subject::Scores(value)
    } else if bins.iter().any(|bin| bin.get("before").is_some() && bin.get("after").is_some()) {
        Subject::BinSample(value)
    } else if ["curves", "epochs", "steps", "loss"]
        .iter()
        .any(|key| value.get(key).is_some_and(|v| v.is_array() || v.is_object()))
    {
        Subject::Training(value)
    } else {
        Subject::Numbers(value)
    }
}
