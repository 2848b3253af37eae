//! Any bytes as a record or a listing of a shared cache: what is accepted is the same after it was written anew.
//!
//! No mutation finds a checksum, so each JSON object is tried with its right one too, as who writes a poisoned record
//! would do it.

#![no_main]

use cistage::action::ActionRecord;
use cistage::cache::RunRecord;
use cistage::cache::tree;
use cistage::cache::untrusted::{Head, action_record, open, reopen, run_record, seal};
use cistage::digest::{Digest, canonical};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;

fuzz_target!(|bytes: &[u8]| {
    listing(bytes);
    sealed(bytes);
    if let Some(bytes) = with_its_checksum(bytes) {
        sealed(&bytes);
    }
});

fn listing(bytes: &[u8]) {
    let Ok(entries) = tree::parse(bytes) else { return };
    for entry in &entries {
        assert!(!entry.path.split('/').any(|part| matches!(part, "" | "." | "..")), "{:?}", entry.path);
    }
    let written = tree::listing(entries);
    assert_eq!(tree::parse(&written).map(tree::listing).as_deref(), Ok(&written[..]));
}

fn with_its_checksum(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    let map = value.as_object_mut()?;
    map.remove("checksum");
    let checksum = Digest::of(&canonical(map)).to_string();
    // In the place of the old one, so that the rest of the text stays as it is.
    let text = std::str::from_utf8(bytes).ok()?;
    if let Some((before, after)) = text.rsplit_once("\"checksum\": \"blake3:") {
        return Some(format!("{before}\"checksum\": \"{checksum}{}", after.get(64..)?).into_bytes());
    }
    map.insert("checksum".to_owned(), checksum.into());
    serde_json::to_vec(&value).ok()
}

fn sealed(bytes: &[u8]) {
    if let Some(mut record) = read::<ActionRecord>(bytes) {
        record.key = record.manifest.key();
        assert_eq!(action_record(&seal(&record), record.key).as_ref(), Ok(&record));
    }
    if let Some(record) = read::<RunRecord>(bytes) {
        assert_eq!(run_record(bytes, &record.run).as_ref(), Ok(&record));
    }
    read::<Head>(bytes);
}

/// Reads a record in all the ways there are.
fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let record: T = open(bytes).ok()?;
    if let Some(again) = reopen::<T>(bytes) {
        assert_eq!(again, record, "the same bytes, read a second time");
    }
    let written = seal(&record);
    assert_eq!(open::<T>(&written).as_ref(), Ok(&record));
    assert_eq!(reopen::<T>(&written).as_ref(), Some(&record));
    Some(record)
}
