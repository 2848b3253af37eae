//! `cistage get`: copies an artifact out of the cache.

use super::App;
use super::exit::CliError;
use super::printer::bytes;
use super::select::{check_writable, check_writable_file, output_named};
use crate::artifact::{Format, Layout};
use crate::data::DataError;
use crate::engine::{text_form, write_text};
use crate::provenance::Named;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cistage get evaluate.metrics metrics.json\n  cistage get split.test test.tsv.gz")]
pub(super) struct Args {
    /// The output, as in `evaluate.metrics`
    #[arg(value_name = "STAGE.PORT")]
    output: String,
    /// Where to; rows and predictions become text where it ends in .tsv or .tsv.gz
    #[arg(value_name = "DEST")]
    dest: PathBuf,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.memo_cache()?;
    let Named { run, artifact, note, .. } = output_named(&cache, &args.output)?;
    if let Some(note) = note {
        app.printer.note(&note);
    }
    let dest = if args.dest.is_dir() {
        args.dest.join(default_name(&args.output, artifact.format))
    } else {
        args.dest.clone()
    };
    match artifact.layout {
        Layout::File => check_writable_file(&dest)?,
        Layout::Tree => check_writable(&dest)?,
    }
    match text_form(&artifact, &dest) {
        Some(form) => {
            if !cache.verify_object(artifact.digest)? {
                return Err(CliError::Unchecked(format!(
                    "{} ({}) is missing or damaged in the cache: run the pipeline again to rebuild it",
                    args.output,
                    artifact.digest.short()
                )));
            }
            let text = write_text(&cache, &artifact, form, &dest)?;
            if cache.remember_text(&text).is_err() {
                app.printer.note(&format!(
                    "the cache can't be written to, so `audit` will not know this text: ask `cistage audit {}`",
                    artifact.digest.short()
                ));
            }
        }
        None => cache.copy_out(&artifact, &dest)?,
    }
    app.printer.note(&format!("{} of run {run} -> {} ({})", args.output, dest.display(), bytes(artifact.bytes)));
    Ok(())
}

fn default_name(output: &str, format: Format) -> String {
    let port = output.rsplit_once('.').map_or(output, |(_, port)| port);
    format!("{port}{}", format.extension())
}

impl From<DataError> for CliError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Input(message) => Self::input(message),
            DataError::Io(error) => error.into(),
        }
    }
}
