//! `cistage predict`: predictions from a model folder, outside any pipeline.

use super::App;
use super::exit::CliError;
use super::select::{DeviceArg, check_writable_file};
use crate::data::export::{self, TextForm};
use crate::device::Device;
use crate::huge_pages;
use crate::name::PortName;
use crate::stage::{Sink, Stage, StageContext, StageError};
use crate::stages;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cistage predict results/model sequences.txt -o predictions.tsv")]
pub(super) struct Args {
    /// A model folder: config.json, model.safetensors, tokenizer.json
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Sequences: the challenge's TSV (plain, gzip or zstd; the second column may be nan), or Parquet rows
    #[arg(value_name = "SEQUENCES")]
    sequences: PathBuf,
    /// Where to: .tsv, .parquet, or the challenge's .json
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    huge_pages::allow();
    let form = form(&args.output)?;
    if !args.model.is_dir() {
        return Err(CliError::input_with_help(
            format!("{}: no model folder", args.model.display()),
            "a model folder holds config.json, model.safetensors and tokenizer.json",
        ));
    }
    if !args.sequences.is_file() {
        return Err(CliError::input(format!("{}: no such file", args.sequences.display())));
    }
    check_writable_file(&args.output)?;
    let device = args.device.choose()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = tempfile::tempdir()?;
    let sink = ProgressSink::new(app);

    let import = stages::ImportSequences { labels: stages::Labels::Optional, ..Default::default() };
    let rows = execute(&import, &sink, work.path(), threads, Device::Cpu, &[("file", &args.sequences)], "rows")?;
    let predict = stages::Predict {};
    let made = execute(
        &predict,
        &sink,
        work.path(),
        threads,
        device,
        &[("model", &args.model), ("rows", &rows)],
        "predictions",
    )?;
    sink.bar.finish_and_clear();

    match form {
        Some(form) => export::predictions(&made, &args.output, form)?,
        None => {
            let part = args.output.with_extension("parquet.part");
            fs_err::copy(&made, &part)?;
            fs_err::rename(&part, &args.output)?;
        }
    }
    app.printer.note(&format!("wrote {}", args.output.display()));
    Ok(())
}

/// The form that the output's name asks for; `None` for Parquet.
fn form(path: &Path) -> Result<Option<TextForm>, CliError> {
    let form = TextForm::of(path);
    if form.is_none() && path.extension().is_none_or(|ending| ending != "parquet") {
        let name = path.display();
        return Err(CliError::input(format!("{name}: the output's name must end in .tsv, .tsv.gz, .parquet or .json")));
    }
    Ok(form)
}

/// Runs a stage in this process on files of the user's, and gives the path of one output.
fn execute(
    stage: &dyn Stage,
    sink: &ProgressSink,
    work: &Path,
    threads: usize,
    device: Device,
    inputs: &[(&str, &Path)],
    output: &str,
) -> Result<PathBuf, CliError> {
    let port = |name: &str| PortName::parse(name).expect("a stage's own port");
    let output_dir = work.join(format!("for-{output}"));
    fs_err::create_dir(&output_dir)?;
    let mut absolute = BTreeMap::new();
    for (name, path) in inputs {
        absolute.insert(port(name), fs_err::canonicalize(path)?);
    }
    let mut ctx = StageContext {
        inputs: absolute,
        labels: inputs.iter().map(|(name, path)| (port(name), path.display().to_string())).collect(),
        output_dir: output_dir.clone(),
        outputs: BTreeMap::new(),
        seals: BTreeMap::new(),
        scratch: output_dir.clone(),
        prior: None,
        threads,
        device,
        trace: None,
        together: &crate::collective::Single,
        sink,
    };
    stage.run(&mut ctx).map_err(|error| match error {
        StageError::Input(message) => CliError::input(message),
        StageError::Failed(message) => CliError::Failed(message),
        StageError::Cancelled => CliError::Interrupted,
    })?;
    Ok(output_dir.join(&ctx.outputs[output]))
}

struct ProgressSink {
    bar: indicatif::ProgressBar,
    printer: super::printer::Printer,
}

impl ProgressSink {
    fn new(app: &App) -> Self {
        let quiet = app.printer.quiet || !std::io::stderr().is_terminal();
        let bar = if quiet { indicatif::ProgressBar::hidden() } else { indicatif::ProgressBar::new(0) };
        Self { bar, printer: app.printer.clone() }
    }
}

impl Sink for ProgressSink {
    fn progress(&self, done: u64, total: u64, _unit: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    fn metric(&self, _name: &str, _step: u64, _value: f64) {}

    fn warning(&self, message: &str) {
        self.bar.suspend(|| self.printer.warning(message));
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}
