//! Trainings that go on: after Ctrl-C, and from a shorter one to a longer one.

use crate::workspace::{Workspace, outcomes};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// A training of a small model on made-up rows.
pub const PIPELINE: &str = r#"
cistage: 1
name: t
params: { epochs: 3, schedule: constant, rows: 300, hidden: 16, precision: f32 }
stages:
  made: { uses: synthesize, with: { rows: "${rows}" } }
  tokenizer: { uses: train-tokenizer, in: { rows: made.rows } }
  train:
    uses: train
    in: { train: made.rows, tokenizer: tokenizer.tokenizer }
    with:
      model: { layers: 2, hidden: "${hidden}", heads: 2, intermediate: 32, max_positions: 128 }
      epochs: "${epochs}"
      schedule: "${schedule}"
      warmup_steps: 4
      batch_size: 32
      learning_rate: 1e-3
      center_labels: true
      precision: "${precision}"
  evaluate: { uses: evaluate, in: { rows: made.rows, model: train.model } }
"#;

/// The notes of a run.
pub fn notes(events: &[Value]) -> Vec<String> {
    let notes = events.iter().filter(|e| e["event"] == "note").filter_map(|e| e["message"].as_str());
    notes.map(ToOwned::to_owned).collect()
}

fn planned(ws: &Workspace, args: &[&str]) -> Value {
    let args: Vec<&str> = ["plan", "p.yaml", "--format", "json"].iter().chain(args).copied().collect();
    let plan: Value = serde_json::from_str(&ws.cistage(&args).stdout).expect("JSON");
    plan["stages"].as_array().expect("stages").iter().find(|s| s["stage"] == "train").expect("train").clone()
}

#[test]
fn more_epochs_cost_only_more_epochs_and_fewer_are_a_hit() {
    let ws = Workspace::with(PIPELINE);
    let (code, three) = ws.events(&[]);
    assert_eq!((code, outcomes(&three).len()), (0, 4));

    let plan = planned(&ws, &["--set", "epochs=5"]);
    assert_eq!((&plan["verdict"], &plan["note"]), (&"run".into(), &"goes on from epoch 3, which is cached".into()));
    assert_eq!(plan["estimate"]["samples"], 600);
    let (code, five) = ws.events(&["--set", "epochs=5"]);
    assert_eq!(code, 0);
    assert_eq!(notes(&five), ["resumed at step 30 of 50"]);
    let steps = five.iter().filter(|e| e["event"] == "metric" && e["name"] == "loss");
    assert_eq!(steps.map(|e| e["step"].as_u64().expect("a step")).collect::<Vec<_>>(), (31..=50).collect::<Vec<_>>());

    // The same bytes as in one go; and that one makes the shorter ones on its way.
    let other = Workspace::with(PIPELINE);
    let (_, at_once) = other.events(&["--set", "epochs=5"]);
    assert_eq!(Workspace::digests(&at_once), Workspace::digests(&five));
    assert_eq!(planned(&other, &[])["verdict"], "hit");
    let (_, shorter) = other.events(&[]);
    assert!(outcomes(&shorter).contains(&"train hit".to_owned()), "{:?}", outcomes(&shorter));
    assert_eq!(Workspace::digests(&shorter), Workspace::digests(&three));
    let audit = other.cistage(&["audit", "train.model", "--verify", "--format", "json"]);
    assert_eq!(audit.code, 0, "{}", audit.stderr);
    assert_eq!(other.cistage(&["cache", "verify"]).code, 0);
}

#[test]
fn rounded_products_make_another_model_and_the_same_one_on_any_number_of_threads() {
    let ws = Workspace::with(PIPELINE);
    let single = ws.events(&["--set", "rows=100"]).1;
    let rounded = ["--set", "rows=100", "--set", "precision=bf16"];
    let (code, two) = ws.events(&[&rounded[..], &["--threads", "2"]].concat());
    assert_eq!(code, 0);
    assert!(outcomes(&two).contains(&"train ran".to_owned()), "{:?}", outcomes(&two));
    assert_ne!(Workspace::digests(&two), Workspace::digests(&single));
    let (_, one) = Workspace::with(PIPELINE).events(&[&rounded[..], &["--threads", "1"]].concat());
    assert_eq!(Workspace::digests(&one), Workspace::digests(&two));
}

