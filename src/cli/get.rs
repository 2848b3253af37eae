//! `cistage get`: copies an artifact out of the cache.

use super::App;
use super::exit::CliError;
use super::printer::bytes;
use super::select::output_named;
use crate::artifact::Format;
use crate::data::DataError;
use crate::data::export::{self, TextForm};
use std::path::PathBuf;

/// Copy an output of the newest run that has it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The output, as in `evaluate.metrics`
    #[arg(value_name = "STAGE.PORT")]
    output: String,
    /// Where to; rows and predictions become text where it ends in .tsv or .tsv.gz
    #[arg(value_name = "DEST")]
    dest: PathBuf,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    let (run, _, artifact) = output_named(&cache, &args.output)?;
    let dest = if args.dest.is_dir() {
        args.dest.join(default_name(&args.output, artifact.format))
    } else {
        args.dest.clone()
    };
    match (artifact.format, TextForm::of(&dest)) {
        (Format::Rows | Format::Predictions, Some(form)) => {
            if !cache.verify_object(artifact.digest)? {
                return Err(CliError::Failed(format!(
                    "{} ({}) is missing or damaged in the cache: run the pipeline again to rebuild it",
                    args.output,
                    artifact.digest.short()
                )));
            }
            let object = cache.object_path(artifact.digest);
            let write = if artifact.format == Format::Rows { export::rows } else { export::predictions };
            write(&object, &dest, form)?;
        }
        _ => cache.copy_out(&artifact, &dest)?,
    }
    app.printer.note(&format!("{} of run {} -> {} ({})", args.output, run.run, dest.display(), bytes(artifact.bytes)));
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
