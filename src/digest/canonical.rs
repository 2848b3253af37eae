//! The one JSON text of a value (RFC 8785), which keys and checksums are digests of.
//!
//! A run of ten thousand steps makes this text tens of thousands of times, so it is written by serde_json into one
//! buffer, without a tree of values in between; where an object's keys are out of order, its entries change places there.

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};
use std::cell::RefCell;
use std::io::{self, Write};
use std::ops::Range;

/// Up to here every integer is a double of its own, and is written as it is.
const EXACT: u64 = 1 << 53;

/// Gives the canonical bytes of plain data.
pub fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    canonical_sized(value, 4096)
}

/// [`canonical`] of a value whose text has about so many bytes: a large text that grows costs more to move than to write.
pub fn canonical_sized<T: Serialize>(value: &T, about: usize) -> Vec<u8> {
    let text = RefCell::new(Vec::with_capacity(about));
    let formatter = Canonical { text: &text, open: Vec::new() };
    value
        .serialize(&mut Serializer::with_formatter(Unused, formatter))
        .expect("what has a digest is plain data, its keys texts");
    text.into_inner()
}

/// An object that is being written.
struct Open {
    /// Of the text between its braces.
    start: usize,
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    /// With its quotation marks.
    key: Range<usize>,
    end: usize,
}

/// Writes to the text that it shares with nobody: the writer it is handed can't take back what it wrote.
struct Canonical<'t> {
    text: &'t RefCell<Vec<u8>>,
    open: Vec<Open>,
}

impl Canonical<'_> {
    #[expect(clippy::unnecessary_wraps, reason = "the methods below give what it gives")]
    fn put(&self, bytes: &[u8]) -> io::Result<()> {
        self.text.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }

    fn plain(&self, value: impl std::fmt::Display) -> io::Result<()> {
        write!(self.text.borrow_mut(), "{value}")
    }

    /// A number that needs care: RFC 8785 writes all of them as doubles.
    fn double(&self, value: impl Serialize) -> io::Result<()> {
        self.put(&serde_json_canonicalizer::to_vec(&value)?)
    }

    fn len(&self) -> usize {
        self.text.borrow().len()
    }

    fn innermost(&mut self) -> &mut Open {
        self.open.last_mut().expect("serde_json pairs begins and ends")
    }
}

impl Formatter for Canonical<'_> {
    fn write_null<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.put(b"null")
    }

    fn write_bool<W: ?Sized + Write>(&mut self, _: &mut W, value: bool) -> io::Result<()> {
        self.put(if value { b"true" } else { b"false" })
    }

    fn write_i8<W: ?Sized + Write>(&mut self, _: &mut W, value: i8) -> io::Result<()> {
        self.plain(value)
    }

    fn write_i16<W: ?Sized + Write>(&mut self, _: &mut W, value: i16) -> io::Result<()> {
        self.plain(value)
    }

    fn write_i32<W: ?Sized + Write>(&mut self, _: &mut W, value: i32) -> io::Result<()> {
        self.plain(value)
    }

    fn write_i64<W: ?Sized + Write>(&mut self, _: &mut W, value: i64) -> io::Result<()> {
        if value.unsigned_abs() <= EXACT { self.plain(value) } else { self.double(value) }
    }

    fn write_u8<W: ?Sized + Write>(&mut self, _: &mut W, value: u8) -> io::Result<()> {
        self.plain(value)
    }

    fn write_u16<W: ?Sized + Write>(&mut self, _: &mut W, value: u16) -> io::Result<()> {
        self.plain(value)
    }

    fn write_u32<W: ?Sized + Write>(&mut self, _: &mut W, value: u32) -> io::Result<()> {
        self.plain(value)
    }

    fn write_u64<W: ?Sized + Write>(&mut self, _: &mut W, value: u64) -> io::Result<()> {
        if value <= EXACT { self.plain(value) } else { self.double(value) }
    }

    fn write_f32<W: ?Sized + Write>(&mut self, _: &mut W, value: f32) -> io::Result<()> {
        self.double(f64::from(value))
    }

    fn write_f64<W: ?Sized + Write>(&mut self, _: &mut W, value: f64) -> io::Result<()> {
        self.double(value)
    }

    fn begin_string<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.put(b"\"")
    }

    fn end_string<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.put(b"\"")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, _: &mut W, fragment: &str) -> io::Result<()> {
        self.put(fragment.as_bytes())
    }

    /// serde_json asks to escape what RFC 8785 says must be, and nothing else.
    fn write_char_escape<W: ?Sized + Write>(&mut self, _: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Quote => self.put(b"\\\""),
            CharEscape::ReverseSolidus => self.put(b"\\\\"),
            CharEscape::Solidus => self.put(b"/"),
            CharEscape::Backspace => self.put(b"\\b"),
            CharEscape::FormFeed => self.put(b"\\f"),
            CharEscape::LineFeed => self.put(b"\\n"),
            CharEscape::CarriageReturn => self.put(b"\\r"),
            CharEscape::Tab => self.put(b"\\t"),
            CharEscape::AsciiControl(byte) => self.plain(format_args!("\\u{byte:04x}")),
        }
    }

    fn begin_array<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.put(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.put(b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, _: &mut W, first: bool) -> io::Result<()> {
        self.put(if first { b"" } else { b"," })
    }

    fn begin_object<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.put(b"{")?;
        let start = self.len();
        self.open.push(Open { start, entries: Vec::new() });
        Ok(())
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, _: &mut W, first: bool) -> io::Result<()> {
        self.put(if first { b"" } else { b"," })?;
        let key = self.len()..0;
        self.innermost().entries.push(Entry { key, end: 0 });
        Ok(())
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        let end = self.len();
        self.innermost().entries.last_mut().expect("a key was begun").key.end = end;
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.put(b":")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        let end = self.len();
        self.innermost().entries.last_mut().expect("a key was begun").end = end;
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        let Open { start, entries } = self.open.pop().expect("serde_json pairs begins and ends");
        sort(&mut self.text.borrow_mut(), start, entries);
        self.put(b"}")
    }
}

