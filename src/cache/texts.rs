//! Text forms: which artifact a file of text was written from, found by the digest of the file's bytes.

use super::records::list;
use super::{durable, seal};
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Names the layout of a text record.
const TEXT_SCHEMA: &str = "cistage/text/1";

/// An artifact that was written out as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRecord {
    schema: String,
    /// Digest of the file's bytes.
    pub digest: Digest,
    pub bytes: u64,
    /// The form, by its usual ending: `tsv`, `tsv.gz`, `json`.
    pub form: String,
    pub artifact: Digest,
}

impl TextRecord {
    pub fn new(digest: Digest, bytes: u64, form: &str, artifact: Digest) -> Self {
        Self { schema: TEXT_SCHEMA.to_owned(), digest, bytes, form: form.to_owned(), artifact }
    }
}

/// The folder `texts/`.
#[derive(Debug)]
pub struct Texts(PathBuf);

impl Texts {
    pub fn new(root: &Path) -> Self {
        Self(root.join("texts"))
    }

    /// The name of a record: two artifacts may read the same as text.
    fn file(&self, text: &TextRecord) -> PathBuf {
        let hex = text.digest.hex();
        self.0.join(&hex[..2]).join(format!("{}-{}.json", &hex[2..], text.artifact.hex()))
    }

    pub fn write(&self, text: &TextRecord, temp: impl FnOnce() -> PathBuf) -> io::Result<()> {
        let (file, bytes) = (self.file(text), seal::seal(text));
        if fs_err::read(&file).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        durable::replace(&temp(), &file, &bytes)
    }

    /// The artifacts that were written as these bytes; records that can't be read are left out.
    pub fn of(&self, digest: Digest) -> io::Result<Vec<TextRecord>> {
        let hex = digest.hex();
        let records = files(&self.0.join(&hex[..2]), &hex[2..])?.into_iter().filter_map(|file| read(&file).ok());
        Ok(records.filter(|text| text.digest == digest).collect())
    }

    /// Every record by its file; an error says what is wrong with one.
    pub fn all(&self) -> io::Result<Vec<(PathBuf, Result<TextRecord, String>)>> {
        let mut all = Vec::new();
        for entry in list(&self.0)? {
            all.extend(files(&entry.path(), "")?.into_iter().map(|file| (file.clone(), self.check(&file))));
        }
        Ok(all)
    }

    fn check(&self, file: &Path) -> Result<TextRecord, String> {
        let text = read(file)?;
        if self.file(&text) == file { Ok(text) } else { Err("is the record of another text".to_owned()) }
    }
}

/// The files of a folder whose names begin so, sorted.
fn files(folder: &Path, start: &str) -> io::Result<Vec<PathBuf>> {
    let entries = list(folder)?;
    let wanted = entries.iter().filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    let mut files: Vec<PathBuf> = wanted.map(fs_err::DirEntry::path).collect();
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<TextRecord, String> {
    let bytes = fs_err::read(file).map_err(|e| format!("can't be read: {e}"))?;
    let text: TextRecord = seal::open(&bytes)?;
    if text.schema == TEXT_SCHEMA { Ok(text) } else { Err(format!("has the unknown schema {:?}", text.schema)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_by_its_bytes_with_every_artifact_that_reads_the_same() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs_err::create_dir(dir.path().join("texts")).expect("made");
        let texts = Texts::new(dir.path());
        let text = Digest::of(b"pos\tprediction\n");
        assert_eq!(texts.of(text).expect("reads"), []);
        let mut both = [Digest::of(b"a"), Digest::of(b"b")].map(|artifact| TextRecord::new(text, 15, "tsv", artifact));
        for (n, record) in both.iter().chain(&both).enumerate() {
            texts.write(record, || dir.path().join(format!("temp{n}"))).expect("writes");
        }
        both.sort_by_key(|text| text.artifact.hex());
        assert_eq!(texts.of(text).expect("reads"), both);
        let all: Vec<TextRecord> =
            texts.all().expect("reads").into_iter().map(|(_, text)| text.expect("sound")).collect();
        assert_eq!(all, both);
        assert_eq!(texts.of(Digest::of(b"other")).expect("reads"), []);
    }

    #[test]
    fn a_record_that_was_changed_by_hand_is_not_believed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs_err::create_dir(dir.path().join("texts")).expect("made");
        let texts = Texts::new(dir.path());
        let record = TextRecord::new(Digest::of(b"x"), 1, "tsv", Digest::of(b"a"));
        texts.write(&record, || dir.path().join("temp")).expect("writes");
        let file = texts.file(&record);
        let forged = fs_err::read_to_string(&file).expect("reads").replace("tsv", "csv");
        fs_err::write(&file, forged).expect("writes");
        assert_eq!(texts.of(record.digest).expect("reads"), []);
        let all = texts.all().expect("reads");
        assert_eq!(all, [(file, Err("was changed: its checksum does not match".to_owned()))]);
    }
}
