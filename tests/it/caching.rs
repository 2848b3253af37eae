//! What runs again, and what does not.

use crate::workspace::{Workspace, flip_a_byte, make_writable, outcome, outcomes};
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// `a` keeps the lines without `#` of a file, `b` counts them, `c` says the count.
const THREE: &str = r#"
cistage: 1
name: three
params: { word: lines }
stages:
  a:
    uses: command
    in: { file: rows.txt }
    out: { kept: kept.txt }
    with: { run: "grep -v '^#' {in.file} > {out.kept}" }
  b:
    uses: command
    in: { kept: a.kept }
    out: { count: count.txt }
    with: { run: "wc -l < {in.kept} > {out.count}" }
  c:
    uses: command
    in: { count: b.count }
    out: { text: text.txt }
    with: { run: "echo {param.word} $(cat {in.count}) > {out.text}" }
publish:
  results/text.txt: c.text
"#;

fn three() -> Workspace {
    let ws = Workspace::with(THREE);
    ws.write("rows.txt", "# note\nx\ny\n");
    assert_eq!(ws.run(&[]), ["a ran", "b ran", "c ran"]);
    assert_eq!(ws.read("results/text.txt"), "lines 2\n");
    ws
}

#[test]
fn a_second_run_executes_nothing() {
    assert_eq!(three().run(&[]), ["a hit", "b hit", "c hit"]);
}

#[test]
fn same_bytes_from_a_changed_step_stop_the_wave() {
    let ws = three();
    ws.write("rows.txt", "# another note\nx\ny\n");
    assert_eq!(ws.run(&[]), ["a ran", "b hit", "c hit"]);
    ws.write("rows.txt", "x\nz\n");
    assert_eq!(ws.run(&[]), ["a ran", "b ran", "c hit"]);
}

#[test]
fn comments_formatting_renames_and_times_change_nothing() {
    let ws = three();
    let reformatted = THREE
        .replace("  a:\n", "  # a comment\n  first:\n")
        .replace("a.kept", "first.kept")
        .replace("params: { word: lines }", "params:\n  word:   \"lines\"")
        .replace("out: { count: count.txt }", "out:\n      count: 'count.txt'");
    ws.write("p.yaml", reformatted);
    let text = ws.read("rows.txt");
    ws.write("rows.txt", text);
    assert_eq!(ws.run(&[]), ["b hit", "c hit", "first hit"]);
    fs_err::rename(ws.path("rows.txt"), ws.path("other.txt")).expect("rename");
    let moved = ws.read("p.yaml").replace("rows.txt", "other.txt");
    ws.write("p.yaml", moved);
    assert_eq!(ws.run(&[]), ["b hit", "c hit", "first hit"]);
}

#[test]
fn a_changed_parameter_reruns_what_reads_it_and_going_back_is_a_hit() {
    let ws = three();
    assert_eq!(ws.run(&["--set", "word=rows"]), ["a hit", "b hit", "c ran"]);
    assert_eq!(ws.read("results/text.txt"), "rows 2\n");
    assert_eq!(ws.run(&[]), ["a hit", "b hit", "c hit"]);
    assert_eq!(ws.read("results/text.txt"), "lines 2\n");
    let why = ws.cistage(&["why", "p.yaml", "c", "--set", "word=new", "--format", "json"]);
    let why: Value = serde_json::from_str(&why.stdout).expect("JSON");
    let because = &why["stages"][0]["because"][0];
    assert_eq!((because["what"].as_str(), because["new"].as_str()), (Some("param"), Some("new")), "{why:#}");
}

#[test]
fn a_missing_or_damaged_object_turns_a_hit_into_a_miss_and_is_rebuilt() {
    let ws = three();
    let (_, events) = ws.events(&[]);
    let object = ws.object(&Workspace::digests(&events)["b.count"]);
    make_writable(&object);
    fs_err::remove_file(&object).expect("remove");
    assert_eq!(ws.run(&[]), ["a hit", "b ran", "c hit"]);
    flip_a_byte(&object);
    assert_eq!(ws.cistage(&["cache", "verify"]).code, 3);
    assert_eq!(ws.run(&[]), ["a hit", "b ran", "c hit"]);
    assert_eq!(ws.cistage(&["cache", "verify"]).code, 0);
}

#[test]
fn force_executes_one_stage_again() {
    let ws = three();
    assert_eq!(ws.run(&["--force", "b"]), ["a hit", "b ran", "c hit"]);
    assert_eq!(ws.run(&["--to", "b"]), ["a hit", "b hit"]);
}

