//! A cache that others write to: poisoned records, listings and objects are found out, and made anew.

use super::{Outside, files_of, is_calm};
use crate::workspace::{Workspace, make_writable};
use cistage::action::ActionRecord;
use cistage::artifact::Layout;
use cistage::cache::RunRecord;
use cistage::cache::untrusted::{open, seal};
use cistage::digest::{Digest, canonical};
use serde_json::Value;
use std::path::PathBuf;

const TWO: &str = "cistage: 1\nname: t\nstages:\n  one: { uses: command, out: { o: d }, with: { run: 'mkdir d; echo x > d/f' } }\n  \
                   two: { uses: command, in: { d: one.o }, out: { o: o }, with: { run: 'cat {in.d}/f > o' } }\n\
                   publish: { d: one.o }\n";

/// The cache after a good run, and what is poisoned in it.
struct Poisoned {
    ws: Workspace,
    outside: Outside,
    /// The record of `one`.
    record: PathBuf,
}

impl Poisoned {
    fn new() -> Self {
        let ws = Workspace::with(TWO);
        assert_eq!(ws.run(&[]), ["one ran", "two ran"]);
        let is_one = |path: &String| {
            open::<ActionRecord>(&fs_err::read(path).expect("read")).expect("sound").stage.as_str() == "one"
        };
        let record = files_of(&ws.path("cache/actions")).into_keys().find(is_one).expect("a record").into();
        Self { ws, outside: Outside::new(), record }
    }

    fn read(&self) -> ActionRecord {
        open(&fs_err::read(&self.record).expect("read")).expect("sound")
    }

    fn write(&self, bytes: impl AsRef<[u8]>) {
        make_writable(&self.record);
        fs_err::write(&self.record, bytes).expect("written");
    }

    /// Puts bytes into the store under their own digest.
    fn object(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = self.ws.object(&digest.to_string());
        fs_err::create_dir_all(path.parent().expect("a shard")).expect("made");
        fs_err::write(path, bytes).expect("written");
        digest
    }

    /// Every reader stays calm, the next run makes it anew, and nothing was written where it should not be.
    fn is_made_anew(&self, what: &str) {
        fs_err::remove_dir_all(self.ws.path("d")).expect("removed");
        for args in [
            &["plan", "p.yaml"][..],
            &["cache", "verify"],
            &["audit", "two.o"],
            &["get", "one.o", "got"],
            &["cache", "du"],
        ] {
            let got = self.ws.cistage(args);
            assert!((0..=3).contains(&got.code), "{what}: {args:?}: {}", got.code);
            is_calm(&(got.stdout + &got.stderr));
        }
        let _ = fs_err::remove_dir_all(self.ws.path("got"));
        assert_eq!(self.ws.run(&[]), ["one ran", "two hit"], "{what}");
        assert_eq!(self.ws.read("d/f"), "x\n", "{what}");
        self.outside.is_untouched();
        let strays =
            files_of(&self.ws.path("")).into_keys().filter(|path| path.ends_with("passwd") || path.ends_with("evil"));
        assert_eq!(strays.collect::<Vec<_>>(), Vec::<String>::new(), "{what}");
    }
}

/// A record with a checksum of its own, whatever it says.
fn sealed(mut value: Value) -> Vec<u8> {
    value.as_object_mut().expect("a record").remove("checksum");
    let checksum = Digest::of(&canonical(&value)).to_string();
    value["checksum"] = checksum.into();
    value.to_string().into_bytes()
}

