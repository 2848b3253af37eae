//! What the records of the past can be asked for beside where something came from: is it made again with the same
//! bytes, what was made from it, who vouches for it, and what do other tools read of it?

use crate::workspace::Workspace;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

const PIPELINE: &str = r#"
cistage: 1
name: t
stages:
  upper: { uses: command, in: { text: words.txt }, out: { o: o.txt }, with: { run: "tr a-z A-Z < {in.text} > {out.o}" } }
  twice: { uses: command, in: { a: upper.o }, out: { o: o.txt }, with: { run: "cat {in.a} {in.a} > {out.o}" } }
  made: { uses: synthesize, with: { rows: 50 } }
  split: { uses: split, in: { rows: made.rows }, with: { test: 0.2 } }
  clock: { uses: command, out: { o: o.txt }, with: { run: "date +%s%N > {out.o}" } }
publish: { twice.txt: twice.o }
"#;

fn workspace() -> Workspace {
    let ws = Workspace::with(PIPELINE);
    ws.write("words.txt", "a b\n");
    ws.run(&[]);
    ws
}

fn audit(ws: &Workspace, args: &[&str]) -> (i32, Value) {
    let asked: Vec<&str> = ["audit", "--format", "json"].iter().chain(args).copied().collect();
    let answer = ws.cistage(&asked);
    (answer.code, serde_json::from_str(&answer.stdout).unwrap_or_default())
}

#[test]
fn what_is_deterministic_is_reproduced_and_what_is_not_is_told() {
    let ws = workspace();
    for target in ["twice.txt", "split.test"] {
        let (code, answer) = audit(&ws, &[target, "--rerun"]);
        assert_eq!((code, &answer["rerun"]["reproduced"]), (0, &json!(true)), "{answer:#}");
        assert_eq!(answer["rerun"]["actions"].as_array().map(Vec::len), Some(1), "its inputs are in the cache");
    }
    let (code, answer) = audit(&ws, &["clock.o", "--rerun"]);
    assert_eq!((code, &answer["rerun"]["reproduced"]), (3, &json!(false)));
    let again = &answer["rerun"]["actions"][0]["outputs"]["o"];
    assert_eq!(again["recorded"], answer["artifact"]["digest"]);
    assert_ne!(again["found"], again["recorded"]);
    let said = ws.cistage(&["audit", "twice.txt", "--rerun"]);
    assert!(said.stdout.contains("reproduced: the same bytes came out again"), "{}", said.stdout);
    assert_eq!(ws.run(&[]).iter().filter(|line| line.ends_with(" hit")).count(), 5, "nothing of it was kept");
}

#[test]
fn inputs_that_are_gone_are_made_again_and_a_missing_source_is_named() {
    let ws = workspace();
    let (_, answer) = audit(&ws, &["upper.o"]);
    fs_err::remove_file(ws.object(answer["artifact"]["digest"].as_str().expect("a digest"))).expect("removes");
    let (code, answer) = audit(&ws, &["twice.txt", "--rerun"]);
    assert_eq!((code, &answer["rerun"]["reproduced"]), (0, &json!(true)), "{answer:#}");
    let stages = |answer: &Value| -> Vec<Value> {
        answer["rerun"]["actions"].as_array().expect("a list").iter().map(|a| a["stage"].clone()).collect()
    };
    assert_eq!(stages(&answer), ["upper", "twice"]);

    ws.write("words.txt", "c d\n");
    let (code, answer) = audit(&ws, &["twice.txt", "--rerun"]);
    let missing = &answer["rerun"]["missing"][0];
    assert_eq!((code, &missing["path"], &missing["state"]), (3, &json!("words.txt"), &json!("changed")));
    assert_eq!(stages(&answer), [""; 0], "nothing is executed in vain");
    fs_err::remove_file(ws.path("words.txt")).expect("removes");
    let said = ws.cistage(&["audit", "twice.txt", "--rerun"]);
    assert_eq!(said.code, 3);
    assert!(said.stdout.contains("MISSING words.txt is not there"), "{}", said.stdout);
}

