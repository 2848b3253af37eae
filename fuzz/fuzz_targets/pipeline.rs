//! Any bytes as a pipeline file: problems that can be printed, or a plan whose steps stand in order.
//!
//! What stands after a byte 0xFF, which no text holds, is given as `--set`, `--profile` (with a leading `+`) and `--to`
//! (with a leading `>`).

#![no_main]

use cistage::digest::canonical;
use cistage::pipeline::{Options, Plan, Source, plan_of_text};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|&byte| byte == 0xff).map(std::str::from_utf8);
    let Some(Ok(text)) = parts.next() else { return };
    let mut options = Options::default();
    for part in parts.filter_map(Result::ok) {
        match part.split_at_checked(1) {
            Some(("+", name)) => options.profiles.push(name.to_owned()),
            Some((">", name)) => options.to = Some(name.to_owned()),
            _ => options.sets.push(part.to_owned()),
        }
    }
    match plan_of_text(Path::new("p.yaml"), text, &options) {
        Err(problems) => {
            assert!(!problems.0.is_empty(), "a refusal says why");
            assert!(!problems.to_string().is_empty());
        }
        Ok(plan) => check(&plan),
    }
});

/// Each step is made from those before it, and what is published is made.
fn check(plan: &Plan) {
    let mut made = BTreeMap::new();
    for step in &plan.steps {
        for source in step.inputs.values() {
            if let Source::Step { step: maker, port } = source {
                let outputs: &&BTreeMap<_, _> = made.get(maker).expect("a maker stands before its readers");
                assert!(outputs.contains_key(port), "{maker} has no {port}");
            }
        }
        assert!(!canonical(&step.kind.params()).is_empty());
        assert!(made.insert(&step.name, &step.outputs).is_none(), "{} stands twice", step.name);
    }
    for (path, (stage, port)) in &plan.publish {
        assert!(made.get(stage).is_some_and(|outputs| outputs.contains_key(port)), "{path}: {stage}.{port}");
        assert!(!path.starts_with('/') && path.split('/').all(|part| part != ".."), "{path} leads out");
    }
}
