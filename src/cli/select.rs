//! What several commands let a user name: a pipeline with its options, a run, an output.

use super::App;
use super::exit::CliError;
use crate::cache::{Cache, CacheError, RunRecord, StepRecord};
use crate::device::Device;
use crate::event::Outcome;
use crate::huge_pages;
use crate::model::device;
use crate::name::RunId;
use crate::pipeline::{self, Options, Plan};
use crate::provenance::{self, Named};
use std::io;
use std::path::{Component, Path, PathBuf};

// A pipeline file and what overlays it: no words for `--help`, which would take them for those of the whole command.
#[derive(Debug, clap::Args)]
pub(super) struct PipelineArgs {
    /// The pipeline file
    #[arg(value_name = "PIPELINE")]
    pub(super) pipeline: PathBuf,
    /// Use this profile's parameters (repeatable; later ones win)
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Vec<String>,
    /// Set a parameter: dotted name, value as in YAML (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Debug, clap::Args)]
pub(super) struct DeviceArg {
    /// Where training and prediction compute: auto is a GPU where there is one that this program can use, else cpu
    #[arg(long, value_name = "auto|cpu|cuda[:N]", default_value = "auto", value_parser = wish)]
    device: Wish,
}

/// `None` where the program is to choose.
type Wish = Option<Device>;

fn wish(text: &str) -> Result<Wish, String> {
    if text == "auto" { Ok(None) } else { text.parse().map(Some) }
}

impl DeviceArg {
    /// The device, if it is here.
    pub(super) fn choose(&self) -> Result<Device, CliError> {
        device::choose(self.device).map_err(|why| {
            let asked = self.device.unwrap_or_default();
            CliError::input_with_help(
                format!("can't compute on {asked}: {why}"),
                "`--device cpu` computes on the processor; `cistage doctor` says what is here",
            )
        })
    }
}

impl PipelineArgs {
    pub(super) fn load(&self, to: Option<&str>) -> Result<Plan, CliError> {
        let options = Options { profiles: self.profile.clone(), sets: self.set.clone(), to: to.map(ToOwned::to_owned) };
        let mut plan = pipeline::load(&self.pipeline, &options)?;
        // Looking for GPUs takes a moment: not for a plan that has no use for one.
        if plan.asks_for_a_device() {
            plan.compute_on(self.device.choose()?);
        }
        if plan.steps.len() >= MANY_STEPS {
            huge_pages::allow();
        }
        Ok(plan)
    }
}

/// What so many steps need fills a few huge pages.
const MANY_STEPS: usize = 200;

impl App {
    /// The cache, for writing; made where there is none.
    pub(super) fn open_cache(&self) -> Result<Cache, CliError> {
        Cache::open(&self.cache).map_err(|error| self.wrong_cache(error))
    }

    /// The cache, for reading alone.
    pub(super) fn read_cache(&self) -> Result<Cache, CliError> {
        let cache = Cache::open_read_only(&self.cache).map_err(|error| self.wrong_cache(error))?;
        match fs_err::read_dir(&self.cache) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.wrong_cache(error.into())),
            _ => Ok(cache),
        }
    }

    /// A cache that can't be opened was named wrongly: by `--cache`, by CISTAGE_CACHE, or by the working directory.
    fn wrong_cache(&self, error: CacheError) -> CliError {
        match error {
            CacheError::Unusable(message) => CliError::input(message),
            CacheError::Io(error) if is_full(&error) => CliError::Failed(format!("can't open the cache: {error}")),
            CacheError::Io(error) => CliError::input_with_help(
                format!("{} can't be used as a cache: {error}", self.cache.display()),
                "--cache DIR and CISTAGE_CACHE name the cache folder; `cistage run` makes one where there is none",
            ),
        }
    }

    /// The cache for questions that hash many files: with its memo of unchanged ones where it can be written, for
    /// reading alone elsewhere. Makes no cache where there is none.
    pub(super) fn memo_cache(&self) -> Result<Cache, CliError> {
        if self.cache.join("objects").is_dir()
            && let Ok(cache) = Cache::open(&self.cache)
        {
            return Ok(cache);
        }
        self.read_cache()
    }
}

