//! `cistage init`: a folder with a commented pipeline that runs.

use super::App;
use super::exit::CliError;
use super::export::in_one_step;
use crate::report::shell_word;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cistage init promoters\n  cistage init readings --example commands")]
pub(super) struct Args {
    /// The folder; made where there is none
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// What the pipeline is about
    #[arg(long, value_enum, default_value_t = Example::Promoters)]
    example: Example,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Example {
    /// A model of expression trained on promoter sequences
    Promoters,
    /// Python and shell around a table of readings
    Commands,
}

impl Example {
    /// The files, as they stand in the project's `pipelines` folder.
    fn files(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Promoters => vec![
                ("pipeline.yaml", include_str!("../../pipelines/starter/pipeline.yaml")),
                (".gitignore", include_str!("../../pipelines/starter/.gitignore")),
            ],
            Self::Commands => vec![
                ("pipeline.yaml", include_str!("../../pipelines/readings/pipeline.yaml")),
                ("measure.py", include_str!("../../pipelines/readings/measure.py")),
                ("fit.py", include_str!("../../pipelines/readings/fit.py")),
                (".gitignore", include_str!("../../pipelines/readings/.gitignore")),
            ],
        }
    }
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let files = args.example.files();
    let schema = serde_json::to_string_pretty(&crate::pipeline::schema()).expect("plain data") + "\n";
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).chain(["schema.json"]).collect();
    // All or nothing: a folder that holds one of them may hold somebody's work.
    if let Some(taken) = names.iter().find(|name| args.dir.join(name).symlink_metadata().is_ok()) {
        return Err(CliError::input_with_help(
            format!("{} is there already: nothing was changed", args.dir.join(taken).display()),
            "name another folder, or move that file away",
        ));
    }
    fs_err::create_dir_all(&args.dir)
        .map_err(|error| CliError::input(format!("can't make {}: {error}", args.dir.display())))?;
    for (name, text) in files.into_iter().chain([("schema.json", schema.as_str())]) {
        in_one_step(&args.dir.join(name), text.as_bytes())?;
    }
    if app.printer.json {
        return app.printer.json(&serde_json::json!({ "folder": args.dir.display().to_string(), "files": names }));
    }
    let folder = as_argument(&args.dir);
    app.printer.note(&format!("made {}: {}", args.dir.display(), names.join(", ")));
    for (command, what) in [
        ("plan pipeline.yaml", "what a run would do"),
        ("run pipeline.yaml", "do it"),
        ("report -o run.html", "look at it"),
    ] {
        app.printer.note(&format!("  {:<52} {what}", format!("cistage -C {folder} {command}")));
    }
    Ok(())
}

/// A path as a shell and the command line take it.
fn as_argument(path: &Path) -> String {
    let text = path.display().to_string();
    let text = if text.starts_with('-') { format!("./{text}") } else { text };
    shell_word(&text)
}
