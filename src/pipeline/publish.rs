//! `publish:` — which outputs are placed where in the working directory.

use super::command::ending;
use super::diagnostics::Diagnostics;
use super::node::{Content, Entry};
use super::plan::Branches;
use super::spec::{inside, overlaps};
use super::wiring::{Catalog, From, Place};
use crate::artifact::Format;
use crate::name::{PortName, StageName};
use std::collections::BTreeMap;

/// Published path -> output.
pub type Published = BTreeMap<String, (StageName, PortName)>;

/// Reads `publish:`, its values filled in. An output of several branches is published once for each, the branch
/// put before the ending: `metrics@per_bin=3000.json`. What `when` or `--to` leaves out is not published.
pub fn read(
    entries: &[Entry],
    catalog: &Catalog,
    branches: &Branches,
    sources: &[&str],
    problems: &mut Diagnostics<'_>,
) -> Published {
    let mut published = Published::new();
    let mut paths: Vec<String> = Vec::new();
    for entry in entries {
        let path = match inside(&entry.key) {
            Ok(path) => path,
            Err(message) => {
                problems
                    .at(entry.key_span, format!("the published path {:?} {message}", entry.key))
                    .help("published files go below the working directory, such as `results/metrics.json`");
                continue;
            }
        };
        if let Some(other) = paths.iter().find(|other| overlaps(other, &path)) {
            problems.at(entry.key_span, format!("the published paths `{other}` and `{path}` lie one within the other"));
            continue;
        }
        if let Some(source) = sources.iter().find(|source| inside(source).is_ok_and(|source| overlaps(&source, &path)))
        {
            problems
                .at(entry.key_span, format!("publishing `{path}` would overwrite the input `{source}`"))
                .help("publish to another path");
            continue;
        }
        paths.push(path.clone());
        let span = entry.value.span;
        let Some(text) = entry.value.text() else {
            if entry.value.content != Content::Invalid {
                let found = entry.value.describe();
                problems.at(span, format!("what is published is named STAGE.PORT, not {found}"));
            }
            continue;
        };
        // Left out with its stage, without complaint: a pipeline can publish what only some profiles make.
        let stage = text.split(['.', '@']).next().unwrap_or_default();
        if catalog.stages.get(stage).is_some_and(|listed| !listed.present) {
            continue;
        }
        let (stage, branch, port) = match catalog.refer(text, Place::Publish, span, problems) {
            None => continue,
            Some(From::Output { stage, branch, port }) => (stage, branch, port),
            Some(From::Path(text)) => {
                let help = catalog.near(&text).map_or_else(
                    || "publish takes outputs of this pipeline: STAGE.PORT".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                problems.at(span, format!("`{text}` is no output of a stage")).help(help);
                continue;
            }
        };
        if catalog.format(&stage, &port) == Some(Format::Rows) && path.ends_with(".json") {
            problems
                .at(entry.key_span, format!("`{text}` is rows, which can't be published as JSON"))
                .help("let the path end in .parquet, .tsv or .tsv.gz");
            continue;
        }
        let Some(steps) = branches.get(&stage) else { continue };
        let chosen: Vec<_> =
            steps.iter().filter(|name| branch.is_none() || name.branch() == branch.as_deref()).collect();
        if chosen.is_empty() {
            problems
                .at(span, format!("the stage `{stage}` has no branch `{}`", branch.unwrap_or_default()))
                .help(branch_names(steps));
            continue;
        }
        for name in chosen {
            let port = PortName::parse(&port).expect("an output of a contract or a declared one, checked");
            let path = match name.branch().filter(|_| branch.is_none()) {
                Some(branch) => with_branch(&path, branch),
                None => path.clone(),
            };
            published.insert(path, (name.clone(), port));
        }
    }
    published
}

/// The branches of a stage, for a message.
pub fn branch_names(steps: &[StageName]) -> String {
    let names: Vec<String> =
        steps.iter().filter(|name| name.branch().is_some()).map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "it has no matrix".to_owned() } else { format!("its branches: {}", names.join(", ")) }
}

fn with_branch(path: &str, branch: &str) -> String {
    let (stem, ending) = path.split_at(path.len() - ending(path).len());
    format!("{stem}@{branch}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_stands_before_the_ending() {
        assert_eq!(with_branch("results/m.json", "k=1"), "results/m@k=1.json");
        assert_eq!(with_branch("a.b/rows.tsv.gz", "k=1"), "a.b/rows@k=1.tsv.gz");
        assert_eq!(with_branch("results/model", "k=1"), "results/model@k=1");
    }
}
