//! `cistage completions`: completions for a shell.

use super::App;
use super::exit::CliError;
use clap::CommandFactory;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cistage completions bash > ~/.local/share/bash-completion/completions/cistage")]
pub(super) struct Args {
    /// bash, zsh, fish, elvish or powershell
    shell: clap_complete::Shell,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::Args::command(), "cistage", &mut text);
    let text = String::from_utf8(text).expect("completions are text");
    if app.printer.json {
        return app.printer.json(&serde_json::json!({ "shell": args.shell.to_string(), "completions": text }));
    }
    app.printer.document(&text)
}
