//! Rows and predictions as text: `audit` finds the artifact that a file of text was written from.

use crate::workspace::Workspace;
use serde_json::Value;

const MADE: &str = "cistage: 1\nname: t\nstages:\n  made: { uses: synthesize, with: { rows: 20 } }\n  \
                    parts: { uses: split, in: { rows: made.rows }, with: { test: 0.25 } }\n\
                    publish: { results/test.tsv.gz: parts.test, results/train.tsv: parts.train }\n";

fn audit(ws: &Workspace, target: &str) -> Value {
    let got = ws.cistage(&["audit", target, "--format", "json"]);
    assert_eq!(got.code, 0, "{target}: {}", got.stderr);
    serde_json::from_str(&got.stdout).expect("JSON")
}

#[test]
fn a_published_text_is_audited_under_any_name() {
    let ws = Workspace::with(MADE);
    let (code, events) = ws.events(&[]);
    assert_eq!(code, 0);
    for (path, port) in [("results/test.tsv.gz", "test"), ("results/train.tsv", "train")] {
        fs_err::copy(ws.path(path), ws.path("copied.bin")).expect("copied");
        let tree = audit(&ws, "copied.bin");
        assert_eq!(tree["made_by"]["stage"], "parts");
        assert_eq!(tree["inputs"]["rows"]["made_by"]["stage"], "made");
        assert_eq!(
            tree["artifact"]["digest"].as_str(),
            Some(Workspace::digests(&events)[&format!("parts.{port}")].as_str())
        );
        let published = events.iter().find(|e| e["event"] == "published" && e["path"] == path).expect("an event");
        assert_eq!(published["digest"], tree["artifact"]["digest"]);
        assert_eq!(published["text"], tree["text"]["digest"]);
        // The digest of the text, as the run shows it, is an answer's way in too.
        assert_eq!(audit(&ws, published["text"].as_str().expect("a digest")), tree);
    }
    let shown = ws.cistage(&["audit", "results/train.tsv"]).stdout;
    let first: Vec<&str> = shown.lines().take(2).collect();
    assert!(first[0].starts_with("a file of text (tsv, ") && first[0].ends_with("written from"), "{shown}");
    assert!(first[1].starts_with("parts.train"), "{shown}");
    assert_eq!(ws.cistage(&["audit", "results/train.tsv", "--verify"]).code, 0);
}

#[test]
fn a_text_that_get_wrote_is_audited_and_one_that_was_edited_is_not() {
    let ws = Workspace::with(MADE);
    assert_eq!(ws.run(&[]), ["made ran", "parts ran"]);
    assert_eq!(ws.cistage(&["get", "made.rows", "all.tsv"]).code, 0);
    assert_eq!(audit(&ws, "all.tsv")["made_by"]["stage"], "made");
    ws.write("all.tsv", ws.read("all.tsv").replacen('A', "C", 1));
    let got = ws.cistage(&["audit", "all.tsv"]);
    assert_eq!(got.code, 2, "{}", got.stdout);
    assert_eq!(ws.cistage(&["cache", "verify"]).code, 0);
}

#[test]
fn a_published_text_is_not_written_again_unless_it_was_touched() {
    let ws = Workspace::with(MADE);
    let (_, first) = ws.events(&[]);
    let (_, again) = ws.events(&[]);
    let published = |events: &[Value]| events.iter().filter(|e| e["event"] == "published").count();
    assert_eq!((published(&first), published(&again)), (2, 0));
    let train = ws.read("results/train.tsv");
    ws.write("results/train.tsv", "edited\n");
    let (_, mended) = ws.events(&[]);
    assert_eq!(published(&mended), 1);
    assert_eq!(ws.read("results/train.tsv"), train);
}
