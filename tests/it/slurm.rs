//! Stages as jobs, with stand-ins for Slurm's commands (`tests/fixtures/slurm`); `make test-cluster` does it with Slurm itself.

use crate::workspace::{Workspace, outcomes};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PIPELINE: &str = r#"
cistage: 1
name: jobs
params: { k: 0, wait: 0 }
stages:
  rows:
    uses: synthesize
    with: { rows: 300 }
  split:
    uses: split
    in: { rows: rows.rows }
    with: { test: 0.2 }
  many:
    uses: command
    in: { d: data.txt }
    out: { o: o.txt }
    matrix: { k: [1, 2, 3] }
    with: { run: "sleep {param.wait}; cat {in.d} > {out.o}; echo {param.k} >> {out.o}; echo printed" }
"#;

struct Site {
    ws: Workspace,
}

impl Site {
    fn new(pipeline: &str) -> Self {
        let ws = Workspace::with(pipeline);
        ws.write("data.txt", "data\n");
        ws.write("cistage.toml", "[slurm]\npoll-seconds = 1\nlost-seconds = 3\n");
        ws.write("fake/calls", "");
        Self { ws }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command =
            self.ws.command(&[&["run", "p.yaml", "--executor", "slurm", "--format", "json"], args].concat());
        let fakes = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/slurm");
        let path = std::env::var("PATH").expect("there is one");
        command.env("PATH", format!("{}:{path}", fakes.display())).env("SLURM_FAKE", self.ws.path("fake"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> (i32, Vec<Value>) {
        let got = self.command(args).output().expect("starts");
        let text = String::from_utf8(got.stdout).expect("text");
        let events = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (got.status.code().expect("it was not killed"), events)
    }

    fn submissions(&self) -> usize {
        self.ws.read("fake/calls").lines().filter(|line| line.starts_with("sbatch")).count()
    }

    /// Starts a run, and waits until its first job runs.
    fn start(&self, args: &[&str]) -> Child {
        let mut child = self.command(args).spawn().expect("starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let runs = out.lines().any(|line| line.expect("text").contains("\"event\":\"placed\""));
        if runs { child } else { panic!("no job ran: {:?}", child.wait_with_output()) }
    }
}

fn note(events: &[Value], text: &str) -> bool {
    events.iter().any(|e| e["event"] == "note" && e["message"].as_str().is_some_and(|said| said.contains(text)))
}

fn error(events: &[Value]) -> &str {
    events.iter().find_map(|e| e["error"].as_str()).expect("an error")
}

/// Waits for something to be so.
fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn jobs_make_what_stages_make_and_hits_need_none() {
    let here = Site::new(PIPELINE);
    let (code, events) = here.ws.events(&[]);
    let expected = Workspace::digests(&events);
    assert_eq!((code, expected.len()), (0, 6));

    let site = Site::new(PIPELINE);
    let (code, events) = site.run(&[]);
    assert_eq!((code, Workspace::digests(&events)), (0, expected.clone()), "{events:#?}");
    let branches =
        events.iter().filter(|e| e["event"] == "placed" && e["stage"].as_str().is_some_and(|s| s.starts_with("many")));
    assert_eq!(branches.count(), 3, "each says where it runs");
    let calls = site.ws.read("fake/calls");
    assert_eq!(site.submissions(), 3, "the branches are one array: {calls}");
    let show = site.ws.cistage(&["show"]).stdout;
    assert!(show.contains("Slurm job") && show.contains(" on fake"), "{show}");
    let runs = site.ws.cistage(&["runs"]).stdout;
    assert!(runs.contains("  Slurm"), "{runs}");
    assert_eq!(site.ws.cistage(&["shell", "many@k=2", "--", "cat", "../run.sh"]).code, 0, "it can be made again here");

    let (code, events) = site.run(&[]);
    assert_eq!((code, Workspace::digests(&events)), (0, expected));
    assert!(outcomes(&events).iter().all(|outcome| outcome.ends_with("hit")));
    assert_eq!(site.submissions(), 3);
    let left = fs_err::read_dir(site.ws.path("cache/scratch")).expect("there").count();
    assert_eq!(left, 0, "nothing stays of a job whose results were taken");
}

#[test]
fn jobs_that_end_before_slurm_has_given_their_number_keep_no_other_from_its_end() {
    // Some of an array have ended by then, and one has not.
    let site = Site::new(&PIPELINE.replace("sleep {param.wait}", "sleep $(( 3 * {param.k} - 3 )); : {param.wait}"));
    site.ws.write("fake/late", "4");
    let (code, events) = site.run(&[]);
    assert_eq!((code, site.submissions()), (0, 3), "{events:#?}");
    assert!(outcomes(&events).iter().all(|outcome| outcome.ends_with("ran")));
}

#[test]
fn a_run_that_died_finds_its_jobs_again() {
    let site = Site::new(PIPELINE);
    let args = ["--to", "many", "--set", "wait=3"];
    let mut run = site.start(&args);
    run.kill().expect("kills");
    run.wait().expect("ends");
    let before = site.submissions();
    let (code, events) = site.run(&args);
    assert_eq!((code, site.submissions()), (0, before), "{events:#?}");
    assert!(note(&events, "takes up job"), "{events:#?}");
}

#[test]
fn an_interrupted_run_leaves_its_jobs_or_cancels_them() {
    let site = Site::new(PIPELINE);
    let args = ["--to", "many", "--set", "wait=30", "--on-interrupt", "cancel"];
    let mut run = site.start(&args);
    // SAFETY: a signal to a child that is not reaped yet.
    unsafe { libc::kill(run.id().cast_signed(), libc::SIGINT) };
    assert_eq!(run.wait().expect("ends").code(), Some(130));
    until("the jobs are gone", || {
        !fs_err::read_dir(site.ws.path("fake/jobs"))
            .expect("there")
            .any(|job| fs_err::read_to_string(job.expect("an entry").path()).expect("text").starts_with("RUNNING"))
    });

    let args = ["--to", "many", "--set", "wait=3", "--on-interrupt", "leave"];
    let mut run = site.start(&args);
    // SAFETY: as above.
    unsafe { libc::kill(run.id().cast_signed(), libc::SIGINT) };
    assert_eq!(run.wait().expect("ends").code(), Some(130));
    let before = site.submissions();
    let (code, events) = site.run(&args);
    assert_eq!((code, site.submissions()), (0, before), "{events:#?}");
}

#[test]
fn a_job_on_its_way_to_slurm_when_the_run_is_interrupted_is_cancelled_there_or_found_again() {
    let site = Site::new(PIPELINE);
    site.ws.write("fake/late", "2");
    let interrupted = |answer: &str| {
        let args = ["--to", "many", "--set", "wait=6", "--on-interrupt", answer];
        let before = site.submissions();
        let run = site.command(&args).spawn().expect("starts");
        until("it is being submitted", || site.submissions() > before);
        // SAFETY: a signal to a child that is not reaped yet.
        unsafe { libc::kill(run.id().cast_signed(), libc::SIGINT) };
        let got = run.wait_with_output().expect("ends");
        assert_eq!(got.status.code(), Some(130), "{}", String::from_utf8_lossy(&got.stdout));
    };
    interrupted("cancel");
    let asked = site.ws.read("fake/calls");
    let is_cancelled = |task: &str| asked.lines().any(|line| line.starts_with("scancel") && line.contains(task));
    assert!(["1_0", "1_1", "1_2"].into_iter().all(is_cancelled), "{asked}");

    interrupted("leave");
    let before = site.submissions();
    let (code, events) = site.run(&["--to", "many", "--set", "wait=6"]);
    assert_eq!((code, site.submissions()), (0, before), "{events:#?}");
    assert!(note(&events, "takes up job 2_0"), "{events:#?}");
}

#[test]
fn what_slurm_says_only_tells_how_long_to_wait() {
    let site = Site::new(PIPELINE);
    // The controller goes away, and does not come back: the jobs' own words are enough.
    let mut run = site.command(&["--to", "many", "--set", "wait=2"]).spawn().expect("starts");
    until("a job runs", || site.ws.path("fake/jobs").exists());
    site.ws.write("fake/away", "");
    assert_eq!(run.wait().expect("ends").code(), Some(0));
}

#[test]
fn a_job_that_its_node_lost_is_submitted_again_and_one_that_was_too_large_fails() {
    for (state, succeeds) in [("NODE_FAIL", true), ("OUT_OF_MEMORY", false)] {
        let site = Site::new(&PIPELINE.replace("matrix: { k: [1, 2, 3] }", "resources: { memory: 1GiB }"));
        let run = site.command(&["--to", "many", "--set", "wait=4"]).spawn().expect("starts");
        until("a job runs", || site.ws.path("fake/pid.1").exists() && site.ws.exists("fake/jobs/1"));
        let is_started = || {
            let mut scratch = fs_err::read_dir(site.ws.path("cache/scratch")).expect("there").flatten();
            scratch.any(|key| {
                fs_err::read_dir(key.path())
                    .is_ok_and(|mut jobs| jobs.any(|job| job.is_ok_and(|job| job.path().join("started.json").exists())))
            })
        };
        until("its worker runs", is_started);
        let text = site.ws.read("fake/jobs/1").replace("RUNNING", state);
        site.ws.write("fake/jobs/1", text);
        let pid: i32 = site.ws.read("fake/pid.1").trim().parse().expect("a number");
        // SAFETY: a signal to the group of a job of this very test.
        unsafe { libc::kill(-pid, libc::SIGKILL) };
        let got = run.wait_with_output().expect("ends");
        let text = String::from_utf8(got.stdout).expect("text");
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        if succeeds {
            assert_eq!((got.status.code(), site.submissions()), (Some(0), 2), "{events:#?}");
            assert!(note(&events, "its node failed: submitted again"), "{events:#?}");
        } else {
            assert_eq!(got.status.code(), Some(1));
            assert!(error(&events).contains("more memory"), "{}", error(&events));
        }
    }
}

#[test]
fn a_job_is_handed_the_secrets_that_it_asks_for_and_what_a_login_gives_where_there_is_set_up() {
    let site = Site::new(
        r#"
cistage: 1
name: jobs
stages:
  fetch: { uses: command, out: { o: o.txt }, secrets: [TOKEN], with: { run: 'echo "${#TOKEN}" > {out.o}' } }
"#,
    );
    let login = r#"setup = ["shopt -q login_shell", "test -z \"$OTHER\" && test \"${#TOKEN}\" = 9"]"#;
    for setup in ["", login] {
        site.ws.write("cistage.toml", format!("[slurm]\npoll-seconds = 1\nlost-seconds = 3\n{setup}\n"));
        let got = site
            .command(&["--force", "fetch"])
            .env("TOKEN", "something")
            .env("OTHER", "else")
            .output()
            .expect("starts");
        assert_eq!(got.status.code(), Some(0), "{}", String::from_utf8_lossy(&got.stdout));
    }
    let scripts: Vec<String> = (1..3).map(|n| site.ws.read(&format!("fake/script.{n}"))).collect();
    let login = scripts.iter().map(|text| text.starts_with("#!/bin/bash -l\n"));
    assert_eq!(login.collect::<Vec<_>>(), [false, true], "{scripts:#?}");
}

#[test]
fn what_slurm_refuses_and_what_fails_before_the_stage_is_told() {
    let site = Site::new(PIPELINE);
    site.ws.write("fake/refuse", "Invalid account");
    let (code, events) = site.run(&["--to", "rows"]);
    assert_eq!(code, 1);
    assert!(error(&events).contains("Invalid account"), "{}", error(&events));
    fs_err::remove_file(site.ws.path("fake/refuse")).expect("removes");
    site.ws.write("cistage.toml", "[slurm]\npoll-seconds = 1\nlost-seconds = 2\nsetup = [\"no-such-module load x\"]\n");
    let (code, events) = site.run(&["--to", "rows"]);
    assert_eq!(code, 1);
    assert!(error(&events).contains("no-such-module"), "{}", error(&events));
    site.ws.write("cistage.toml", "[slurm]\npartion = 1\n");
    let wrong = site.command(&[]).output().expect("starts");
    let said = String::from_utf8(wrong.stderr).expect("text");
    assert!(wrong.status.code() == Some(2) && said.contains("unknown field `partion`"), "{said}");
}
