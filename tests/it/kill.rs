//! Kill -9, Ctrl-C and damaged checkpoints at random moments of one training: always the same bytes. `make kill-test`.

use crate::training::{PIPELINE, notes};
use crate::workspace::{Workspace, flip_a_byte, make_writable};
use cistage::seed::{Seed, below};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// Some seconds of training: long enough for a checkpoint by the clock, short enough to be repeated.
const ARGS: &[&str] = &["--set", "schedule=linear", "--set", "rows=1000", "--set", "hidden=32", "--set", "epochs=12"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Blow {
    KillRun,
    KillWorker,
    CtrlC,
}

/// The one child of a process that is a worker.
fn worker_of(run: i32) -> Option<i32> {
    let tasks = fs_err::read_dir(format!("/proc/{run}/task")).ok()?;
    let children = tasks.flatten().filter_map(|task| fs_err::read_to_string(task.path().join("children")).ok());
    let children: Vec<String> = children.collect();
    children.iter().flat_map(|text| text.split_whitespace()).find_map(|pid| pid.parse().ok())
}

/// Runs until the training's step `at` and a moment more, then strikes. Gives the events that were heard.
fn strike(ws: &Workspace, args: &[&str], blow: Blow, at: u64, moment: Duration, threads: u64) -> Vec<Value> {
    let threads = threads.to_string();
    let args = [&["run", "p.yaml", "--format", "json", "--threads", &threads], args].concat();
    let mut command = ws.command(&args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let run = child.id().cast_signed();
    let (mut events, mut struck): (Vec<Value>, bool) = (Vec::new(), false);
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        // The last line of a killed run may be cut short.
        let Ok(event) = line.map_err(drop).and_then(|line| serde_json::from_str::<Value>(&line).map_err(drop)) else {
            break;
        };
        if !struck && event["name"] == "loss" && event["step"].as_u64() >= Some(at) {
            struck = true;
            std::thread::sleep(moment);
            let (target, signal) = match blow {
                Blow::KillRun => (run, libc::SIGKILL),
                Blow::KillWorker => (worker_of(run).unwrap_or(run), libc::SIGKILL),
                Blow::CtrlC => (run, libc::SIGINT),
            };
            // SAFETY: a signal to a child that is not reaped yet, or to its child.
            unsafe { libc::kill(target, signal) };
        }
        events.push(event);
    }
    child.wait().expect("ends");
    events
}

/// The checkpoints of the unfinished training, newest first.
fn checkpoints(ws: &Workspace) -> Vec<PathBuf> {
    let scratch = fs_err::read_dir(ws.path("cache/scratch")).expect("there").flatten();
    let states = scratch.filter_map(|key| fs_err::read_dir(key.path().join("state")).ok());
    let files = states.flat_map(|state| state.flatten()).map(|entry| entry.path());
    let mut found: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "checkpoint")).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

/// The digests of the training's outputs.
fn outputs(events: &[Value]) -> [String; 2] {
    let digests = Workspace::digests(events);
    ["train.model", "train.metrics"].map(|port| digests[port].clone())
}

/// Makes the training a miss again.
fn forget(ws: &Workspace, events: &[Value]) {
    let key = events.iter().find(|e| e["event"] == "stage-finished" && e["stage"] == "train").expect("it ended");
    let hex = key["key"].as_str().expect("a key").trim_start_matches("blake3:");
    let record = ws.path("cache/actions").join(&hex[..2]).join(format!("{}.json", &hex[2..]));
    make_writable(&record);
    fs_err::remove_file(record).expect("it is there");
}

/// Who is struck, and what is then done to the newest checkpoint.
type Case = (Blow, Option<&'static str>);

#[test]
#[ignore = "minutes long: make kill-test"]
fn twenty_kills_and_ctrl_c_and_damage_all_end_with_the_undisturbed_digest() {
    let mut cases: Vec<Case> = (0..20).map(|i| ([Blow::KillRun, Blow::KillWorker][i % 2], None)).collect();
    cases.extend([(Blow::CtrlC, None); 4]);
    cases.extend([
        (Blow::KillRun, Some("cut")),
        (Blow::CtrlC, Some("cut")),
        (Blow::CtrlC, Some("flipped")),
        (Blow::KillWorker, Some("flipped")),
    ]);
    all_end_alike(ARGS, &cases);
}

#[test]
#[ignore = "minutes long: make kill-test"]
fn so_they_do_with_rounded_products() {
    let cases = [(Blow::KillRun, None), (Blow::KillWorker, None), (Blow::CtrlC, None), (Blow::KillRun, Some("cut"))];
    all_end_alike(&[ARGS, &["--set", "precision=bf16"]].concat(), &cases);
}

fn all_end_alike(args: &[&str], cases: &[Case]) {
    let ws = Workspace::with(PIPELINE);
    let (code, events) = ws.events(args);
    assert_eq!(code, 0);
    let expected = outputs(&events);
    let steps = events.iter().filter(|e| e["name"] == "loss").count() as u64;
    let checkpoint = |e: &&Value| e["name"] == "checkpoint_seconds";
    let saved: f64 = events.iter().filter(checkpoint).filter_map(|e| e["value"].as_f64()).sum();
    let ended = events.iter().find(|e| e["event"] == "stage-finished" && e["stage"] == "train").expect("it ended");
    let seconds = ended["seconds"].as_f64().expect("a number");
    eprintln!("undisturbed: {steps} steps in {seconds:.1} s, {:.2} % of it in checkpoints", 100.0 * saved / seconds);
    forget(&ws, &events);

    let mut rng = Seed(20).rng("kill test");
    for (i, (blow, damage)) in cases.iter().copied().enumerate() {
        let mut least = 1;
        if damage.is_some() {
            // Damage wants a checkpoint before the newest.
            strike(&ws, args, Blow::CtrlC, steps / 4, Duration::ZERO, 1);
            least = steps * 8 / 10;
        }
        let at = least + below(&mut rng, steps - least);
        let moment = Duration::from_micros(below(&mut rng, 30_000));
        strike(&ws, args, blow, at, moment, 1 + i as u64 % 2);
        let found = checkpoints(&ws);
        match (damage, found.first()) {
            (Some("cut"), Some(newest)) => {
                let file = fs_err::OpenOptions::new().write(true).open(newest).expect("opens");
                file.set_len(file.metadata().expect("there").len() / 2).expect("cut");
            }
            (Some(_), Some(newest)) => flip_a_byte(newest),
            _ => {}
        }
        let (code, events) = ws.events(&[args, &["--threads", if i % 3 == 0 { "1" } else { "2" }]].concat());
        let warnings: Vec<&Value> =
            events.iter().filter(|e| e["message"].as_str().is_some_and(|m| m.contains(" is damaged: "))).collect();
        eprintln!("{i:>2} {blow:?} at step {at} {} {:?} {}", damage.unwrap_or(""), notes(&events), warnings.len());
        assert_eq!(code, 0, "{events:?}");
        assert_eq!(outputs(&events), expected, "{blow:?} at step {at}");
        // Where only one was left and that is damaged, the training starts again.
        if found.len() > usize::from(damage.is_some()) {
            assert!(notes(&events).iter().any(|note| note.starts_with("resumed at step ")), "{:?}", notes(&events));
        }
        assert_eq!(damage.is_some(), !warnings.is_empty(), "{warnings:?}");
        forget(&ws, &events);
    }
}
