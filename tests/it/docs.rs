//! Every command of the tutorial and of the how-tos is run, in its order, as a reader would.

use crate::workspace::Workspace;
use std::path::Path;
use std::process::Command;

/// The `sh` blocks of a page, joined.
fn script(page: &str) -> String {
    let text = fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)).expect("a page");
    let mut script = String::new();
    for block in text.split("```sh\n").skip(1) {
        script.push_str(block.split("```").next().expect("text before the end"));
    }
    script
}

fn run(page: &str) {
    if Command::new("python3").arg("--version").output().is_err() {
        return eprintln!("skipped: {page} needs python3, which is not installed");
    }
    let ws = Workspace::new();
    let program = Path::new(env!("CARGO_BIN_EXE_cistage")).parent().expect("a folder");
    let path = std::env::join_paths(
        std::iter::once(program.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").expect("a PATH"))),
    );
    let mut shell = Command::new("bash");
    shell.args(["-e", "-u", "-o", "pipefail", "-c", &script(page)]).current_dir(ws.path(""));
    shell.env("PATH", path.expect("plain folders")).env_remove("CISTAGE_CACHE");
    let got = shell.output().expect("bash starts");
    let (out, err) = (String::from_utf8_lossy(&got.stdout), String::from_utf8_lossy(&got.stderr));
    assert!(got.status.success(), "{page}: {}\n{out}\n{err}", got.status);
}

#[test]
fn the_tutorial_runs() {
    run("tutorial.md");
}

#[test]
fn the_how_tos_run() {
    run("how-to.md");
}