#[test]
fn a_schedule_that_depends_on_the_total_says_that_it_starts_anew() {
    let ws = Workspace::with(PIPELINE);
    let linear = ["--set", "schedule=linear", "--set", "rows=100"];
    let more = [&linear[..], &["--set", "epochs=4"]].concat();
    assert_eq!(ws.events(&linear).0, 0);
    let plan = planned(&ws, &more);
    let note = plan["note"].as_str().expect("a note");
    assert!(note.contains("`schedule: linear`") && note.contains("number of all steps"), "{note}");
    let why = ws.cistage(&[&["why", "p.yaml", "train"], &more[..]].concat());
    assert!(why.stdout.contains("epochs: 3 -> 4") && why.stdout.contains("starts anew"), "{}", why.stdout);
}

#[test]
fn ctrl_c_saves_a_checkpoint_says_how_to_go_on_and_the_next_run_does() {
    let args = ["--set", "schedule=linear", "--set", "epochs=60"];
    let undisturbed = Workspace::with(PIPELINE);
    let (code, events) = undisturbed.events(&args);
    assert_eq!(code, 0);
    let expected = Workspace::digests(&events);

    let ws = Workspace::with(PIPELINE);
    let mut command = ws.command(&[&["run", "p.yaml", "--format", "json"], &args[..]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let pid = child.id().cast_signed();
    let mut events: Vec<Value> = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let event: Value = serde_json::from_str(&line.expect("text")).expect("JSON");
        if event["name"] == "loss" && event["step"] == 20 {
            // SAFETY: a signal to a child that is not reaped yet.
            unsafe { libc::kill(pid, libc::SIGINT) };
        }
        events.push(event);
    }
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    let said = notes(&events);
    assert!(
        matches!(&said[..], [one] if one.starts_with("stopped after step ") && one.contains("run the same command again")),
        "{said:?}"
    );
    let step = said[0].split(' ').nth(3).expect("a step");

    let plan = planned(&ws, &args);
    assert_eq!(plan["note"], "goes on from what an interrupted run left");
    let (step, samples): (f64, f64) =
        (step.parse().expect("a number"), plan["estimate"]["samples"].as_f64().expect("samples"));
    let whole = planned(&undisturbed, &[&args[..], &["--force", "train"]].concat());
    let whole = whole["estimate"]["samples"].as_f64().expect("samples");
    assert!((samples / whole - (1.0 - step / 600.0)).abs() < 0.01, "{samples} of {whole} after step {step}");
    let (code, events) = ws.events(&args);
    assert_eq!((code, notes(&events)), (0, vec![format!("resumed at step {step} of 600")]));
    let digests = Workspace::digests(&events);
    assert!(["train.model", "train.metrics", "evaluate.metrics"].iter().all(|port| digests[*port] == expected[*port]));
    let left = fs_err::read_dir(ws.path("cache/scratch")).expect("there").count();
    assert_eq!(left, 0, "nothing is left in scratch after success");
}

#[test]
fn a_loss_that_is_no_number_stops_names_the_step_and_says_where_the_last_good_model_is() {
    let ws = Workspace::with(&PIPELINE.replace("1e-3", "1e30"));
    for attempt in 1..=2 {
        let (code, events) = ws.events(&[]);
        let failed = events.iter().find(|e| e["outcome"] == "failed").expect("the training fails");
        let error = failed["error"].as_str().expect("a message");
        assert_eq!((code, failed["stage"].as_str()), (1, Some("train")), "{error}");
        assert!(error.contains(" of step 3 is not a finite number"), "{error}");
        assert!(error.contains("last-good, its checkpoint in "), "{error}");
        let steps = events.iter().filter(|e| e["name"] == "loss").count();
        assert_eq!(steps, if attempt == 1 { 2 } else { 0 }, "the second attempt goes on from before the failure");
    }
    let scratch = fs_err::read_dir(ws.path("cache/scratch")).expect("there").next().expect("kept").expect("an entry");
    let model = scratch.path().join("state/last-good");
    let model = model.to_str().expect("text");
    ws.write("sequences.txt", "ACGTACGT\n");
    let predicted = ws.cistage(&["predict", model, "sequences.txt", "-o", "p.tsv"]);
    assert!(ws.exists("p.tsv"), "{}", predicted.stderr);
}
