//! Every command that a page shows is run, in its order, as a reader would.

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

/// The commands of a page's `console` blocks, without what they print; on few rows.
fn console(text: &str) -> String {
    let mut script = String::new();
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("text before the end");
        block.lines().filter_map(|line| line.strip_prefix("$ ")).for_each(|line| script += &format!("{line}\n"));
    }
    script.replace("--profile demo", "--profile demo --set made_up_rows=1500 --set epochs=1")
}

fn run(page: &str) {
    run_in(&Workspace::new(), page, &script(page));
}

fn run_in(ws: &Workspace, page: &str, script: &str) {
    if Command::new("python3").arg("--version").output().is_err() {
        return eprintln!("skipped: {page} needs python3, which is not installed");
    }
    let program = Path::new(env!("CARGO_BIN_EXE_cistage")).parent().expect("a folder");
    let path = std::env::join_paths(
        std::iter::once(program.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").expect("a PATH"))),
    );
    let mut shell = Command::new("bash");
    shell.args(["-e", "-u", "-o", "pipefail", "-c", script]).current_dir(ws.path(""));
    shell.env("PATH", path.expect("plain folders")).env("HOME", ws.path("")).env_remove("CISTAGE_CACHE");
    shell.env_remove("XDG_CONFIG_HOME");
    let got = shell.output().expect("bash starts");
    let (out, err) = (String::from_utf8_lossy(&got.stdout), String::from_utf8_lossy(&got.stderr));
    assert!(got.status.success(), "{page}: {}\n{out}\n{err}", got.status);
}

#[test]
fn the_tour_of_the_readme_runs_and_so_does_what_is_said_of_provenance() {
    let ws = Workspace::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let flagship = fs_err::read_to_string(root.join("pipelines/dream2022.yaml")).expect("the flagship");
    ws.write("pipelines/dream2022.yaml", flagship);
    for page in ["README.md", "docs/provenance.md"] {
        let text = fs_err::read_to_string(root.join(page)).expect("a page");
        let commands = console(&text);
        assert!(commands.lines().count() > 2, "{page} shows commands");
        run_in(&ws, page, &commands);
    }
}

#[test]
fn the_tutorial_runs() {
    run("tutorial.md");
}

#[test]
fn the_how_tos_run() {
    run("how-to.md");
}
