//! Many stages and large files: what is read, what is left behind, what can be stopped.

use crate::workspace::Workspace;
use std::fmt::Write;
use std::path::Path;

/// `n` stages that write their number.
fn wide(n: usize) -> String {
    let mut text = "cistage: 1\nname: wide\nstages:\n".to_owned();
    for i in 0..n {
        writeln!(text, "  s{i}: {{uses: command, out: {{o: o.txt}}, with: {{run: 'echo {i} > {{out.o}}'}}}}")
            .expect("memory");
    }
    text
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(folder).expect("lists");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_run_leaves_one_copy_of_each_output_and_nothing_unfinished() {
    let ws = Workspace::with(&wide(20));
    assert_eq!(ws.run(&[]).iter().filter(|line| line.ends_with(" ran")).count(), 20);
    for folder in ["scratch", "tmp"] {
        assert!(files(&ws.path("cache").join(folder)).is_empty(), "{folder}");
    }
    let mut locks = files(&ws.path("cache/locks"));
    locks.sort();
    assert_eq!(locks, ["gc.lock", "runs.lock"]);
    // Twenty outputs and manifests, one log, the text of the pipeline: `du` counts the same.
    let du: serde_json::Value =
        serde_json::from_str(&ws.cistage(&["cache", "du", "--format", "json"]).stdout).expect("JSON");
    assert_eq!(du["objects"]["files"], 42, "{du:#}");
    assert_eq!(du["unreferenced"]["files"], 0, "{du:#}");
    assert_eq!(du["stages"]["s7"]["files"], 3, "{du:#}");
    assert_eq!(ws.run(&[]).iter().filter(|line| line.ends_with(" hit")).count(), 20);
}

#[test]
fn ctrl_c_is_heeded_while_a_large_file_is_hashed() {
    let ws = Workspace::with(
        "cistage: 1\nname: big\nstages:\n  a:\n    uses: command\n    in: { big: big.bin }\n    out: { o: o.txt }\n    with: { run: 'head -c 8 {in.big} > {out.o}' }\n",
    );
    // A hole takes no room, and long to read.
    let hole = fs_err::File::create(ws.path("big.bin")).expect("makes");
    if hole.set_len(1 << 40).is_err() {
        eprintln!("SKIPPED: no file of 1 TiB can be made here");
        return;
    }
    let child = ws.command(&["run", "p.yaml"]).stderr(std::process::Stdio::piped()).spawn().expect("starts");
    let open = Path::new("/proc").join(child.id().to_string()).join("fd");
    let is_big = |entry: std::io::Result<fs_err::DirEntry>| {
        entry.and_then(|e| fs_err::read_link(e.path())).is_ok_and(|to| to.ends_with("big.bin"))
    };
    while !fs_err::read_dir(&open).expect("it runs").any(is_big) {
        std::thread::yield_now();
    }
    let pid = i32::try_from(child.id()).expect("a pid");
    // SAFETY: sends a signal to a process that this test started and has not waited for.
    unsafe { libc::kill(pid, libc::SIGINT) };
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("nothing was started"), "{said}");
    assert!(files(&ws.path("cache/runs")).is_empty() && files(&ws.path("cache/tmp")).is_empty());
    hole.set_len(9).expect("cuts");
    assert_eq!(ws.run(&[]), ["a ran"]);
}

#[test]
fn a_folder_of_many_files_needs_few_open_ones() {
    let ws = Workspace::with(
        "cistage: 1\nname: many\nstages:\n  a:\n    uses: command\n    out: { o: d }\n    \
         with: { run: 'mkdir d; for i in $(seq 1500); do echo $i > d/$i; done' }\n",
    );
    // About as many as there are folders of objects.
    let mut limited = std::process::Command::new("bash");
    limited.args(["-c", "ulimit -n 200; exec \"$0\" run p.yaml", env!("CARGO_BIN_EXE_cistage")]);
    limited.current_dir(ws.path("")).env_remove("CISTAGE_CACHE");
    let got = crate::workspace::outcome(limited);
    assert_eq!(got.code, 0, "{}", got.stderr);
    assert_eq!(ws.run(&[]), ["a hit"]);
}
