//! Which steps `--force` means.

use super::EngineError;
use crate::pipeline::Plan;

/// For each step of the plan, whether it executes even where there is a hit. A name without its matrix branch means
/// all branches.
pub(super) fn forced(plan: &Plan, names: &[String]) -> Result<Vec<bool>, EngineError> {
    let means = |name: &str, step: &crate::pipeline::Step| step.name.as_str() == name || step.name.base() == name;
    for name in names {
        if !plan.steps.iter().any(|step| means(name, step)) {
            let known: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
            return Err(EngineError::Input(format!(
                "--force {name}: there is no such stage in this plan; it has: {}",
                known.join(", ")
            )));
        }
    }
    Ok(plan.steps.iter().map(|step| names.iter().any(|name| means(name, step))).collect())
}
