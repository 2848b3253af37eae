//! `cistage report`: one run as a page.

use super::App;
use super::exit::CliError;
use super::export::in_one_step;
use super::printer::bytes;
use super::select::{check_writable_file, run_named};
use crate::pages::{PageError, run_page};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cistage report -o run.html\n  cistage report 20261125-0940 -o run.html")]
pub(super) struct Args {
    /// A run id or the start of one, a pipeline [default: the newest run]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    let record = run_named(&cache, args.run.as_deref())?;
    check_writable_file(&args.output)?;
    let page = run_page(&cache, &record)?;
    in_one_step(&args.output, page.as_bytes())?;
    let (run, file) = (&record.run, args.output.display());
    if app.printer.json {
        return app
            .printer
            .json(&serde_json::json!({ "run": run, "file": args.output.display().to_string(), "bytes": page.len() }));
    }
    app.printer.note(&format!("run {run} -> {file} ({})", bytes(page.len() as u64)));
    Ok(())
}

impl From<PageError> for CliError {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Cache(error) => error.into(),
            PageError::Provenance(error) => error.into(),
            PageError::Data(error) => error.into(),
            PageError::Report(error) => Self::Failed(error.to_string()),
        }
    }
}
