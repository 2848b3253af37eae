//! Small pipeline files that ask for much: each is refused in seconds, in bounded memory.

use super::is_calm;
use crate::workspace::{Workspace, outcome};
use std::process::Command;
use std::time::{Duration, Instant};

const HEAD: &str = "cistage: 1\nname: t\n";
const MADE: &str = "stages:\n  made: { uses: synthesize }\n";

/// Plans `p.yaml` with little memory, and gives the message.
fn plan(text: &str) -> String {
    let ws = Workspace::with(text);
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -v 4000000; exec \"$@\"", "x", env!("CARGO_BIN_EXE_cistage"), "plan", "p.yaml"]);
    command.current_dir(ws.path("")).env("NO_COLOR", "1");
    let began = Instant::now();
    let got = outcome(command);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(got.code, 2, "{:.2000}", got.stderr);
    assert!(got.stderr.contains("p.yaml"), "{:.2000}", got.stderr);
    is_calm(&got.stderr);
    assert!(got.stderr.len() < 1 << 20, "{} bytes of message", got.stderr.len());
    assert!(!ws.exists("cache"));
    got.stderr
}

#[test]
fn a_small_file_does_not_become_a_large_plan() {
    let long = "x".repeat(400_000);
    let repeated = "${a}".repeat(50_000);
    let list = |item: &str, n: usize| vec![item; n].join(", ");
    let axes = |n: usize, choices: &str| (0..n).map(|i| format!("k{i}: {choices}")).collect::<Vec<_>>().join(", ");
    let command = |run: &str| format!("s: {{ uses: command, out: {{ o: o }}, with: {{ run: '{run}' }}");
    let numbers = |from: usize| (from..from + 100).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let many = format!("  a: {{ uses: synthesize, matrix: {{ seed: [{}], rows: [{}] }} }}\n", numbers(0), numbers(1));
    let table = [
        // The file itself.
        ("x".repeat(50 << 20), "bytes"),
        (format!("{HEAD}params: {{ a: [{}] }}\n{MADE}", list("1", 20_000)), "values"),
        (format!("{HEAD}{MADE}{}", "  ".repeat(20_000) + "a: 1\n"), "YAML"),
        // Aliases.
        (format!("{HEAD}params:\n  a: &a {long}\n  b: [{}]\n{MADE}", list("*a", 9000)), "aliases"),
        // Parameters in texts and as values.
        (
            format!(
                "{HEAD}params: {{ a: {long} }}\nstages:\n  s: {{ uses: command, out: {{ o: o }}, with: {{ argv: ['{repeated}'] }} }}\n"
            ),
            "MiB",
        ),
        (
            format!(
                "{HEAD}params: {{ a: [{}] }}\nstages:\n  s: {{ uses: split, in: {{ rows: x }}, with: {{ test: [{}] }} }}\n",
                list("1", 4000),
                list("'${a}'", 4000)
            ),
            "MiB",
        ),
        // Branches: ten thousand of them, each with a long text.
        (format!("{HEAD}stages:\n{many}  {}, in: {{ r: a.rows }} }}\n", command(&long)), "MiB"),
        (format!("{HEAD}stages:\n{many}  {}, in: {{ r: a.rows }}, hint: {long} }}\n", command(":")), "MiB"),
        (format!("{HEAD}stages:\n  {}, matrix: {{ {} }} }}\n", command(":"), axes(4000, "[1]")), "keys"),
        (format!("{HEAD}stages:\n  {}, matrix: {{ {} }} }}\n", command(":"), axes(14, "[1, 2]")), "branches"),
        // Texts for bash.
        (format!("{HEAD}stages:\n  {} }}\n", command(&("{".repeat(900_000) + "{in.x}"))), "there is no input"),
        (format!("{HEAD}stages:\n  {} }}\n", command(&"{in.x}".repeat(150_000))), "there is no input"),
        (format!("{HEAD}stages:\n  {} }}\n", command(&("$(".repeat(300_000) + "{in.x}"))), "nested too deeply"),
    ];
    for (text, part) in table {
        let message = plan(&text);
        assert!(message.contains(part), "{part:?} in:\n{message:.2000}");
    }
}

#[test]
fn many_wrong_names_are_told_shortly() {
    let stage = |i: usize, rows: &str| {
        format!("  stage-with-a-rather-long-name-{i}: {{ uses: split, in: {{ rows: {rows} }} }}\n")
    };
    let wrong: String = (0..1500).map(|i| stage(i, &format!("stage-with-a-rather-long-nome-{i}.train"))).collect();
    let message = plan(&format!("{HEAD}stages:\n{wrong}"));
    assert!(message.contains("1500 problems"), "{message:.2000}");
    let cycle: String =
        (0..1500).map(|i| stage(i, &format!("stage-with-a-rather-long-name-{}.train", (i + 1) % 1500))).collect();
    assert!(plan(&format!("{HEAD}stages:\n{cycle}")).contains("wait for each other"));
}

#[test]
fn what_yaml_can_hide_is_refused() {
    let table = [
        ("stages: { made: { uses: synthesize } }\nstages: {}\n", "duplicate key"),
        ("x: &x { uses: synthesize }\nstages: { made: { <<: *x } }\n", "merge keys"),
        ("stages: { made: !!python/object/apply:os.system { uses: synthesize } }\n", "tag"),
        ("stages: { made: { uses: synthesize } }\n---\nstages: {}\n", "second document"),
        ("stages: { \"ma\\u202ede\": { uses: synthesize } }\n", "can't be the name of a stage"),
        ("stages: { \"\\e[2Jmade\": { uses: synthesize } }\n", "can't be the name of a stage"),
        ("stages: { made: { uses: synthesize, about: \"\\e[2J\" } }\n", "one line of text"),
        ("stages: { ../made: { uses: synthesize } }\n", "can't be the name of a stage"),
        ("stages: { made: { uses: synthesize, with: { rows: 1e400 } } }\n", "rows"),
        ("stages: { made: { uses: synthesize, with: { rows: 18446744073709551616 } } }\n", "rows"),
        ("stages: { ? [made] : { uses: synthesize } }\n", "key has to be text"),
        ("stages: &a { made: *a }\n", "alias"),
    ];
    for (text, part) in table {
        let message = plan(&format!("{HEAD}{text}"));
        assert!(message.contains(part) && !message.contains('\u{202e}'), "{part:?} in:\n{message}");
    }
}
