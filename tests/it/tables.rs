//! Tables of runs and numbers: narrowed, compared, for spreadsheets; and what a machine is told to have.

use crate::workspace::Workspace;

const PIPELINE: &str = r#"
cistage: 1
name: tables
params: { rows: 300 }
stages:
  a: { uses: synthesize, with: { rows: "${rows}" } }
  b: { uses: import-sequences, in: { file: a.rows } }
publish: { out/rows.parquet: b.rows }
"#;

#[test]
fn numbers_of_two_runs_are_shown_where_they_differ() {
    let ws = Workspace::with(PIPELINE);
    ws.run(&[]);
    let alone = ws.cistage(&["metrics", "diff"]);
    assert!(alone.code == 2 && alone.stderr.contains("no run of tables before"), "{}", alone.stderr);
    ws.run(&["--set", "rows=200"]);

    let diff = ws.json(&["metrics", "diff"]);
    let rows = diff["numbers"].as_array().expect("a list").iter().find(|n| n["name"] == "rows").expect("rows differ");
    assert_eq!(
        (&rows["stage"], &rows["old"], &rows["new"], &rows["change"]),
        (&"b".into(), &300.into(), &200.into(), &(-100.0).into())
    );
    let back =
        ws.json(&["metrics", "diff", diff["new"].as_str().expect("a run"), diff["old"].as_str().expect("a run")]);
    assert!(back["numbers"].as_array().expect("a list").iter().any(|n| n["change"] == 100.0));
    let shown = ws.cistage(&["metrics", "diff"]).stdout;
    assert!(shown.contains("-100") && !shown.contains("dropped"), "{shown}");

    let csv = ws.cistage(&["metrics", "diff", "--csv"]).stdout;
    assert!(csv.starts_with("stage,name,old,new,change\n") && csv.contains("b,rows,300,200,-100\n"), "{csv}");
    assert!(ws.cistage(&["metrics", "--csv"]).stdout.contains("b,rows,200\n"));
}

#[test]
fn no_number_is_lost_or_called_equal_that_is_not() {
    let ws = Workspace::with(
        "cistage: 1\nname: p\nparams: { v: 1 }\nstages:\n  m:\n    uses: command\n    out: { a: { path: a, format: metrics }, b: { path: b, format: metrics } }\n    \
         with: { run: 'echo \"{\\\"x\\\": 1}\" > {out.a}; echo \"{\\\"x\\\": 2, \\\"bins.r\\\": {param.v}}\" > {out.b}' }\n",
    );
    ws.run(&[]);
    let numbers = &ws.json(&["metrics"])["stages"]["m"];
    assert_eq!((&numbers["a.x"], &numbers["b.x"]), (&1.into(), &2.into()), "{numbers}");
    ws.run(&["--set", "v=2"]);
    let diff = ws.cistage(&["metrics", "diff"]);
    assert!(
        diff.stderr.contains("1 of 3 numbers differ") && !diff.stdout.contains("equal"),
        "{}{}",
        diff.stdout,
        diff.stderr
    );
    assert_eq!(ws.cistage(&["runs", "--csv", "--format", "json"]).code, 2);
}

#[test]
fn runs_are_narrowed_by_pipeline_outcome_day_and_words() {
    let ws = Workspace::with(PIPELINE);
    ws.run(&[]);
    ws.run(&["--set", "rows=200"]);
    ws.write(
        "q.yaml",
        "cistage: 1\nname: other\nstages:\n  x: { uses: command, out: { o: o.txt }, with: { run: 'exit 4' } }\n",
    );
    assert_eq!(ws.cistage(&["run", "q.yaml"]).code, 1);

    let found = |args: &[&str]| ws.json(&[&["runs"], args].concat())["runs"].as_array().expect("a list").len();
    for (args, runs) in [
        (&[][..], 3),
        (&["--pipeline", "tables"], 2),
        (&["--pipeline", "./q.yaml"], 1),
        (&["--outcome", "failed"], 1),
        (&["--outcome", "succeeded", "--pipeline", "other"], 0),
        (&["--since", "2020-01-01"], 3),
        (&["--since", "2999-01-01"], 0),
        (&["--with", "rows=200"], 1),
        (&["--with", "out/rows"], 2),
        (&["-n", "1", "--pipeline", "tables"], 1),
    ] {
        assert_eq!(found(args), runs, "{args:?}");
    }
    assert_eq!(ws.cistage(&["runs", "--since", "yesterday"]).code, 2);
    let csv = ws.cistage(&["runs", "--csv"]).stdout;
    assert!(
        csv.lines().count() == 4 && csv.lines().nth(1).is_some_and(|line| line.contains(",other,q.yaml,")),
        "{csv}"
    );
}

