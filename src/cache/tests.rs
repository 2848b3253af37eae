//! The promises of the cache, each as a test.

mod remembered;

use super::*;
use crate::action::{ActionManifest, Cost, Environment, MANIFEST_SCHEMA, RECORD_SCHEMA};
use crate::event::{Outcome, RunOutcome};
use crate::name::{PortName, StageName};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

pub(crate) fn manifest(stage: &str, inputs: &[(&str, Digest)]) -> ActionManifest {
    ActionManifest {
        schema: MANIFEST_SCHEMA.into(),
        stage: stage.into(),
        version: 1,
        target: None,
        params: BTreeMap::from([("seed".to_owned(), 42.into())]),
        inputs: inputs.iter().map(|(port, digest)| (PortName::parse(port).expect("valid"), *digest)).collect(),
    }
}

pub(crate) fn record(manifest: &ActionManifest, outputs: &[(&str, Artifact)]) -> ActionRecord {
    ActionRecord {
        schema: RECORD_SCHEMA.into(),
        key: manifest.key(),
        manifest: manifest.clone(),
        outputs: outputs.iter().map(|(port, a)| (PortName::parse(port).expect("valid"), a.clone())).collect(),
        log: None,
        inputs: BTreeMap::new(),
        run: RunId::parse("20261123-094012-1f3a").expect("valid"),
        stage: StageName::parse(&manifest.stage).expect("valid"),
        started: "2026-11-23T09:40:12.000Z".into(),
        cost: Cost::default(),
        environment: Environment::default(),
        attempts: Vec::new(),
        parent: None,
        accepted: None,
    }
}

pub(crate) fn run_record(run: &str) -> RunRecord {
    RunRecord {
        schema: run_record::RUN_SCHEMA.into(),
        run: RunId::parse(run).expect("valid"),
        pipeline: "test".into(),
        file: "test.yaml".into(),
        text: Digest::of(b""),
        profiles: vec![],
        sets: vec![],
        argv: vec![],
        params: BTreeMap::new(),
        started: "2026-11-23T09:40:12.000Z".into(),
        seconds: 1.0,
        outcome: RunOutcome::Succeeded,
        steps: vec![],
        published: BTreeMap::new(),
        unpublished: BTreeMap::new(),
        leakage: Vec::new(),
        environment: Environment::default(),
        verify: Verify::Changed,
        imported: None,
        previous: None,
    }
}

pub(crate) fn step(stage: &str, manifest: &ActionManifest, outcome: Outcome) -> StepRecord {
    StepRecord {
        stage: StageName::parse(stage).expect("valid"),
        kind: manifest.stage.clone(),
        outcome,
        key: Some(manifest.key()),
        because: vec![],
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        log: None,
        error: None,
        seconds: 0.0,
        cost: None,
        from: None,
        place: None,
    }
}

/// A cache in a folder of its own, with one committed action: a file, a folder and a log.
pub(crate) struct Bench {
    _dir: tempfile::TempDir,
    pub cache: Cache,
    pub record: ActionRecord,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open(&dir.path().join("cache")).expect("opens");
        let record = commit(&cache, dir.path());
        Self { _dir: dir, cache, record }
    }

    pub fn key(&self) -> ActionKey {
        self.record.key
    }

    pub fn output(&self, port: &str) -> &Artifact {
        &self.record.outputs[port]
    }

    fn damage(&self) -> Vec<String> {
        match self.cache.lookup(self.key()).expect("reads") {
            Lookup::Hit(_) => vec!["hit".to_owned()],
            Lookup::Miss { damage, .. } => damage,
        }
    }

    pub fn object(&self, port: &str) -> PathBuf {
        self.cache.object_path(self.output(port).digest)
    }

    /// Writes through the read-only mode of objects, as a broken disk would.
    pub fn overwrite(&self, path: &Path, bytes: &[u8]) {
        fs_err::remove_file(path).expect("removes");
        fs_err::write(path, bytes).expect("writes");
    }
}

