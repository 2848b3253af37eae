//! Lineage on a small cache: two halves of one source, compared.

use super::*;
use crate::action::{ActionManifest, ActionRecord, Input, Origin};
use crate::artifact::{Artifact, Format};
use crate::cache::tests::{manifest, record, run_record, step};
use crate::cache::{Cache, Claimed};
use crate::digest::Digest;
use crate::event::Outcome;
use crate::name::PortName;
use serde_json::json;
use std::path::Path;

struct Scene {
    dir: tempfile::TempDir,
    cache: Cache,
    records: Vec<ActionRecord>,
}

fn port(name: &str) -> PortName {
    PortName::parse(name).expect("valid")
}

impl Scene {
    /// `split` makes `train` and `test` from a source, `evaluate` makes `metrics` from both.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open(&dir.path().join("cache")).expect("opens");
        let mut scene = Self { dir, cache, records: Vec::new() };
        let source = scene.file("data.tsv", b"AAAA\t1\nCCCC\t2\n");
        let path = scene.dir.path().join("data.tsv").display().to_string();
        let origin = Origin::Source { path };
        let split = manifest("split", &[("rows", source.digest)]);
        scene.commit(&split, "1", &[("train", b"AAAA"), ("test", b"CCCC")], vec![("rows", source, origin)]);
        let (train, test) = (scene.output(0, "train"), scene.output(0, "test"));
        let from = |name| Origin::Action { key: split.key(), port: port(name) };
        let evaluate = manifest("evaluate", &[("a", train.digest), ("b", test.digest)]);
        let inputs = vec![("a", train, from("train")), ("b", test, from("test"))];
        scene.commit(&evaluate, "2", &[("metrics", b"{\"r2\":1}")], inputs);
        let mut run = run_record("20261123-094012-1f3a");
        run.steps = scene.records.iter().map(step_of).collect();
        run.published.insert("results/metrics.json".into(), scene.output(1, "metrics").digest);
        scene.cache.commit_run(run).expect("commits");
        scene
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Artifact {
        let path = self.dir.path().join(name);
        fs_err::write(&path, bytes).expect("writes");
        self.cache.digest_source(&path, Format::Raw).expect("hashes")
    }

    fn output(&self, record: usize, name: &str) -> Artifact {
        self.records[record].outputs[name].clone()
    }

    fn commit(
        &mut self,
        manifest: &ActionManifest,
        second: &str,
        outputs: &[(&str, &[u8])],
        inputs: Vec<(&str, Artifact, Origin)>,
    ) {
        let outputs: Vec<(&str, Artifact)> = outputs
            .iter()
            .map(|(name, bytes)| {
                let file = self.dir.path().join("output");
                fs_err::write(&file, bytes).expect("writes");
                (*name, self.cache.absorb(&file, Format::Metrics).expect("absorbs"))
            })
            .collect();
        let mut made = record(manifest, &outputs);
        made.started = format!("2026-11-23T09:40:1{second}.000Z");
        made.inputs =
            inputs.into_iter().map(|(name, artifact, origin)| (port(name), Input { artifact, origin })).collect();
        let Claimed::Claim(claim) = self.cache.claim(made.key, true, &mut |_| {}).expect("claims") else {
            panic!("forced")
        };
        claim.commit(&self.cache, made.clone()).expect("commits");
        self.records.push(made);
    }

