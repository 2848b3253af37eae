//! A table of bad inputs: each ends with a clear message, the right exit code, and nothing lost.

use crate::workspace::Workspace;
use std::io::Write;

const IMPORT: &str = "cistage: 1\nname: t\nparams: { bad: error }\nstages:\n  rows:\n    uses: import-sequences\n    in: { file: d.tsv }\n    with: { bad_rows: \"${bad}\" }\npublish: { rows.parquet: rows.rows }\n";

/// Imports `data` and expects exit code 2, with all of `parts` in the message.
fn refused(data: &[u8], parts: &[&str]) {
    let ws = Workspace::with(IMPORT);
    ws.write("rows.parquet", "an earlier result");
    ws.write("d.tsv", data);
    let got = ws.cistage(&["run", "p.yaml"]);
    assert_eq!(got.code, 2, "{}", got.stderr);
    for part in parts {
        assert!(got.stderr.contains(part), "{part:?} in:\n{}", got.stderr);
    }
    assert_eq!(ws.read("rows.parquet"), "an earlier result", "nothing is lost");
    assert_eq!(ws.cistage(&["cache", "verify"]).code, 0);
}

fn gzipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn rows_that_cannot_be_used_are_named_by_file_line_and_column() {
    refused(b"ACGT\t1\nACXT\t2\n", &["d.tsv:2:3", "X"]);
    refused(b"ACGT\t1\nACGT\n", &["d.tsv:2", "column"]);
    refused(b"ACGT\t1\t2\nACGT\t1\n", &["d.tsv:1", "column"]);
    refused(b"ACGT\t1\nACGT\tNaN\n", &["d.tsv:2:6"]);
    refused(b"ACGT\t1\nACGT\tinf\n", &["d.tsv:2:6"]);
    refused(b"ACGT\t1\nACGT\tmany\n", &["d.tsv:2:6", "many"]);
    refused(b"ACGT\t1\n\t3\n", &["d.tsv:2"]);
    refused(b"", &["d.tsv", "empty"]);
    let whole: Vec<u8> = (0..2000).flat_map(|i| format!("ACGT{}\t{i}\n", "ACGTN".repeat(i % 7)).into_bytes()).collect();
    let gz = gzipped(&whole);
    refused(&gz[..gz.len() / 2], &["d.tsv", "gzip"]);
    let mut flipped = gz.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    refused(&flipped, &["d.tsv"]);
    refused(b"PAR1 but not really Parquet PAR1", &["d.tsv"]);
    refused(&[0_u8, 159, 146, 150, 9, 49, 10], &["d.tsv:1"]);
}

#[test]
fn dropped_rows_are_counted_and_listed() {
    let ws = Workspace::with(IMPORT);
    ws.write("d.tsv", gzipped(b"acgt\t1.5\nACXT\t2\nACGT\t3\nACGN\n"));
    assert_eq!(ws.run(&["--set", "bad=drop"]), ["rows ran"]);
    assert_eq!(ws.cistage(&["get", "rows.metrics", "m.json"]).code, 0);
    let metrics: serde_json::Value = serde_json::from_str(&ws.read("m.json")).expect("JSON");
    assert_eq!(
        (metrics["rows"].as_u64(), metrics["dropped"].as_u64(), metrics["duplicates"].as_u64()),
        (Some(2), Some(2), Some(1))
    );
    assert_eq!(ws.cistage(&["get", "rows.rows", "out.tsv"]).code, 0);
    assert_eq!(ws.read("out.tsv"), "ACGT\t1.5\nACGT\t3\n");
}

#[test]
fn problems_of_a_pipeline_file_are_reported_together_with_places() {
    let ws = Workspace::with(
        "cistage: 1\nname: t\nstages:\n  rows:\n    uses: import-sequence\n    in: { file: d.tsv }\n  split:\n    uses: split\n    in: { rows: rows.row }\n    with: { tests: 0.5 }\n  loop:\n    uses: split\n    in: { rows: loop.train }\n",
    );
    ws.write("d.tsv", "ACGT\t1\n");
    let got = ws.cistage(&["run", "p.yaml"]);
    assert_eq!(got.code, 2);
    for part in ["p.yaml:5:11", "import-sequences", "p.yaml:10:13", "`test`", "its own output", "loop"] {
        assert!(got.stderr.contains(part), "{part:?} in:\n{}", got.stderr);
    }
    assert!(!ws.exists("cache"), "nothing was begun");
}