fn commit(cache: &Cache, work: &Path) -> ActionRecord {
    let folder = work.join("model");
    fs_err::create_dir_all(folder.join("sub")).expect("makes");
    fs_err::write(folder.join("config.json"), "{}").expect("writes");
    fs_err::write(folder.join("sub/weights"), [1, 2, 3]).expect("writes");
    fs_err::write(work.join("rows"), "some rows").expect("writes");
    let model = cache.absorb(&folder, Format::Model).expect("absorbs");
    let rows = cache.absorb(&work.join("rows"), Format::Rows).expect("absorbs");
    let mut record = record(&manifest("split", &[]), &[("model", model), ("rows", rows)]);
    let log = cache.put_bytes(b"all went well\n").expect("stores");
    record.log = Some(Artifact { digest: log, bytes: 14, layout: Layout::File, format: Format::Raw });
    match cache.claim(record.key, true, &mut |_| {}).expect("claims") {
        Claimed::Claim(claim) => claim.commit(cache, record.clone()).expect("commits"),
        Claimed::Hit(_) => panic!("forced"),
    }
    record
}

#[test]
fn a_committed_action_is_a_hit_and_its_bytes_come_back() {
    let bench = Bench::new();
    assert_eq!(bench.damage(), ["hit"]);
    assert!(fs_err::metadata(bench.object("rows")).expect("there").permissions().readonly());
    let out = bench.cache.root().join("../out");
    bench.cache.copy_out(bench.output("model"), &out).expect("copies");
    bench.cache.copy_out(bench.output("model"), &out).expect("copies over an older folder");
    assert_eq!(fs_err::read(out.join("sub/weights")).expect("there"), [1, 2, 3]);
    let again = bench.cache.digest_source(&out, Format::Model).expect("hashes");
    assert_eq!(&again, bench.output("model"));
    let seen = bench.cache.read_path(bench.output("model"), &bench.cache.root().join("../work")).expect("links");
    assert_eq!(fs_err::read(seen.join("config.json")).expect("there"), b"{}");
    assert_eq!(bench.cache.makers(bench.output("rows").digest).expect("reads"), [bench.key()]);
}

#[test]
fn nothing_but_objects_and_records_stays_behind() {
    let bench = Bench::new();
    let scratch = bench.cache.scratch(bench.key());
    fs_err::create_dir_all(&scratch).expect("makes");
    fs_err::write(scratch.join("checkpoint"), "x").expect("writes");
    commit(&bench.cache, bench.cache.root());
    assert!(!scratch.exists());
    let root = bench.cache.root().to_owned();
    drop(bench.cache);
    let names = |folder: &str| -> Vec<String> {
        let entries = fs_err::read_dir(root.join(folder)).expect("lists").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names("tmp"), [""; 0]);
    // The gate between runs and `cache gc`: one empty file for good.
    assert_eq!(names("locks"), ["gc.lock"]);
}

#[test]
fn every_kind_of_damage_turns_a_hit_into_a_miss_that_names_it() {
    let cases: [(&str, fn(&Bench) -> PathBuf, &str); 5] = [
        ("a file", |b| b.object("rows"), "output rows is"),
        ("a listing", |b| b.object("model"), "output model is"),
        ("a file of a folder", |b| b.cache.object_path(Digest::of(&[1, 2, 3])), "sub/weights of output model is"),
        ("the log", |b| b.cache.object_path(b.record.log.as_ref().expect("has one").digest), "the log is"),
        ("the manifest", |b| b.cache.object_path(b.key().0), "the manifest is"),
    ];
    for (what, path, message) in cases {
        for how in ["flipped", "cut", "removed", "swapped"] {
            let bench = Bench::new();
            let path = path(&bench);
            let mut bytes = fs_err::read(&path).expect("there");
            match how {
                "flipped" => bytes[0] ^= 1,
                "cut" => bytes.truncate(1),
                "swapped" => bytes = b"other".to_vec(),
                _ => {}
            }
            bench.overwrite(&path, &bytes);
            if how == "removed" {
                fs_err::remove_file(&path).expect("removes");
            }
            let damage = bench.damage();
            assert!(damage.len() == 1 && damage[0].starts_with(message), "{what} {how}: {damage:?}");
            assert!(!path.exists(), "{what} {how} is quarantined");
            commit(&bench.cache, bench._dir.path());
            assert_eq!(bench.damage(), ["hit"], "{what} {how} is made anew");
        }
    }
}