#[test]
fn the_index_is_never_needed() {
    let ws = three();
    fs_err::remove_dir_all(ws.path("cache/index")).ok();
    assert_eq!(ws.run(&[]), ["a hit", "b hit", "c hit"]);
    fs_err::remove_dir_all(ws.path("cache/index")).ok();
    ws.write("cache/index", "garbage");
    assert_eq!(ws.run(&[]), ["a hit", "b hit", "c hit"]);
    assert_eq!(ws.cistage(&["audit", "c.text"]).code, 0);
    fs_err::remove_dir_all(ws.path("cache/index")).ok();
    let rebuilt = ws.cistage(&["cache", "rebuild-index"]);
    assert_eq!((rebuilt.code, rebuilt.stdout.as_str()), (0, "the index knows 3 outputs\n"));
    assert_eq!(ws.cistage(&["audit", "c.text"]).code, 0);
}

#[test]
fn a_declared_variable_is_part_of_the_key_and_others_are_not_seen() {
    let ws = Workspace::with(
        r#"
cistage: 1
name: env
stages:
  a:
    uses: command
    out: { text: t.txt }
    with: { run: 'echo "${SEEN:-none} ${UNSEEN:-none}" > {out.text}', env: [SEEN] }
publish: { t.txt: a.text }
"#,
    );
    let run = |value: &str| {
        let mut command = ws.command(&["run", "p.yaml", "-q"]);
        command.env("SEEN", value).env("UNSEEN", "x");
        assert_eq!(outcome(command).code, 0);
        ws.read("t.txt")
    };
    assert_eq!(run("one"), "one none\n");
    assert_eq!(run("two"), "two none\n");
}

#[test]
fn a_matrix_fans_out_and_its_branches_keep_their_results() {
    let text = r"
cistage: 1
name: fan
stages:
  rows:
    uses: synthesize
    with: { rows: 400 }
  balance:
    uses: sample-bins
    in: { rows: rows.rows }
    with: { empty_bins: allow }
    matrix: { per_bin: [3, 5] }
  all:
    uses: compare
    in: { k: balance.metrics }
";
    let ws = Workspace::with(text);
    let first = ws.run(&[]);
    assert_eq!(first, ["all ran", "balance@per_bin=3 ran", "balance@per_bin=5 ran", "rows ran"]);
    let shown = ws.cistage(&["metrics"]).stdout;
    let (_, table) = shown.split_once("\nall\n").expect("the comparison");
    let header: Vec<&str> = table.lines().next().expect("a header").split_whitespace().collect();
    assert_eq!(header, ["k@per_bin=3", "k@per_bin=5"]);
    assert!(table.lines().any(|line| line.split_whitespace().count() == 3 && line.contains("rows")), "{table}");
    let audit = ws.cistage(&["audit", "balance.metrics"]).stderr;
    assert!(audit.contains("name one of balance@per_bin=3.metrics, balance@per_bin=5.metrics\n"), "{audit}");
    ws.write("p.yaml", text.replace("[3, 5]", "[5, 7, 3]"));
    let second = ws.run(&[]);
    assert_eq!(
        second,
        ["all ran", "balance@per_bin=3 hit", "balance@per_bin=5 hit", "balance@per_bin=7 ran", "rows hit"]
    );
}

#[test]
fn a_declared_format_is_part_of_the_key_and_is_checked_again() {
    let text = |format: &str| {
        format!(
            "cistage: 1\nname: t\nstages:\n  s:\n    uses: command\n    out: {{ o: {{ path: o, format: {format} }} }}\n    \
             with: {{ run: 'echo \"{{ }}\" > {{out.o}}' }}\n"
        )
    };
    let ws = Workspace::with(&text("raw"));
    assert_eq!(ws.run(&[]), ["s ran"]);
    ws.write("p.yaml", text("metrics"));
    let why = ws.cistage(&["why", "p.yaml", "s"]);
    assert!(why.stdout.contains("out.o.format: raw -> metrics"), "{}", why.stdout);
    let (code, events) = ws.events(&[]);
    assert_eq!((code, outcomes(&events)), (0, vec!["s ran".to_owned()]));
    let finished = events.iter().find(|e| e["event"] == "stage-finished").expect("an event");
    assert_eq!(finished["outputs"]["o"]["format"], "metrics");
    let plan = ws.cistage(&["plan", "p.yaml", "--format", "json"]);
    assert!(plan.stdout.contains("\"hit\""), "{}", plan.stdout);
    // What was good as bytes is no tokenizer folder: an old record is never served for another declaration.
    ws.write("p.yaml", text("model"));
    let (code, events) = ws.events(&[]);
    assert_eq!((code, outcomes(&events)), (1, vec!["s failed".to_owned()]));
    ws.write("p.yaml", text("raw"));
    assert_eq!(ws.run(&[]), ["s hit"]);
}