    fn audit(&self, target: &str) -> Result<Audit, String> {
        audit(&self.cache, target).map_err(|e| e.to_string())
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

fn step_of(record: &ActionRecord) -> crate::cache::StepRecord {
    let mut step = step(record.stage.as_str(), &record.manifest, Outcome::Ran);
    step.inputs = record.inputs.clone();
    step.outputs = record.outputs.clone();
    step
}

fn lineage(audit: Audit) -> Lineage {
    match audit {
        Audit::Artifact { lineage, .. } => lineage,
        Audit::Run { .. } => panic!("asked for an artifact"),
    }
}

#[test]
fn a_copy_under_another_name_leads_back_to_the_source() {
    let scene = Scene::new();
    fs_err::write(scene.path("copy"), "{\"r2\":1}").expect("writes");
    let tree = scene.audit(&scene.path("copy")).expect("known").to_json();
    assert_eq!(tree["artifact"], json!({"digest": Digest::of(b"{\"r2\":1}"), "bytes": 8, "format": "metrics"}));
    let made_by = json!({
        "stage": "evaluate", "kind": "evaluate", "version": 1, "key": scene.records[1].key,
        "params": {"seed": 42}, "run": "20261123-094012-1f3a", "started": "2026-11-23T09:40:12.000Z", "seconds": 0.0,
        "environment": scene.records[1].environment,
    });
    assert_eq!(tree["made_by"], made_by);
    assert_eq!(tree["inputs"]["a"]["made_by"]["stage"], "split");
    let source =
        json!({"source": {"path": scene.path("data.tsv"), "digest": Digest::of(b"AAAA\t1\nCCCC\t2\n"), "bytes": 14}});
    assert_eq!(tree["inputs"]["b"]["inputs"], json!({ "rows": source }));
}

#[test]
fn every_way_of_naming_an_artifact_gives_the_same_lineage() {
    let scene = Scene::new();
    let digest = scene.output(1, "metrics").digest;
    let wanted = scene.audit("evaluate.metrics").expect("known");
    for target in [digest.to_string(), digest.hex(), digest.hex()[..8].to_owned(), format!("blake3:{}", digest.short())]
    {
        assert_eq!(scene.audit(&target).as_ref(), Ok(&wanted), "{target}");
    }
    let Ok(Audit::Run { artifacts, .. }) = scene.audit("20261123-094012-1f3a") else { panic!("a run") };
    assert_eq!(artifacts, [lineage(wanted)]);
}

#[test]
fn a_source_file_is_a_leaf_that_names_the_runs_that_read_it() {
    let scene = Scene::new();
    let answer = scene.audit(&scene.path("data.tsv")).expect("known").to_json();
    assert_eq!(answer["used_by"], json!(["20261123-094012-1f3a"]));
    assert_eq!(answer["source"]["path"], json!(scene.path("data.tsv")));
}

#[test]
fn what_no_run_made_is_refused_with_what_comes_nearest() {
    let scene = Scene::new();
    fs_err::write(scene.path("metrics.json"), "{\"r2\":2}").expect("writes");
    let error = scene.audit(&scene.path("metrics.json")).expect_err("unknown");
    assert!(error.contains("not produced by any recorded run; nearest: run 20261123-094012-1f3a published"), "{error}");
    let error = scene.audit("evaluate.metric").expect_err("unknown");
    assert!(error.ends_with("outputs of that stage in run 20261123-094012-1f3a: evaluate.metrics"), "{error}");
    let error = scene.audit("nothing-of-that-name").expect_err("unknown");
    assert!(error.contains("split.test, split.train, evaluate.metrics"), "{error}");
    for target in ["deadbeef", "blake3:12", "20261123-094012-0000", "nothing"] {
        scene.audit(target).expect_err(target);
    }
}

#[test]
fn of_several_makers_the_asked_runs_is_shown_else_the_newest_and_the_others_are_listed() {
    let mut scene = Scene::new();
    // Another source, and the same two halves: early cutoff.
    let other = scene.file("other.tsv", b"CCCC\t2\nAAAA\t1\n");
    let origin = Origin::Source { path: scene.path("other.tsv") };
    let split = manifest("split", &[("rows", other.digest)]);
    scene.commit(&split, "5", &[("train", b"AAAA"), ("test", b"CCCC")], vec![("rows", other, origin)]);
    let digest = scene.output(0, "train").digest.to_string();
    let tree = scene.audit(&digest).expect("known").to_json();
    assert_eq!(tree["made_by"]["key"], json!(split.key()));
    assert_eq!(tree["also_made_by"][0]["key"], json!(scene.records[0].key));
    let tree = scene.audit("split.train").expect("known").to_json();
    assert_eq!(tree["made_by"]["key"], json!(scene.records[0].key), "that of the newest run");
    // What was made of them keeps the origin that it had.
    let tree = scene.audit("evaluate.metrics").expect("known").to_json();
    assert_eq!(tree["inputs"]["a"]["made_by"]["key"], json!(scene.records[0].key));
}

#[test]
fn a_file_of_a_folder_leads_to_the_folder() {
    let scene = Scene::new();
    let folder = scene.dir.path().join("model");
    fs_err::create_dir(&folder).expect("makes");
    fs_err::write(folder.join("config.json"), "{\"layers\":2}").expect("writes");
    let model = scene.cache.absorb(&folder, Format::Model).expect("absorbs");
    let made = record(&manifest("train", &[]), &[("model", model.clone())]);
    let Ok(Claimed::Claim(claim)) = scene.cache.claim(made.key, true, &mut |_| {}) else { panic!("forced") };
    claim.commit(&scene.cache, made).expect("commits");
    fs_err::write(scene.path("copy"), "{\"layers\":2}").expect("writes");
    let answer = scene.audit(&scene.path("copy")).expect("known").to_json();
    assert_eq!(answer["part"]["path"], "config.json");
    assert_eq!(answer["artifact"]["digest"], json!(model.digest));
}

#[test]
fn verification_names_every_damaged_object_and_record_and_tells_the_state_of_sources() {
    let scene = Scene::new();
    let asked = scene.audit("evaluate.metrics").expect("known");
    let here = Path::new(".");
    let found = verify(&scene.cache, &asked, here);
    assert_eq!((found.objects, found.records, found.problems.len()), (5, 2, 0));
    assert_eq!(found.sources[0].state, SourceState::Same);

    fs_err::write(scene.path("data.tsv"), "GGGG\t1\n").expect("writes");
    let object = scene.cache.object_path(scene.output(0, "test").digest);
    fs_err::remove_file(&object).expect("removes");
    fs_err::write(&object, "CCCG").expect("writes");
    let found = verify(&scene.cache, &asked, here);
    assert_eq!((found.problems.len(), found.sources[0].state), (1, SourceState::Changed));
    let digest = scene.output(0, "test").digest;
    let what = format!("output test of split: {digest} is damaged: its bytes are now {}", Digest::of(b"CCCG").short());
    assert_eq!(found.problems[0].what, what);

    let hex = scene.records[0].key.0.hex();
    fs_err::remove_file(scene.cache.root().join("actions").join(&hex[..2]).join(format!("{}.json", &hex[2..])))
        .expect("removes");
    assert_eq!(verify(&scene.cache, &asked, here).problems.len(), 2);
    // Asked anew, the chain breaks where the record was.
    let broken = scene.audit("split.train").expect("the run still knows");
    assert!(matches!(lineage(broken.clone()), Lineage::Lost { .. }));
    assert_eq!(verify(&scene.cache, &broken, here).problems.len(), 1);
}

#[test]
fn shared_parts_of_a_lineage_do_not_multiply() {
    let mut scene = Scene::new();
    for level in 0..40_u8 {
        let last = scene.records.len() - 1;
        let from = scene.records[last].outputs.values().next().expect("has one").clone();
        let (name, _) = scene.records[last].outputs.first_key_value().expect("has one");
        let origin = Origin::Action { key: scene.records[last].key, port: name.clone() };
        let next = manifest("compare", &[("a", from.digest), ("b", from.digest)]);
        let inputs = vec![("a", from.clone(), origin.clone()), ("b", from, origin)];
        scene.commit(&next, "3", &[("metrics", &[level])], inputs);
    }
    let digest = scene.output(scene.records.len() - 1, "metrics").digest.to_string();
    let answer = scene.audit(&digest).expect("known");
    assert!(answer.to_json().to_string().len() < 20_000_000);
    assert!(render(&answer).lines().count() < 200);
    assert_eq!(verify(&scene.cache, &answer, Path::new(".")).records, 42);
}

#[test]
fn people_read_a_tree() {
    let scene = Scene::new();
    let text = render(&scene.audit("evaluate.metrics").expect("known"));
    insta::assert_snapshot!(text.replace(&scene.path(""), ""), @r"
    evaluate.metrics  a9c66d8708e2  metrics  8 B
    │ evaluate v1  key 05e7d3f3aa2c  run 20261123-094012-1f3a, 2026-11-23T09:40:12.000Z, 0.0 s
    │ seed=42
    ├─ a: split.train  26c7bb3daaaa  metrics  4 B
    │  │ split v1  key b5eb2cae7329  run 20261123-094012-1f3a, 2026-11-23T09:40:11.000Z, 0.0 s
    │  │ seed=42
    │  └─ rows: data.tsv  fd0a7983f7c7  14 B  source
    └─ b: split.test  a83ce6ec6760  metrics  (made by the action shown above)
    ");
}
