//! The one text of a JSON value (RFC 8785), which keys and checksums are digests of.
//!
//! A run of ten thousand steps makes this text tens of thousands of times: what is plain is written here, at once, into
//! one buffer; numbers that need care are left to `serde_json_canonicalizer`, which copies every level once more.

use serde_json::{Map, Value};

/// Up to here every integer is a double of its own, and is written as it is.
const EXACT: u64 = 1 << 53;

/// Gives the canonical bytes of a JSON value.
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut text = Vec::with_capacity(4096);
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Null => text.extend_from_slice(b"null"),
        Value::Bool(value) => text.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Number(number) => match number.as_i64() {
            Some(integer) if integer.unsigned_abs() <= EXACT => write_plain(&integer, text),
            _ => text.extend(serde_json_canonicalizer::to_vec(number).expect("numbers of JSON are finite")),
        },
        Value::String(value) => write_text(value, text),
        Value::Array(items) => {
            text.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(b',');
                }
                write(item, text);
            }
            text.push(b']');
        }
        Value::Object(map) => {
            text.push(b'{');
            for (i, (key, value)) in sorted(map).into_iter().enumerate() {
                if i > 0 {
                    text.push(b',');
                }
                write_text(key, text);
                text.push(b':');
                write(value, text);
            }
            text.push(b'}');
        }
    }
}

/// By the UTF-16 code units of the key; for ASCII that is the order of its bytes.
fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    if map.keys().all(|key| key.is_ascii()) {
        entries.sort_unstable_by_key(|(key, _)| key.as_bytes());
    } else {
        entries.sort_by_cached_key(|(key, _)| key.encode_utf16().collect::<Vec<_>>());
    }
    entries
}

fn write_text(value: &str, text: &mut Vec<u8>) {
    if value.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        // serde_json escapes what RFC 8785 says must be, and nothing else.
        return write_plain(value, text);
    }
    text.push(b'"');
    text.extend_from_slice(value.as_bytes());
    text.push(b'"');
}

fn write_plain<T: serde::Serialize + ?Sized>(value: &T, text: &mut Vec<u8>) {
    serde_json::to_writer(text, value).expect("a string or a number has a JSON form, and memory takes it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_is_that_of_the_reference() {
        let values = [
            json!(null),
            json!({}),
            json!([[], {}, [true, false, null]]),
            json!({"b": 1, "a": {"z": [1, 2.5, -3e-9], "y": "x"}, "A": ""}),
            json!([0, -1, 1e21, 1e-7, 0.1, 100.0, -0.0, 5e-324, 1.797_693_134_862_315_7e308]),
            json!([1_u64 << 53, (1_u64 << 53) + 1, u64::MAX, i64::MIN, -(1_i64 << 53)]),
            json!("\u{0}\u{1f}\u{7f}\u{8}\u{c}\n\r\t\"\\/é€😀\u{2028}"),
            json!({"é": 1, "z": 2, "😀": 3, "\u{ffff}": 4, "e\n": 5, "\"": 6}),
        ];
        for value in values {
            let expected = serde_json_canonicalizer::to_vec(&value).expect("has a form");
            assert_eq!(String::from_utf8(canonical(&value)), String::from_utf8(expected));
        }
    }
}
