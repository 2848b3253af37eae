//! The work directory of a command stage, made again for a person.

use crate::workspace::{Workspace, outcome};
use serde_json::Value;

const PIPELINE: &str = r#"
cistage: 1
name: shelf
params: { word: "it's `x` $HOME", last: "exit 3" }
stages:
  first:
    uses: command
    in: { list: list.txt }
    out: { o: made/o.txt }
    with: { run: "printf '%s' {param.word} > {out.o}; cat {in.list} >> {out.o}" }
  second:
    uses: command
    in: { text: first.o }
    out: { o: o.txt }
    secrets: [TOKEN]
    with: { argv: [bash, -c, "cat {in.text} > o.txt; echo $TOKEN >&2; ${last}"], env: [COLOUR] }
  third: { uses: synthesize, with: { rows: 5 } }
  after: { uses: command, in: { t: second.o }, out: { o: o.txt }, with: { run: "cp {in.t} {out.o}" } }
"#;

fn cistage(ws: &Workspace, args: &[&str]) -> crate::workspace::Outcome {
    let mut command = ws.command(args);
    command.env("TOKEN", "hush-hush").env("COLOUR", "red");
    outcome(command)
}

fn failed() -> Workspace {
    let ws = Workspace::with(PIPELINE);
    ws.write("list.txt", "1\n2\n");
    let run = cistage(&ws, &["run", "p.yaml", "--keep-going"]);
    assert!(run.code == 1 && run.stderr.contains("`cistage shell second`"), "{}", run.stderr);
    ws
}