impl App {
    /// Says what is most likely not meant in a pipeline.
    pub(super) fn warn_of(&self, plan: &Plan) {
        plan.warnings.iter().for_each(|warning| self.printer.warning(warning));
    }
}

/// Whether the disk is full, which is nobody's mistake.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Tries, before any work, whether the file that the user asked for can be written; makes its folder. A path that
/// can't be is a mistake of the command line, unless the disk is full.
pub(super) fn check_writable(path: &Path) -> Result<(), CliError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder)).map(drop).map_err(|error| {
        let message = format!("can't write {}: {error}", path.display());
        if is_full(&error) { CliError::Failed(message) } else { CliError::input(message) }
    })
}

/// As `check_writable`, where a folder will not do.
pub(super) fn check_writable_file(path: &Path) -> Result<(), CliError> {
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") || path.is_dir() {
        return Err(CliError::input(format!("{} is a folder: name a file", path.display())));
    }
    check_writable(path)
}

/// The newest run that `wanted` accepts.
pub(super) fn newest_run(cache: &Cache, wanted: impl Fn(&RunRecord) -> bool) -> Result<Option<RunRecord>, CliError> {
    for id in cache.runs()?.into_iter().rev() {
        if let Some(record) = cache.run(&id)?
            && wanted(&record)
        {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The run that a text names: a run id, its start or its end, a pipeline file, or nothing for the newest.
pub(super) fn run_named(cache: &Cache, text: Option<&str>) -> Result<RunRecord, CliError> {
    let Some(text) = text else {
        return newest_run(cache, |_| true)?.ok_or_else(|| no_runs(cache));
    };
    let ids = cache.runs()?;
    if let Some(id) = starting_with(&ids, text)? {
        return readable(cache, id);
    }
    if Path::new(text).extension().is_some() {
        return newest_run(cache, |run| is_same_path(&run.file, text))?.ok_or_else(|| {
            CliError::input(format!("no run of pipeline {text} is recorded in {}", cache.root().display()))
        });
    }
    if let Some(run) = newest_run(cache, |run| run.pipeline == text)? {
        return Ok(run);
    }
    match ending_with(&ids, text)? {
        Some(id) => readable(cache, id),
        None => Err(no_such_run(text)),
    }
}

/// The run whose id begins or ends with a text, with a record or without.
pub(super) fn run_id(cache: &Cache, text: &str) -> Result<Option<RunId>, CliError> {
    let ids = cache.runs()?;
    let found = match starting_with(&ids, text)? {
        None => ending_with(&ids, text)?,
        found => found,
    };
    Ok(found.cloned())
}

pub(super) fn no_such_run(text: &str) -> CliError {
    CliError::input_with_help(format!("there is no run {text:?}"), "`cistage runs` lists the runs")
}

fn starting_with<'a>(ids: &'a [RunId], text: &str) -> Result<Option<&'a RunId>, CliError> {
    one_of(ids.iter().filter(|id| id.as_str().starts_with(text)), text, "start")
}

fn ending_with<'a>(ids: &'a [RunId], text: &str) -> Result<Option<&'a RunId>, CliError> {
    let has = |id: &&RunId| text.len() >= LEAST_OF_AN_END && id.as_str().ends_with(text);
    one_of(ids.iter().filter(has), text, "end")
}

fn one_of<'a>(
    matching: impl Iterator<Item = &'a RunId>,
    text: &str,
    part: &str,
) -> Result<Option<&'a RunId>, CliError> {
    let matching: Vec<&RunId> = matching.collect();
    if matching.len() < 2 {
        return Ok(matching.first().copied());
    }
    let list = matching.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ");
    Err(CliError::input_with_help(format!("{text:?} is the {part} of several runs: {list}"), "write more of it"))
}

