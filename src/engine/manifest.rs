//! The manifest of a step: all that may change its outputs.

use crate::action::{ActionManifest, MANIFEST_SCHEMA};
use crate::digest::Digest;
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
        target: stage.contract().device.then(target),
        params: step.kind.params(),
        inputs,
    }
}

/// The numeric target of this machine, on which the bytes of trained models and predictions depend.
pub(super) fn target() -> String {
    crate::model::device::target().to_owned()
}
