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
fn a_script_that_no_stage_declares_is_named_where_its_absence_fails_one() {
    let stage = |script: &str| {
        format!("cistage: 1\nname: p\nstages:\n  a:\n    uses: command\n    {script}\n    out: {{ o: o }}\n")
    };
    let ws = Workspace::with(&(stage("in: {}") + "    with: { run: 'sh make.sh > {out.o}' }\n"));
    ws.write("make.sh", "echo made\n");
    let failed = ws.cistage(&["run", "p.yaml"]);
    let help =
        "help: `make.sh` is in your folder, but a stage sees only what it declares: add `in: { make: ./make.sh }`";
    assert!(failed.code == 1 && failed.stderr.contains(help), "{}", failed.stderr);
    ws.write("p.yaml", &(stage("in: { make: ./make.sh }") + "    with: { run: 'sh {in.make} > {out.o}' }\n"));
    assert_eq!(ws.run(&[]), ["a ran"]);
}

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
    assert_eq!(got.code, 2, "{}", got.stderr);
    assert!(got.stderr.contains("ro/cache") && got.stderr.to_lowercase().contains("read-only"), "{}", got.stderr);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
}

#[test]
fn a_stage_past_its_time_is_stopped_with_all_that_it_started() {
    let ws = Workspace::with(
        "cistage: 1\nname: t\nparams: { seconds: 60 }\nstages:\n  slow:\n    uses: command\n    out: { o: o }\n    \
         resources: { time: 1s }\n    with: { run: 'echo begun; sleep {param.seconds}; echo x > {out.o}' }\n  \
         after: { uses: command, in: { o: slow.o }, out: { o: o }, with: { run: 'cp {in.o} {out.o}' } }\n",
    );
    let began = std::time::Instant::now();
    let (code, events) = ws.events(&[]);
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "it was not waited for");
    assert_eq!((code, outcomes(&events)), (1, vec!["after skipped".to_owned(), "slow failed".to_owned()]));
    let failed = events.iter().find(|e| e["outcome"] == "failed" && e["event"] == "stage-finished").expect("event");
    let error = failed["error"].as_str().expect("error");
    assert!(error.contains("time: 1s") && error.ends_with("begun"), "the limit, and the log: {error}");
    assert_eq!(ws.run(&["--set", "seconds=0"]), ["after ran", "slow ran"]);
}

#[test]
fn a_stage_that_does_not_listen_is_killed_after_its_time() {
    let ws = Workspace::with(
        "cistage: 1\nname: t\nstages:\n  deaf:\n    uses: command\n    out: { o: o }\n    resources: { time: 1s }\n    \
         with: { run: \"trap '' TERM; for i in $(seq 600); do sleep 0.1; done\" }\n",
    );
    let began = std::time::Instant::now();
    let (code, events) = ws.events(&[]);
    assert_eq!((code, outcomes(&events)), (1, vec!["deaf failed".to_owned()]));
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
    let failed = events.iter().find(|e| e["event"] == "stage-finished").expect("event");
    assert!(failed["error"].as_str().is_some_and(|e| e.contains("time: 1s")), "{failed}");
}

#[test]
fn a_result_that_cannot_be_published_fails_the_run_and_says_what_to_do() {
    // The command puts a folder where its result should go, as a user could while a long run is under way.
    let ws = Workspace::with(
        "cistage: 1\nname: t\nparams: { place: '' }\nstages:\n  s:\n    uses: command\n    out: { o: o }\n    \
         with: { run: 'mkdir -p {param.place}/mine; echo x > {out.o}' }\npublish: { results/o.txt: s.o }\n",
    );
    let place = format!("place={}", ws.path("results/o.txt").display());
    let (code, events) = ws.events(&["--set", &place]);
    assert_eq!((code, outcomes(&events)), (1, vec!["s ran".to_owned()]));
    let failed = events.iter().find(|e| e["event"] == "publish-failed").expect("an event");
    assert_eq!((failed["path"].as_str(), failed["output"].as_str()), (Some("results/o.txt"), Some("s.o")));
    assert!(failed["error"].as_str().is_some_and(|e| e.contains("a folder is there")), "{failed}");
    let last = events.last().expect("events");
    assert_eq!(last["outcome"], "failed");
    assert_eq!(last["unpublished"], serde_json::json!(["results/o.txt"]));
    assert!(ws.exists("results/o.txt/mine"), "nothing of the user's is lost");
    let shown = ws.cistage(&["show"]);
    assert!(shown.stdout.contains("not published") && shown.stdout.contains("results/o.txt"), "{}", shown.stdout);
    // Said before anything runs, now that it can be seen.
    let got = ws.cistage(&["run", "p.yaml", "--set", &place]);
    assert_eq!(got.code, 2, "{}", got.stderr);
    fs_err::remove_dir_all(ws.path("results")).expect("removed");
    assert_eq!(ws.run(&["--set", &place]), ["s hit"]);
    assert_eq!(ws.read("results/o.txt"), "x\n");
}

