//! Rows and predictions written out as text, as `publish:` and `get` do.

use crate::artifact::{Artifact, Format};
use crate::cache::{Cache, TextRecord};
use crate::data::DataError;
use crate::data::export::{self, TextForm};
use crate::digest::Digest;
use std::path::Path;

/// The text form that a path asks of an artifact; `None` where its bytes are copied as they are.
pub fn text_form(artifact: &Artifact, path: &Path) -> Option<TextForm> {
    TextForm::of(path).filter(|_| matches!(artifact.format, Format::Rows | Format::Predictions))
}

/// Writes an artifact as text. The record lets `audit` find the artifact once the cache has it.
pub fn write_text(cache: &Cache, artifact: &Artifact, form: TextForm, to: &Path) -> Result<TextRecord, DataError> {
    let write = if artifact.format == Format::Rows { export::rows } else { export::predictions };
    write(&cache.object_path(artifact.digest), to, form)?;
    let (digest, bytes) = Digest::of_file(to)?;
    Ok(TextRecord::new(digest, bytes, name(form), artifact.digest))
}

/// Whether a file is this form of this artifact already, as far as the cache knows.
pub(super) fn is_there(cache: &Cache, artifact: &Artifact, form: TextForm, path: &Path) -> Option<Digest> {
    if !fs_err::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let digest = cache.digest_source(path, Format::Raw).ok()?.digest;
    let known = cache.texts_of(digest).ok()?;
    known.iter().any(|text| text.artifact == artifact.digest && text.form == name(form)).then_some(digest)
}

fn name(form: TextForm) -> &'static str {
    match form {
        TextForm::Tsv => "tsv",
        TextForm::TsvGz => "tsv.gz",
        TextForm::Json => "json",
    }
}