#[test]
fn a_record_that_is_no_record_of_its_action_is_made_anew() {
    let p = Poisoned::new();
    let good = fs_err::read_to_string(&p.record).expect("read");
    let value: Value = serde_json::from_str(&good).expect("JSON");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = value.clone();
        change(&mut value);
        sealed(value)
    };
    let other = Digest::of(b"another action").to_string();
    let output = value["outputs"]["o"].clone();
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("deep", "[".repeat(200_000).into_bytes()),
        (
            "deep inside",
            good.replacen('{', &format!("{{\"x\": {}{},", "[".repeat(5000), "]".repeat(5000)), 1).into_bytes(),
        ),
        ("a huge number", good.replacen("\"bytes\": ", "\"bytes\": 9e999999", 1).into_bytes()),
        (
            "a number of many digits",
            good.replacen("\"bytes\": ", &format!("\"bytes\": {}", "9".repeat(100_000)), 1).into_bytes(),
        ),
        (
            "two fields of a name",
            good.replacen("\"key\"", "\"key\": \"\",\n  \"key\"", 1).replace("blake3", "blake4").into_bytes(),
        ),
        ("a foreign key", with(&|v| v["key"] = other.clone().into())),
        ("a foreign manifest", with(&|v| v["manifest"]["stage"] = "split".into())),
        ("a port that is a path", with(&|v| v["outputs"] = serde_json::json!({"../../evil": output}))),
        ("a stage that is a path", with(&|v| v["stage"] = "../evil".into())),
        ("a run that is a path", with(&|v| v["run"] = "../../evil".into())),
        ("an unknown field", with(&|v| v["evil"] = 1.into())),
        ("an object that is not there", with(&|v| v["outputs"]["o"]["digest"] = other.clone().into())),
        ("a file that is no listing", with(&|v| v["outputs"]["o"]["digest"] = p.object(b"evil").to_string().into())),
    ];
    for (what, bytes) in table {
        p.write(bytes);
        p.is_made_anew(what);
    }
}

#[test]
fn a_listing_that_leads_out_is_never_made_into_files() {
    let p = Poisoned::new();
    let file = p.object(b"evil\n").hex();
    let at = |path: &str| format!("{file} 5 {path}\n");
    let absolute = p.outside.path().join("evil").display().to_string();
    for listing in [
        at("../../etc/passwd"),
        at("../evil"),
        at(&absolute),
        at("a/../../evil"),
        at("a//evil"),
        at("./evil"),
        at("evil\u{1b}[2J"),
        at("a") + &at("a/evil"),
        at("evil") + &at("evil"),
        format!("{file} 99999999999999999999999 evil\n"),
        "\u{0}".to_owned(),
    ] {
        let digest = p.object(listing.as_bytes());
        let mut record = p.read();
        for artifact in record.outputs.values_mut() {
            assert_eq!(artifact.layout, Layout::Tree);
            artifact.digest = digest;
        }
        p.write(seal(&record));
        p.is_made_anew(&listing);
    }
}

#[test]
fn an_object_that_is_a_link_to_elsewhere_is_made_anew() {
    let p = Poisoned::new();
    let object = p.ws.object(&Digest::of(b"x\n").to_string());
    for target in [p.outside.path().join("precious"), "/dev/zero".into(), p.outside.path().to_owned(), object.clone()] {
        fs_err::remove_file(&object).expect("removed");
        fs_err::os::unix::fs::symlink(&target, &object).expect("linked");
        fs_err::remove_dir_all(p.ws.path("d")).expect("removed");
        assert_eq!(p.ws.run(&[]), ["one ran", "two hit"], "{}", target.display());
        assert_eq!(p.ws.read("d/f"), "x\n");
        p.outside.is_untouched();
    }
}

#[test]
fn a_run_record_is_shown_and_not_obeyed() {
    let p = Poisoned::new();
    let runs = fs_err::read_dir(p.ws.path("cache/runs")).expect("runs").map(|entry| entry.expect("a run").path());
    let file = runs.map(|run| run.join("run.json")).find(|file| file.is_file()).expect("a run's record");
    let mut record: RunRecord = open(&fs_err::read(&file).expect("read")).expect("sound");
    let evil = "\u{1b}[2J\u{1b}]0;title\u{7}\u{202e}";
    for text in [&mut record.pipeline, &mut record.file, &mut record.started, &mut record.environment.host] {
        evil.clone_into(text);
    }
    record.sets.push(evil.to_owned());
    record.unpublished.insert(evil.to_owned(), evil.to_owned());
    record.params.insert(evil.to_owned(), evil.into());
    record.steps[0].because.push(evil.to_owned());
    record.steps[0].error = Some(evil.to_owned());
    record.published.insert("../../evil".to_owned(), record.text);
    make_writable(&file);
    fs_err::write(&file, seal(&record)).expect("written");
    for args in [
        &["runs"][..],
        &["show"],
        &["metrics"],
        &["why", "p.yaml", "two"],
        &["audit", "two.o"],
        &["cache", "verify"],
        &["run", "p.yaml"],
    ] {
        let got = p.ws.cistage(args);
        let said = got.stdout + &got.stderr;
        assert!(!said.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{args:?}:\n{said}");
        is_calm(&said);
    }
    p.outside.is_untouched();
    assert!(!p.ws.exists("../../evil") && !p.ws.exists("evil"));
}