#[test]
fn a_run_killed_after_it_published_a_folder_leaves_nothing_to_clear_away() {
    let ws = Workspace::with(
        "cistage: 1\nstages:\n  a: { uses: command, out: { o: d }, with: { run: \"mkdir {out.o}; echo x > {out.o}/f\" } }\npublish: { res/folder: a.o }\n",
    );
    ws.run(&[]);
    // As a kill between publishing and the run's record leaves it.
    fs_err::remove_dir_all(ws.path("cache/runs")).expect("removes");
    assert_eq!(ws.run(&[]), ["a hit"]);
    fs_err::remove_dir_all(ws.path("cache/runs")).expect("removes");
    ws.write("res/folder/mine", "x");
    let refused = ws.cistage(&["run", "p.yaml"]);
    assert!(refused.code == 2 && refused.stderr.contains("no recorded run published"), "{}", refused.stderr);
}

#[test]
fn messages_that_nobody_can_hear_are_not_said() {
    let Ok(full) = fs_err::OpenOptions::new().write(true).open("/dev/full") else { return };
    let ws = Workspace::with("cistage: 1\nstages:\n  made: { uses: synthesize, with: { rows: 10 } }\n");
    for (args, code) in [(["run", "p.yaml"], 0), (["run", "none.yaml"], 2)] {
        let mut command = ws.command(&args);
        command.stderr(full.file().try_clone().expect("a descriptor"));
        assert_eq!(command.status().expect("starts").code(), Some(code), "{args:?}");
    }
}

#[test]
fn a_result_tells_of_the_attempts_before_it_and_a_hit_of_the_execution_that_it_saves() {
    let ws = Workspace::new();
    let outside = |name: &str| ws.path(name).display().to_string();
    let (good, begun) = (outside("good"), outside("begun"));
    ws.write(
        "p.yaml",
        format!(
            "cistage: 1\nstages:\n  a:\n    uses: command\n    out: {{ o: o.txt }}\n    with: {{ run: 'test -e {good} || {{ \
             touch {begun}; test -e {outside} && exit 3; sleep 60; }}; sleep 1.1; echo x > {{out.o}}' }}\n",
            outside = outside("fail")
        ),
    );
    ws.write("fail", "");
    let (code, failed) = ws.events(&[]);
    assert_eq!(code, 1, "{failed:?}");
    for file in ["fail", "begun"] {
        fs_err::remove_file(ws.path(file)).expect("removes");
    }
    let mut killed = ws.command(&["run", "p.yaml"]).spawn().expect("starts");
    while !ws.exists("begun") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    killed.kill().expect("kills");
    killed.wait().expect("ends");
    ws.write("good", "");
    assert_eq!(ws.run(&[]), ["a ran"]);

    let lineage = ws.cistage(&["audit", "a.o", "--format", "json"]);
    let lineage: serde_json::Value = serde_json::from_str(&lineage.stdout).expect("JSON");
    let attempts = lineage["made_by"]["attempts"].as_array().expect("there were some");
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(attempts[0]["run"], failed.last().expect("events")["run"]);
    assert!(attempts[0]["error"].as_str().is_some_and(|error| error.contains("exit status 3")), "{attempts:?}");
    assert!(attempts[1]["error"].as_str().is_some_and(|error| error.starts_with("killed")), "{attempts:?}");
    let shown = ws.cistage(&["audit", "a.o"]).stdout;
    assert!(shown.contains("an attempt in run") && shown.contains(" failed: "), "{shown}");

    let (_, again) = ws.events(&[]);
    let last = again.last().expect("events");
    assert!(last["saved_seconds"].as_f64().is_some_and(|saved| saved > 1.0), "{last}");
    let shown = ws.cistage(&["show"]).stdout;
    let maker = lineage["made_by"]["run"].as_str().expect("a run");
    assert!(shown.contains(&format!("made in run {maker}, saves 1.")), "{shown}");
    let said = ws.cistage(&["run", "p.yaml"]).stderr;
    assert!(said.contains("1 hit, saving 1."), "{said}");
    assert!(lineage["made_by"]["environment"]["build"].as_str().is_some_and(|build| build.starts_with("blake3:")));
    let version = ws.cistage(&["--version"]).stdout;
    assert!(
        version.starts_with(concat!("cistage ", env!("CARGO_PKG_VERSION"), "\n")) && version.contains("build  blake3:")
    );
}
