//! `cistage man`: manual pages.

use super::App;
use super::exit::CliError;
use crate::report::shell_word;
use clap::CommandFactory;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cistage man ~/.local/share/man/man1")]
pub(super) struct Args {
    /// The folder; made where there is none
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let dir = args.dir.display();
    fs_err::create_dir_all(&args.dir).map_err(|error| CliError::input(format!("can't make {dir}: {error}")))?;
    clap_mangen::generate_to(super::Args::command(), &args.dir)?;
    let pages =
        fs_err::read_dir(&args.dir)?.flatten().filter(|e| e.path().extension().is_some_and(|e| e == "1")).count();
    if app.printer.json {
        return app.printer.json(&serde_json::json!({ "folder": args.dir.display().to_string(), "pages": pages }));
    }
    let page = shell_word(&args.dir.join("cistage.1").display().to_string());
    app.printer.note(&format!("{pages} pages in {dir}: man {page}"));
    Ok(())
}
