//! The command line: one file per command, one printer, and the only place where an error becomes an exit code.

use crate::site::{Site, SiteError};
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

mod accept;
mod audit;
mod cache;
mod completions;
mod diff;
mod doctor;
mod exit;
mod export;
mod gc;
mod get;
mod graph;
mod http;
mod init;
mod interrupt;
mod keys;
mod leakage;
mod live;
mod logs;
mod man;
mod metrics;
mod metrics_diff;
mod missing;
mod pins;
mod plan;
mod predict;
mod printer;
mod progress;
mod remote;
mod report;
mod reporter;
mod rerun;
mod run;
mod runs;
mod schema;
mod select;
mod serve;
mod shell;
mod show;
mod tensorboard;
mod transfer;
mod underway;
mod why;

use exit::CliError;
use printer::{Color, OutputFormat, Printer};

/// Cached stages for cis-regulatory models: runs a YAML pipeline of content-hashed stages, so that only what changed
/// runs again and every artifact can prove where it came from.
#[derive(Debug, Parser)]
#[command(name = "cistage", version, long_version = version(), propagate_version = true, arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The version with what tells one build from another, as records have them.
fn version() -> String {
    // Made at each start, also of a worker: nothing may be looked up for it.
    let mut lines = vec![env!("CARGO_PKG_VERSION").to_owned()];
    lines.extend(option_env!("CISTAGE_COMMIT").map(|commit| format!("commit {commit}")));
    lines.extend(option_env!("CISTAGE_BUILD").map(|build| format!("build  {build}")));
    lines.join("\n")
}

#[derive(Debug, clap::Args)]
struct Global {
    /// Change to this directory first
    #[arg(short = 'C', value_name = "DIR", global = true)]
    directory: Option<PathBuf>,
    /// The cache folder
    #[arg(long, value_name = "DIR", global = true, env = "CISTAGE_CACHE", default_value = "cache")]
    cache: PathBuf,
    /// What stdout holds: text for people, or JSON alone
    #[arg(long, global = true, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// Say less
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more; of a run also what its stages print
    #[arg(short, long, global = true)]
    verbose: bool,
}

/// The words that `--help` lists stand here: what a command takes is looked at when it is called, which saves time at each start.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Run what is not cached
    Run(run::Args),
    /// Show what a run would do, and why
    Plan(plan::Args),
    /// Explain why a stage would run, or would not
    Why(why::Args),
    /// Show what differs between two runs
    Diff(diff::Args),
    /// Show where an artifact came from
    Audit(audit::Args),
    /// Decide that a change of code or text does not matter: the earlier result is served, and every audit shows who decided
    ///
    /// What a stage computes from stays what it was: a changed parameter, or other data, can't be accepted.
    Accept(accept::Args),
    /// List the runs, newest first
    Runs(runs::Args),
    /// Show one run: its stages, times and metrics
    Show(show::Args),
    /// Print what a stage printed, or prints at this moment
    Logs(logs::Args),
    /// Show the numbers of a run, or of two beside one another
    Metrics(metrics::Args),
    /// Write one run as a self-contained HTML page: graph, numbers, curves, lineage
    Report(report::Args),
    /// Open a shell in the work directory of a command stage, made again as a run gave it to its program
    Shell(shell::Args),
    /// Copy an output of the newest run that has its stage
    Get(get::Args),
    /// Predict expression with a model folder
    Predict(predict::Args),
    /// Draw the pipeline's graph, with what a run would do
    Graph(graph::Args),
    #[command(subcommand)]
    Cache(cache::Command),
    #[command(subcommand)]
    Keys(keys::Command),
    /// Show all runs as web pages: graphs, numbers, curves, lineage; those under way as they go
    Serve(serve::Args),
    /// Make a folder with a commented pipeline that runs
    Init(init::Args),
    /// Say what this machine has for pipelines, and what that means
    Doctor(doctor::Args),
    /// Print the JSON Schema of pipeline files
    Schema(schema::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Write the manual pages of all commands into a folder
    Man(man::Args),
}

/// What every command gets.
struct App {
    cache: PathBuf,
    printer: Printer,
    verbose: bool,
}

impl App {
    /// What the nearest `cistage.toml` says.
    fn site(&self) -> Result<Site, CliError> {
        let here = std::env::current_dir()?;
        Site::find(&here).map_err(|error| match error {
            SiteError::Io(error) => error.into(),
            wrong @ SiteError::Wrong { .. } => CliError::input(wrong.to_string()),
        })
    }
}

