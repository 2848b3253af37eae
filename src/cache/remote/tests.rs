//! The promises of a shared cache, in memory.

use super::store::tests::in_memory;
use super::store::{Put, Stop};
use super::*;
use crate::artifact::{Artifact, Format};
use crate::cache::tests::{Bench, manifest, record, run_record, step};
use crate::cache::{Cache, Claimed, GcPolicy, Lookup};
use crate::event::Outcome;
use crate::name::RunId;
use crate::provenance;
use std::path::Path;
use std::time::Duration;

const NEVER: Stop<'static> = &|| false;

/// Two machines and what they share.
struct Two {
    here: Bench,
    _dir: tempfile::TempDir,
    there: Cache,
    shared: Remote,
}

fn address() -> Address {
    Address::parse("s3://lab/cache", Path::new("/")).expect("valid")
}

impl Two {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let there = Cache::open(&dir.path().join("cache")).expect("opens");
        let secret = Secret::generate().expect("random numbers");
        let trust = Trust::Keys(vec![secret.public()]);
        let shared = Remote::of(address(), in_memory(), trust, Some(secret), true);
        Self { here: Bench::new(), _dir: dir, there, shared }
    }

    fn pushed() -> Self {
        let two = Self::new();
        let pushed = two.shared.push(&two.here.cache, &[], vec![two.here.key()], NEVER).expect("pushes");
        assert_eq!((pushed.records, pushed.present, pushed.missing), (1, 0, 0), "{pushed:?}");
        two
    }

    fn serve(&self) -> Answer {
        self.shared.serve(&self.there, self.here.key(), NEVER)
    }

    fn overwrite(&self, name: &str, bytes: &[u8]) {
        self.shared.store.put(name, bytes.to_vec(), Put::Over, NEVER).expect("puts");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        self.shared.store.read(name, 1 << 30, NEVER).expect("reads").expect("it is there")
    }
}

#[test]
fn what_one_machine_pushed_another_is_served_with_where_it_came_from() {
    let two = Two::pushed();
    let answer = two.serve();
    assert_eq!(answer.warnings, Vec::<String>::new());
    let served = answer.served.expect("a hit");
    assert_eq!(served.outputs, two.here.record.outputs);
    assert!(matches!(two.there.lookup(two.here.key()), Ok(Lookup::Hit(_))), "it stays without the shared cache");
    let arrival = two.there.arrival(two.here.key()).expect("reads").expect("it came from elsewhere");
    assert_eq!((arrival.from.as_str(), arrival.signer.is_some()), ("s3://lab/cache", true));
    assert_eq!(two.there.verify().expect("reads").problems, []);
    let bytes = |cache: &Cache| cache.record_bytes(&two.here.record).expect("reads").expect("it is there");
    assert_eq!(bytes(&two.there), bytes(&two.here.cache), "what was signed is kept byte for byte");
}

#[test]
fn what_is_there_is_not_sent_again() {
    let two = Two::pushed();
    let again = Remote::of(address(), in_memory(), Trust::Any, None, true);
    let first = again.push(&two.here.cache, &[], vec![two.here.key()], NEVER).expect("pushes");
    again.pushed.lock().expect("nobody panicked").clear();
    let second = again.push(&two.here.cache, &[], vec![two.here.key()], NEVER).expect("pushes");
    assert_eq!((second.records, second.objects, second.bytes, second.present), (0, 0, 0, first.objects));
}

#[test]
fn a_flipped_bit_is_caught_and_mended_by_the_next_push() {
    let two = Two::pushed();
    let name = layout::object(two.here.output("rows").digest);
    let mut bytes = two.read(&name);
    bytes[0] ^= 1;
    two.overwrite(&name, &bytes);
    let answer = two.serve();
    assert!(answer.served.is_none() && answer.warnings[0].contains("is damaged there"), "{answer:?}");
    assert!(matches!(two.there.lookup(two.here.key()), Ok(Lookup::Miss { .. })));
    two.shared.pushed.lock().expect("nobody panicked").clear();
    let mended = two.shared.push(&two.here.cache, &[], vec![two.here.key()], NEVER).expect("pushes");
    assert_eq!(mended.objects, 1);
    assert!(two.serve().served.is_some());
}

#[test]
fn more_bytes_than_were_said_are_not_read_on() {
    let two = Two::pushed();
    two.overwrite(&layout::object(two.here.output("rows").digest), &b"x".repeat(100_000));
    let answer = two.serve();
    assert!(answer.served.is_none() && answer.warnings[0].contains("more bytes"), "{answer:?}");
}