#[test]
fn the_script_does_again_what_the_stage_did() {
    let ws = failed();
    let made = cistage(&ws, &["shell", "first", "--", "../run.sh"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert_eq!(ws.read("first.shell/work/made/o.txt"), "it's `x` $HOME1\n2\n");
    assert_eq!(ws.read("first.shell/work/in/list.txt"), "1\n2\n");

    let again = cistage(&ws, &["shell", "second", "--", "../run.sh"]);
    assert!(again.code == 3 && again.stderr.contains("hush-hush"), "{}", again.stderr);
    assert_eq!(ws.read("second.shell/work/o.txt"), "it's `x` $HOME1\n2\n");
    // The folder may be moved; what it needs of the environment is the secret alone.
    let script = ws.read("second.shell/run.sh");
    assert!(!script.contains("hush-hush") && script.contains("COLOUR='red'"), "{script}");
    fs_err::rename(ws.path("second.shell"), ws.path("moved")).expect("moves");
    fs_err::remove_file(ws.path("moved/work/o.txt")).expect("removes");
    let mut bare = std::process::Command::new(ws.path("moved/run.sh"));
    bare.env_remove("TOKEN").env("CDPATH", ws.path(""));
    let bare = outcome(bare);
    assert!(bare.code != 0 && bare.stderr.contains("is a secret of this stage"), "{}", bare.stderr);
    let mut told = std::process::Command::new(ws.path("moved/run.sh"));
    told.env("TOKEN", "hush-hush");
    assert_eq!(outcome(told).code, 3);
    assert!(ws.exists("moved/work/o.txt"));
}

#[test]
fn a_program_there_sees_what_the_stage_sees() {
    let ws = failed();
    let list =
        cistage(&ws, &["shell", "second", "--dir", "there", "--", "bash", "-c", "pwd; env | cut -d= -f1 | sort"]);
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert!(lines[0].ends_with("there/work"), "{}", list.stdout);
    for name in ["CISTAGE_IN_TEXT", "CISTAGE_OUT_O", "COLOUR", "HOME", "PATH", "TMPDIR", "TOKEN"] {
        assert!(lines.contains(&name), "{name}: {}", list.stdout);
    }
    assert!(!lines.contains(&"CISTAGE_CACHE") && !lines.contains(&"USER"), "{}", list.stdout);
    // Without a terminal it is made, and nothing is started.
    let json = cistage(&ws, &["shell", "first", "--format", "json"]);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["stage"], "first");
    assert!(ws.exists("first.shell/run.sh"));
}

#[test]
fn what_cant_be_made_again_is_said_and_leaves_nothing() {
    let ws = failed();
    for (args, said) in [
        (&["shell", "fourth"][..], "the command stages of run"),
        (&["shell", "third"], "is a `synthesize` stage"),
        (&["shell", "after"], "did not get its inputs"),
        (&["shell", "first", "--run", "20200101"], "no"),
        (&["shell", "first", "--", "no-such-program"], "can't start"),
    ] {
        let got = cistage(&ws, args);
        assert!(got.code == 2 && got.stderr.contains(said), "{args:?}: {}", got.stderr);
    }
    assert!(!ws.exists("third.shell") && !ws.exists("after.shell") && !ws.exists("fourth.shell"));
    let twice = cistage(&ws, &["shell", "first"]);
    assert!(twice.code == 2 && twice.stderr.contains("is there already"), "{}", twice.stderr);

    let hushed = ws.cistage(&["shell", "second", "--dir", "a"]);
    assert!(hushed.code == 2 && hushed.stderr.contains("TOKEN") && !ws.exists("a"), "{}", hushed.stderr);
    ws.write("list.txt", "3\n");
    let changed = cistage(&ws, &["shell", "first", "--dir", "b"]);
    assert!(changed.code == 0 && changed.stderr.contains("list.txt has changed since"), "{}", changed.stderr);
    fs_err::remove_file(ws.path("list.txt")).expect("removes");
    let gone = cistage(&ws, &["shell", "first", "--dir", "c"]);
    assert!(gone.code == 2 && gone.stderr.contains("list.txt") && !ws.exists("c"), "{}", gone.stderr);
    fs_err::create_dir(ws.path("mine")).expect("makes");
    assert_eq!(cistage(&ws, &["shell", "first", "--dir", "mine"]).code, 2);
    assert_eq!(fs_err::read_dir(ws.path("mine")).expect("it is the user's").count(), 0);
    let mut other = ws.command(&["shell", "second", "--dir", "d"]);
    other.env("TOKEN", "hush-hush").env("COLOUR", "blue");
    assert!(outcome(other).stderr.contains("variables named by `env`"));
}

#[test]
fn a_folder_of_an_earlier_shell_is_replaced_where_that_is_asked_for_and_no_other() {
    let ws = failed();
    assert_eq!(cistage(&ws, &["shell", "first"]).code, 0);
    ws.write("first.shell/work/mine.txt", "edited");
    let again = cistage(&ws, &["shell", "first"]);
    assert!(again.code == 2 && again.stderr.contains("--replace makes it anew"), "{}", again.stderr);
    assert!(ws.exists("first.shell/work/mine.txt"));
    let replaced = cistage(&ws, &["shell", "first", "--replace"]);
    assert_eq!(replaced.code, 0, "{}", replaced.stderr);
    assert!(ws.exists("first.shell/run.sh") && !ws.exists("first.shell/work/mine.txt"));
    // What can't be made leaves what is there.
    let refused = cistage(&ws, &["shell", "third", "--dir", "first.shell", "--replace"]);
    assert!(refused.code == 2 && ws.exists("first.shell/run.sh"), "{}", refused.stderr);
    let folders = fs_err::read_dir(ws.path("")).expect("lists").flatten();
    assert_eq!(folders.filter(|e| e.file_name().to_string_lossy().starts_with(".first")).count(), 0);

    ws.write("own/work/mine.txt", "kept");
    let own = cistage(&ws, &["shell", "first", "--dir", "own", "--replace"]);
    assert!(own.code == 2 && own.stderr.contains("not one that `cistage shell` made"), "{}", own.stderr);
    assert_eq!(ws.read("own/work/mine.txt"), "kept");
}
