//! The engine against real programs: what a stage sees, what it may do, and what it may not.

use crate::workspace::{Workspace, outcomes};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A pipeline of one command with an input file and an output.
fn one(run: &str) -> Workspace {
    let ws = Workspace::with(&format!(
        "cistage: 1\nname: one\nparams: {{ note: 'two words' }}\nstages:\n  s:\n    uses: command\n    in: {{ file: in.tsv.gz }}\n    \
         out: {{ o: out.txt }}\n    with:\n      run: |\n        {}\npublish: {{ out.txt: s.o }}\n",
        run.replace('\n', "\n        ")
    ));
    ws.write("in.tsv.gz", "input\n");
    ws
}

/// The error of the only failed stage.
fn error(events: &[Value]) -> String {
    let failed = events.iter().find(|e| e["event"] == "stage-finished" && e["outcome"] == "failed");
    failed.and_then(|e| e["error"].as_str()).unwrap_or_else(|| panic!("no stage failed: {events:#?}")).to_owned()
}

#[test]
fn a_command_sees_its_inputs_its_values_and_little_else() {
    let ws = one(
        ": > {out.o}; find . -type f | sort > {out.o}; echo {in.file} {param.note} >> {out.o}; (compgen -e; true) | sort >> {out.o}",
    );
    assert_eq!(ws.run(&[]), ["s ran"]);
    let expected = "./in/file.tsv.gz\n./out.txt\nin/file.tsv.gz two words\nCISTAGE_IN_FILE\nCISTAGE_OUT_O\n\
                    CISTAGE_PARAM_NOTE\nHOME\nPATH\nPWD\nSHLVL\nTMPDIR\nnote\n";
    assert_eq!(ws.read("out.txt"), expected);
}

#[test]
fn a_command_that_writes_to_its_input_fails_and_the_users_file_stays() {
    let ws = one("echo more >> {in.file}; echo x > {out.o}");
    let (code, events) = ws.events(&[]);
    assert_eq!(code, 1);
    assert!(error(&events).contains("changed its input `file`"), "{}", error(&events));
    assert_eq!(ws.read("in.tsv.gz"), "input\n");
}

#[test]
fn an_output_that_is_a_link_is_refused() {
    let ws = one("ln -s /etc/hostname {out.o}");
    let (code, events) = ws.events(&[]);
    assert_eq!(code, 1);
    assert!(error(&events).contains("symbolic link"), "{}", error(&events));
}

#[test]
fn a_pipe_fails_with_its_first_part() {
    let (code, events) = one("false | cat > {out.o}").events(&[]);
    assert_eq!((code, error(&events).as_str()), (1, "the command ended with exit status 1"));
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let ws = one("sleep 1000 & echo $! > {out.o}");
    let began = Instant::now();
    assert_eq!(ws.run(&[]), ["s ran"]);
    assert!(began.elapsed() < Duration::from_secs(30), "the run waited for the background program");
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", ws.read("out.txt").trim()));
    assert!(stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")), "the program still runs");
}

#[test]
fn two_steps_of_one_key_execute_once() {
    let step = |name: &str| {
        format!(
            "  {name}:\n    uses: command\n    out: {{ o: o }}\n    with: {{ run: 'echo 1 > {{out.o}}; sleep 0.1' }}\n"
        )
    };
    let ws = Workspace::with(&format!("cistage: 1\nname: twins\nstages:\n{}{}", step("a"), step("b")));
    assert_eq!(ws.run(&["--jobs", "2"]), ["a ran", "b hit"]);
}

#[test]
fn without_keep_going_nothing_new_starts_after_a_failure() {
    let ws = Workspace::with(
        "cistage: 1\nname: stop\nstages:\n  a:\n    uses: command\n    out: { o: o }\n    with: { argv: ['false'] }\n  \
         b:\n    uses: command\n    out: { o: o }\n    with: { run: 'echo b > {out.o}' }\n",
    );
    let (code, events) = ws.events(&["--jobs", "1"]);
    assert_eq!((code, outcomes(&events)), (1, vec!["a failed".to_owned(), "b skipped".to_owned()]));
    let (code, events) = ws.events(&["--jobs", "1", "--keep-going"]);
    assert_eq!((code, outcomes(&events)), (1, vec!["a failed".to_owned(), "b ran".to_owned()]));
}

#[test]
fn a_published_folder_is_replaced_whole_and_mended_when_touched() {
    let ws = Workspace::with(
        "cistage: 1\nname: folder\nparams: { file: one }\nstages:\n  s:\n    uses: command\n    out: { d: d }\n    \
         with: { run: 'mkdir {out.d}; echo x > {out.d}/{param.file}' }\npublish: { results/d: s.d }\n",
    );
    assert_eq!(ws.run(&[]), ["s ran"]);
    assert_eq!(ws.run(&["--set", "file=two"]), ["s ran"]);
    assert!(ws.exists("results/d/two") && !ws.exists("results/d/one"));
    ws.write("results/d/two", "y\n");
    assert_eq!(ws.run(&["--set", "file=two"]), ["s hit"]);
    assert_eq!(ws.read("results/d/two"), "x\n");
    let left: Vec<_> =
        fs_err::read_dir(ws.path("results")).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["d"]);
}

#[test]
fn a_run_leaves_no_work_directories_and_its_events_stand_in_its_folder() {
    let ws = one("echo x > {out.o}");
    let (code, events) = ws.events(&[]);
    assert_eq!(code, 0);
    assert_eq!(fs_err::read_dir(ws.path("cache/scratch")).expect("a folder").count(), 0);
    let run = events[0]["run"].as_str().expect("run-started comes first");
    let stored = ws.read(&format!("cache/runs/{run}/events.jsonl"));
    let stored: Vec<Value> = stored.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(stored, events);
    assert_eq!(events.last().expect("events")["event"], "run-finished");
}

#[test]
fn a_missing_program_is_named() {
    let ws = Workspace::with(
        "cistage: 1\nname: none\nstages:\n  s:\n    uses: command\n    out: { o: o }\n    with: { argv: [no-such-program-here] }\n",
    );
    let (code, events) = ws.events(&[]);
    assert_eq!(code, 1);
    assert!(error(&events).contains("no program \"no-such-program-here\" on PATH"), "{}", error(&events));
}

#[test]
fn a_long_log_is_kept_at_both_ends_and_shown_at_its_last_lines() {
    let ws = one("echo first; head -c 12000000 /dev/zero | tr '\\\\0' x; echo; echo last words; exit 4");
    let (code, events) = ws.events(&[]);
    assert_eq!(code, 1);
    let error = error(&events);
    assert!(error.contains("exit status 4") && error.ends_with("last words"), "{error}");
}
