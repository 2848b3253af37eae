//! What is known without being read again, and what is not trusted so far.

use super::*;

#[test]
fn a_source_is_hashed_again_when_it_changed_or_may_have() {
    let bench = Bench::new();
    let source = bench.cache.root().join("../data.txt");
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    fs_err::write(&source, "AAAA").expect("writes");
    let before = bench.cache.digest_source(&source, Format::Raw).expect("hashes");
    // Same size, and modified at a time that the program sets: the kernel's own time tells.
    fs_err::write(&source, "CCCC").expect("writes");
    fs_err::File::open(&source).and_then(|f| f.set_modified(hour_ago)).expect("sets");
    let after = bench.cache.digest_source(&source, Format::Raw).expect("hashes");
    assert_ne!(before.digest, after.digest);
    assert_eq!(after.digest, Digest::of(b"CCCC"));
    let real = fs_err::canonicalize(&source).expect("there");
    let name = [b"source ", real.as_os_str().as_encoded_bytes()].concat();
    let stamp = stamp::Stamp::of(&fs_err::metadata(&source).expect("there"));
    assert_eq!(bench.cache.ledger.recall(&name, stamp), None, "hashed too soon after its change to be trusted");
    bench.cache.ledger.remember(&name, stamp, stamp::now() + 3_000_000_000, after.digest);
    assert_eq!(bench.cache.ledger.recall(&name, stamp), Some(after.digest));
}

/// Opens the cache of a bench anew, and tells whether its objects are known without being read.
fn recalled(bench: &Bench, ports: &[&str]) -> Vec<bool> {
    bench.cache.ledger.flush();
    let ledger = Ledger::new(Some(bench.cache.root().join("index")), bench.cache.root());
    let known = |port: &&str| {
        let stamp = stamp::Stamp::of(&fs_err::metadata(bench.object(port)).expect("there"));
        let name = [b"object ", &bench.output(port).digest.as_bytes()[..]].concat();
        ledger.recall(&name, stamp) == Some(bench.output(port).digest)
    };
    ports.iter().map(known).collect()
}

#[test]
fn what_a_process_stored_itself_the_next_one_need_not_hash() {
    if std::env::var_os("CISTAGE_NO_INDEX").is_some() {
        return;
    }
    assert_eq!(recalled(&Bench::new(), &["rows", "model"]), [true, true]);
}

#[test]
fn what_an_outliving_process_may_still_write_to_is_hashed_again() {
    let bench = Bench::new();
    let path = bench.cache.root().join("../output");
    let mut writer = fs_err::File::create(&path).expect("makes");
    writer.write_all(b"early").expect("writes");
    let artifact = bench.cache.absorb(&path, Format::Raw).expect("absorbs");
    let stamp = stamp::Stamp::of(&fs_err::metadata(bench.cache.object_path(artifact.digest)).expect("there"));
    let name = [b"object ", &artifact.digest.as_bytes()[..]].concat();
    assert_eq!(bench.cache.ledger.recall(&name, stamp), None);
    drop(writer);
}

#[test]
fn damage_within_the_same_second_is_found_also_with_the_old_time_of_modification() {
    for restored in [false, true] {
        let bench = Bench::new();
        bench.cache.ledger.flush();
        let path = bench.object("rows");
        let before = fs_err::metadata(&path).expect("there").modified().expect("has one");
        let open = || fs_err::OpenOptions::new().write(true).open(&path);
        // Whoever may write all the same leaves no trace in the mode.
        let mut file = open().or_else(|_| {
            make_writable(&path);
            open()
        });
        let file = file.as_mut().expect("opens");
        file.write_all(b"SOME rows").expect("writes in place: same inode, same size");
        if restored {
            file.file().set_modified(before).expect("sets");
        }
        let cache = Cache::open(bench.cache.root()).expect("opens");
        assert!(
            matches!(cache.lookup(bench.key()), Ok(Lookup::Miss { damage, .. }) if damage.len() == 1),
            "{restored}"
        );
    }
}

fn make_writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("sets");
}

#[test]
fn where_all_is_to_be_read_the_memory_of_others_counts_for_nothing_and_ones_own_does() {
    let bench = Bench::new();
    if std::env::var_os("CISTAGE_NO_INDEX").is_some() {
        return;
    }
    bench.cache.ledger.flush();
    let cache = Cache::open(bench.cache.root()).expect("opens");
    let rows = bench.output("rows");
    let stamp = stamp::Stamp::of(&fs_err::metadata(bench.object("rows")).expect("there"));
    let name = [b"object ", &rows.digest.as_bytes()[..]].concat();
    assert_eq!(cache.ledger.recall(&name, stamp), Some(rows.digest));
    cache.verify_always();
    assert_eq!(cache.ledger.recall(&name, stamp), None);
    assert!(matches!(cache.lookup(bench.key()), Ok(Lookup::Hit(_))));
    let hashed = stamp.changed + 3_000_000_000;
    cache.ledger.remember(&name, stamp, hashed, rows.digest);
    assert_eq!(cache.ledger.recall(&name, stamp), Some(rows.digest));
}
