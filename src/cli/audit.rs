use super::App;
use super::exit::CliError;
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
pub(super) fn run(_app: &App, _args: &Args) -> Result<(), CliError> { Ok(()) }
