//! Trainings on several ranks: `make check-mpi`. A program without MPI says so before anything runs.

use crate::training::notes;
use crate::workspace::{Workspace, outcome};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A training that takes a few seconds, its batches uneven: 1000 rows are 31 batches of 32 and one of 8.
const PIPELINE: &str = r#"
cistage: 1
name: t
params: { ranks: 2, epochs: 3, rows: 1000, layers: 2, hidden: 32, heads: 2, inner: 64, longest: 128 }
stages:
  made: { uses: synthesize, with: { rows: "${rows}" } }
  tokenizer: { uses: train-tokenizer, in: { rows: made.rows } }
  train:
    uses: train
    ranks: "${ranks}"
    in: { train: made.rows, validation: made.rows, tokenizer: tokenizer.tokenizer }
    with:
      model: { layers: "${layers}", hidden: "${hidden}", heads: "${heads}", intermediate: "${inner}", max_positions: 128 }
      max_length: "${longest}"
      epochs: "${epochs}"
      warmup_steps: 4
      batch_size: 32
      learning_rate: 1e-3
      center_labels: true
"#;

/// Says so and gives `false` where ranks can't be started.
fn can_start() -> bool {
    let can = cfg!(feature = "mpi") && Command::new("mpirun").arg("--version").output().is_ok();
    if !can {
        eprintln!("SKIPPED: this program was built without MPI, or there is no mpirun: `make check-mpi` (docs/mpi.md)");
    }
    can
}

fn ended(events: &[Value]) -> &Value {
    events.iter().find(|e| e["event"] == "stage-finished" && e["stage"] == "train").expect("it ended")
}

/// The digests of the training's outputs.
fn outputs(events: &[Value]) -> BTreeMap<String, String> {
    let mut digests = Workspace::digests(events);
    digests.retain(|name, _| name.starts_with("train."));
    digests
}

