//! Parameters that nothing uses: a slip in a name leaves one behind.

use super::node::{Content, Entry, Node};
use super::spec::PipelineSpec;

/// Whether a text in a value uses a parameter: as `${name}`, or as `{param.name}` of a command.
pub fn mentions(node: &Node, name: &str) -> bool {
    match &node.content {
        Content::Scalar(_) => node.text().is_some_and(|text| uses(text, name)),
        Content::List(items) => items.iter().any(|item| mentions(item, name)),
        Content::Map(entries) => entries.iter().any(|entry| mentions(&entry.value, name)),
        Content::Invalid => true,
    }
}

fn uses(text: &str, name: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    ["${", "{param."].iter().any(|opening| {
        let named = format!("{opening}{name}");
        text.match_indices(&named).any(|(at, _)| !goes_on(&text[at + named.len()..]))
    })
}

/// Says of each parameter of the file that no stage uses it, also of stages that are left out now.
pub fn parameters(spec: &PipelineSpec) -> Vec<String> {
    let is_used = |name: &str| {
        let in_stage = spec.stages.iter().any(|stage| {
            let parts = [&stage.inputs, &stage.with, &stage.matrix].into_iter();
            // Elsewhere a matrix sets parameters of the stage, whatever the pipeline's are called.
            let varies = stage.uses == Some("command") && stage.matrix.entries().iter().any(|axis| axis.key == name);
            varies
                || parts
                    .chain(&stage.when)
                    .chain(&stage.resources)
                    .chain(&stage.executor)
                    .chain(stage.ranks.as_ref().map(|entry| &entry.value))
                    .any(|part| mentions(part, name))
        });
        in_stage || spec.publish.iter().any(|entry| mentions(&entry.value, name))
    };
    let unused = spec.params.iter().filter(|Entry { key, .. }| !is_used(key));
    unused.map(|Entry { key, .. }| format!("the parameter `{key}` is used by no stage")).collect()
}
