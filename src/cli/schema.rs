//! `cistage schema`: the JSON Schema of pipeline files.

use super::App;
use super::exit::CliError;

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(app: &App, _args: &Args) -> Result<(), CliError> {
    app.printer.json(&crate::pipeline::schema())
}
