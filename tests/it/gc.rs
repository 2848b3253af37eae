//! Giving up bytes that can be made again.

use crate::workspace::{Workspace, flip_a_byte, outcomes};
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A slow stage with a small output, a quick one with a large one, and what is made of both.
const PIPELINE: &str = r#"
cistage: 1
name: t
params: { tail: x }
stages:
  slow: { uses: command, out: { o: o.txt }, with: { run: "sleep 0.4; echo slow > {out.o}" } }
  quick: { uses: command, out: { o: o.txt }, with: { run: "head -c 3000000 /dev/zero > {out.o}" } }
  both:
    uses: command
    in: { slow: slow.o, quick: quick.o }
    out: { o: o.txt }
    with: { run: "cat {in.slow} > {out.o}; wc -c < {in.quick} >> {out.o}; echo {param.tail} >> {out.o}" }
publish: { out.txt: both.o }
"#;

const ALL: [&str; 4] = ["--keep-runs", "0", "--grace", "0"];

fn gc(ws: &Workspace, args: &[&str]) -> Value {
    let asked: Vec<&str> = ["cache", "gc", "--format", "json"].iter().chain(args).copied().collect();
    let answer = ws.cistage(&asked);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    serde_json::from_str(&answer.stdout).expect("JSON")
}

fn stages(plan: &Value) -> Vec<&str> {
    plan["given_up"].as_array().expect("a list").iter().map(|c| c["stage"].as_str().unwrap_or("nobody")).collect()
}

#[test]
fn what_was_given_up_is_made_again_to_the_same_bytes_and_lineage_outlives_it() {
    let ws = Workspace::with(PIPELINE);
    let (_, first) = ws.events(&[]);
    assert_eq!(stages(&gc(&ws, &[])), [""; 0], "all of it is young, and of the newest run");

    let plan = gc(&ws, &ALL);
    assert_eq!(stages(&plan), ["quick", "slow"], "what is published stays; the cheapest per byte goes first");
    assert_eq!(ws.run(&[]), ["both hit", "quick hit", "slow hit"], "a plan changes nothing");
    let done = gc(&ws, &[&ALL[..], &["--apply"]].concat());
    assert_eq!((&done["applied"], done["bytes"].as_u64()), (&Value::Bool(true), plan["bytes"].as_u64()));

    let verified = ws.cistage(&["cache", "verify"]);
    assert_eq!(
        (verified.code, verified.stdout.contains("2 further objects were given up")),
        (0, true),
        "{}",
        verified.stdout
    );
    let audit = ws.cistage(&["audit", "out.txt", "--verify"]);
    assert_eq!(
        (audit.code, audit.stdout.contains("the bytes of 2 objects were given up")),
        (0, true),
        "{}",
        audit.stdout
    );

    let plan = ws.cistage(&["plan", "p.yaml"]).stdout;
    assert_eq!(plan.matches("given up by `cache gc`\n").count(), 2, "{plan}");
    let (code, again) = ws.events(&[]);
    let warnings: Vec<&Value> = again.iter().filter(|event| event["event"] == "warning").collect();
    assert!(warnings.is_empty(), "what was given up is no damage: {warnings:?}");
    assert_eq!((code, outcomes(&again)), (0, ["both hit", "quick ran", "slow ran"].map(str::to_owned).to_vec()));
    assert_eq!(Workspace::digests(&again), Workspace::digests(&first));
}

#[test]
fn no_more_goes_than_was_asked_for_and_never_what_is_pinned() {
    let ws = Workspace::with(PIPELINE);
    ws.events(&[]);
    assert_eq!(stages(&gc(&ws, &[&ALL[..], &["--free", "1MB"]].concat())), ["quick"]);
    assert_eq!(ws.cistage(&["cache", "pin", "quick.o"]).code, 0);
    assert_eq!(stages(&gc(&ws, &ALL)), ["slow"]);
    assert_eq!(ws.cistage(&["cache", "unpin", "quick.o"]).code, 0);
    assert_eq!(ws.cistage(&["cache", "unpin", "quick.o"]).code, 2);
    assert_eq!(stages(&gc(&ws, &ALL)), ["quick", "slow"]);
    assert_eq!(ws.cistage(&["cache", "gc", "--free", "much"]).code, 2);
}

#[test]
fn nothing_goes_while_a_damaged_record_may_have_kept_it() {
    let ws = Workspace::with(PIPELINE);
    let (_, events) = ws.events(&[]);
    let slow = events.iter().find(|e| e["event"] == "stage-finished" && e["stage"] == "slow").expect("slow");
    let key = slow["key"].as_str().expect("a key").trim_start_matches("blake3:").to_owned();
    flip_a_byte(&ws.path(&format!("cache/actions/{}/{}.json", &key[..2], &key[2..])));
    let refused = ws.cistage(&[&["cache", "gc", "--apply"], &ALL[..]].concat());
    assert_eq!(refused.code, 1);
    let said = refused.stderr.contains("the record of ") && refused.stderr.contains(": nothing is given up");
    assert!(said, "{}", refused.stderr);
    // The next run mends it.
    assert_eq!(ws.run(&[]), ["both hit", "quick hit", "slow ran"]);
    assert_eq!(stages(&gc(&ws, &ALL)), ["quick", "slow"]);
}

#[test]
fn a_stage_that_makes_other_bytes_the_second_time_is_told_of() {
    let ws = Workspace::with(
        "cistage: 1\nname: t\nstages:\n  s: { uses: command, out: { o: o.txt }, with: { run: 'date +%N > {out.o}' } }\n",
    );
    ws.events(&[]);
    gc(&ws, &[&ALL[..], &["--apply"]].concat());
    let (_, events) = ws.events(&[]);
    let said = events.iter().filter_map(|e| e["message"].as_str()).find(|text| text.contains("not deterministic"));
    assert!(said.is_some(), "{events:#?}");
}

#[test]
fn nothing_goes_that_a_run_relies_on() {
    let ws = Workspace::with(&PIPELINE.replace("echo {param.tail}", "sleep 1; echo {param.tail}"));
    ws.events(&[]);
    for tail in ["a", "b", "c"] {
        let mut command = ws.command(&["run", "p.yaml", "--set", &format!("tail={tail}")]);
        let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let until = Instant::now() + Duration::from_secs(30);
        let mut rounds = 0;
        let status = loop {
            gc(&ws, &[&ALL[..], &["--apply"]].concat());
            rounds += 1;
            assert!(Instant::now() < until, "the run ends");
            if let Some(status) = run.try_wait().expect("a child") {
                break status;
            }
        };
        assert!(status.success() && rounds > 1, "{status} after {rounds} rounds");
        assert_eq!(ws.read("out.txt"), format!("slow\n3000000\n{tail}\n"));
    }
}