#[test]
fn a_record_of_a_stranger_is_refused_with_one_warning_and_served_to_who_trusts_anyone() {
    let two = Two::pushed();
    let stranger = Secret::generate().expect("random numbers");
    let bytes = two.here.cache.record_bytes(&two.here.record).expect("reads").expect("there");
    for envelope in [
        serde_json::to_vec(&stranger.sign_bytes(layout::RECORD, &bytes)).expect("plain"),
        serde_json::to_vec(&crate::signature::Envelope::unsigned(layout::RECORD, &bytes)).expect("plain"),
    ] {
        two.overwrite(&layout::action(two.here.key()), &envelope);
        assert!(two.serve().served.is_none());
    }
    assert!(two.serve().warnings.is_empty(), "said before");
    let anyone = Remote { trust: Trust::Any, ..two.shared };
    assert!(anyone.serve(&two.there, two.here.key(), NEVER).served.is_some());
}

#[test]
fn a_record_of_another_key_or_changed_after_it_was_signed_is_refused() {
    let two = Two::pushed();
    let name = layout::action(two.here.key());
    let good = two.read(&name);
    let other = manifest("train", &[]);
    let signed = two.shared.enclose(layout::RECORD, &crate::cache::seal::seal(&record(&other, &[])));
    let text = String::from_utf8(good.clone()).expect("JSON").replace("\"payload\":\"ewog", "\"payload\":\"ewoh");
    for (envelope, expected) in
        [(signed, "another action"), (text.into_bytes(), "changed after"), (b"{".to_vec(), "no signed envelope")]
    {
        two.overwrite(&name, &envelope);
        let answer = two.serve();
        assert!(answer.served.is_none() && answer.warnings[0].contains(expected), "{answer:?}");
    }
    two.overwrite(&name, &good);
    assert!(two.serve().served.is_some());
}

#[test]
fn a_record_whose_objects_are_gone_is_a_miss() {
    let two = Two::pushed();
    two.shared.store.delete(&layout::object(two.here.output("rows").digest), NEVER).expect("deletes");
    let answer = two.serve();
    assert!(answer.served.is_none() && answer.warnings.is_empty(), "{answer:?}");
}

#[test]
fn bytes_alone_come_back_for_a_record_that_is_here() {
    let two = Two::pushed();
    fs_err::remove_file(two.here.object("rows")).expect("removes");
    // Nobody has to vouch for them: the record here names them.
    two.shared.store.delete(&layout::action(two.here.key()), NEVER).expect("deletes");
    let answer = two.shared.serve(&two.here.cache, two.here.key(), NEVER);
    assert!(answer.served.is_some(), "{answer:?}");
    assert_eq!(two.here.cache.arrival(two.here.key()).expect("reads"), None);
}

#[test]
fn other_bytes_for_the_same_key_are_named_and_nothing_is_replaced() {
    let two = Two::pushed();
    let before = two.read(&layout::action(two.here.key()));
    let other = two.there.put_bytes(b"other rows").expect("stores");
    let mut theirs = two.here.record.clone();
    let rows: Artifact = Artifact { digest: other, bytes: 10, ..two.here.output("rows").clone() };
    theirs.outputs.insert(crate::name::PortName::parse("rows").expect("valid"), rows);
    match two.there.claim(theirs.key, true, &mut |_| {}).expect("claims") {
        Claimed::Claim(claim) => claim.commit(&two.there, theirs).expect("commits"),
        Claimed::Hit(_) => panic!("forced"),
    }
    two.shared.pushed.lock().expect("nobody panicked").clear();
    let pushed = two.shared.push(&two.there, &[], vec![two.here.key()], NEVER).expect("pushes");
    assert!(pushed.warnings.len() == 1 && pushed.warnings[0].contains("not deterministic"), "{pushed:?}");
    assert_eq!(two.read(&layout::action(two.here.key())), before);
}

