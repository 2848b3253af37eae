//! `audit --export`: provenance for other tools.

use super::App;
use super::exit::CliError;
use super::select::check_writable;
use crate::cache::Cache;
use crate::provenance::{self, Audit, Document, Facts};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    Prov,
    RoCrate,
    InToto,
}

/// Writes the lineage of an answer to `output`, in one step; a folder that is not empty is left as it is.
pub(super) fn write(app: &App, cache: &Cache, audit: &Audit, form: Form, output: &Path) -> Result<(), CliError> {
    check_writable(output)?;
    match form {
        Form::Prov => json(output, &provenance::document(cache, audit, Document::Prov)?)?,
        Form::InToto => json(output, &provenance::document(cache, audit, Document::InToto)?)?,
        Form::RoCrate => folder(cache, audit, output)?,
    }
    app.printer.note(&format!("written to {}", output.display()));
    Ok(())
}

/// Writes a JSON document in one step.
pub(super) fn json(output: &Path, document: &serde_json::Value) -> Result<(), CliError> {
    let mut text = serde_json::to_vec_pretty(document).expect("plain data");
    text.push(b'\n');
    in_one_step(output, &text)
}

/// Writes a file in one step: before it the old one, after it the new one.
pub(super) fn in_one_step(output: &Path, bytes: &[u8]) -> Result<(), CliError> {
    // Through a link the file that it leads to is meant.
    let output = &fs_err::canonicalize(output).unwrap_or_else(|_| output.to_owned());
    match fs_err::metadata(output) {
        Ok(there) if there.is_dir() => {
            return Err(CliError::input(format!("{} is a folder: name a file", output.display())));
        }
        Ok(there) if !there.is_file() => {
            return Err(CliError::input(format!("{} is a device or a pipe: name a file", output.display())));
        }
        _ => {}
    }
    let temp = tempfile::NamedTempFile::new_in(beside(output))?;
    fs_err::write(temp.path(), bytes)?;
    readable(temp.path(), 0o644)?;
    temp.persist(output).map_err(|e| CliError::Failed(format!("can't write {}: {}", output.display(), e.error)))?;
    Ok(())
}

fn folder(cache: &Cache, audit: &Audit, output: &Path) -> Result<(), CliError> {
    let is_taken = match fs_err::read_dir(output) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => output.exists(),
    };
    if is_taken {
        return Err(CliError::input(format!("{} is there already: name a new folder", output.display())));
    }
    let facts = Facts::of(cache, audit)?;
    let temp = tempfile::tempdir_in(beside(output))?;
    provenance::ro_crate(cache, &facts, temp.path())?;
    readable(temp.path(), 0o755)?;
    let temp = temp.keep();
    fs_err::rename(&temp, output).inspect_err(|_| drop(fs_err::remove_dir_all(&temp)))?;
    Ok(())
}

fn beside(output: &Path) -> &Path {
    output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Temporary files are private; what a user asked for is not.
fn readable(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
