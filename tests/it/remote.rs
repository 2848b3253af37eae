//! A shared cache in a folder, and two machines: two caches that know nothing of one another.

use crate::workspace::{Outcome, Workspace, flip_a_byte, outcome, outcomes};
use cistage::digest::Digest;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

const PIPELINE: &str = r#"
cistage: 1
name: t
params: { tail: x }
stages:
  one: { uses: command, out: { o: d }, with: { run: "mkdir d; echo x > d/f; seq 10000 > d/g" } }
  two: { uses: command, in: { d: one.o }, out: { o: o.txt }, with: { run: "cat {in.d}/f > {out.o}; echo {param.tail} >> {out.o}" } }
publish: { out.txt: two.o }
"#;

const BOTH_RAN: [&str; 2] = ["one ran", "two ran"];
const BOTH_HIT: [&str; 2] = ["one hit", "two hit"];

struct Lab {
    ws: Workspace,
}

impl Lab {
    /// Two machines that trust the key of the first.
    fn new() -> Self {
        let lab = Self { ws: Workspace::with(PIPELINE) };
        fs_err::create_dir(lab.ws.path("share")).expect("made");
        assert_eq!(lab.on("a", &["keys", "init", "--key", "a.pem"]).code, 0);
        lab.ws.write("cistage.toml", "remote = \"share\"\ntrust = [\"a.pem.pub\"]\n");
        lab
    }

    /// What the first machine made is shared.
    fn shared() -> Self {
        let lab = Self::new();
        let (_, events) = lab.run("a", &["--remote-mode", "write", "--key", "a.pem"]);
        assert_eq!(outcomes(&events), BOTH_RAN);
        lab
    }

    fn command(&self, machine: &str, args: &[&str]) -> Command {
        let mut command = self.ws.command(&[args, &["--cache", machine]].concat());
        // Whatever key the user has is no part of this.
        command.env_remove("CISTAGE_REMOTE").env_remove("CISTAGE_KEY").env("XDG_CONFIG_HOME", self.ws.path("config"));
        command
    }

    fn on(&self, machine: &str, args: &[&str]) -> Outcome {
        outcome(self.command(machine, args))
    }

    fn run(&self, machine: &str, args: &[&str]) -> (Outcome, Vec<Value>) {
        let got = self.on(machine, &[&["run", "p.yaml", "--format", "json"], args].concat());
        assert_eq!(got.code, 0, "{}{}", got.stdout, got.stderr);
        let events = got.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
        (got, events)
    }

    fn json(&self, machine: &str, args: &[&str]) -> Value {
        let got = self.on(machine, &[args, &["--format", "json"]].concat());
        assert!([0, 3].contains(&got.code), "{}", got.stderr);
        serde_json::from_str(&got.stdout).expect("JSON")
    }

