//! Imports point down the layers, and each special dependency has one place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const RANK_0: &[&str] = &["name", "digest", "device", "seed", "signature", "site", "huge_pages", "collective"];
const RANKS_0_1: &[&str] = &[
    "name",
    "digest",
    "device",
    "seed",
    "signature",
    "site",
    "huge_pages",
    "collective",
    "artifact",
    "action",
    "event",
];

/// Each module of the crate, which ranks it may import, and what else. `cli` may import anything.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    ("name", &[], &[]),
    ("digest", &[], &[]),
    ("device", &[], &[]),
    ("seed", &[], &[]),
    ("signature", &[], &[]),
    ("site", &[], &[]),
    ("huge_pages", &[], &[]),
    ("collective", &[], &["device"]),
    ("artifact", RANK_0, &[]),
    ("action", RANK_0, &["artifact"]),
    ("event", RANK_0, &["artifact", "action"]),
    ("stage", RANKS_0_1, &[]),
    ("data", RANK_0, &[]),
    ("model", RANK_0, &["data"]),
    ("training", RANK_0, &["model", "data"]),
    ("report", RANK_0, &["data"]),
    ("stages", RANKS_0_1, &["stage", "data", "model", "training", "report"]),
    ("cache", RANKS_0_1, &[]),
    ("pipeline", RANKS_0_1, &["stages", "stage"]),
    ("provenance", RANKS_0_1, &["cache", "data"]),
    ("engine", RANKS_0_1, &["pipeline", "cache", "stages", "stage", "provenance", "data", "model"]),
    ("pages", RANKS_0_1, &["cache", "provenance", "report", "data"]),
];

/// A text that only files under these paths may hold, and why.
const ONE_PLACE: &[(&[&str], &[&str], &str)] = &[
    (&["sled::"], &["cache/index.rs"], "the index is derived, and replaceable"),
    (
        &["object_store::", "futures_util::", "reqwest::", "rustls::"],
        &["cache/remote/store.rs", "cache/remote/store/", "cache/remote/connect.rs"],
        "what the shared cache is kept in can be replaced",
    ),
    (&["tokio::"], &["cache/remote/store.rs", "cache/remote/store/"], "the rest of the program has no async runtime"),
    (&["serde_yaml::", "saphyr_parser::"], &["pipeline.rs", "pipeline/"], "YAML ends at the pipeline's border"),
    (&["feature = \"mpi\"", "feature = \"nccl\""], &["collective.rs"], "everything else asks it"),
    (
        &["use mpi::", "mpi::initialize"],
        &["collective/mpi.rs"],
        "what is added is added in one place, in the order of the ranks",
    ),
    (
        &["cudarc::nccl", "nccl::Nccl"],
        &["collective.rs", "collective/nccl.rs"],
        "GPUs talk by one library, in one place",
    ),
    (&["cudarc::"], &["model/device/cuda/", "collective/nccl.rs"], "what talks to the driver can be replaced"),
    (&["feature = \"cuda\""], &["model/device.rs"], "one file decides where tensors live"),
    (&["print!(", "println!(", "dbg!("], &["cli.rs", "cli/"], "everything else reports through events"),
];

struct Source {
    /// Relative to `src/`, with `/`.
    path: String,
    /// Without comments and without the unit tests at its end, which may look anywhere.
    code: String,
}

impl Source {
    /// The module of the crate that the file belongs to.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder).expect("src/ can be read") {
            let path: PathBuf = entry.expect("src/ can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let text = fs_err::read_to_string(&path).expect("sources are UTF-8");
                let relative = path.strip_prefix(&root).expect("below src/");
                let path = relative.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
                sources.push(Source { path, code: code_of(&text) });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn code_of(text: &str) -> String {
    let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub mod tests {", "#[cfg(test)]\npub(crate) mod tests {"];
    let end = tests.iter().filter_map(|start| text.find(start)).min().unwrap_or(text.len());
    text[..end].lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules named by `crate::module…` and `crate::{module…, module…}`.
fn imports(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if !rest.starts_with('{') {
            found.insert(word(rest));
            continue;
        }
        let (mut depth, mut expects_module) = (0, false);
        for (i, c) in rest.char_indices() {
            match c {
                '{' => (depth, expects_module) = (depth + 1, depth == 0),
                '}' if depth == 1 => break,
                '}' => depth -= 1,
                ',' => expects_module = depth == 1,
                c if c.is_whitespace() => {}
                _ if expects_module => {
                    found.insert(word(&rest[i..]));
                    expects_module = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for source in sources() {
        let module = source.module();
        if ["lib", "main", "cli"].contains(&module) {
            continue;
        }
        let Some((_, ranks, others)) = LAYERS.iter().find(|(name, ..)| *name == module) else {
            wrong.push(format!("src/{}: the module `{module}` has no place in the table of layers", source.path));
            continue;
        };
        for import in imports(&source.code) {
            if import != module && !ranks.contains(&import.as_str()) && !others.contains(&import.as_str()) {
                wrong.push(format!("src/{}: `{module}` must not import `{import}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn special_dependencies_have_one_place() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (texts, places, reason) in ONE_PLACE {
            let allowed = places.iter().any(|place| match place.strip_suffix('/') {
                Some(folder) => source.path.starts_with(&format!("{folder}/")),
                None => source.path == *place,
            });
            for text in texts.iter().filter(|text| !allowed && source.code.contains(**text)) {
                wrong.push(format!("src/{}: `{text}` belongs into {}: {reason}", source.path, places.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let code = code_of(
        "use crate::{a::{B, c}, d};\nlet x = crate::e::f();\n// crate::no\nmycrate::no;\npub(crate) fn x() {}\nuse $crate::g;\n#[cfg(test)]\nmod tests {\nuse crate::no;",
    );
    assert_eq!(imports(&code).into_iter().collect::<Vec<_>>(), ["a", "d", "e", "g"]);
}