#[test]
fn a_record_that_cant_be_read_hides_no_other() {
    let ws = Workspace::with(PIPELINE);
    ws.run(&[]);
    let first = ws.json(&["runs"])["runs"][0]["run"].as_str().expect("a run").to_owned();
    ws.run(&["--set", "rows=200"]);
    let second = ws.json(&["runs"])["runs"][0]["run"].as_str().expect("a run").to_owned();
    // A folder in place of a record's file, and a file in place of a run's folder.
    fs_err::remove_file(ws.path(&format!("cache/runs/{first}/run.json"))).expect("removes");
    fs_err::create_dir(ws.path(&format!("cache/runs/{first}/run.json"))).expect("makes");
    ws.write("cache/runs/20990101-000000-0000", "");

    let runs = ws.json(&["runs"]);
    assert_eq!(runs["runs"].as_array().expect("a list").len(), 1);
    assert_eq!(runs["runs"][0]["run"], second.as_str());
    assert_eq!(runs["unfinished"], serde_json::json!(["20990101-000000-0000", first]));
    assert_eq!(ws.json(&["metrics"])["run"], second.as_str());
    assert_eq!(ws.cistage(&["audit", "out/rows.parquet"]).code, 0);
    let verify = ws.cistage(&["cache", "verify"]);
    assert!(
        verify.code == 3
            && verify.stdout.contains("can't be read (is a directory)")
            && verify.stdout.contains("20990101"),
        "{}{}",
        verify.stdout,
        verify.stderr
    );
    assert_eq!(ws.run(&["--set", "rows=200"]), ["a hit", "b hit"]);
    assert_eq!(ws.run(&["--set", "rows=100"]), ["a ran", "b ran"]);
}