#[test]
fn what_was_made_from_a_source_is_listed_with_where_it_went() {
    let ws = workspace();
    let (code, answer) = audit(&ws, &["words.txt", "--downstream"]);
    assert_eq!(code, 0);
    let made: Vec<Value> = answer["downstream"]["made"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|made| json!([made["stage"], made["steps"], made["published"]]))
        .collect();
    assert_eq!(made, [json!(["upper", 1, []]), json!(["twice", 2, ["twice.txt"]])]);
    assert_eq!(answer["downstream"]["runs"].as_array().map(Vec::len), Some(1));
    let said = ws.cistage(&["audit", "twice.txt", "--downstream"]);
    assert_eq!(said.code, 0);
    assert!(said.stdout.contains("nothing recorded was made from it"), "{}", said.stdout);
}

#[test]
fn a_signed_run_vouches_for_its_whole_lineage_and_what_is_changed_later_shows() {
    let ws = Workspace::with(PIPELINE);
    ws.write("words.txt", "a b\n");
    for key in ["a.pem", "b.pem"] {
        assert_eq!(ws.cistage(&["keys", "init", "--key", key]).code, 0);
    }
    let again = ws.cistage(&["keys", "init", "--key", "a.pem"]);
    assert!(again.code == 2 && again.stderr.contains("is there already"), "{}", again.stderr);
    assert_eq!(fs_err::metadata(ws.path("a.pem")).expect("there").permissions().mode() & 0o777, 0o600);
    let no_key = ws.cistage(&["run", "p.yaml", "--sign", "--key", "c.pem"]);
    assert!(no_key.code == 2 && !ws.exists("twice.txt"), "the key is looked for before anything runs");

    ws.run(&["--sign", "--key", "a.pem"]);
    let check = |key: &str| {
        let (code, answer) = audit(&ws, &["twice.txt", "--verify", "--trusted-key", key]);
        let signatures = &answer["verified"]["signatures"];
        (code, signatures["signed"].as_u64(), signatures["problems"].as_array().map(Vec::len))
    };
    assert_eq!(check("a.pem.pub"), (0, Some(2), Some(0)));
    assert_eq!(check("b.pem.pub"), (3, Some(0), Some(0)));
    let wrong = ws.cistage(&["audit", "twice.txt", "--verify", "--trusted-key", "a.pem"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("is not an Ed25519 public key"), "{}", wrong.stderr);

    let runs: Vec<_> = fs_err::read_dir(ws.path("cache/runs")).expect("lists").flatten().map(|e| e.path()).collect();
    let run = runs.iter().find(|path| path.is_dir()).expect("a run");
    let file = run.join("provenance.dsse.json");
    let sound = fs_err::read_to_string(&file).expect("there");
    let envelope: Value = serde_json::from_str(&sound).expect("JSON");
    let payload = envelope["payload"].as_str().expect("text");
    let other = payload.replacen(|c: char| c.is_ascii_lowercase(), "Q", 1);
    fs_err::write(&file, sound.replace(payload, &other)).expect("writes");
    assert_eq!(check("a.pem.pub"), (3, Some(0), Some(1)), "the statement was changed");
    fs_err::write(&file, sound).expect("writes");
    assert_eq!(check("a.pem.pub").0, 0);
    // Executed again: another record, which nobody has signed.
    ws.run(&["--force", "twice"]);
    assert_eq!(check("a.pem.pub"), (3, Some(1), Some(0)));
    ws.run(&["--sign", "--key", "b.pem"]);
    assert_eq!(check("b.pem.pub"), (0, Some(2), Some(0)), "hits are vouched for, too");
}

#[test]
fn provenance_is_written_in_the_forms_of_other_tools() {
    let ws = workspace();
    let export = |form: &str, output: &str| {
        let done = ws.cistage(&["audit", "twice.txt", "--export", form, "--output", output]);
        assert_eq!(done.code, 0, "{}", done.stderr);
    };
    let read = |file: &str| -> Value { serde_json::from_str(&ws.read(file)).expect("JSON") };
    export("prov", "out/prov.json");
    let prov = read("out/prov.json");
    assert_eq!(prov["activity"].as_object().map(serde_json::Map::len), Some(2));
    export("in-toto", "statement.json");
    let statement = read("statement.json");
    assert_eq!(statement["predicateType"], json!("https://slsa.dev/provenance/v1"));
    let subject = &statement["subject"][0];
    assert_eq!(subject["name"], json!("twice.o"));
    assert_eq!(subject["digest"]["sha256"].as_str().map(str::len), Some(64));
    let sources = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().expect("a list");
    assert_eq!(sources.iter().map(|s| s["name"].clone()).collect::<Vec<_>>(), ["words.txt", "p.yaml"]);
    export("ro-crate", "crate");
    let graph = read("crate/ro-crate-metadata.json");
    let files: Vec<&str> = graph["@graph"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|entity| entity["contentSize"].is_string() && !entity["@id"].as_str().expect("id").contains(':'))
        .filter_map(|entity| entity["@id"].as_str())
        .collect();
    assert!(files.contains(&"results/twice.o") && files.contains(&"p.yaml"), "{files:?}");
    assert!(files.iter().all(|file| ws.exists(&format!("crate/{file}"))), "{files:?}");
    assert_eq!(ws.read("crate/results/twice.o"), ws.read("twice.txt"));
    let again = ws.cistage(&["audit", "twice.txt", "--export", "ro-crate", "--output", "crate"]);
    assert!(again.code == 2 && again.stderr.contains("is there already"), "{}", again.stderr);
    let source = ws.cistage(&["audit", "words.txt", "--export", "prov", "--output", "x.json"]);
    assert!(source.code == 2 && !ws.exists("x.json"), "{}", source.stderr);
}

#[test]
fn an_accepted_change_of_text_serves_the_old_result_and_every_audit_says_so() {
    let ws = workspace();
    let before = ws.read("twice.txt");
    let changed = PIPELINE.replace("tr a-z A-Z <", "tr 'a-z' 'A-Z' <");
    ws.write("p.yaml", &changed);
    let plan = ws.cistage(&["plan", "p.yaml"]);
    assert!(plan.stdout.contains("upper"), "{}", plan.stdout);
    let waits = ws.cistage(&["accept", "twice", "--reason", "r"]);
    assert!(waits.code == 2 && waits.stderr.contains("waits for stages before it"), "{}", waits.stderr);
    let done = ws.cistage(&["accept", "upper", "--reason", "quotes only"]);
    assert_eq!((done.code, done.stdout.contains("accepted: run: ")), (0, true), "{}{}", done.stdout, done.stderr);
    assert_eq!(ws.run(&[]).iter().filter(|line| line.ends_with(" hit")).count(), 5);
    let (_, answer) = audit(&ws, &["twice.txt"]);
    assert_eq!(answer["inputs"]["a"]["accepted_for"][0]["reason"], json!("quotes only"));
    let (_, answer) = audit(&ws, &["upper.o"]);
    assert_eq!(answer["made_by"]["accepted"]["reason"], json!("quotes only"));
    let said = ws.cistage(&["audit", "twice.txt", "--verify"]);
    assert!(said.code == 0 && said.stdout.contains("ACCEPTED by"), "{}", said.stdout);

    let nothing = ws.cistage(&["accept", "upper", "--reason", "r"]);
    assert!(nothing.code == 2 && nothing.stderr.contains("nothing to accept"), "{}", nothing.stderr);
    ws.write("p.yaml", changed.replace("test: 0.2", "test: 0.3"));
    let other = ws.cistage(&["accept", "split", "--reason", "r"]);
    assert!(other.code == 2 && other.stderr.contains("test: 0.2 -> 0.3"), "{}", other.stderr);
    assert_eq!(ws.run(&["--force", "upper"]).iter().filter(|line| line.ends_with(" ran")).count(), 2);
    let (_, answer) = audit(&ws, &["twice.txt"]);
    assert_eq!(answer["inputs"]["a"]["accepted_for"], Value::Null, "it was executed");
    assert_eq!(ws.read("twice.txt"), before);
}

#[test]
fn an_undeclared_read_or_write_of_a_command_is_found() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return eprintln!("SKIPPED: strace is not installed");
    }
    let ws = Workspace::new();
    ws.write("in.txt", "declared");
    ws.write("secret/other.txt", "not declared");
    let outside = |name: &str| ws.path(name).display().to_string();
    let pipeline = |read: &str, write: &str| {
        format!(
            "cistage: 1\nstages:\n  good:\n    uses: command\n    in: {{ a: in.txt }}\n    out: {{ o: o.txt }}\n    \
             with: {{ run: 'cd $TMPDIR; echo x > y; cat y \"$OLDPWD/{{in.a}}\" > \"$OLDPWD/{{out.o}}\"' }}\n  \
             bad:\n    uses: command\n    in: {{ a: good.o }}\n    out: {{ o: o.txt }}\n    \
             with: {{ run: 'cp {{in.a}} {{out.o}}; {read}; {write}' }}\n"
        )
    };
    let audit = |args: &[&str]| ws.cistage(&[&["audit", "bad.o", "--undeclared"], args].concat());
    ws.write("p.yaml", pipeline("true", "true"));
    ws.run(&[]);
    let clean = audit(&[]);
    assert_eq!(clean.code, 0, "{}{}", clean.stdout, clean.stderr);
    assert!(clean.stdout.contains("each of 2 commands read its inputs"), "{}", clean.stdout);

    let (read, write) = (outside("secret/other.txt"), outside("log.txt"));
    ws.write(
        "p.yaml",
        pipeline(&format!("cd {}; cat other.txt >&2; cd /", outside("secret")), &format!("echo done > {write}")),
    );
    ws.run(&[]);
    let found = audit(&[]);
    assert_eq!(found.code, 3, "{}{}", found.stdout, found.stderr);
    for line in [format!("UNDECLARED bad read {read}"), format!("UNDECLARED bad wrote {write}")] {
        assert!(found.stdout.contains(&line), "{}", found.stdout);
    }
    assert!(!found.stdout.contains("UNDECLARED good"), "{}", found.stdout);
    let json: Value = serde_json::from_str(&audit(&["--format", "json"]).stdout).expect("JSON");
    let access = &json["undeclared"]["actions"][1]["access"];
    assert_eq!(access["reads"], json!([read]));
    assert_eq!(access["writes"], json!([write]));
}

