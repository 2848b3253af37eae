//! The flagship's stages on small rows: determinism, audit, what a changed parameter reruns.

use crate::workspace::{Workspace, flip_a_byte, outcomes, shared};
use serde_json::Value;

fn flagship(name: &str) -> String {
    format!("{}/pipelines/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The demo profile, made small enough for a test.
fn small_demo(ws: &Workspace, args: &[&str]) -> (i32, Vec<Value>) {
    let pipeline = flagship("dream2022.yaml");
    let fixed = [
        "run",
        &pipeline,
        "--format",
        "json",
        "--profile",
        "demo",
        "--set",
        "made_up_rows=1500",
        "--set",
        "per_bin=20",
    ];
    let got = ws.cistage(&fixed.iter().chain(args).copied().collect::<Vec<_>>());
    let events = got.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    if got.code != 0 {
        eprintln!("{}", got.stderr);
    }
    (got.code, events)
}

#[test]
fn the_demo_runs_reruns_from_the_cache_and_is_the_same_for_any_number_of_threads() {
    let ws = Workspace::new();
    let (code, events) = small_demo(&ws, &["--threads", "1"]);
    assert_eq!(code, 0);
    let first = Workspace::digests(&events);

    let (_, again) = small_demo(&ws, &[]);
    assert!(outcomes(&again).iter().all(|o| o.ends_with(" hit")), "{:?}", outcomes(&again));
    assert_eq!(Workspace::digests(&again), first);

    let other = Workspace::new();
    let (_, events) = small_demo(&other, &["--threads", "3"]);
    assert_eq!(Workspace::digests(&events), first, "1 and 3 threads");

    // Another sample for fine-tuning: the full training is served.
    let (_, changed) = small_demo(&ws, &["--set", "per_bin=25"]);
    let changed = outcomes(&changed);
    for hit in ["made hit", "rows hit", "tokenizer hit", "split hit", "pretrain hit"] {
        assert!(changed.contains(&hit.to_owned()), "{hit}: {changed:?}");
    }
    for ran in ["balance ran", "finetune ran", "evaluate ran"] {
        assert!(changed.contains(&ran.to_owned()), "{ran}: {changed:?}");
    }

    audits_a_copy_of_the_published_metrics(&ws);
}

fn audits_a_copy_of_the_published_metrics(ws: &Workspace) {
    fs_err::copy(ws.path("results/metrics.json"), ws.path("copied somewhere.bin")).expect("copy");
    let got = ws.cistage(&["audit", "copied somewhere.bin", "--format", "json"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    let tree: Value = serde_json::from_str(&got.stdout).expect("JSON");
    assert_eq!(tree["made_by"]["kind"], "evaluate");
    let mut kinds = std::collections::BTreeSet::new();
    collect_kinds(&tree, &mut kinds);
    for kind in ["evaluate", "train", "sample-bins", "split", "train-tokenizer", "import-sequences", "synthesize"] {
        assert!(kinds.contains(kind), "{kind}: {kinds:?}");
    }

    let verified = ws.cistage(&["audit", "copied somewhere.bin", "--verify", "--format", "json"]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    let made = &tree["inputs"]["rows"]["artifact"]["digest"];
    let object = ws.object(made.as_str().expect("digest"));
    flip_a_byte(&object);
    let damaged = ws.cistage(&["audit", "copied somewhere.bin", "--verify", "--format", "json"]);
    assert_eq!(damaged.code, 3);
    let hex = made.as_str().expect("digest").trim_start_matches("blake3:");
    let report: Value = serde_json::from_str(&damaged.stdout).expect("JSON");
    assert!(report["verified"]["problems"].to_string().contains(&hex[2..]), "{}", report["verified"]);
    let (code, events) = small_demo(ws, &["--set", "per_bin=25"]);
    assert_eq!(code, 0);
    assert!(outcomes(&events).contains(&"split ran".to_owned()), "{:?}", outcomes(&events));
    assert_eq!(ws.cistage(&["audit", "copied somewhere.bin", "--verify"]).code, 0);
}

fn collect_kinds(tree: &Value, kinds: &mut std::collections::BTreeSet<String>) {
    if let Some(kind) = tree["made_by"]["kind"].as_str() {
        kinds.insert(kind.to_owned());
    }
    for input in tree["inputs"].as_object().into_iter().flat_map(|map| map.values()) {
        collect_kinds(input, kinds);
    }
}

#[test]
fn without_its_data_the_flagship_says_where_it_comes_from() {
    let ws = Workspace::new();
    let got = ws.cistage(&["run", &flagship("dream2022.yaml")]);
    assert_eq!(got.code, 2);
    for part in ["zenodo", "--profile demo", "data/train_sequences.txt"] {
        assert!(got.stderr.to_lowercase().contains(&part.to_lowercase()), "{part:?} in:\n{}", got.stderr);
    }
}

#[test]
fn the_official_scores_of_the_peer_are_reproduced_to_nine_digits() {
    let Some(shared) = shared() else { return };
    let official = shared.join("data/official_test");
    let ws = Workspace::with(&format!(
        "cistage: 1\nname: score\nstages:\n  score:\n    uses: score-benchmark\n    in:\n      predictions: {0}/peer_predictions_public.tsv\n      labels: {0}/public_labels.tsv\n      subsets: {0}/public_subsets\n",
        official.display()
    ));
    assert_eq!(ws.run(&[]), ["score ran"]);
    assert_eq!(ws.cistage(&["get", "score.metrics", "m.json"]).code, 0);
    let got: Value = serde_json::from_str(&ws.read("m.json")).expect("JSON");
    let expected = fs_err::read_to_string(official.join("peer_predictions_public.expected.json")).expect("read");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    let same = |name: &str, got: &Value, expected: &Value| {
        let (a, b) = (got.as_f64().expect("number"), expected.as_f64().expect("number"));
        assert!((a - b).abs() <= 1e-9 * b.abs(), "{name}: {a} {b}");
    };
    for score in ["pearson_score", "spearman_score"] {
        same(score, &got[score], &expected[score]);
    }
    for (subset, numbers) in expected["subsets"].as_object().expect("subsets") {
        for name in ["pearson", "spearman", "n"] {
            same(subset, &got["subsets"][subset][name], &numbers[name]);
        }
    }
}