#[test]
fn a_damaged_record_is_a_miss_and_steps_aside() {
    for how in ["flipped", "cut", "swapped"] {
        let bench = Bench::new();
        let path = bench.cache.records.path(bench.key());
        let text = fs_err::read_to_string(&path).expect("there");
        let other = seal::seal(&record(&manifest("other", &[]), &[]));
        let bytes = match how {
            "flipped" => text.replace("split", "spliT").into_bytes(),
            "cut" => text.as_bytes()[..40].to_vec(),
            _ => other,
        };
        bench.overwrite(&path, &bytes);
        assert_eq!(bench.cache.record(bench.key()).expect("reads"), None);
        assert_eq!(bench.damage().len(), 1, "{how}");
        assert!(!path.exists() && bench.damage().is_empty(), "{how}");
    }
}

#[test]
fn an_altered_object_shows_even_when_its_times_are_set_back() {
    let bench = Bench::new();
    let path = bench.object("rows");
    let old = SystemTime::now() - Duration::from_secs(3600);
    let set = |path: &Path| fs_err::File::open(path).and_then(|f| f.set_modified(old)).expect("sets");
    set(&path);
    assert_eq!(bench.damage(), ["hit"]);
    bench.overwrite(&path, b"SOME rows");
    set(&path);
    assert_eq!(bench.damage().len(), 1);
}

#[test]
fn a_replaced_record_keeps_its_predecessor_as_an_object() {
    let bench = Bench::new();
    let before = fs_err::read(bench.cache.records.path(bench.key())).expect("there");
    commit(&bench.cache, bench._dir.path());
    let parent = bench.cache.record(bench.key()).expect("reads").expect("there").parent.expect("has one");
    assert_eq!(bench.cache.read_object(parent).expect("stored"), before);
}

#[test]
fn of_two_claims_on_one_key_the_second_waits_and_gets_the_hit() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let root = dir.path().join("cache");
    let executed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (root, executed, work) = (&root, &executed, dir.path().join(n.to_string()));
            scope.spawn(move || {
                fs_err::create_dir_all(&work).expect("makes");
                let cache = Cache::open(root).expect("opens");
                let key = manifest("split", &[]).key();
                if let Claimed::Claim(claim) = cache.claim(key, false, &mut |_| {}).expect("claims") {
                    executed.fetch_add(1, Ordering::SeqCst);
                    fs_err::write(work.join("rows"), "rows").expect("writes");
                    let rows = cache.absorb(&work.join("rows"), Format::Rows).expect("absorbs");
                    claim.commit(&cache, record(&manifest("split", &[]), &[("rows", rows)])).expect("commits");
                }
            });
        }
    });
    assert_eq!(executed.load(Ordering::SeqCst), 1);
}

#[test]
fn whoever_waits_is_told_who_holds_the_claim() {
    let bench = Bench::new();
    let Claimed::Claim(held) = bench.cache.claim(bench.key(), true, &mut |_| {}).expect("claims") else {
        panic!("forced")
    };
    let mut held = Some(held);
    let mut told = String::new();
    bench
        .cache
        .claim(bench.key(), false, &mut |who| {
            told = who.to_owned();
            held = None;
        })
        .expect("claims");
    assert!(told.starts_with(&format!("process {} on ", std::process::id())), "{told}");
}

