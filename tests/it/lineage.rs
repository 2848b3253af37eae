//! What the records of the past can be asked for beside where something came from: is it made again with the same
//! bytes, and what was made from it?

use crate::workspace::Workspace;
use serde_json::{Value, json};

const PIPELINE: &str = r#"
cistage: 1
name: t
stages:
  upper: { uses: command, in: { text: words.txt }, out: { o: o.txt }, with: { run: "tr a-z A-Z < {in.text} > {out.o}" } }
  twice: { uses: command, in: { a: upper.o }, out: { o: o.txt }, with: { run: "cat {in.a} {in.a} > {out.o}" } }
  made: { uses: synthesize, with: { rows: 50 } }
  split: { uses: split, in: { rows: made.rows }, with: { test: 0.2 } }
  clock: { uses: command, out: { o: o.txt }, with: { run: "date +%s%N > {out.o}" } }
publish: { twice.txt: twice.o }
"#;

fn workspace() -> Workspace {
    let ws = Workspace::with(PIPELINE);
    ws.write("words.txt", "a b\n");
    ws.run(&[]);
    ws
}

fn audit(ws: &Workspace, args: &[&str]) -> (i32, Value) {
    let asked: Vec<&str> = ["audit", "--format", "json"].iter().chain(args).copied().collect();
    let answer = ws.cistage(&asked);
    (answer.code, serde_json::from_str(&answer.stdout).unwrap_or_default())
}

#[test]
fn what_is_deterministic_is_reproduced_and_what_is_not_is_told() {
    let ws = workspace();
    for target in ["twice.txt", "split.test"] {
        let (code, answer) = audit(&ws, &[target, "--rerun"]);
        assert_eq!((code, &answer["rerun"]["reproduced"]), (0, &json!(true)), "{answer:#}");
        assert_eq!(answer["rerun"]["actions"].as_array().map(Vec::len), Some(1), "its inputs are in the cache");
    }
    let (code, answer) = audit(&ws, &["clock.o", "--rerun"]);
    assert_eq!((code, &answer["rerun"]["reproduced"]), (3, &json!(false)));
    let again = &answer["rerun"]["actions"][0]["outputs"]["o"];
    assert_eq!(again["recorded"], answer["artifact"]["digest"]);
    assert_ne!(again["found"], again["recorded"]);
    let said = ws.cistage(&["audit", "twice.txt", "--rerun"]);
    assert!(said.stdout.contains("reproduced: the same bytes came out again"), "{}", said.stdout);
    assert_eq!(ws.run(&[]).iter().filter(|line| line.ends_with(" hit")).count(), 5, "nothing of it was kept");
}

#[test]
fn inputs_that_are_gone_are_made_again_and_a_missing_source_is_named() {
    let ws = workspace();
    let (_, answer) = audit(&ws, &["upper.o"]);
    fs_err::remove_file(ws.object(answer["artifact"]["digest"].as_str().expect("a digest"))).expect("removes");
    let (code, answer) = audit(&ws, &["twice.txt", "--rerun"]);
    assert_eq!((code, &answer["rerun"]["reproduced"]), (0, &json!(true)), "{answer:#}");
    let stages = |answer: &Value| -> Vec<Value> {
        answer["rerun"]["actions"].as_array().expect("a list").iter().map(|a| a["stage"].clone()).collect()
    };
    assert_eq!(stages(&answer), ["upper", "twice"]);

    ws.write("words.txt", "c d\n");
    let (code, answer) = audit(&ws, &["twice.txt", "--rerun"]);
    let missing = &answer["rerun"]["missing"][0];
    assert_eq!((code, &missing["path"], &missing["state"]), (3, &json!("words.txt"), &json!("changed")));
    assert_eq!(stages(&answer), [""; 0], "nothing is executed in vain");
    fs_err::remove_file(ws.path("words.txt")).expect("removes");
    let said = ws.cistage(&["audit", "twice.txt", "--rerun"]);
    assert_eq!(said.code, 3);
    assert!(said.stdout.contains("MISSING words.txt is not there"), "{}", said.stdout);
}

#[test]
fn what_was_made_from_a_source_is_listed_with_where_it_went() {
    let ws = workspace();
    let (code, answer) = audit(&ws, &["words.txt", "--downstream"]);
    assert_eq!(code, 0);
    let made: Vec<Value> = answer["downstream"]["made"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|made| json!([made["stage"], made["steps"], made["published"]]))
        .collect();
    assert_eq!(made, [json!(["upper", 1, []]), json!(["twice", 2, ["twice.txt"]])]);
    assert_eq!(answer["downstream"]["runs"].as_array().map(Vec::len), Some(1));
    let said = ws.cistage(&["audit", "twice.txt", "--downstream"]);
    assert_eq!(said.code, 0);
    assert!(said.stdout.contains("nothing recorded was made from it"), "{}", said.stdout);
}
