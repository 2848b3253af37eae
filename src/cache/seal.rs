//! JSON records with a checksum of their own, so that a changed one shows.

use crate::digest::{Digest, canonical, canonical_sized};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const FIELD: &str = "checksum";

/// Gives the text of a record: pretty JSON with `checksum`, the BLAKE3 of the canonical JSON (RFC 8785) without it.
pub fn seal<T: Serialize>(record: &T) -> Vec<u8> {
    sealed(pretty(record, 4096), checksum(record))
}

/// [`seal`] on two processors: for a record whose text has about so many bytes.
pub fn seal_large<T: Serialize + Sync>(record: &T, about: usize) -> Vec<u8> {
    let (text, canonical) = rayon::join(|| pretty(record, about), || canonical_sized(record, about));
    sealed(text, Digest::of(&canonical))
}

fn pretty<T: Serialize>(record: &T, about: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(about);
    serde_json::to_writer_pretty(&mut text, record).expect("records are plain data");
    text
}

fn checksum<T: Serialize>(record: &T) -> Digest {
    Digest::of(&canonical(record))
}

fn sealed(mut text: Vec<u8>, checksum: Digest) -> Vec<u8> {
    assert!(text.ends_with(b"\n}"), "a record is a JSON object with fields");
    text.truncate(text.len() - 2);
    text.extend_from_slice(format!(",\n  \"{FIELD}\": \"{checksum}\"\n}}\n").as_bytes());
    text
}

/// Reads a record back, or says what is wrong with it.
pub fn open<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let mut value: Value = serde_json::from_slice(text).map_err(|e| format!("is not JSON ({e})"))?;
    let stated = value.as_object_mut().and_then(|map| map.remove(FIELD)).ok_or("has no checksum")?;
    if stated.as_str() != Some(&checksum(&value).to_string()) {
        return Err("was changed: its checksum does not match".to_owned());
    }
    serde_json::from_value(value).map_err(|e| format!("can't be read by this version of cistage ({e})"))
}

/// Reads bytes of [`seal`] again that [`open`] has found right; `None` where they are of another form.
pub fn reopen<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    // The checksum is the last field, and the record's type does not know it. What stood after it would be read by `open`
    // and not here.
    let start = memchr::memmem::rfind(text, format!(",\n  \"{FIELD}\": ").as_bytes())?;
    let (record, end) = text.split_at(start);
    let is_last =
        end.len() == format!(",\n  \"{FIELD}\": \"{}\"\n}}\n", Digest::of(&[])).len() && end.ends_with(b"\"\n}\n");
    is_last.then(|| serde_json::from_slice(&[record, b"\n}\n"].concat()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_changed_field_breaks_the_seal_and_new_white_space_does_not() {
        let record = BTreeMap::from([("rows".to_owned(), 7369.5_f64)]);
        let text = String::from_utf8(seal(&record)).expect("JSON is UTF-8");
        assert_eq!(open::<BTreeMap<String, f64>>(text.replace('\n', " ").as_bytes()), Ok(record.clone()));
        assert_eq!(reopen(text.as_bytes()), Some(record.clone()));
        let changed = open::<BTreeMap<String, f64>>(text.replace("7369", "7368").as_bytes());
        assert_eq!(changed, Err("was changed: its checksum does not match".to_owned()));
    }

    #[test]
    fn a_record_says_the_same_however_it_is_read() {
        let honest = BTreeMap::from([("rows".to_owned(), 1_u64)]);
        let other = checksum(&BTreeMap::from([("rows", 2_u64)]));
        // The last of two fields of one name counts, and it stands where the quick reading does not look.
        let text = String::from_utf8(seal(&honest)).expect("JSON is UTF-8");
        let forged =
            text.replace(&checksum(&honest).to_string(), &other.to_string()).replace("\"\n}", "\", \"rows\": 2\n}");
        assert_eq!(open::<BTreeMap<String, u64>>(forged.as_bytes()).expect("its checksum is right")["rows"], 2);
        assert_eq!(reopen::<BTreeMap<String, u64>>(forged.as_bytes()), None);
    }
}