/// The values of a metric, in the order of the steps.
fn values(events: &[Value], name: &str) -> Vec<f64> {
    events.iter().filter(|e| e["name"] == name).filter_map(|e| e["value"].as_f64()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[test]
fn without_mpi_a_plan_with_ranks_is_refused_before_anything_runs() {
    if cfg!(feature = "mpi") {
        return;
    }
    let ws = Workspace::with(PIPELINE);
    let got = ws.cistage(&["run", "p.yaml"]);
    assert_eq!(got.code, 2, "{}", got.stderr);
    let said = "p.yaml:8:3: stage `train` wants 2 ranks: this program was built without MPI: build it with `make mpi`";
    assert!(got.stderr.contains(said), "{}", got.stderr);
    assert_eq!(fs_err::read_dir(ws.path("cache/actions")).map_or(0, Iterator::count), 0, "nothing ran");
    // What it would do is no secret, and one rank needs no MPI.
    assert_eq!(ws.cistage(&["plan", "p.yaml"]).code, 0);
    assert_eq!(ws.events(&["--set", "ranks=1", "--set", "rows=50", "--set", "epochs=1"]).0, 0);
}

#[test]
fn ranks_on_gpus_are_refused_by_a_program_that_has_no_way_between_them() {
    if cfg!(feature = "cuda") {
        return;
    }
    let ws = Workspace::with(PIPELINE);
    let got = ws.cistage(&["run", "p.yaml", "--device", "cuda"]);
    assert_eq!(got.code, 2, "{}", got.stderr);
    assert!(got.stderr.contains("`make nccl`"), "{}", got.stderr);
}

#[test]
fn one_rank_has_the_key_of_a_training_that_says_nothing_of_ranks() {
    let key = |pipeline: &str, ranks: &str| {
        let ws = Workspace::with(pipeline);
        assert_eq!(ws.events(&["--to", "tokenizer"]).0, 0);
        let plan = ws.cistage(&["plan", "p.yaml", "--format", "json", "--set", ranks]);
        let plan: Value = serde_json::from_str(&plan.stdout).expect("JSON");
        let stages = plan["stages"].as_array().expect("stages");
        stages.iter().find(|s| s["stage"] == "train").expect("train")["key"].as_str().expect("a key").to_owned()
    };
    let silent = PIPELINE.replace("    ranks: \"${ranks}\"\n", "");
    assert_eq!(key(PIPELINE, "ranks=1"), key(&silent, "ranks=1"));
    let keys = ["ranks=1", "ranks=2", "ranks=4"].map(|ranks| key(PIPELINE, ranks));
    assert!(keys[0] != keys[1] && keys[1] != keys[2], "{keys:?}");
}

#[test]
fn ranks_make_the_same_bytes_each_time_and_the_curve_of_one_process_but_for_rounding() {
    if !can_start() {
        return;
    }
    let (code, alone) = Workspace::with(PIPELINE).events(&["--set", "ranks=1"]);
    assert_eq!(code, 0);
    let (curve, seconds) =
        (values(&alone, "loss"), |events: &[Value]| ended(events)["seconds"].as_f64().unwrap_or(0.0));
    eprintln!("1 rank: {} steps in {:.1} s", curve.len(), seconds(&alone));
    for ranks in ["ranks=2", "ranks=4"] {
        let run = |threads: &str| {
            let (code, events) = Workspace::with(PIPELINE).events(&["--set", ranks, "--threads", threads]);
            assert_eq!(code, 0, "{events:#?}");
            events
        };
        let (first, second) = (run("2"), run("1"));
        assert_eq!(outputs(&first), outputs(&second), "{ranks}");
        assert_eq!(ended(&first)["key"], ended(&second)["key"]);
        assert_ne!(outputs(&first), outputs(&alone), "another order of sums makes other bytes");
        let theirs = values(&first, "loss");
        assert_eq!(theirs.len(), curve.len());
        let off = |of: &dyn Fn(f64, f64) -> f64| curve.iter().zip(&theirs).map(|(a, b)| of(*a, *b)).fold(0.0, f64::max);
        let (absolute, relative) = (off(&|a, b| (a - b).abs()), off(&|a, b| (a - b).abs() / a.abs()));
        eprintln!(
            "{ranks}: {:.1} s; losses of {} steps off by at most {absolute:.1e}, {relative:.1e} of them; {:.1} % of the time \
             in sums, {:.1} % in waiting for the last rank; {}",
            seconds(&first),
            theirs.len(),
            100.0 * mean(&values(&first, "all_reduce_share")),
            100.0 * mean(&values(&first, "waiting_share")),
            outputs(&first)["train.model"],
        );
        assert!(relative < 1e-4, "{ranks}: {relative}");
    }
}

/// The process that is this rank of a workspace's training.
fn process_of(ws: &Workspace, rank: usize) -> Option<i32> {
    let folder = ws.path("").to_string_lossy().into_owned();
    let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
    fs_err::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let words = |name: &str| -> Vec<String> {
            let bytes = fs_err::read(process.path().join(name)).unwrap_or_default();
            bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
        };
        let command = words("cmdline");
        let is_rank = command.get(1).is_some_and(|word| word == "rank")
            && command.get(2).is_some_and(|job| job.contains(folder.trim_end_matches('/')));
        (is_rank && words("environ").contains(&variable)).then(|| process.file_name().to_str()?.parse().ok()).flatten()
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Blow {
    Rank(usize),
    Run,
    CtrlC,
}

/// Runs until the training's step `at`, then strikes; gives the events, the exit code where there is one, and how long it took to
/// end.
fn strike(ws: &Workspace, args: &[&str], at: u64, blow: Blow) -> (Option<i32>, Vec<Value>, Duration) {
    let mut command = ws.command(&[&["run", "p.yaml", "--format", "json"], args].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let (mut events, mut struck): (Vec<Value>, Option<Instant>) = (Vec::new(), None);
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let Some(event) = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok()) else { break };
        if struck.is_none() && event["name"] == "loss" && event["step"].as_u64() >= Some(at) {
            struck = Some(Instant::now());
            let (process, signal) = match blow {
                Blow::Rank(rank) => (process_of(ws, rank).expect("it runs"), libc::SIGKILL),
                Blow::Run => (child.id().cast_signed(), libc::SIGKILL),
                Blow::CtrlC => (child.id().cast_signed(), libc::SIGINT),
            };
            // SAFETY: a signal to a child that is not reaped yet, or to a process that its training waits for.
            unsafe { libc::kill(process, signal) };
        }
        events.push(event);
    }
    let code = child.wait().expect("ends").code();
    (code, events, struck.expect("it came so far").elapsed())
}

#[test]
fn a_killed_rank_is_named_and_every_end_is_followed_by_the_undisturbed_bytes() {
    if !can_start() {
        return;
    }
    for (ranks, blows) in
        [("ranks=2", &[Blow::Rank(1), Blow::CtrlC, Blow::Run][..]), ("ranks=4", &[Blow::Rank(3), Blow::CtrlC])]
    {
        let args = ["--set", ranks, "--set", "epochs=8"];
        let undisturbed = outputs(&Workspace::with(PIPELINE).events(&args).1);
        assert_eq!(undisturbed.len(), 2);
        for (blow, at) in blows.iter().copied().zip([100, 60, 170]) {
            let ws = Workspace::with(PIPELINE);
            if matches!(blow, Blow::Rank(_) | Blow::Run) {
                // A checkpoint to go on from, whatever the clock has made of them.
                strike(&ws, &args, 30, Blow::CtrlC);
            }
            let (code, events, took) = strike(&ws, &args, at, blow);
            let error = events.iter().find_map(|e| e["error"].as_str()).unwrap_or_default();
            match blow {
                Blow::Rank(rank) => {
                    assert_eq!(code, Some(1));
                    assert!(error.contains(&format!("rank {rank} was killed by signal 9")), "{error}");
                }
                Blow::CtrlC => assert_eq!(code, Some(130)),
                Blow::Run => assert_eq!(code, None),
            }
            let (code, again) = ws.events(&args);
            assert_eq!(code, 0, "{again:#?}");
            eprintln!(
                "{ranks}, {blow:?} at step {at} (ended after {:.1} s): {error:?}, then {:?}",
                took.as_secs_f64(),
                notes(&again)
            );
            assert!(notes(&again).iter().any(|note| note.starts_with("resumed at step ")), "{:?}", notes(&again));
            assert_eq!(outputs(&again), undisturbed, "{ranks} {blow:?}");
        }
    }
}

#[test]
fn what_is_wrong_with_the_input_is_told_as_by_one_process() {
    if !can_start() {
        return;
    }
    let ws = Workspace::with(PIPELINE);
    let args = ["--set", "rows=50", "--set", "epochs=1", "--set", "hidden=16"];
    assert_eq!(ws.events(&args).0, 0);
    let longer = "  longer:\n    uses: train\n    ranks: 2\n    in: { train: made.rows, tokenizer: tokenizer.tokenizer, init: train.model }\n    with: { max_length: 200 }\n";
    ws.write("p.yaml", format!("{PIPELINE}{longer}"));
    let got = ws.cistage(&[&["run", "p.yaml"], &args[..]].concat());
    assert_eq!(got.code, 2, "{}", got.stderr);
    assert!(
        got.stderr.contains("`max_length` is 200, but the model of train.model has 128 positions"),
        "{}",
        got.stderr
    );
}

#[test]
fn a_launcher_that_is_not_there_or_not_of_this_mpi_is_named() {
    if !can_start() {
        return;
    }
    let ws = Workspace::with(PIPELINE);
    let run = |launcher: &str| {
        let mut command = ws.command(&["run", "p.yaml", "--set", "rows=50", "--set", "epochs=1"]);
        command.env("CISTAGE_MPIRUN", launcher);
        outcome(command)
    };
    let got = run("no-such-launcher --any");
    assert_eq!(got.code, 2, "{}", got.stderr);
    assert!(got.stderr.contains("`no-such-launcher` can't be started"), "{}", got.stderr);
    // It starts one process by itself, as a launcher of another MPI would.
    let script = ws.path("other");
    ws.write("other", "#!/bin/sh\nshift 2\nexec \"$@\"\n");
    fs_err::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let got = run(&script.to_string_lossy());
    assert_eq!(got.code, 1, "{}", got.stderr);
    assert!(got.stderr.contains("1 of 2 ranks met"), "{}", got.stderr);
}