#[test]
fn numbers_that_are_damaged_are_no_numbers() {
    let ws = Workspace::with(PIPELINE);
    ws.run(&[]);
    for entry in walk(&ws.path("cache/objects")) {
        fs_err::remove_file(entry).expect("removes");
    }
    let metrics = ws.cistage(&["metrics"]);
    assert!(metrics.code == 3 && metrics.stderr.contains("missing or damaged"), "{}", metrics.stderr);
    let got = ws.cistage(&["get", "b.rows", "rows.tsv"]);
    assert!(got.code == 3 && !ws.exists("rows.tsv"), "{}", got.stderr);
    for bad in [&["report", "-o", "new/"][..], &["get", "b.rows", "new/"], &["runs", "-n", "0"]] {
        assert_eq!(ws.cistage(bad).code, 2, "{bad:?}");
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs_err::read_dir(dir).expect("lists").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn curves_are_written_for_tensorboard() {
    let ws = Workspace::with(
        "cistage: 1\nname: p\nstages:\n  m:\n    uses: command\n    in: { f: curves.json }\n    \
         out: { a: { path: a, format: metrics } }\n    with: { run: 'cp {in.f} {out.a}' }\n",
    );
    ws.write("curves.json", r#"{"curves": {"loss": [4, 2, 1], "epochs": [{"epoch": 1, "loss": 2.5}]}, "rows": 3}"#);
    ws.run(&[]);
    let written = ws.json(&["metrics", "--tensorboard", "tb"]);
    assert_eq!(written["written"][0]["curves"], 2, "{written}");
    let folder = written["written"][0]["folder"].as_str().expect("a folder").to_owned();
    let file = format!("{folder}/events.out.tfevents.0.cistage");
    let first = fs_err::read(ws.path(&file)).expect("it is there");
    // Four values and the head.
    assert_eq!(first.windows(4).filter(|bytes| bytes == b"loss").count(), 4);
    assert_eq!(ws.cistage(&["metrics", "--tensorboard", "tb"]).code, 0);
    assert_eq!(fs_err::read(ws.path(&file)).expect("it is there"), first, "the same bytes again");

    for bad in [&["metrics", "--tensorboard", "p.yaml"][..], &["metrics", "--tensorboard", "tb", "--csv"]] {
        let got = ws.cistage(bad);
        assert_eq!(got.code, 2, "{bad:?}: {}", got.stderr);
    }
    let none = Workspace::with(PIPELINE);
    none.run(&[]);
    let none = none.cistage(&["metrics", "--tensorboard", "tb"]);
    assert!(none.code == 2 && none.stderr.contains("has curves"), "{}", none.stderr);
}

#[test]
fn a_plan_says_what_is_known_of_times() {
    let ws =
        Workspace::with(&PIPELINE.replace("synthesize, with: { rows: \"${rows}\" }", "synthesize, with: { seed: 1 }"));
    let new = ws.cistage(&["plan", "p.yaml"]).stdout;
    assert!(new.ends_with("2 stages: 0 cached; 2 to run\n") && !new.contains("last"), "{new}");
    ws.run(&[]);
    let done = ws.cistage(&["plan", "p.yaml"]).stdout;
    assert!(done.ends_with("2 stages: 2 cached; 0 to run\n") && !done.contains("last"), "{done}");
    let line = |plan: &str, stage: &str| {
        plan.lines().find(|line| line.split_whitespace().nth(1) == Some(stage)).expect("a line").to_owned()
    };
    let forced = ws.cistage(&["plan", "p.yaml", "--force", "a"]).stdout;
    assert!(line(&forced, "a").contains("last") && line(&forced, "b").contains("last"), "{forced}");
    assert!(forced.contains("2 to run, about "), "{forced}");
    // Other parameters may take any time.
    ws.write("p.yaml", ws.read("p.yaml").replace("seed: 1", "seed: 2"));
    let other = ws.cistage(&["plan", "p.yaml"]).stdout;
    assert!(!line(&other, "a").contains("last") && line(&other, "b").contains("last"), "{other}");
    assert!(other.trim_end().ends_with(", and 1 stage of unknown time"), "{other}");
    let forced = ws.cistage(&["plan", "p.yaml", "--force", "a"]).stdout;
    assert!(!line(&forced, "a").contains("last"), "{forced}");
    let stages = ws.json(&["plan", "p.yaml"]);
    assert!(stages["stages"][1]["last_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{stages}");
}

#[test]
fn the_machine_and_the_manual_are_described() {
    let ws = Workspace::new();
    let findings = ws.json(&["doctor"])["findings"].as_array().expect("a list").clone();
    let of =
        |what: &str| findings.iter().find(|f| f["what"] == what).unwrap_or_else(|| panic!("{what} in {findings:?}"));
    assert!(of("numeric target")["found"].as_str().is_some_and(|target| target.starts_with("cpu-")));
    assert_eq!(of("bash")["verdict"], "good");
    assert!(of("cache")["found"].as_str().is_some_and(|found| found.contains("free")));
    assert!(!ws.exists("cache"), "a look makes nothing");
    ws.write("file", "no cache");
    let findings = ws.json(&["doctor", "--cache", "file"])["findings"].as_array().expect("a list").clone();
    assert!(findings.iter().any(|f| f["what"] == "cache" && f["verdict"] == "bad"), "{findings:?}");

    assert_eq!(ws.cistage(&["man", "pages"]).code, 0);
    assert!(ws.read("pages/cistage-audit.1").contains(".SH"));
}

/// Two stages with numbers, one of them in branches.
const NUMBERS: &str = r#"
cistage: 1
name: n
params: { x: 1, exit: 0 }
stages:
  first:
    uses: command
    out: { m: { path: m.json, format: metrics } }
    with:
      run: |
        test {param.exit} = 0
        echo '{"a": 7}' > {out.m}
  compare:
    uses: command
    out: { m: { path: m.json, format: metrics } }
    matrix: { x: [1, 2] }
    with:
      run: |
        test {param.exit} = 0
        echo '{"r2": '{param.x}', "curves": {"epochs": [{"epoch": 3, "loss": 0.5}]}}' > {out.m}
"#;

fn numbers() -> Workspace {
    let ws = Workspace::with(NUMBERS);
    ws.run(&[]);
    ws
}

#[test]
fn metrics_of_one_stage_and_of_epochs_by_their_number() {
    let ws = numbers();
    let all = ws.json(&["metrics"]);
    assert_eq!(all["stages"]["compare@x=2"]["curves.epochs.3.loss"], 0.5, "{all}");
    let branches = ws.json(&["metrics", "--stage", "compare"]);
    let names: Vec<&String> = branches["stages"].as_object().expect("a map").keys().collect();
    assert_eq!(names, ["compare@x=1", "compare@x=2"]);
    let one = ws.json(&["metrics", "--stage", "compare@x=2"]);
    assert_eq!(one["stages"].as_object().map(serde_json::Map::len), Some(1));
    let none = ws.cistage(&["metrics", "--stage", "compar"]);
    assert!(
        none.code == 2 && none.stderr.contains("those that have: compare@x=1, compare@x=2, first"),
        "{}",
        none.stderr
    );
}

#[test]
fn a_run_without_numbers_says_why_and_which_one_has_some() {
    let ws = numbers();
    let with = ws.json(&["metrics"])["run"].as_str().expect("a run").to_owned();
    let failed = ws.cistage(&["run", "p.yaml", "--set", "exit=1"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    let said = ws.cistage(&["metrics"]);
    let note =
        format!("no numbers: the run failed before a stage made any; the newest run of n that has some: {with}\n");
    assert_eq!((said.code, said.stderr), (0, note));
    ws.run(&["--force", "first"]);
    let diff = ws.json(&["metrics", "diff"]);
    assert_eq!(diff["old"].as_str(), Some(with.as_str()), "the failed run between them has none");
    let by_end = ws.json(&["metrics", &with[with.len() - 4..]]);
    assert_eq!(by_end["run"].as_str(), Some(with.as_str()));
    assert_eq!(ws.cistage(&["show", &with[with.len() - 3..]]).code, 2);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let ws = numbers();
    for args in [&["metrics", "--csv"][..], &["runs", "--csv"], &["metrics", "diff", "--csv"], &["metrics"], &["runs"]]
    {
        ws.run(&["--force", "first"]);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = ws.command(args);
        let output = command.stdout(writer).stderr(std::process::Stdio::piped()).output().expect("starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("error"), "{args:?} {said}");
    }
}