/// Less of the end of a run's id names none.
const LEAST_OF_AN_END: usize = 4;

fn readable(cache: &Cache, id: &RunId) -> Result<RunRecord, CliError> {
    cache.run(id)?.ok_or_else(|| {
        CliError::input_with_help(
            format!("run {id} has no readable record"),
            "it is under way, was killed, or is damaged: `cistage cache verify` tells",
        )
    })
}

/// An earlier and a later run: by default the newest that is `wanted`, and the one of the same pipeline before it that is.
pub(super) fn two_runs(
    cache: &Cache,
    old: Option<&str>,
    new: Option<&str>,
    wanted: fn(&RunRecord) -> bool,
) -> Result<(RunRecord, RunRecord), CliError> {
    let chosen = if new.is_none() { newest_run(cache, wanted)? } else { None };
    let new = match chosen {
        Some(new) => new,
        None => run_named(cache, new)?,
    };
    let old = match old {
        Some(old) => run_named(cache, Some(old))?,
        None => before(cache, &new, wanted)?.ok_or_else(|| {
            CliError::input_with_help(
                format!("there is no run of {} before {}", new.pipeline, new.run),
                "name two runs, the earlier one first; `cistage runs` lists them",
            )
        })?,
    };
    Ok((old, new))
}

/// The wanted run of the same pipeline that ended before this one.
fn before(cache: &Cache, run: &RunRecord, wanted: fn(&RunRecord) -> bool) -> Result<Option<RunRecord>, CliError> {
    // Of one second, ids say nothing about the order: the list does.
    for id in cache.runs()?.into_iter().rev().skip_while(|id| *id != run.run).skip(1) {
        let earlier = cache.run(&id)?.filter(|earlier| earlier.pipeline == run.pipeline && wanted(earlier));
        if earlier.is_some() {
            return Ok(earlier);
        }
    }
    Ok(None)
}

/// Whether two paths are written alike, but for a `./`.
pub(super) fn is_same_path(a: &str, b: &str) -> bool {
    let parts = |path: &str| -> Vec<_> {
        Path::new(path).components().filter(|c| *c != Component::CurDir).map(|c| c.as_os_str().to_owned()).collect()
    };
    parts(a) == parts(b)
}

pub(super) fn no_runs(cache: &Cache) -> CliError {
    CliError::input_with_help(
        format!("no run is recorded in {}", cache.root().display()),
        "`cistage run PIPELINE` makes one; --cache or CISTAGE_CACHE names another cache",
    )
}

/// The output that `STAGE.PORT` names in the newest run that has the stage.
pub(super) fn output_named(cache: &Cache, text: &str) -> Result<Named, CliError> {
    // A branch may hold dots (`finetune@rate=0.1.model`): the port follows the last one.
    let (stage, port) = text.rsplit_once('.').ok_or_else(|| {
        CliError::input_with_help(format!("{text:?} names no output"), "write STAGE.PORT, as in `evaluate.metrics`")
    })?;
    if let Some(found) = provenance::named(cache, text)? {
        return Ok(found);
    }
    let done = |step: &StepRecord| step.stage.as_str() == stage && matches!(step.outcome, Outcome::Ran | Outcome::Hit);
    let Some(run) = newest_run(cache, |run| run.steps.iter().any(done))? else {
        let newest = run_named(cache, None)?;
        let names: Vec<&str> = newest.steps.iter().map(|s| s.stage.as_str()).collect();
        return Err(CliError::input_with_help(
            format!("no recorded run finished a stage {stage:?}"),
            format!("the newest run has: {}", names.join(", ")),
        ));
    };
    let outputs = run.steps.iter().filter(|step| done(step)).flat_map(|step| step.outputs.keys());
    let ports: Vec<&str> = outputs.map(|p| p.as_str()).collect();
    Err(CliError::input_with_help(
        format!("stage {stage} has no output {port:?}"),
        format!("it has: {}", ports.join(", ")),
    ))
}
