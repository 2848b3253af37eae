//! What a short name stands for, `STAGE.PORT` or a piece of a run's id, after several runs.

use crate::workspace::Workspace;

fn pipeline(matrix: &str, run: &str) -> String {
    format!(
        "cistage: 1\nname: p\nparams: {{ x: 1 }}\nstages:\n  evaluate:\n    uses: command\n    out: {{ metrics: {{ path: m.json, format: metrics }} }}\n    {matrix}\n    with: {{ run: 'echo {{param.x}} > {{out.metrics}}; {run}' }}\n"
    )
}

fn newest_run(ws: &Workspace) -> String {
    let runs = ws.cistage(&["runs", "--format", "json"]).stdout;
    let runs: serde_json::Value = serde_json::from_str(&runs).expect("JSON");
    runs["runs"].as_array().or(runs.as_array()).expect("runs")[0]["run"].as_str().expect("an id").to_owned()
}

#[test]
fn a_stage_that_has_branches_now_is_not_answered_from_before_it_had() {
    let ws = Workspace::with(&pipeline("", "true"));
    ws.run(&[]);
    ws.write("p.yaml", pipeline("matrix: { x: [1, 2] }", "true"));
    ws.run(&[]);
    for command in [&["audit", "evaluate.metrics"][..], &["get", "evaluate.metrics", "m.json"], &["shell", "evaluate"]]
    {
        let refused = ws.cistage(command);
        assert_eq!(refused.code, 2, "{command:?} {}", refused.stdout);
        for branch in ["evaluate@x=1", "evaluate@x=2"] {
            assert!(refused.stderr.contains(branch), "{command:?} {}", refused.stderr);
        }
    }
    assert!(!ws.exists("m.json") && !ws.exists("evaluate.shell"));
    assert_eq!(ws.cistage(&["get", "evaluate@x=2.metrics", "m.json"]).code, 0);
    assert_eq!(ws.read("m.json"), "2\n");
}

#[test]
fn what_is_taken_from_an_older_run_says_so() {
    let ws = Workspace::with(&pipeline("", "true"));
    ws.run(&[]);
    let older = newest_run(&ws);
    ws.write("p.yaml", pipeline("", "exit 3"));
    assert_eq!(ws.cistage(&["run", "p.yaml"]).code, 1);
    let note = format!(
        "the newest run {} has no evaluate.metrics (it failed there); this is of run {older}\n",
        newest_run(&ws)
    );
    for command in [
        &["audit", "evaluate.metrics"][..],
        &["audit", "evaluate.metrics", "--format", "json"],
        &["get", "evaluate.metrics", "m.json"],
        &["cache", "pin", "evaluate.metrics"],
    ] {
        let answer = ws.cistage(command);
        assert!(answer.code == 0 && answer.stderr.contains(&note), "{command:?} {}", answer.stderr);
    }
    ws.write("p.yaml", pipeline("", "true"));
    ws.run(&[]);
    let answer = ws.cistage(&["audit", "evaluate.metrics"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
}
