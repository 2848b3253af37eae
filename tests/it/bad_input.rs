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
    let got = ws.cistage(&["run", "p.yaml"]);
    assert_eq!(got.code, 2, "said before anything runs: {}", got.stderr);
    assert_eq!(ws.read("src/main.py"), "precious");
    assert_eq!(ws.cistage(&["cache", "verify"]).code, 0);
}

#[test]
fn a_cache_that_cannot_be_one_is_wrong_usage() {
    let ws = Workspace::with("cistage: 1\nname: t\nstages:\n  made: { uses: synthesize, with: { rows: 10 } }\n");
    ws.write("file", "not a folder");
    ws.write("other/format", "99\n");
    let commands: [&[&str]; 10] = [
        &["run", "p.yaml"],
        &["plan", "p.yaml"],
        &["why", "p.yaml", "made"],
        &["graph", "p.yaml"],
        &["audit", "p.yaml"],
        &["runs"],
        &["show"],
        &["metrics"],
        &["get", "made.rows", "x.tsv"],
        &["cache", "du"],
    ];
    for cache in ["file", "file/below", "other"] {
        for command in commands {
            let got = ws.cistage(&[command, &["--cache", cache]].concat());
            assert_eq!(got.code, 2, "{command:?} --cache {cache}: {}", got.stderr);
            assert!(got.stderr.contains("--cache"), "{command:?} --cache {cache}: {}", got.stderr);
        }
        assert_eq!(ws.cistage(&["cache", "verify", "--cache", cache]).code, 2, "{cache}");
    }
    assert_eq!(ws.read("file"), "not a folder");
}

#[test]
fn targets_and_destinations_that_cannot_be_used_are_wrong_usage() {
    let ws = Workspace::with("cistage: 1\nname: t\nstages:\n  made: { uses: synthesize, with: { rows: 10 } }\n");
    ws.write("file", "not a folder");
    assert_eq!(ws.run(&[]), ["made ran"]);
    let pipe = std::process::Command::new("mkfifo").arg(ws.path("pipe")).status();
    assert!(pipe.is_ok_and(|status| status.success()), "mkfifo");
    fs_err::os::unix::fs::symlink("loop", ws.path("loop")).expect("a link to itself");
    let wrong: [(&[&str], &str); 9] = [
        (&["audit", "nowhere/metrics.json"], "nowhere/metrics.json"),
        (&["audit", "pipe"], "pipe"),
        (&["audit", "loop"], "loop"),
        (&["audit", "."], "."),
        (&["get", "made.rows", "file/x.tsv"], "file/x.tsv"),
        (&["get", "made.rows", "file/x"], "file/x"),
        (&["get", "made.rows", "rows.json"], "rows.json"),
        (&["predict", "file", "p.yaml", "-o", "x.tsv"], "file"),
        (&["-C", "nowhere", "runs"], "nowhere"),
    ];
    for (args, part) in wrong {
        let got = ws.cistage(args);
        assert_eq!(got.code, 2, "{args:?}: {}", got.stderr);
        assert!(got.stderr.contains(part), "{args:?}: {}", got.stderr);
    }
}

#[test]
fn a_wrong_value_of_a_matrix_is_told_once() {
    let ws = Workspace::with(
        "cistage: 1\nname: t\nstages:\n  made: { uses: synthesize, with: { rows: 10 } }\n  some:\n    uses: sample-bins\n    \
         in: { rows: made.rows }\n    matrix: { per_bin: [3, 'a b'] }\n  one: { uses: split, in: { rows: some@per_bin=3.rows } }\n\
         publish: { rows.parquet: some.rows }\n",
    );
    let got = ws.cistage(&["run", "p.yaml"]);
    assert_eq!(got.code, 2, "{}", got.stderr);
    assert_eq!(got.stderr.matches("error:").count(), 1, "{}", got.stderr);
    assert!(got.stderr.contains("p.yaml:8:28") && got.stderr.contains("\"a b\""), "{}", got.stderr);
}