#[test]
fn a_cache_that_is_not_there_reads_as_empty_and_stays_away() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let root = dir.path().join("none");
    let cache = Cache::open_read_only(&root).expect("opens");
    assert!(matches!(cache.lookup(manifest("a", &[]).key()), Ok(Lookup::Miss { damage, .. }) if damage.is_empty()));
    assert!(cache.runs().expect("reads").is_empty() && cache.records().expect("reads").is_empty());
    assert!(cache.makers(Digest::of(b"x")).expect("reads").is_empty());
    assert!(matches!(cache.put_bytes(b"x"), Err(CacheError::Unusable(_))));
    drop(cache);
    assert!(!root.exists());
}

#[test]
fn reading_alone_leaves_a_damaged_object_where_it_is() {
    let bench = Bench::new();
    bench.overwrite(&bench.object("rows"), b"other");
    let cache = Cache::open_read_only(bench.cache.root()).expect("opens");
    assert!(matches!(cache.lookup(bench.key()), Ok(Lookup::Miss { damage, .. }) if damage.len() == 1));
    assert!(bench.object("rows").exists());
}

#[test]
fn a_newer_format_is_refused_with_a_next_step() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs_err::write(dir.path().join("format"), "2\n").expect("writes");
    let error = Cache::open(dir.path()).expect_err("refused").to_string();
    assert!(error.contains("has format 2") && error.contains("--cache DIR"), "{error}");
}

#[test]
fn a_lost_or_broken_index_costs_nothing_but_time() {
    if std::env::var_os("CISTAGE_NO_INDEX").is_some() {
        return;
    }
    let bench = Bench::new();
    let (root, rows) = (bench.cache.root().to_owned(), bench.output("rows").digest);
    bench.cache.ledger.flush();
    let index = root.join("index");
    assert!(index.exists());
    fs_err::write(index.join("conf"), vec![7_u8; 99]).expect("writes");
    for lost in [false, false, true] {
        if lost {
            fs_err::remove_dir_all(&index).expect("removes");
        }
        let cache = Cache::open(&root).expect("opens");
        assert!(matches!(cache.lookup(bench.key()), Ok(Lookup::Hit(_))));
        assert_eq!(cache.makers(rows).expect("reads"), [bench.key()]);
    }
    assert!(fs_err::read_dir(root.join("quarantine")).expect("lists").count() > 0);
}

#[test]
fn a_folder_of_sources_with_a_link_in_it_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let cache = Cache::open(&dir.path().join("cache")).expect("opens");
    let folder = dir.path().join("subsets");
    fs_err::create_dir(&folder).expect("makes");
    fs_err::write(folder.join("a.tsv"), "1").expect("writes");
    fs_err::os::unix::fs::symlink(&folder, dir.path().join("link")).expect("links");
    cache.digest_source(&dir.path().join("link"), Format::Subsets).expect("a link at the top is followed");
    fs_err::os::unix::fs::symlink("a.tsv", folder.join("b.tsv")).expect("links");
    assert!(cache.digest_source(&folder, Format::Subsets).expect_err("refused").to_string().contains("symbolic link"));
    assert!(cache.absorb(&folder, Format::Subsets).expect_err("refused").to_string().contains("symbolic link"));
    assert!(folder.join("a.tsv").exists(), "nothing was moved");
}

#[test]
fn a_file_with_a_second_name_is_copied_so_that_nobody_can_write_to_the_object() {
    let bench = Bench::new();
    let (one, two) = (bench._dir.path().join("one"), bench._dir.path().join("two"));
    fs_err::write(&one, "linked").expect("writes");
    fs_err::hard_link(&one, &two).expect("links");
    let artifact = bench.cache.absorb(&one, Format::Raw).expect("absorbs");
    fs_err::write(&two, "LINKED").expect("writes");
    assert_eq!(bench.cache.read_object(artifact.digest).expect("sound"), b"linked");
}

