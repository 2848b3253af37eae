//! Where things came from, from records alone: lineage, its verification, and why two actions differ.

use crate::action::ActionManifest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that differs between two manifests, or another reason to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Because {
    /// `new`, `param`, `input`, `code`, `device`, `forced`, `missing-object`, `upstream`.
    pub what: String,
    /// The parameter (dotted), the port, the stage.
    pub name: String,
    pub old: Value,
    pub new: Value,
}

/// All fields in which two manifests differ: code, device, parameters (dotted), inputs.
pub fn differences(_old: &ActionManifest, _new: &ActionManifest) -> Vec<Because> {
    todo!()
}
