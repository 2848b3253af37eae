//! Rows and predictions in the forms that people and the challenge ask for, told by the file's ending.

use super::{DataError, predictions, rows};
use flate2::{Compression, GzBuilder};
use rayon::prelude::*;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Bases hold 2 bits each: higher levels look for repeats that are not there.
const GZIP_LEVEL: u32 = 3;

/// A form of text; Parquet is what the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextForm {
    Tsv,
    TsvGz,
    /// The challenge's submission: a JSON object of predictions by position.
    Json,
}

impl TextForm {
    /// The text form that a file name asks for, if any.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.to_string_lossy();
        [(".tsv", Self::Tsv), (".tsv.gz", Self::TsvGz), (".json", Self::Json)]
            .into_iter()
            .find(|(ending, _)| name.ends_with(ending))
            .map(|(_, form)| form)
    }
}

/// Writes a rows file as the challenge's TSV; they have no JSON form.
pub fn rows(from: &Path, to: &Path, form: TextForm) -> Result<(), DataError> {
    if form == TextForm::Json {
        return Err(DataError::Input(format!("{}: rows can be written as .parquet, .tsv or .tsv.gz", to.display())));
    }
    let mut reader = rows::Reader::open(from, &from.display().to_string())?;
    let text = |batch: &rows::Rows| -> io::Result<Vec<u8>> {
        // About the length of the challenge's lines.
        let mut text = Vec::with_capacity(batch.len() * 128);
        rows::write_tsv(batch, &mut text)?;
        if form == TextForm::TsvGz { gzip(&text) } else { Ok(text) }
    };
    replace(to, |out| {
        while let Some(batches) = reader.next_batches()? {
            // A gzip file is any number of members end to end: each batch is one, packed by whichever thread.
            let texts = batches.par_iter().map(text).collect::<io::Result<Vec<_>>>()?;
            texts.iter().try_for_each(|text| out.write_all(text))?;
        }
        Ok(())
    })
}

/// Writes a predictions file as TSV or as the challenge's JSON.
pub fn predictions(from: &Path, to: &Path, form: TextForm) -> Result<(), DataError> {
    let table = predictions::read(from, &from.display().to_string())?;
    replace(to, |out| {
        match form {
            TextForm::Json => table.write_challenge_json(out)?,
            TextForm::Tsv => table.write_tsv(out)?,
            TextForm::TsvGz => {
                let mut text = Vec::new();
                table.write_tsv(&mut text)?;
                out.write_all(&gzip(&text)?)?;
            }
        }
        Ok(())
    })
}

/// One gzip member; no time in its header: equal text gives equal bytes.
fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut gz = GzBuilder::new().mtime(0).write(Vec::with_capacity(text.len() / 3), Compression::new(GZIP_LEVEL));
    gz.write_all(text)?;
    gz.finish()
}

/// Writes beside the target, then renames: a reader sees the old file or the new one.
fn replace(to: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<(), DataError>) -> Result<(), DataError> {
    let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    let mut temp = tempfile::Builder::new().prefix(".cistage-").tempfile_in(folder)?;
    let mut out = BufWriter::with_capacity(1 << 20, temp.as_file_mut());
    fill(&mut out)?;
    out.flush()?;
    drop(out);
    make_readable(temp.as_file())?;
    temp.persist(to)
        .map_err(|e| io::Error::new(e.error.kind(), format!("can't write {}: {}", to.display(), e.error)))?;
    Ok(())
}

/// Temporary files are private; what a user asked for is as other files are.
fn make_readable(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}
