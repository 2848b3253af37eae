//! Making it happen: walks a plan, serves what the cache has, executes the rest in worker processes.
//!
//! A coordinator on the calling thread asks the scheduler (pure) for steps whose inputs are known, looks their keys
//! up, and gives each miss to a thread of its own, which claims the key and watches the worker process. The same
//! binary is the worker: `cistage worker JOB`; where several ranks share a stage it starts them, each `cistage rank JOB`.

use crate::cache::{CacheError, Remote};
use crate::event::{Event, RunOutcome};
use crate::name::RunId;
use crate::site::{self, Executor};
use std::sync::Arc;

mod accept;
mod access;
mod attempts;
mod because;
mod capacity;
mod clock;
mod coordinator;
mod detached;
mod environment;
mod estimate;
mod execute;
mod force;
mod formats;
mod interrupt;
mod job;
mod leakage;
mod log;
mod manifest;
mod out_of_memory;
mod outputs;
mod placed;
mod planner;
mod prefix;
mod printed;
mod process;
mod publish;
mod ranks;
mod recorder;
mod reproduce;
mod rerun;
mod run;
mod scheduler;
mod secrets;
mod sharing;
mod slurm;
mod sources;
mod strace;
mod tail;
mod text_form;
mod undeclared;
mod work_dir;
mod worker;

pub use accept::accept;
pub use access::Access;
pub use capacity::{Machine, machine};
pub use detached::detached;
pub use environment::environment;
pub use estimate::is_worth_it as can_be_estimated;
pub use interrupt::Interrupt;
pub use planner::{StepPlan, Verdict, plan};
pub use printed::printed_so_far;
pub use reproduce::{Reproduced, manifest_again, reproduce};
pub use rerun::{Again, Purpose, Rerun, rerun};
pub use run::run;
pub use text_form::{text_form, write_text};
pub use worker::{rank, worker};

/// How a plan is run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Stages that execute even where the cache has their result; a name without its matrix branch means all branches.
    pub force: Vec<String>,
    /// Stages side by side; as many as there are processors where not said.
    pub jobs: Option<usize>,
    /// Processors to use; all where not said.
    pub threads: Option<usize>,
    /// After a failure, go on with all that does not depend on it.
    pub keep_going: bool,
    /// A stage that another process works on already fails, and is not waited for.
    pub no_wait: bool,
    /// Where stages run that do not say.
    pub executor: Executor,
    /// What a site says of its Slurm.
    pub slurm: site::Slurm,
    /// The shared cache: asked for what is not here, and given what was made, where it says so.
    pub remote: Option<Arc<Remote>>,
    /// The command line, for the record.
    pub argv: Vec<String>,
    /// `--profile`, for the record.
    pub profiles: Vec<String>,
    /// `--set`, for the record.
    pub sets: Vec<String>,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    pub run: RunId,
    pub outcome: RunOutcome,
    /// Every failure was the user's data: exit code 2.
    pub input_error: bool,
    pub ran: u64,
    pub hit: u64,
    pub failed: u64,
    pub skipped: u64,
    /// Results that could not be placed in the working directory.
    pub unpublished: u64,
    pub seconds: f64,
}

/// Whoever wants to see what happens.
pub trait Reporter: Send + Sync {
    fn event(&self, event: &Event);

    /// Whether to hear each line that stages print, too.
    fn wants_output(&self) -> bool {
        false
    }
}

/// Why nothing could be run, or not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The user's files or options are at fault: exit code 2.
    #[error("{0}")]
    Input(String),
    /// Asked to stop before anything was started: exit code 130.
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("{0}")]
    Other(String),
}