#[test]
fn a_placeholder_that_bash_cannot_quote_is_refused_with_its_place() {
    let text = |run: &str| {
        format!(
            "cistage: 1\nname: t\nparams: {{ n: 3, word: abc }}\nstages:\n  s:\n    uses: command\n    in: {{ f: p.yaml }}\n    \
             out: {{ o: o }}\n    with:\n      run: |\n        {}\n",
            run.replace('\n', "\n        ")
        )
    };
    let wrong = [
        ("cat > {out.o} <<'EOF'\n{in.f}\nEOF", "here-document", "p.yaml:12:9"),
        ("cat ${in.f} > {out.o}", "no `$`", "p.yaml:11:9"),
        ("echo $(( {param.word} + 1 )) > {out.o}", "{param.word}", "p.yaml:11:9"),
        ("cat '{in.f} > {out.o}", "does not close", "p.yaml:"),
        ("true\ntrue\n cat {in.ff} > {out.o}", "there is no input `ff`", "p.yaml:13:10"),
    ];
    for (run, what, place) in wrong {
        let ws = Workspace::with(&text(run));
        let got = ws.cistage(&["plan", "p.yaml"]);
        assert_eq!(got.code, 2, "{run}: {}", got.stderr);
        for part in [what, place] {
            assert!(got.stderr.contains(part), "{part:?} in:\n{}", got.stderr);
        }
    }
    let ws = Workspace::with(&text("echo $(( {param.n} + 1 )) '{param.word}' \"{param.word}\" {param.word} > {out.o}"));
    assert_eq!(ws.run(&[]), ["s ran"]);
    assert_eq!(ws.cistage(&["get", "s.o", "o.txt"]).code, 0);
    assert_eq!(ws.read("o.txt"), "4 abc abc abc\n");
}

/// Rows as pandas writes them: nullable columns, Snappy unless it is told otherwise.
fn parquet(compression: parquet::basic::Compression) -> Vec<u8> {
    use parquet::data_type::{ByteArrayType, DoubleType, Int64Type};
    use parquet::file::{properties::WriterProperties, writer::SerializedFileWriter};
    let schema =
        "message schema { OPTIONAL INT64 pos; OPTIONAL BYTE_ARRAY sequence (UTF8); OPTIONAL DOUBLE expression; }";
    let schema = parquet::schema::parser::parse_message_type(schema).expect("a schema");
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema.into(), properties.into()).expect("memory");
    let mut group = writer.next_row_group().expect("a group");
    let mut column = group.next_column().expect("memory").expect("pos");
    column.typed::<Int64Type>().write_batch(&[0, 1, 2], Some(&[1, 1, 1]), None).expect("written");
    column.close().expect("closed");
    let mut column = group.next_column().expect("memory").expect("sequence");
    let sequences: Vec<_> = ["ACGT", "TTTTNN", "GATTACA"].map(Into::into).into();
    column.typed::<ByteArrayType>().write_batch(&sequences, Some(&[1, 1, 1]), None).expect("written");
    column.close().expect("closed");
    let mut column = group.next_column().expect("memory").expect("expression");
    column.typed::<DoubleType>().write_batch(&[1.5, 2.0, 11.0], Some(&[1, 1, 1]), None).expect("written");
    column.close().expect("closed");
    group.close().expect("closed");
    writer.into_inner().expect("memory")
}

#[test]
fn parquet_rows_are_read_in_the_compressions_that_pandas_writes() {
    use parquet::basic::Compression;
    let ws = Workspace::with(IMPORT);
    for compression in [
        Compression::SNAPPY,
        Compression::GZIP(parquet::basic::GzipLevel::default()),
        Compression::ZSTD(parquet::basic::ZstdLevel::default()),
        Compression::UNCOMPRESSED,
    ] {
        ws.write("d.tsv", parquet(compression));
        assert_eq!(ws.run(&[]), ["rows ran"], "{compression:?}");
        assert_eq!(ws.cistage(&["get", "rows.rows", "out.tsv"]).code, 0);
        assert_eq!(ws.read("out.tsv"), "ACGT\t1.5\nTTTTNN\t2\nGATTACA\t11\n", "{compression:?}");
    }
}

#[test]
fn a_command_without_its_pipeline_names_the_only_one_that_is_here() {
    let ws = Workspace::with("cistage: 1\nstages:\n  a: { uses: synthesize }\n");
    ws.write("other.yaml", "a: 1\n");
    for command in [&["run"][..], &["plan"], &["graph", "--as", "dot"]] {
        let said = ws.cistage(command);
        assert!(
            said.code == 2 && said.stderr.contains("help: this folder has one pipeline: p.yaml\n"),
            "{}",
            said.stderr
        );
    }
    ws.write("q.yml", "cistage: 1\n");
    let said = ws.cistage(&["run"]);
    assert!(said.code == 2 && !said.stderr.contains("help:"), "{}", said.stderr);
}
