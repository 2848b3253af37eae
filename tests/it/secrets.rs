//! Secrets of a command: seen by its program, kept nowhere.

use crate::workspace::{Outcome, Workspace, outcome};
use serde_json::Value;
use std::path::Path;

const VALUE: &str = "c4nary/of/coalmine";
const URL: &str = "c4nary%2Fof%2Fcoalmine";

const PIPELINE: &str = r#"
cistage: 1
stages:
  fetch:
    uses: command
    secrets: [TOKEN]
    out: { data: data.txt }
    with: { run: 'echo "asks with $TOKEN and ${TOKEN//\//%2F}"; test ${#TOKEN} = 18; echo fetched > {out.data}' }
"#;

/// Every file below a folder in which the value can be read.
fn leaks(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir).expect("reads").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(leaks(&entry));
        } else {
            let text = String::from_utf8_lossy(&fs_err::read(&entry).expect("reads")).into_owned();
            if [VALUE, URL].iter().any(|form| text.contains(form)) {
                found.push(entry.display().to_string());
            }
        }
    }
    found
}

fn run(ws: &Workspace, value: Option<&str>, args: &[&str]) -> Outcome {
    let mut command = ws.command(&[&["run", "p.yaml"], args].concat());
    command.env_remove("TOKEN");
    if let Some(value) = value {
        command.env("TOKEN", value);
    }
    outcome(command)
}

fn run_id(events: &str) -> String {
    let last: Value = serde_json::from_str(events.lines().last().expect("events")).expect("JSON");
    last["run"].as_str().expect("the run's id").to_owned()
}

#[test]
fn a_secret_reaches_the_program_and_no_key_log_or_record() {
    let ws = Workspace::with(PIPELINE);
    let first = run(&ws, Some(VALUE), &["--format", "json", "-v"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let (other, none) = (run(&ws, Some("another value"), &[]), run(&ws, None, &[]));
    assert!(other.stderr.contains("1 hit") && none.stderr.contains("1 hit"), "{}{}", other.stderr, none.stderr);
    assert_eq!(ws.cistage(&["audit", "fetch.data", "--export", "ro-crate", "--output", "crate"]).code, 0);
    for said in [&first, &ws.cistage(&["audit", "fetch.data"]), &ws.cistage(&["show", &run_id(&first.stdout)])] {
        assert!(!format!("{}{}", said.stdout, said.stderr).contains(VALUE));
    }
    fs_err::remove_file(ws.path("p.yaml")).expect("removes");
    assert_eq!(leaks(&ws.path("")), Vec::<String>::new());
    let lineage = ws.cistage(&["audit", "fetch.data", "--format", "json"]);
    let lineage: Value = serde_json::from_str(&lineage.stdout).expect("JSON");
    assert_eq!(lineage["made_by"]["params"]["secrets"], serde_json::json!({ "TOKEN": "1" }));
}

#[test]
fn of_a_failure_the_value_is_hidden_too() {
    let ws = Workspace::with(&PIPELINE.replace("echo fetched", "false; echo fetched"));
    let failed = run(&ws, Some(VALUE), &[]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("asks with [secret TOKEN] and [secret TOKEN]"), "{}", failed.stderr);
    assert_eq!(leaks(&ws.path("cache")), Vec::<String>::new());
}

#[test]
fn an_output_that_holds_a_secret_is_not_kept() {
    let ws = Workspace::with(&PIPELINE.replace("echo fetched", "echo $TOKEN"));
    let failed = run(&ws, Some(VALUE), &[]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("\"data.txt\" holds a secret"), "{}", failed.stderr);
    assert_eq!(leaks(&ws.path("cache")), Vec::<String>::new());
}

#[test]
fn a_missing_secret_is_named_and_a_new_version_runs_the_stage_again() {
    let ws = Workspace::with(PIPELINE);
    let missing = run(&ws, None, &[]);
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("secret TOKEN, which is not in the environment"), "{}", missing.stderr);
    assert_eq!(run(&ws, Some("short"), &[]).code, 2);
    ws.write(
        "p.yaml",
        PIPELINE
            .replace("    secrets: [TOKEN]\n", "")
            .replace("test ${#TOKEN} = 18", "true")
            .replace("$TOKEN", "")
            .replace("${TOKEN//\\//%2F}", ""),
    );
    assert_eq!(run(&ws, None, &[]).code, 0);
    ws.write("p.yaml", PIPELINE);
    let why = ws.cistage(&["why", "p.yaml", "fetch"]);
    assert!(why.stdout.contains("secrets.TOKEN: none -> 1"), "{}", why.stdout);
    assert_eq!(run(&ws, Some(VALUE), &[]).code, 0);
    ws.write("p.yaml", PIPELINE.replace("[TOKEN]", "{ TOKEN: 2 }"));
    let why = ws.cistage(&["why", "p.yaml", "fetch"]);
    assert!(why.stdout.contains("secrets.TOKEN: 1 -> 2"), "{}", why.stdout);
    let again = run(&ws, Some(VALUE), &[]);
    assert!(again.stderr.contains("1 ran"), "{}", again.stderr);
}

#[test]
fn a_secret_that_would_be_recorded_is_refused() {
    for (from, to, message) in [
        ("with: {", "with: { env: [TOKEN],", "`TOKEN` stands in `env`"),
        ("asks", "{param.TOKEN}", "`TOKEN` is a parameter"),
        ("uses: command", "uses: synthesize", "only a `command` takes secrets"),
        ("[TOKEN]", "[LD_PRELOAD]", "names of environment variables"),
        ("[TOKEN]", "[TOKEN, TOKEN]", "stands twice"),
        ("[TOKEN]", "TOKEN", "is a list of names"),
    ] {
        let ws = Workspace::with(&PIPELINE.replace("stages:", "params: { TOKEN: x }\nstages:").replace(from, to));
        let refused = run(&ws, Some(VALUE), &[]);
        assert_eq!(refused.code, 2, "{to}");
        assert!(refused.stderr.contains(message), "{to}: {}", refused.stderr);
    }
}