#[test]
fn pipelines_that_cannot_be_read_are_refused_at_once() {
    let deep = format!("cistage: 1\nname: t\nstages: {}{}", "[".repeat(5000), "]".repeat(5000));
    let mut bomb = String::from("cistage: 1\nname: t\nparams:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..10 {
        let items = vec![format!("*a{}", i - 1); 9].join(", ");
        bomb += &format!("  a{i}: &a{i} [{items}]\n");
    }
    bomb += "stages: {}\n";
    let twice = "cistage: 1\nname: t\nstages:\n  a: { uses: synthesize }\n  a: { uses: synthesize }\n";
    let escaping =
        "cistage: 1\nname: t\nstages:\n  a:\n    uses: command\n    out: { x: ../x.txt }\n    with: { run: 'true' }\n";
    let wrong_format = "cistage: 1\nname: t\nstages:\n  m: { uses: synthesize }\n  t: { uses: train-tokenizer, in: { rows: m.rows } }\n  s: { uses: split, in: { rows: t.tokenizer } }\n";
    let missing = "cistage: 1\nname: t\nstages:\n  r:\n    uses: import-sequences\n    in: { file: nowhere.tsv }\n";
    let table: [(&str, &[&str]); 7] = [
        (&deep, &["p.yaml:3"]),
        (&bomb, &["p.yaml:"]),
        (twice, &["p.yaml:5:3", "4"]),
        (escaping, &["p.yaml:6", "../x.txt"]),
        (wrong_format, &["p.yaml:6", "tokenizer", "rows"]),
        (missing, &["p.yaml:6", "nowhere.tsv"]),
        ("", &["p.yaml", "empty"]),
    ];
    for (text, parts) in table {
        let ws = Workspace::with(text);
        let got = ws.cistage(&["run", "p.yaml"]);
        assert_eq!(got.code, 2, "{}", got.stderr);
        for part in parts {
            assert!(got.stderr.contains(part), "{part:?} in:\n{}", got.stderr);
        }
    }
    let ws = Workspace::new();
    let got = ws.cistage(&["run", "absent.yaml"]);
    assert_eq!(got.code, 2);
    assert!(got.stderr.contains("absent.yaml"), "{}", got.stderr);
}

#[test]
fn names_that_do_not_exist_end_with_2_and_the_nearest_name() {
    let ws = Workspace::with(
        "cistage: 1\nname: t\nparams: { rows: 10 }\nprofiles: { small: { rows: 5 } }\nstages:\n  made:\n    uses: synthesize\n    with: { rows: \"${rows}\" }\n",
    );
    let wrong: [(&[&str], &str); 6] = [
        (&["run", "p.yaml", "--profile", "smal"], "small"),
        (&["run", "p.yaml", "--set", "row=1"], "rows"),
        (&["run", "p.yaml", "--force", "mad"], "made"),
        (&["why", "p.yaml", "mad"], "made"),
        (&["audit", "feedfeedfeed"], "feedfeedfeed"),
        (&["show", "20990101-000000-0000"], "20990101"),
    ];
    for (args, part) in wrong {
        let got = ws.cistage(args);
        assert_eq!(got.code, 2, "{args:?}: {}", got.stderr);
        assert!(got.stderr.contains(part), "{args:?}: {}", got.stderr);
    }
}

#[test]
fn a_seed_that_a_key_would_round_is_refused() {
    let ws = Workspace::with(
        "cistage: 1\nname: t\nparams: { s: 1 }\nstages:\n  made:\n    uses: synthesize\n    with: { rows: 10, seed: \"${s}\" }\n",
    );
    let got = ws.cistage(&["run", "p.yaml", "--set", "s=9007199254740993"]);
    assert_eq!(got.code, 2, "{}", got.stderr);
    assert!(got.stderr.contains("2^53"), "{}", got.stderr);
    assert_eq!(ws.run(&["--set", "s=9007199254740992"]), ["made ran"]);
}

#[test]
fn publishing_never_destroys_the_cache_the_pipeline_or_a_folder_of_the_users() {
    let text = |target: &str| {
        "cistage: 1\nname: t\nstages:\n  one:\n    uses: command\n    out: { o: o.txt }\n    with: { run: 'echo hi > {out.o}' }\npublish: { TARGET: one.o }\n"
            .replace("TARGET", target)
    };
    let ws = Workspace::with(&text("out.txt"));
    assert_eq!(ws.run(&[]), ["one ran"]);
    for target in ["cache", "cache/runs", "p.yaml", "p.yaml/x", "out.txt/x"] {
        ws.write("p.yaml", text(target));
        let got = ws.cistage(&["run", "p.yaml"]);
        assert_eq!(got.code, 2, "{target}: {}", got.stderr);
        assert!(got.stderr.contains(target), "{target}: {}", got.stderr);
        assert_eq!(ws.read("p.yaml"), text(target));
    }
    ws.write("src/main.py", "precious");
    ws.write("p.yaml", text("src"));
    assert_eq!(ws.cistage(&["run", "p.yaml"]).code, 1);
    assert_eq!(ws.read("src/main.py"), "precious");
    assert_eq!(ws.cistage(&["cache", "verify"]).code, 0);
}
