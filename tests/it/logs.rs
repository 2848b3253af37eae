//! What stages print, and where they run: while they do, and afterwards.

use crate::workspace::Workspace;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Stage `talk` goes on when a file `go` is there; it is no input, so nothing runs anew because of it.
fn talking() -> Workspace {
    let ws = Workspace::new();
    let go = ws.path("go").display().to_string();
    ws.write(
        "p.yaml",
        format!(
            r#"
cistage: 1
name: talking
params: {{ word: one, code: 0, k: 0 }}
stages:
  talk:
    uses: command
    out: {{ o: o.txt }}
    with: {{ run: "echo {{param.word}}; echo err >&2; while ! test -e {go}; do sleep 0.05; done; printf last; echo x > o.txt; exit {{param.code}}" }}
  quiet:
    uses: command
    in: {{ d: talk.o }}
    out: {{ o: o.txt }}
    matrix: {{ k: [1, 2] }}
    with: {{ run: "cp {{in.d}} {{out.o}} # {{param.k}}" }}
"#
        ),
    );
    ws
}

/// Starts a run, and waits until its stage has printed its first lines.
fn start(ws: &Workspace, args: &[&str]) -> Child {
    let run = ws.command(&[&["run", "p.yaml"], args].concat()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let run = run.expect("starts");
    let began = Instant::now();
    while !ws.cistage(&["logs", "talk"]).stdout.contains("err") {
        assert!(began.elapsed() < Duration::from_secs(30), "it printed nothing");
        std::thread::sleep(Duration::from_millis(50));
    }
    run
}

#[test]
fn a_log_is_read_while_it_grows_and_afterwards() {
    let ws = talking();
    let mut run = start(&ws, &[]);
    let mut follower = ws.command(&["logs", "talk", "--follow"]).stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "one");
    let waits = ws.cistage(&["logs", "quiet@k=1"]);
    assert!(waits.code == 2 && waits.stderr.contains("did not run"), "{}", waits.stderr);

    ws.write("go", "");
    assert_eq!(lines.map(|line| line.expect("text")).collect::<Vec<_>>(), ["err", "last"]);
    assert!(follower.wait().expect("ends").success() && run.wait().expect("ends").success());
    assert_eq!(ws.cistage(&["logs", "talk"]).stdout, "one\nerr\nlast");

    // A hit has the log of the execution that it stands for.
    ws.run(&[]);
    assert_eq!(ws.cistage(&["logs", "talk"]).stdout, "one\nerr\nlast");
    let quiet = ws.cistage(&["logs", "quiet@k=1"]);
    assert!(quiet.code == 0 && quiet.stdout.is_empty() && quiet.stderr.contains("printed nothing"), "{}", quiet.stderr);
    let branches = ws.cistage(&["logs", "quiet"]);
    assert!(branches.code == 2 && branches.stderr.contains("quiet@k=1, quiet@k=2"), "{}", branches.stderr);
    assert_eq!(ws.cistage(&["logs", "nobody"]).code, 2);
    assert_eq!(ws.cistage(&["logs", "talk", "--run", "nobody"]).code, 2);
}

#[test]
fn a_failed_stage_and_a_killed_run_leave_what_was_printed() {
    let ws = talking();
    let mut run = start(&ws, &[]);
    let id = ws.json(&["runs"])["under_way"][0]["run"].as_str().expect("a run").to_owned();
    run.kill().expect("kills");
    run.wait().expect("ends");
    let killed = ws.cistage(&["logs", "talk", "--follow"]);
    assert!(killed.stdout.starts_with("one\nerr\n") && killed.stderr.contains("was killed"), "{}", killed.stderr);
    assert!(ws.cistage(&["runs"]).stdout.contains("killed"));
    let show = ws.cistage(&["show", &id]).stdout;
    assert!(show.contains("killed  talk") && show.contains("waits   quiet@k=1"), "{show}");

    // Runs are ordered by the second in which they began.
    std::thread::sleep(Duration::from_millis(1100));
    ws.write("go", "");
    ws.cistage(&["run", "p.yaml", "--set", "word=two", "--set", "code=3"]);
    assert_eq!(ws.cistage(&["logs", "talk"]).stdout, "two\nerr\nlast");
}

#[test]
fn runs_and_show_say_what_runs_where() {
    let ws = talking();
    let mut run = start(&ws, &[]);
    let runs = ws.cistage(&["runs"]).stdout;
    assert!(runs.contains("under way") && runs.contains("running in") && runs.contains("  talk"), "{runs}");
    let under_way = &ws.json(&["runs"])["under_way"][0];
    assert_eq!((&under_way["pipeline"], &under_way["state"]), (&"talking".into(), &"under way".into()));
    let id = under_way["run"].as_str().expect("a run");
    let stages = &ws.json(&["show", id])["stages"];
    assert_eq!((&stages[0]["state"], &stages[1]["state"]), (&"runs".into(), &"waits".into()), "{stages}");
    ws.write("go", "");
    assert!(run.wait().expect("ends").success());
    assert!(ws.json(&["runs"])["under_way"].as_array().expect("a list").is_empty());
    assert!(ws.cistage(&["runs"]).stdout.contains("  here"));
}

#[test]
fn a_verbose_run_shows_what_its_stages_print() {
    let ws = talking();
    ws.write("go", "");
    let plain = ws.cistage(&["run", "p.yaml", "--to", "talk"]).stderr;
    assert!(!plain.contains("talk | "), "{plain}");
    let verbose = ws.cistage(&["run", "p.yaml", "--to", "talk", "-v", "--set", "word=two"]).stderr;
    for line in ["  talk | two\n", "  talk | err\n", "  talk | last\n"] {
        assert!(verbose.contains(line), "{verbose}");
    }
    let (_, events) = ws.events(&["--to", "talk", "-v", "--set", "word=three"]);
    let printed: Vec<_> = events.iter().filter(|e| e["event"] == "printed").map(|e| &e["line"]).collect();
    assert_eq!(printed, ["three", "err", "last"]);
    let kept = ws.json(&["runs"])["runs"][0]["run"].as_str().expect("a run").to_owned();
    assert!(!ws.read(&format!("cache/runs/{kept}/events.jsonl")).contains("printed"), "the log has it");
}