/// Reads the command line, does what it says, and gives the exit code.
pub fn main() -> u8 {
    match job(std::env::args_os()) {
        Some(("worker", job)) => return crate::engine::worker(&job),
        Some((_, job)) => return crate::engine::rank(&job),
        None => {}
    }
    if let Some(folder) = detached_job(std::env::args_os()) {
        return crate::engine::detached(&folder);
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return missing::report(&error),
    };
    let global = args.global;
    let printer = Printer::new(global.format, global.color, global.quiet);
    if let Some(directory) = &global.directory
        && let Err(error) = change_to(directory)
    {
        printer.error(&format!("can't change to {}: {error}", directory.display()), None);
        return 2;
    }
    let app = App { cache: global.cache, printer, verbose: global.verbose };
    match dispatch(&app, args.command) {
        Ok(()) => 0,
        Err(error) => error.report(&app.printer),
    }
}

/// The job of `cistage worker JOB`, by which a run starts a stage, and of `cistage rank JOB`, by which that one starts others: no
/// commands for people, and no time is lost on theirs.
fn job(mut args: impl ExactSizeIterator<Item = OsString>) -> Option<(&'static str, PathBuf)> {
    if args.len() != 3 {
        return None;
    }
    let word = args.nth(1)?;
    let role = ["worker", "rank"].into_iter().find(|role| word == *role)?;
    Some((role, args.next()?.into()))
}

/// The folder of `cistage worker --detached FOLDER`, by which a batch system starts a job.
fn detached_job(mut args: impl ExactSizeIterator<Item = OsString>) -> Option<PathBuf> {
    let is_detached = args.len() == 4 && args.nth(1)? == "worker" && args.next()? == "--detached";
    is_detached.then(|| args.next().map(PathBuf::from)).flatten()
}

#[expect(clippy::disallowed_methods, reason = "the one place: before any thread or path")]
fn change_to(directory: &std::path::Path) -> std::io::Result<()> {
    std::env::set_current_dir(directory)
}

fn dispatch(app: &App, command: Command) -> Result<(), CliError> {
    match command {
        Command::Run(args) => run::run(app, &args),
        Command::Plan(args) => plan::run(app, &args),
        Command::Why(args) => why::run(app, &args),
        Command::Diff(args) => diff::run(app, &args),
        Command::Audit(args) => audit::run(app, &args),
        Command::Accept(args) => accept::run(app, &args),
        Command::Runs(args) => runs::run(app, &args),
        Command::Show(args) => show::run(app, &args),
        Command::Logs(args) => logs::run(app, &args),
        Command::Metrics(args) => metrics::run(app, &args),
        Command::Report(args) => report::run(app, &args),
        Command::Shell(args) => shell::run(app, &args),
        Command::Get(args) => get::run(app, &args),
        Command::Predict(args) => predict::run(app, &args),
        Command::Graph(args) => graph::run(app, &args),
        Command::Cache(command) => cache::run(app, &command),
        Command::Keys(command) => keys::run(app, &command),
        Command::Serve(args) => serve::run(app, &args),
        Command::Init(args) => init::run(app, &args),
        Command::Doctor(args) => doctor::run(app, &args),
        Command::Schema(args) => schema::run(app, &args),
        Command::Man(args) => man::run(app, &args),
        Command::Completions(args) => completions::run(app, &args),
    }
}

#[cfg(test)]
mod tests {
    use super::Args;
    use clap::CommandFactory;
    use clap::error::ErrorKind;
    use std::path::Path;

    /// All `cistage …` that stand on a page, in backticks or on a line of their own.
    fn commands(text: &str) -> impl Iterator<Item = &str> {
        let inline = text.split('`').skip(1).step_by(2).filter(|code| !code.contains('\n'));
        let lines = text.lines().map(|line| line.trim_start_matches("$ "));
        inline.chain(lines).filter(|code| code.starts_with("cistage "))
    }

    #[test]
    fn every_command_that_a_page_names_is_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = fs_err::read_dir(root.join("docs")).expect("the pages");
        let pages =
            folder.map(|entry| entry.expect("a page").path()).filter(|path| path.extension() == Some("md".as_ref()));
        let pages = pages
            .chain(["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "cache/README.md"].map(|page| root.join(page)));
        let mut seen = 0;
        for page in pages {
            let text = fs_err::read_to_string(&page).expect("a page");
            for command in commands(&text) {
                let command = command.split(['|', '&', '#', '>']).next().unwrap_or(command);
                // What is quoted is one word.
                let parts = command.split('"').enumerate();
                let text: String =
                    parts.map(|(i, part)| if i % 2 == 0 { part.into() } else { part.replace(' ', "_") }).collect();
                if let Err(error) = Args::command().try_get_matches_from(text.split_whitespace())
                    // In prose a command stands without what it works on.
                    && !matches!(
                        error.kind(),
                        ErrorKind::MissingRequiredArgument
                            | ErrorKind::DisplayHelp
                            | ErrorKind::DisplayVersion
                            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                            | ErrorKind::MissingSubcommand
                    )
                {
                    panic!("{}: `{command}`: {error}", page.display());
                }
                seen += 1;
            }
        }
        assert!(seen > 30, "{seen} commands stand on the pages");
    }
}