#[test]
fn runs_are_chained_in_the_order_in_which_they_end() {
    let bench = Bench::new();
    let names = ["20261123-094012-ffff", "20261123-094012-0000", "20261123-094013-0000"];
    for name in names {
        bench.cache.commit_run(run_record(name)).expect("commits");
    }
    let ids: Vec<String> = bench.cache.runs().expect("lists").into_iter().map(String::from).collect();
    assert_eq!(ids, names);
    let last = bench.cache.run(&RunId::parse(names[2]).expect("valid")).expect("reads").expect("there");
    let before = fs_err::read(bench.cache.runs.file(&RunId::parse(names[1]).expect("valid"))).expect("there");
    assert_eq!(last.previous, Some(Digest::of(&before)));
}

#[test]
fn the_chain_of_runs_goes_on_from_its_end_whatever_became_of_the_file_that_names_it() {
    let bench = Bench::new();
    bench.cache.put_bytes(b"").expect("keeps the pipeline's text");
    let head = bench.cache.root().join("runs/head.json");
    let mut heads = Vec::new();
    // Started in another order than they ended.
    for name in ["20261123-094015-0000", "20261123-094012-0000", "20261123-094014-0000"] {
        bench.cache.commit_run(run_record(name)).expect("commits");
        heads.push(fs_err::read(&head).expect("there"));
    }
    let problems = || bench.cache.verify().expect("reads").problems;
    fs_err::write(&head, &heads[1]).expect("writes");
    assert_eq!(problems(), [], "so it stands after a kill just before this file was written");
    fs_err::write(&head, &heads[0]).expect("writes");
    assert!(problems()[0].what.contains("put back"), "{:?}", problems());
    for (n, damage) in [Some(&heads[0][..]), Some(b"{}"), Some(&heads[1][..]), None].into_iter().enumerate() {
        match damage {
            Some(bytes) => fs_err::write(&head, bytes).expect("writes"),
            None => fs_err::remove_file(&head).expect("removes"),
        }
        bench.cache.commit_run(run_record(&format!("20261123-09400{n}-0000"))).expect("commits");
        assert_eq!(problems(), [], "after {damage:?}");
    }
    let note = bench.cache.root().join("locks/runs.lock");
    for (n, damage) in ["", "20261123-09", "20261123-094003-0000 and more"].into_iter().enumerate() {
        fs_err::write(&note, damage).expect("writes");
        let name = format!("20261123-09401{n}-1111");
        bench.cache.commit_run(run_record(&name)).expect("commits");
        assert_eq!(problems(), [], "after the note {damage:?}");
        assert_eq!(fs_err::read_to_string(&note).expect("there"), name);
    }
}

#[test]
fn a_cache_without_index_answers_the_same() {
    let bench = Bench::new();
    let cache = Cache::assemble(bench.cache.root().to_owned(), None, None);
    assert!(matches!(cache.lookup(bench.key()), Ok(Lookup::Hit(_))));
    assert_eq!(cache.makers(bench.output("rows").digest).expect("reads"), [bench.key()]);
}

#[test]
fn a_sealed_output_is_stored_unread_and_one_of_another_size_is_refused() {
    let bench = Bench::new();
    let path = bench.cache.root().join("../sealed");
    fs_err::write(&path, "rows").expect("writes");
    let digest = Digest::of(b"rows");
    let error = bench.cache.absorb_sealed(&path, Format::Rows, digest, 5).expect_err("refused").to_string();
    assert!(error.contains("has 4 bytes, and 5 were written"), "{error}");
    assert!(!bench.cache.object_path(digest).exists());
    let artifact = bench.cache.absorb_sealed(&path, Format::Rows, digest, 4).expect("absorbs");
    assert_eq!((artifact.digest, artifact.bytes, artifact.layout), (digest, 4, Layout::File));
    assert_eq!(fs_err::read(bench.cache.object_path(digest)).expect("there"), b"rows");
    assert!(!path.exists());
}
