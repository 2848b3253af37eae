//! What this machine offers to stages.

use super::{EngineError, RunOptions, ranks, run};
use crate::collective;
use crate::device::Device;
use crate::model::device;
use crate::pipeline::{Plan, Step};
use crate::site::Executor;
use crate::stage::Resources;
use std::path::Path;

/// What may be used at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Stages side by side.
    pub jobs: usize,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    pub gpus: u32,
}

impl Capacity {
    pub(super) fn of_machine(options: &RunOptions) -> Self {
        let cores = cores();
        let cpus = options.threads.map_or(cores, |n| u32::try_from(n).unwrap_or(u32::MAX).max(1));
        Self { jobs: options.jobs.unwrap_or(cores as usize).max(1), cpus, memory: memory(), gpus: gpus() }
    }

    /// What a step gets: what it asks for, or all there is.
    pub(super) fn grant(&self, wanted: Resources) -> Resources {
        Resources {
            cpus: wanted.cpus.clamp(1, self.cpus),
            memory: wanted.memory.min(self.memory),
            gpus: wanted.gpus.min(self.gpus),
            time: wanted.time,
        }
    }

    /// Also for so many jobs that run elsewhere.
    pub(super) fn and_elsewhere(self, jobs: usize) -> Self {
        Self { jobs: self.jobs.saturating_add(jobs), ..self }
    }

    /// Refuses a plan with steps that can never run here.
    pub(super) fn check(&self, plan: &Plan, options: &RunOptions) -> Result<(), EngineError> {
        let short = |step: &&Step| run::place(step, options) == Executor::Local && step.resources.gpus > self.gpus;
        let at = |step: &Step, what: String| {
            let (file, position) = (plan.file.display(), step.position);
            format!("{file}:{}:{}: stage `{}` {what}", position.line, position.column, step.name)
        };
        let mut problems: Vec<String> = plan
            .steps
            .iter()
            .filter(short)
            .map(|step| {
                let what = format!(
                    "asks for {} GPU(s), this machine has {}: lower `resources: gpus`, or run it where there are GPUs",
                    step.resources.gpus, self.gpus
                );
                at(step, what)
            })
            .collect();
        for step in plan.steps.iter().filter(|step| step.kind.stage().ranks() > 1) {
            let (count, device) = (step.kind.stage().ranks(), step.device.unwrap_or_default());
            let local = run::place(step, options) == Executor::Local;
            // Nodes may have a program of their own.
            let here = local || options.slurm.program.is_none();
            if let Some(why) = collective::missing(device).filter(|_| here) {
                problems.push(at(step, format!("wants {count} ranks: {why}")));
            } else if let (Device::Cuda(first), true) = (device, local)
                && let Some(what) = ranks::too_few_gpus(count, first, device::gpus().map_or(0, <[_]>::len))
            {
                problems.push(at(step, what));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(EngineError::Input(problems.join("\n"))) }
    }
}

/// What there is, whatever a run may use of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    pub cores: u32,
    /// Bytes.
    pub memory: u64,
    pub gpus: u32,
}

/// Looks at this machine.
pub fn machine() -> Machine {
    Machine { cores: cores(), memory: memory(), gpus: gpus() }
}

/// Processors that this process may use.
pub(super) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// Memory of the machine, in bytes; without a figure, no limit.
fn memory() -> u64 {
    // SAFETY: these calls take and give numbers alone; an unknown name gives -1.
    let [pages, size] = unsafe { [libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)] };
    match (u64::try_from(pages), u64::try_from(size)) {
        (Ok(pages), Ok(size)) => pages.saturating_mul(size),
        _ => u64::MAX,
    }
}

/// GPUs as the driver shows them: `/dev/nvidia0` and so on, beside its own `/dev/nvidiactl`.
fn gpus() -> u32 {
    if !Path::new("/dev/nvidiactl").exists() {
        return 0;
    }
    let Ok(devices) = fs_err::read_dir("/dev") else { return 0 };
    let is_gpu = |name: &str| {
        name.strip_prefix("nvidia").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    devices.flatten().filter(|device| device.file_name().to_str().is_some_and(is_gpu)).count() as u32
}
