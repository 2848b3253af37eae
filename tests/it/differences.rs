//! What is said of differences: between two runs, and of what a run would execute.

use crate::workspace::Workspace;
use serde_json::Value;

fn pipeline(params: &str, matrix: &str, run: &str, more: &str) -> String {
    format!(
        "cistage: 1\nname: p\nparams: {{ {params} }}\nstages:\n  score:\n    uses: command\n    out: {{ o: o.txt }}\n    {matrix}\n    with: {{ run: '{run}' }}\n{more}"
    )
}

const RUN: &str = "echo {param.least} > {out.o}";

/// The ids of all runs, newest first.
fn runs(ws: &Workspace) -> Vec<String> {
    let runs: Value = serde_json::from_str(&ws.cistage(&["runs", "--format", "json"]).stdout).expect("JSON");
    runs["runs"].as_array().expect("a list").iter().map(|run| run["run"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn two_runs_are_named_and_each_stage_says_what_became_of_it() {
    let old_stage = "  gone: { uses: synthesize, with: { rows: 5 } }\n";
    let ws = Workspace::with(&pipeline("least: 1", "", RUN, old_stage));
    ws.run(&[]);
    ws.write("p.yaml", pipeline("least: 1", "matrix: { least: [1, 2] }", RUN, ""));
    ws.run(&[]);
    let runs = runs(&ws);
    let said = ws.cistage(&["diff"]).stdout;
    let expected = format!(
        "{} -> {}  p\ngone: removed\nscore: removed\nscore@least=1: added; against score\nscore@least=2: added; against score\n  least: 1 -> 2\n",
        runs[1], runs[0]
    );
    assert_eq!(said, expected);
}

#[test]
fn a_stage_that_failed_is_compared_by_what_it_was_to_do() {
    let after =
        "  after: { uses: command, in: { o: score.o }, out: { p: p.txt }, with: { run: \"cp {in.o} {out.p}\" } }\n";
    let ws = Workspace::with(&pipeline("least: 1", "", "exit {param.least}", after));
    assert_eq!(ws.cistage(&["run", "p.yaml"]).code, 1);
    ws.write("p.yaml", pipeline("least: 2", "", RUN, after));
    ws.run(&[]);
    let runs = runs(&ws);
    let said = ws.cistage(&["diff"]).stdout;
    let expected = format!(
        "{old} -> {new}  p\nafter:\n  skipped in {old}, ran in {new}\nscore:\n  run: exit {{param.least}} -> {RUN}\n  least: 1 -> 2\n  failed in {old}, ran in {new}\n",
        old = runs[1],
        new = runs[0]
    );
    assert_eq!(said, expected);
}

#[test]
fn the_reason_in_a_line_is_what_the_user_changed() {
    let ws = Workspace::with(&pipeline("least: 1", "", RUN, ""));
    ws.run(&[]);
    let longer = "echo more; echo {param.least} > {out.o}";
    ws.write("p.yaml", pipeline("least: 2", "", longer, "").replace("o.txt", "other.txt"));
    let plan = ws.cistage(&["plan", "p.yaml"]).stdout;
    assert!(plan.contains("`run` changed and 2 more\n") && plan.contains("\n1 stage: 0 cached"), "{plan}");
    let why = ws.cistage(&["why", "p.yaml", "score"]).stdout;
    let expected =
        format!("score: runs, because\n  run: {RUN} -> {longer}\n  least: 1 -> 2\n  out.o.path: o.txt -> other.txt\n");
    assert_eq!(why, expected);
    let run = ws.cistage(&["run", "p.yaml"]).stderr;
    assert!(run.contains("p, 1 stage\n") && run.contains("score  (`run` changed and 2 more)\n"), "{run}");
}

#[test]
fn why_says_of_an_attempt_that_it_failed_in_a_sentence() {
    let ws = Workspace::with(&pipeline("least: 1", "", "exit {param.least}", ""));
    assert_eq!(ws.cistage(&["run", "p.yaml"]).code, 1);
    let why = ws.cistage(&["why", "p.yaml", "score"]).stdout;
    assert!(why.contains("\n  an attempt in run ") && !why.contains("it an"), "{why}");
}