/// Puts the entries of the object that the text ends in into the order of RFC 8785: that of their keys' UTF-16 code
/// units, which for ASCII is that of the bytes.
fn sort(text: &mut Vec<u8>, start: usize, mut entries: Vec<Entry>) {
    let bare = |entry: &Entry| &text[entry.key.start + 1..entry.key.end - 1];
    if entries.iter().all(|entry| bare(entry).iter().all(|&byte| byte.is_ascii() && byte != b'\\')) {
        if entries.is_sorted_by_key(bare) {
            return;
        }
        entries.sort_unstable_by_key(|entry| bare(entry));
    } else {
        entries.sort_by_cached_key(|entry| {
            let key: String = serde_json::from_slice(&text[entry.key.clone()]).expect("serde_json wrote it");
            key.encode_utf16().collect::<Vec<_>>()
        });
    }
    let old = text.split_off(start);
    for (i, entry) in entries.iter().enumerate() {
        if i > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&old[entry.key.start - start..entry.end - start]);
    }
}

/// What serde_json believes to write to.
struct Unused;

impl Write for Unused {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        unreachable!("the formatter writes")
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn the_text_is_that_of_the_reference() {
        let values = [
            json!(null),
            json!({}),
            json!([[], {}, [true, false, null]]),
            json!({"b": 1, "a": {"z": [1, 2.5, -3e-9], "y": "x", "yy": {"q": {}, "p": []}}, "A": "", "a-": 1}),
            json!([0, -1, 1e21, 1e-7, 0.1, 100.0, -0.0, 5e-324, 1.797_693_134_862_315_7e308]),
            json!([1_u64 << 53, (1_u64 << 53) + 1, u64::MAX, i64::MIN, -(1_i64 << 53)]),
            json!("\u{0}\u{1f}\u{7f}\u{8}\u{c}\n\r\t\"\\/é€😀\u{2028}"),
            json!({"é": 1, "z": 2, "😀": 3, "\u{ffff}": 4, "e\n": 5, "\"": 6, "e": 7}),
        ];
        for value in values {
            let expected = serde_json_canonicalizer::to_vec(&value).expect("has a form");
            assert_eq!(String::from_utf8(canonical(&value)), String::from_utf8(expected));
        }
    }

    #[test]
    fn a_typed_value_has_the_text_of_its_tree() {
        #[derive(Serialize)]
        enum Kind {
            Named { z: u8, a: i16 },
            Wrapped(f32),
            Bare,
        }
        #[derive(Serialize)]
        struct Record {
            numbers: BTreeMap<i32, u64>,
            kinds: Vec<Kind>,
            absent: Option<()>,
            not_a_number: f64,
            a: (char, &'static str),
        }
        let record = Record {
            numbers: [(10, 1), (9, u64::MAX), (-1, 0)].into(),
            kinds: vec![Kind::Named { z: 1, a: -2 }, Kind::Wrapped(0.1), Kind::Bare],
            absent: None,
            not_a_number: f64::NAN,
            a: ('é', "\u{1}"),
        };
        let tree = serde_json::to_value(&record).expect("plain data");
        assert_eq!(String::from_utf8(canonical(&record)), String::from_utf8(canonical(&tree)));
    }
}
