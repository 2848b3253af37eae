//! What the steps of a plan would cost: sizes pass along the plan from what is known to what is not made yet.

use super::attempts;
use super::capacity::Capacity;
use super::planner::{StepPlan, Verdict};
use crate::artifact::{Artifact, Format, Layout};
use crate::cache::Cache;
use crate::name::{PortName, StageName};
use crate::pipeline::{Plan, Source};
use crate::stage::{Machine, Size};
use std::collections::BTreeMap;
use std::path::Path;

/// Kinds whose time is that of matrix products.
const HEAVY: [&str; 2] = ["train", "predict"];

/// Whether a plan has steps whose time can be foretold.
pub fn is_worth_it(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| HEAVY.contains(&step.kind.name()))
}

/// Estimates every step that is not a hit.
pub(super) fn fill_in(plan: &Plan, cache: &Cache, capacity: &Capacity, steps: &mut [StepPlan]) {
    if steps.iter().all(|step| step.verdict == Verdict::Hit) {
        return;
    }
    // Measuring takes a moment: only where somebody asks for it.
    let heavy = steps.iter().any(|step| step.verdict != Verdict::Hit && HEAVY.contains(&step.kind.as_str()));
    let device = plan.steps.iter().find_map(|step| step.device).unwrap_or_default();
    let flops = if heavy { crate::model::speed::measure(device, capacity.cpus as usize) } else { 0.0 };
    let mut foretold: BTreeMap<(StageName, PortName), Size> = BTreeMap::new();
    for (step, planned) in plan.steps.iter().zip(steps) {
        if planned.verdict == Verdict::Hit {
            continue;
        }
        let sizes: BTreeMap<PortName, Size> = step
            .inputs
            .iter()
            .map(|(port, source)| {
                let size = match (planned.inputs.get(port).and_then(Option::as_ref), source) {
                    (Some(artifact), Source::Path { path, .. }) => size(artifact, path),
                    (Some(artifact), Source::Step { .. }) => size(artifact, &cache.object_path(artifact.digest)),
                    (None, Source::Step { step, port }) => {
                        foretold.get(&(step.clone(), port.clone())).copied().unwrap_or_default()
                    }
                    (None, Source::Path { .. }) => Size::default(),
                };
                (port.clone(), size)
            })
            .collect();
        let machine = Machine { threads: capacity.grant(step.resources).cpus, device, flops };
        // A forced execution goes on from nothing, and has no note that it would.
        if let Some(key) = planned.key.filter(|_| planned.note.is_some()) {
            planned.left = planned.left.min(step.kind.stage().left(&cache.scratch(key).join(attempts::STATE), &sizes));
        }
        planned.estimate = step.kind.stage().estimate(&sizes, &machine).scaled(planned.left);
        for port in step.outputs.keys() {
            let rows = planned.estimate.rows.get(port.as_str()).copied();
            foretold.insert((step.name.clone(), port.clone()), Size { bytes: None, rows });
        }
    }
}

fn size(artifact: &Artifact, path: &Path) -> Size {
    let countable = artifact.format == Format::Rows && artifact.layout == Layout::File;
    Size { bytes: Some(artifact.bytes), rows: countable.then(|| rows(path)).flatten() }
}

/// The number of rows by the file's footer; a user's file may hold anything, so even a panicking reader is no news.
fn rows(path: &Path) -> Option<u64> {
    std::panic::catch_unwind(|| crate::data::rows::count(path).ok()).ok().flatten()
}
