//! The manifest of a step: all that may change its outputs.

use crate::action::{ActionManifest, MANIFEST_SCHEMA};
use crate::digest::Digest;
use crate::model::device::target;
use crate::name::PortName;
use crate::pipeline::Step;
use std::collections::BTreeMap;

/// Writes down what decides the outputs of `step` on these inputs.
pub(super) fn manifest(step: &Step, inputs: BTreeMap<PortName, Digest>) -> ActionManifest {
    let stage = step.kind.stage();
    ActionManifest {
        schema: MANIFEST_SCHEMA.to_owned(),
        stage: step.kind.name().to_owned(),
        version: stage.version(),
        target: step.device.map(target),
        params: step.kind.params(),
        inputs,
    }
}
