use super::App;
use super::exit::CliError;
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command { Du, Verify }
pub(super) fn run(_app: &App, _c: &Command) -> Result<(), CliError> { Ok(()) }
