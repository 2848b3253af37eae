//! Evaluation rows that a model, or one that it was fine-tuned from, was trained on.

use crate::workspace::Workspace;
use serde_json::{Value, json};

/// One model is trained on the training part alone; the other goes on from it with all rows.
const PIPELINE: &str = r#"
cistage: 1
name: t
params: { second: made.rows }
stages:
  made: { uses: synthesize, with: { rows: 200 } }
  tokenizer: { uses: train-tokenizer, in: { rows: made.rows } }
  split: { uses: split, in: { rows: made.rows }, with: { test: 0.2 } }
  first:
    uses: train
    in: { train: split.train, tokenizer: tokenizer.tokenizer, validation: split.test }
    with:
      model: { layers: 1, hidden: 8, heads: 2, intermediate: 16, max_positions: 128 }
      epochs: 1
      batch_size: 64
  second:
    uses: train
    in: { init: first.model, train: "${second}", tokenizer: tokenizer.tokenizer }
    with: { epochs: 1, batch_size: 64 }
  evaluate: { uses: evaluate, in: { rows: split.test, first: first.model, second: second.model } }
"#;

fn audit(ws: &Workspace, args: &[&str]) -> (i32, Value) {
    let asked: Vec<&str> =
        ["audit", "evaluate.metrics", "--leakage", "--format", "json"].iter().chain(args).copied().collect();
    let answer = ws.cistage(&asked);
    (answer.code, serde_json::from_str(&answer.stdout).unwrap_or_default())
}

fn warnings(events: &[Value]) -> Vec<&str> {
    events.iter().filter(|e| e["event"] == "warning").filter_map(|e| e["message"].as_str()).collect()
}

#[test]
fn a_leak_is_found_through_the_chain_of_trainings_and_a_clean_model_has_none() {
    let ws = Workspace::with(PIPELINE);
    let (code, events) = ws.events(&[]);
    assert_eq!(code, 0);
    let said = warnings(&events);
    let leak = said.iter().filter(|text| text.contains("among its training rows")).collect::<Vec<_>>();
    assert!(leak.len() == 1 && leak[0].contains("40 of the 40 sequences that `second`"), "{said:?}");

    let (code, answer) = audit(&ws, &[]);
    assert_eq!(code, 3);
    let [first, second] = [0, 1].map(|i| answer["leakage"][i].clone());
    assert_eq!((&first["model"], &first["shared_sequences"]), (&json!("first"), &json!(0)));
    assert_eq!((&second["model"], &second["shared_sequences"]), (&json!("second"), &json!(40)));
    assert_eq!((&second["evaluation"], &second["evaluation_rows"]), (&json!("evaluate"), &json!(40)));
    let seen = |leakage: &Value, part: &str| -> Vec<Value> {
        let seen = leakage[part].as_array().expect("a list").iter();
        seen.map(|s| json!([s["stage"], s["port"], s["rows"], s["shared_sequences"]])).collect()
    };
    let of_first = json!(["first", "train", 160, 0]);
    assert_eq!(seen(&first, "trained_on"), std::slice::from_ref(&of_first));
    assert_eq!(seen(&second, "trained_on"), [json!(["second", "train", 200, 40]), of_first]);
    let apart = [json!(["tokenizer", "rows", 200, 40]), json!(["first", "validation", 40, 40])];
    assert_eq!(seen(&first, "seen_apart"), apart);

    // The run's record keeps the same, and a run of hits knows it without reading a row.
    let run = events.last().expect("an end")["run"].as_str().expect("a run").to_owned();
    let record: Value = serde_json::from_str(&ws.read(&format!("cache/runs/{run}/run.json"))).expect("JSON");
    assert_eq!(record["leakage"], answer["leakage"]);
    let shown = ws.cistage(&["show"]).stdout;
    assert!(shown.contains("LEAK of 40 sequences: second at evaluate"), "{shown}");
    let (_, again) = ws.events(&[]);
    assert_eq!(warnings(&again).len(), 1);
}

#[test]
fn a_fine_tuning_on_the_training_part_alone_is_clean() {
    let ws = Workspace::with(PIPELINE);
    let (code, events) = ws.events(&["--set", "second=split.train"]);
    assert_eq!(code, 0);
    assert!(warnings(&events).iter().all(|text| !text.contains("training rows")));
    let (code, answer) = audit(&ws, &[]);
    assert_eq!((code, answer["leakage"].as_array().expect("a list").len()), (0, 2));
}

#[test]
fn rows_that_are_gone_are_no_proof() {
    let ws = Workspace::with(PIPELINE);
    let (_, events) = ws.events(&[]);
    let split = events.iter().find(|e| e["event"] == "stage-finished" && e["stage"] == "split").expect("split");
    let digest = split["outputs"]["train"]["digest"].as_str().expect("a digest");
    fs_err::remove_file(ws.object(digest)).expect("removed");
    let answer = ws.cistage(&["audit", "evaluate.metrics", "--leakage"]);
    assert_eq!(answer.code, 3);
    assert!(answer.stderr.contains("the rows that reached first.train"), "{}", answer.stderr);
}