#[test]
fn where_names_are_not_kept_each_record_has_a_name_of_its_own() {
    let two = Two::new();
    two.overwrite(layout::ABOUT, br#"{"format":1,"create_only":false}"#);
    two.shared.push(&two.here.cache, &[], vec![two.here.key()], NEVER).expect("pushes");
    let listed = two.shared.store.list(layout::ACTIONS, NEVER).expect("lists");
    assert!(listed.len() == 1 && listed[0].name.starts_with(&layout::actions(two.here.key())), "{listed:?}");
    // Somebody puts other bytes under that name: only the name says what stood there.
    let good = two.read(&listed[0].name);
    two.overwrite(&listed[0].name, &[&good[..], b" "].concat());
    assert!(two.serve().served.is_none());
    two.overwrite(&listed[0].name, &good);
    assert!(two.serve().served.is_some());
}

#[test]
fn another_layout_is_left_alone_with_one_warning() {
    let two = Two::pushed();
    let later = Remote { about: OnceLock::new(), ..two.shared };
    later.store.put(layout::ABOUT, br#"{"format":2,"create_only":true}"#.to_vec(), Put::Over, NEVER).expect("puts");
    let answer = later.serve(&two.there, two.here.key(), NEVER);
    assert!(answer.served.is_none() && answer.warnings[0].contains("number 2"), "{answer:?}");
    assert!(later.is_left_alone() && later.serve(&two.there, two.here.key(), NEVER).warnings.is_empty());
}

const RUN: &str = "20261123-094012-1f3a";

fn push_a_run(two: &Two) {
    let mut used = step("split", &two.here.record.manifest, Outcome::Ran);
    used.outputs.clone_from(&two.here.record.outputs);
    let text = two.here.cache.put_bytes(b"").expect("keeps");
    let run = crate::cache::RunRecord { steps: vec![used], text, ..run_record(RUN) };
    two.here.cache.commit_run(run).expect("commits");
    let run = RunId::parse(RUN).expect("valid");
    two.shared.push(&two.here.cache, &[run], Vec::new(), NEVER).expect("pushes");
}

#[test]
fn a_run_comes_with_all_that_its_lineage_needs() {
    let two = Two::new();
    push_a_run(&two);
    let run = RunId::parse(RUN).expect("valid");
    assert_eq!(two.shared.shared_runs(NEVER).expect("lists"), std::slice::from_ref(&run));
    let pulled = two.shared.pull(&two.there, std::slice::from_ref(&run), Vec::new(), NEVER).expect("pulls");
    assert_eq!((pulled.runs, pulled.records, pulled.missing, pulled.refused.len()), (1, 1, 0, 0), "{pulled:?}");
    assert_eq!(two.there.verify().expect("reads").problems, []);
    let audit = provenance::audit_name(&two.there, &two.here.output("rows").digest.hex()).expect("known");
    assert!(provenance::render(&audit).contains("from s3://lab/cache, signed by "));
    let again = two.shared.pull(&two.there, &[run], Vec::new(), NEVER).expect("pulls");
    assert_eq!((again.runs, again.objects), (0, 0));
}

#[test]
fn runs_of_one_second_are_kept_together() {
    let two = Two::new();
    push_a_run(&two);
    for id in ["20261123-094012-0000", "20261123-094011-ffff"] {
        let text = two.here.cache.put_bytes(b"").expect("keeps");
        let run = crate::cache::RunRecord { text, ..run_record(id) };
        let id = run.run.clone();
        two.here.cache.commit_run(run).expect("commits");
        two.shared.push(&two.here.cache, &[id], Vec::new(), NEVER).expect("pushes");
    }
    let gone = |keep_runs| {
        let policy = GcPolicy { keep_runs, grace: Duration::ZERO, free: None };
        let plan = two.shared.plan_gc(&policy, NEVER).expect("plans");
        plan.runs.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(gone(1), ["20261123-094011-ffff"]);
    assert_eq!((gone(0).len(), gone(3).len()), (3, 0));
}

#[test]
fn gc_keeps_what_the_newest_runs_used_and_what_is_young() {
    let two = Two::new();
    push_a_run(&two);
    let other = {
        let rows = two.here.cache.put_bytes(b"old rows").expect("stores");
        let rows = Artifact { digest: rows, bytes: 8, layout: crate::artifact::Layout::File, format: Format::Rows };
        let record = record(&manifest("old", &[]), &[("rows", rows)]);
        match two.here.cache.claim(record.key, true, &mut |_| {}).expect("claims") {
            Claimed::Claim(claim) => claim.commit(&two.here.cache, record.clone()).expect("commits"),
            Claimed::Hit(_) => panic!("forced"),
        }
        record.key
    };
    two.shared.push(&two.here.cache, &[], vec![other], NEVER).expect("pushes");
    let policy = |grace| GcPolicy { keep_runs: 1, grace, free: None };
    let young = two.shared.plan_gc(&policy(Duration::from_hours(24)), NEVER).expect("plans");
    assert!(young.given_up.is_empty() && young.runs.is_empty(), "{young:?}");
    let plan = two.shared.plan_gc(&policy(Duration::ZERO), NEVER).expect("plans");
    let gone: Vec<_> = plan.given_up.iter().map(|candidate| (candidate.key, candidate.objects)).collect();
    assert_eq!((gone, plan.runs.len()), (vec![(Some(other), 2)], 0), "its rows and its manifest");
    two.shared.apply_gc(&plan, NEVER).expect("applies");
    assert!(two.shared.serve(&two.there, other, NEVER).served.is_none());
    assert!(two.serve().served.is_some(), "what the run used is whole");
    let all = two.shared.plan_gc(&GcPolicy { keep_runs: 0, ..policy(Duration::ZERO) }, NEVER).expect("plans");
    two.shared.apply_gc(&all, NEVER).expect("applies");
    for folder in [layout::OBJECTS, layout::ACTIONS, layout::RUNS] {
        assert_eq!(two.shared.store.list(folder, NEVER).expect("lists"), [], "{folder}");
    }
}
