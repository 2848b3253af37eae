//! Stages that fail, are killed or are interrupted: what a user sees, and what stays.

use crate::workspace::{Workspace, outcomes};

const FORK: &str = r#"
cistage: 1
name: fork
params: { bad: "echo broken >&2; exit 3" }
stages:
  good:
    uses: command
    out: { text: t.txt }
    with: { run: "echo fine > {out.text}" }
  bad:
    uses: command
    in: { text: good.text }
    out: { text: t.txt }
    with: { argv: [bash, -c, "${bad}"] }
  after:
    uses: command
    in: { text: bad.text }
    out: { text: t.txt }
    with: { run: "cp {in.text} {out.text}" }
  beside:
    uses: command
    in: { text: good.text }
    out: { text: t.txt }
    with: { run: "sleep 0.2; cp {in.text} {out.text}" }
"#;

#[test]
fn a_failing_stage_fails_the_run_and_finished_work_stays() {
    let ws = Workspace::with(FORK);
    let (code, events) = ws.events(&["--keep-going"]);
    assert_eq!(code, 1);
    assert_eq!(outcomes(&events), ["after skipped", "bad failed", "beside ran", "good ran"]);
    let failed = events.iter().find(|e| e["outcome"] == "failed" && e["event"] == "stage-finished").expect("event");
    let error = failed["error"].as_str().expect("error");
    assert!(error.contains('3') && error.contains("broken"), "status and log: {error}");
    let skipped = events.iter().find(|e| e["outcome"] == "skipped").expect("event");
    assert!(skipped["error"].as_str().is_some_and(|e| e.contains("bad")), "{skipped}");
    let last = events.last().expect("events");
    assert_eq!((last["event"].as_str(), last["outcome"].as_str()), (Some("run-finished"), Some("failed")));
    let fixed = ws.run(&["--set", "bad=echo mended > t.txt"]);
    assert_eq!(fixed, ["after ran", "bad ran", "beside hit", "good hit"]);
}

#[test]
fn a_stage_killed_by_a_signal_is_named_so() {
    let ws = Workspace::with(FORK);
    let (code, events) = ws.events(&["--set", "bad=kill -9 $$"]);
    assert_eq!(code, 1);
    let failed = events.iter().find(|e| e["outcome"] == "failed").expect("event");
    assert!(failed["error"].as_str().is_some_and(|e| e.contains("signal 9")), "{failed}");
}

#[test]
fn a_stage_that_writes_nothing_is_a_failure_that_names_the_output() {
    let ws = Workspace::with(FORK);
    let (code, events) = ws.events(&["--set", "bad=exit 0"]);
    assert_eq!(code, 1);
    let failed = events.iter().find(|e| e["outcome"] == "failed").expect("event");
    assert!(failed["error"].as_str().is_some_and(|e| e.contains("t.txt")), "{failed}");
}

#[test]
fn an_interrupted_run_leaves_a_valid_cache_and_the_next_goes_on() {
    let ws = Workspace::with(FORK);
    let mut command = ws.command(&["run", "p.yaml", "--set", "bad=sleep 60", "-q"]);
    let mut child = command.stdout(std::process::Stdio::null()).spawn().expect("start");
    // `good` is cached once its record is there.
    let actions = ws.path("cache/actions");
    while !actions.is_dir() || fs_err::read_dir(&actions).expect("dir").next().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = i32::try_from(child.id()).expect("a pid");
    // SAFETY: sends a signal to a process that this test started and has not waited for.
    unsafe { libc::kill(pid, libc::SIGINT) };
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    assert_eq!(ws.cistage(&["cache", "verify"]).code, 0);
    let (code, events) = ws.events(&["--set", "bad=echo x > t.txt"]);
    assert_eq!(code, 0, "{events:#?}");
    assert!(outcomes(&events).contains(&"good hit".to_owned()));
}

#[test]
fn a_full_disk_is_a_clear_failure_and_the_cache_stays_valid() {
    let ws = Workspace::with(
        "cistage: 1\nname: big\nstages:\n  a:\n    uses: command\n    out: { text: t.bin }\n    with: { run: 'head -c 3000000 /dev/zero > {out.text}' }\n",
    );
    fs_err::create_dir(ws.path("small")).expect("dir");
    let target = ws.path("small");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(&target)
        .status()
        .is_ok_and(|s| s.success());
    if !mounted {
        eprintln!("SKIPPED: can't mount a small tmpfs here");
        return;
    }
    let (code, events) = ws.events(&["--cache", "small/cache"]);
    let verify = ws.cistage(&["cache", "verify", "--cache", "small/cache"]);
    let unmounted = std::process::Command::new("umount").arg(&target).status().is_ok_and(|s| s.success());
    assert!(unmounted);
    assert_eq!(code, 1, "{events:#?}");
    assert!(events.iter().any(|e| e["error"].as_str().is_some_and(|t| t.contains("space"))), "{events:#?}");
    assert_eq!(verify.code, 0, "{}", verify.stderr);
}

#[test]
fn a_cache_on_a_read_only_folder_is_refused_clearly() {
    let ws = Workspace::with(FORK);
    fs_err::create_dir(ws.path("ro")).expect("dir");
    let target = ws.path("ro");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "ro,size=1m", "tmpfs"])
        .arg(&target)
        .status()
        .is_ok_and(|s| s.success());
    if !mounted {
        eprintln!("SKIPPED: can't mount a read-only tmpfs here");
        return;
    }
    let got = ws.cistage(&["run", "p.yaml", "--cache", "ro/cache"]);
    let plan = ws.cistage(&["plan", "p.yaml", "--cache", "ro/cache"]);
    assert!(std::process::Command::new("umount").arg(&target).status().is_ok_and(|s| s.success()));
    assert_eq!(got.code, 1, "{}", got.stderr);
    assert!(got.stderr.contains("ro/cache") && got.stderr.to_lowercase().contains("read-only"), "{}", got.stderr);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
}
