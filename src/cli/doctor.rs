//! `cistage doctor`: what this machine has, and what follows from it.

use super::App;
use super::exit::CliError;
use super::printer::{Style, bytes, table};
use crate::cache;
use crate::device::Device;
use crate::engine::{environment, machine};
use crate::model::device::{self, gains_by_bf16};
use serde::Serialize;
use std::path::Path;

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    /// Works, and could be better.
    Note,
    /// Keeps something from working.
    Bad,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    found: String,
    verdict: Verdict,
    means: String,
}

/// Less than this is soon full of checkpoints: a BERT-base training keeps two of 1 GB.
const LITTLE_DISK: u64 = 10 << 30;
/// Less than this is short for a training of BERT-base with its activations.
const LITTLE_MEMORY: u64 = 8 << 30;

pub(super) fn run(app: &App, _args: &Args) -> Result<(), CliError> {
    let mut findings = processors();
    findings.extend(cache_folder(app));
    findings.extend(programs());
    if app.printer.json {
        return app.printer.json(&serde_json::json!({ "findings": findings }));
    }
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|finding| {
            let (word, style) = match finding.verdict {
                Verdict::Good => ("ok", Style::Good),
                Verdict::Note => ("note", Style::Note),
                Verdict::Bad => ("bad", Style::Bad),
            };
            let what = finding.what.to_owned();
            vec![app.printer.paint(word, style), what, finding.found.clone(), finding.means.clone()]
        })
        .collect();
    app.printer.document(&table(&rows, &[]))
}

fn processors() -> Vec<Finding> {
    let (of, has) = (environment(1, Device::Cpu), machine());
    let finding = |what, found, verdict, means: &str| Finding { what, found, verdict, means: means.to_owned() };
    let target = match of.target.as_str() {
        "cpu-avx512" if gains_by_bf16() => {
            (Verdict::Good, "the fastest kernels for processors; `precision: bf16` trains faster still")
        }
        "cpu-avx512" => (Verdict::Good, "the fastest kernels for processors"),
        "cpu-avx2" => (Verdict::Good, "fast kernels; a processor with AVX-512 trains faster"),
        _ => (Verdict::Note, "trains with portable kernels, several times slower than with AVX2 or AVX-512"),
    };
    let memory = if has.memory < LITTLE_MEMORY {
        (Verdict::Note, "short for a BERT-base; a stage that needs more than there is waits, or is ended by the system")
    } else {
        (Verdict::Good, "stages side by side stay within it, by what they say they need")
    };
    let gpus = match (device::gpus(), has.gpus) {
        (Ok(gpus), _) if !gpus.is_empty() => {
            let names = gpus.iter().map(|gpu| format!("{} with {}", gpu.name, bytes(gpu.memory)));
            let means = "training and prediction compute on the first, or where `--device` says".to_owned();
            (names.collect::<Vec<_>>().join(", "), Verdict::Good, means)
        }
        (seen, 0) => {
            let built = if seen.is_ok() { "" } else { ", and by a program that can't use one (docs/gpu.md)" };
            let means = format!("models are trained on processors{built}; `plan` says how long that takes");
            ("none".to_owned(), Verdict::Note, means)
        }
        (Err(why), n) => (n.to_string(), Verdict::Note, (*why).to_owned()),
        (Ok(_), n) => (n.to_string(), Verdict::Note, "the driver shows none of them to this process".to_owned()),
    };
    vec![
        finding(
            "processors",
            format!("{} of {}", has.cores, of.cpu),
            Verdict::Good,
            "a stage that can uses all of them",
        ),
        finding("numeric target", of.target, target.0, target.1),
        finding("memory", bytes(has.memory), memory.0, memory.1),
        Finding { what: "GPUs", found: gpus.0, verdict: gpus.1, means: gpus.2 },
    ]
}

fn cache_folder(app: &App) -> Vec<Finding> {
    let shown = app.cache.display().to_string();
    let bad = |means: String| vec![Finding { what: "cache", found: shown.clone(), verdict: Verdict::Bad, means }];
    if let Err(error) = app.read_cache() {
        return bad(error.to_string());
    }
    let folder = app.cache.ancestors().find(|folder| folder.is_dir());
    // Of a relative name without folders, the working directory is what is there.
    let folder = folder.unwrap_or(Path::new("."));
    let disk = match cache::disk(folder) {
        Ok(disk) => disk,
        Err(error) => {
            return bad(format!("runs can't keep anything there ({error}): name another folder with --cache"));
        }
    };
    let room = if disk.free < LITTLE_DISK {
        (Verdict::Note, "little for models and checkpoints; `cache gc` makes room")
    } else {
        (Verdict::Good, "room for results; `cache du` says what they take")
    };
    let mut findings = vec![Finding {
        what: "cache",
        found: format!("{shown}, {} free", bytes(disk.free)),
        verdict: room.0,
        means: room.1.to_owned(),
    }];
    let (found, means) = if disk.reflinks {
        ("yes", "copies out of the cache take no time and no room")
    } else {
        ("no", "results are copied where they are published; Btrfs and XFS would share the bytes")
    };
    findings.push(Finding {
        what: "reflinks",
        found: found.to_owned(),
        verdict: Verdict::Good,
        means: means.to_owned(),
    });
    if let Some(hazard) = disk.hazard {
        findings.push(Finding {
            what: "file system",
            found: "network".to_owned(),
            verdict: Verdict::Bad,
            means: hazard,
        });
    }
    findings
}

/// Programs that some features start, and what is missing without them.
fn programs() -> Vec<Finding> {
    [
        ("bash", Verdict::Bad, "runs `command` stages", "`command` stages with `run:` can't start"),
        ("python3", Verdict::Note, "for stages that are Python scripts", "stages that are Python scripts can't start"),
        ("strace", Verdict::Note, "for `audit --undeclared`", "`audit --undeclared` needs it"),
        ("sbatch", Verdict::Note, "for `--executor slurm`", "no Slurm: stages run on this machine"),
        (
            "mpirun",
            Verdict::Note,
            "for trainings with `ranks:`, by a program from `make mpi`",
            "trainings with `ranks:` need it, or Slurm",
        ),
    ]
    .into_iter()
    .map(|(name, missing, with, without)| match found(name) {
        Some(path) => Finding { what: name, found: path, verdict: Verdict::Good, means: with.to_owned() },
        None => Finding { what: name, found: "not found".to_owned(), verdict: missing, means: without.to_owned() },
    })
    .collect()
}

/// Where PATH leads to.
fn found(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let there = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())?;
    Some(there.display().to_string())
}