#[test]
fn a_lineage_is_drawn_with_names_that_end_no_label() {
    let ws = Workspace::with(
        "cistage: 1\nstages:\n  a: { uses: command, in: { x: 'a<b>\"c&.txt' }, out: { o: o.txt, p: p.txt }, with: { run: 'cp {in.x} {out.o}; \
         echo p > {out.p}' } }\n  b: { uses: command, in: { x: a.o, y: a.p }, out: { o: o.txt }, with: { run: 'cat {in.x} {in.y} > {out.o}' } }\n",
    );
    ws.write("a<b>\"c&.txt", "rows");
    ws.run(&[]);
    let drawn = ws.cistage(&["audit", "b.o", "--as", "mermaid"]);
    assert_eq!(drawn.code, 0, "{}", drawn.stderr);
    let lines: Vec<&str> = drawn.stdout.lines().collect();
    assert_eq!(lines[0], "flowchart TD");
    for start in [
        "  s0[/\"a&lt;b&gt;&quot;c&amp;.txt\"/]:::source",
        "  n0[\"a<br/><small>command v2<br/>run ",
        "  n1[\"b<br/><small>",
        "  a0([\"b.o<br/><small>blake3:",
        "  s0 -->|\"x<br/><small>",
        "  n0 -->|\"x<br/><small>",
        "  n0 -->|\"y<br/><small>",
        "  n1 --> a0",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{start} in {}", drawn.stdout);
    }
}