    /// All files of the shared cache below one of its folders.
    fn shares(&self, folder: &str) -> Vec<PathBuf> {
        let (mut folders, mut files) = (vec![self.ws.path("share").join(folder)], Vec::new());
        while let Some(folder) = folders.pop() {
            for path in fs_err::read_dir(folder).expect("reads").map(|entry| entry.expect("an entry").path()) {
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }

    fn object(&self, bytes: &[u8]) -> PathBuf {
        let hex = Digest::of(bytes).hex();
        self.ws.path("share/objects").join(&hex[..2]).join(&hex[2..])
    }
}

fn warnings(events: &[Value]) -> Vec<&str> {
    events.iter().filter(|e| e["event"] == "warning").map(|e| e["message"].as_str().expect("text")).collect()
}

#[test]
fn the_second_machine_executes_nothing_and_its_audit_says_where_it_came_from() {
    let lab = Lab::shared();
    fs_err::remove_file(lab.ws.path("out.txt")).expect("removes");
    let (_, events) = lab.run("b", &[]);
    assert_eq!((outcomes(&events), warnings(&events)), (BOTH_HIT.map(str::to_owned).to_vec(), vec![]));
    assert_eq!(lab.ws.read("out.txt"), "x\nx\n");
    let share = lab.ws.path("share");
    let audit = lab.on("b", &["audit", "out.txt", "--verify"]);
    assert_eq!(audit.code, 0, "{}", audit.stdout);
    assert_eq!(audit.stdout.matches(&format!("from {}, signed by ", share.display())).count(), 2, "{}", audit.stdout);
    assert_eq!(lab.on("b", &["cache", "verify"]).code, 0);
    // It stays when the shared cache goes.
    fs_err::remove_dir_all(share).expect("removes");
    assert_eq!(outcomes(&lab.run("b", &["--remote-mode", "off"]).1), BOTH_HIT);
}

#[test]
fn a_flipped_bit_is_caught_and_the_stage_executes_here() {
    let lab = Lab::shared();
    flip_a_byte(&lab.object(b"x\nx\n"));
    let (_, events) = lab.run("b", &[]);
    assert_eq!(outcomes(&events), ["one hit", "two ran"]);
    let warned = warnings(&events);
    assert!(warned.len() == 1 && warned[0].contains("is damaged there"), "{warned:?}");
    assert_eq!(lab.on("b", &["cache", "verify"]).code, 0);
}

#[test]
fn a_forged_record_is_refused_and_strangers_are_served_to_who_trusts_anyone() {
    let lab = Lab::new();
    assert_eq!(lab.on("a", &["keys", "init", "--key", "stranger.pem"]).code, 0);
    lab.ws.write("cistage.toml", "remote = \"share\"\n");
    lab.run("a", &["--remote-mode", "write", "--key", "stranger.pem"]);
    for trust in ["", "trust = [\"a.pem.pub\"]\n"] {
        lab.ws.write("cistage.toml", format!("remote = \"share\"\n{trust}"));
        let (_, events) = lab.run("b", &[]);
        let warned = warnings(&events);
        assert!(warned.len() == 1 && warned[0].contains("names nobody who signed it"), "{warned:?}");
        assert_eq!(outcomes(&events), BOTH_RAN);
        fs_err::remove_dir_all(lab.ws.path("b")).expect("removes");
    }
    lab.ws.write("cistage.toml", "remote = \"share\"\ntrust = \"any\"\n");
    assert_eq!(outcomes(&lab.run("b", &[]).1), BOTH_HIT);
    assert!(lab.on("b", &["audit", "two.o"]).stdout.contains("signed by nobody who is trusted"));
}

#[test]
fn a_record_without_its_objects_is_a_miss_without_a_word() {
    let lab = Lab::shared();
    fs_err::remove_file(lab.object(b"x\nx\n")).expect("removes");
    let (_, events) = lab.run("b", &[]);
    assert_eq!((outcomes(&events), warnings(&events)), (vec!["one hit".to_owned(), "two ran".to_owned()], vec![]));
}

#[test]
fn a_shared_cache_that_is_gone_costs_one_warning() {
    let lab = Lab::shared();
    fs_err::remove_dir_all(lab.ws.path("share")).expect("removes");
    let (got, events) = lab.run("b", &[]);
    assert_eq!(outcomes(&events), BOTH_RAN);
    assert_eq!(got.stderr.matches("is left alone").count() + warnings(&events).len(), 1, "{}", got.stderr);
}

#[test]
fn nothing_is_added_in_secret_nor_without_a_key() {
    let lab = Lab::new();
    lab.run("a", &[]);
    assert_eq!(lab.shares(""), Vec::<PathBuf>::new(), "reading adds nothing");
    let got = lab.on("a", &["run", "p.yaml", "--remote-mode", "write"]);
    assert!(got.code == 2 && got.stderr.contains("cistage keys init"), "{}", got.stderr);
    let got = lab.on("a", &["cache", "push"]);
    assert!(got.code == 2 && got.stderr.contains("no key to sign with"), "{}", got.stderr);
    lab.ws.write("cistage.toml", "remote = \"share\"\ntrust = \"any\"\n");
    assert_eq!(lab.json("a", &["cache", "push"])["records"], 2, "where anyone is trusted, records go unsigned");
}

#[test]
fn a_pushed_run_is_pulled_into_an_empty_cache_with_its_lineage() {
    let lab = Lab::new();
    let (_, events) = lab.run("a", &[]);
    let run = events[0]["run"].as_str().expect("an id").to_owned();
    let pushed = lab.json("a", &["cache", "push", "--key", "a.pem"]);
    assert_eq!((&pushed["runs"], &pushed["records"]), (&1.into(), &2.into()), "{pushed}");
    let again = lab.json("a", &["cache", "push", &run, "--key", "a.pem"]);
    assert_eq!((&again["runs"], &again["records"], &again["objects"]), (&0.into(), &0.into(), &0.into()), "{again}");
    let pulled = lab.json("b", &["cache", "pull", &run]);
    assert_eq!(
        (&pulled["runs"], &pulled["records"], &pulled["missing"]),
        (&1.into(), &2.into(), &0.into()),
        "{pulled}"
    );
    assert_eq!(pulled["objects"], pushed["objects"].as_u64().expect("a number") - 2, "manifests are made here");
    for args in [
        &["audit", "two.o", "--verify"][..],
        &["audit", &run],
        &["show", &run],
        &["metrics", &run],
        &["report", &run, "--output", "report.html"],
        &["cache", "verify"],
        &["runs"],
    ] {
        let got = lab.on("b", args);
        assert_eq!(got.code, 0, "{args:?}: {}{}", got.stdout, got.stderr);
    }
    assert_eq!(outcomes(&lab.run("b", &["--remote-mode", "off"]).1), BOTH_HIT);
}

#[test]
fn an_artifact_is_pushed_by_its_name_and_pulled_by_its_digest() {
    let lab = Lab::new();
    lab.run("a", &[]);
    assert_eq!(lab.json("a", &["cache", "push", "one.o", "--key", "a.pem"])["records"], 1);
    let digest = Digest::of(b"x\nx\n").hex();
    let got = lab.on("b", &["cache", "pull", &digest]);
    assert!(got.code == 2 && got.stderr.contains("no record"), "{}", got.stderr);
    assert_eq!(lab.json("a", &["cache", "push", "two.o", "--key", "a.pem"])["records"], 1, "the other is there");
    assert_eq!(lab.json("b", &["cache", "pull", &digest[..12]])["records"], 2, "with what it was made of");
    let got = lab.on("b", &["cache", "pull", "nonsense"]);
    assert!(got.code == 2 && got.stderr.contains("neither a run's id nor a digest"), "{}", got.stderr);
}

#[test]
fn gc_takes_away_what_no_kept_run_used() {
    let lab = Lab::shared();
    // On the other side runs are told apart by their ids alone, which count in seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    lab.run("a", &["--remote-mode", "write", "--key", "a.pem", "--set", "tail=y"]);
    let stages = |plan: &Value| -> Vec<String> {
        let gone = plan["given_up"].as_array().expect("a list").iter();
        gone.map(|gone| gone["stage"].as_str().unwrap_or("nobody").to_owned()).collect()
    };
    assert_eq!(stages(&lab.json("a", &["cache", "gc", "--remote"])), [""; 0], "all of it is young");
    let keep_one = ["cache", "gc", "--remote", "--keep-runs", "1", "--grace", "0"];
    let plan = lab.json("a", &keep_one);
    assert!(stages(&plan).contains(&"two".to_owned()) && !stages(&plan).contains(&"one".to_owned()), "{plan}");
    assert_eq!(lab.shares("actions").len(), 3, "a plan changes nothing");
    fs_err::create_dir(lab.ws.path("empty")).expect("made");
    let mut named = lab.command("a", &["cache", "gc", "--remote", "--keep-runs", "0", "--grace", "0"]);
    named.env("CISTAGE_REMOTE", "empty");
    let named = outcome(named);
    assert!(named.code == 0 && named.stdout.contains("nothing can go"), "{}{}", named.stdout, named.stderr);
    let done = lab.json("a", &[&keep_one[..], &["--apply"]].concat());
    assert_eq!((&done["applied"], done["runs"].as_array().map(Vec::len)), (&true.into(), Some(1)));
    assert_eq!((lab.shares("actions").len(), lab.shares("runs").len()), (2, 1));
    assert_eq!(outcomes(&lab.run("b", &["--set", "tail=y"]).1), BOTH_HIT);
    assert_eq!(outcomes(&lab.run("b", &[]).1), ["one hit", "two ran"]);
}

#[test]
fn credentials_are_taken_from_the_environment_alone_and_never_written_down() {
    let lab = Lab::new();
    for url in ["https://me:s3cret@127.0.0.1/x", "az://c/p?sig=s3cret"] {
        let got = lab.on("b", &["run", "p.yaml", "--remote", url]);
        assert!(got.code == 2 && got.stderr.contains("environment"), "{}", got.stderr);
        assert!(!got.stderr.contains("s3cret") && !lab.ws.exists("b/runs"), "{}", got.stderr);
    }
}

#[cfg(feature = "remote")]
#[test]
fn a_server_that_is_not_there_costs_one_warning_and_no_secret_is_told() {
    let lab = Lab::new();
    let mut command = lab.command("b", &["run", "p.yaml", "--remote", "s3://lab/cache", "--format", "json"]);
    // Nobody listens at this port.
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9").env("AWS_REGION", "eu-west-1");
    command.env("AWS_ACCESS_KEY_ID", "me").env("AWS_SECRET_ACCESS_KEY", "s3cret");
    let got = outcome(command);
    assert_eq!((got.code, got.stdout.matches("is left alone").count()), (0, 1), "{}", got.stdout);
    assert!(!format!("{}{}", got.stdout, got.stderr).contains("s3cret"));
}