#[test]
fn the_policy_by_which_hits_were_checked_stands_in_the_record() {
    let ws = three();
    ws.run(&[]);
    for (policy, line) in [("changed", ""), ("changed", "verify: changed"), ("always", "verify: always")] {
        ws.write("p.yaml", format!("{line}\n{}", ws.read("p.yaml").replace("verify: changed\n", "")));
        let (code, events) = ws.events(&[]);
        assert!(code == 0 && outcomes(&events).iter().all(|line| line.ends_with(" hit")), "{events:?}");
        let run = events.last().expect("an end")["run"].as_str().expect("an id");
        let record: Value = serde_json::from_str(&ws.read(&format!("cache/runs/{run}/run.json"))).expect("JSON");
        assert_eq!(record["verify"], policy);
    }
}

#[test]
fn who_does_not_want_to_wait_for_another_run_is_told_of_it() {
    let ws = Workspace::with(
        "cistage: 1\nstages:\n  slow: { uses: command, out: { o: o.txt }, with: { run: \"sleep 3; echo x > {out.o}\" } }\n",
    );
    let mut other = ws.command(&["run", "p.yaml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let until = Instant::now() + Duration::from_secs(30);
    let claimed = || {
        let locks = fs_err::read_dir(ws.path("cache/locks")).into_iter().flatten().flatten();
        locks.into_iter().any(|entry| entry.file_name().len() == 64 + ".lock".len())
    };
    while !claimed() {
        assert!(Instant::now() < until, "the other run begins");
        std::thread::sleep(Duration::from_millis(5));
    }
    let told = ws.cistage(&["run", "p.yaml", "--no-wait"]);
    assert_eq!(told.code, 1, "{}", told.stderr);
    assert!(told.stderr.contains("works on this already, and --no-wait says not to wait"), "{}", told.stderr);
    assert_eq!(ws.run(&[]), ["slow hit"], "without it, the result of the other is waited for");
    assert!(other.wait().expect("a child").success());
}

#[test]
fn what_a_run_rests_on_is_missed_by_verify() {
    let ws = three();
    ws.run(&[]);
    let (_, events) = ws.events(&["--force", "b"]);
    let run = events.last().expect("an end")["run"].as_str().expect("an id");
    let key =
        events.iter().find(|e| e["event"] == "stage-finished" && e["stage"] == "b").expect("it ran")["key"].clone();
    let hex = key.as_str().expect("text").trim_start_matches("blake3:").to_owned();
    let record = format!("cache/actions/{}/{}.json", &hex[..2], &hex[2..]);
    let read = |file: &str| -> Value { serde_json::from_str(&ws.read(file)).expect("JSON") };
    let text = ws.object(read(&format!("cache/runs/{run}/run.json"))["text"].as_str().expect("a digest"));
    let parent = ws.object(read(&record)["parent"].as_str().expect("it replaced one"));
    for (file, what) in [
        (text, "its pipeline text is missing"),
        (parent, "the record that this one replaced is missing"),
        (ws.path(&record), "is missing: the record of b"),
    ] {
        assert_eq!(ws.cistage(&["cache", "verify"]).code, 0);
        let bytes = fs_err::read(&file).expect("there");
        fs_err::remove_file(&file).expect("removes");
        let found = ws.cistage(&["cache", "verify"]);
        assert!(found.code == 3 && found.stdout.contains(what), "{what}: {}", found.stdout);
        fs_err::write(&file, bytes).expect("puts back");
    }
}

#[test]
fn the_index_may_be_elsewhere_and_is_made_anew_where_it_is_lost() {
    let ws = Workspace::with(
        "cistage: 1\nstages: { a: { uses: command, in: { x: x.txt }, out: { o: o.txt }, with: { run: 'cp {in.x} {out.o}' } } }\n",
    );
    ws.write("x.txt", "x");
    let run = || {
        let mut command = ws.command(&["run", "p.yaml"]);
        command.env("CISTAGE_INDEX", ws.path("fast/disk"));
        outcome(command)
    };
    let first = run();
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(!ws.exists("cache/index"));
    assert_eq!(fs_err::read_dir(ws.path("fast/disk")).expect("there").count(), 1, "the cache's own folder");
    fs_err::remove_dir_all(ws.path("fast")).expect("removes");
    let again = run();
    assert!(again.code == 0 && again.stderr.contains("1 hit"), "{}", again.stderr);
}
