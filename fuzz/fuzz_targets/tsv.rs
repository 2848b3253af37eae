//! Any bytes as a table of sequences: cut into blocks of several sizes, it gives the same rows and the same complaints.
//!
//! The first byte chooses the options. A byte 0xFE stands for a run of letters long enough to meet the limits.

#![no_main]

use cistage::data::blocks::Blocks;
use cistage::data::check::Faults;
use cistage::data::rows::Rows;
use cistage::data::text::{LINE_LIMIT, Lines};
use cistage::data::tsv::Reader;
use cistage::data::unpack::Unpacked;
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;

const RUN: usize = LINE_LIMIT / 3;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, packed)) = bytes.split_first() else { return };
    let mut text = Vec::with_capacity(packed.len());
    for &byte in packed {
        match byte {
            0xfe if text.len() < 8 * RUN => text.extend_from_slice(&[b'A'; RUN]),
            byte => text.push(byte),
        }
    }
    let required = choice & 1 == 1;
    let whole = read(&text, 1 << 20, required);
    // Not so small that there are hundreds of blocks.
    let small = u64::from(choice >> 1) + text.len() as u64 / 40 + 1;
    for size in [small, small * 7 + 1] {
        assert_eq!(read(&text, size, required), whole, "in blocks of {size}");
    }
    if let Ok((rows, listed, count)) = whole {
        assert!(rows.pos.is_sorted() && rows.pos.len() == rows.expression.len());
        assert_eq!(listed.len() as u64, count.min(Faults::LISTED as u64));
        lines(text);
    }
});

/// Rows, the bad ones that are listed, and how many there are.
type Read = (Rows, Vec<String>, u64);

fn read(text: &[u8], size: u64, required: bool) -> Result<Read, String> {
    let text = Unpacked::new(Cursor::new(text.to_owned()), "t").map_err(|e| e.to_string())?;
    let mut reader = Reader::new(Blocks::of_size(size, text).map_err(|e| e.to_string())?, required);
    let (mut faults, mut rows) = (Faults::default(), Rows::default());
    while let Some(batches) = reader.next_batches(&mut faults).map_err(|e| e.to_string())? {
        batches.iter().for_each(|batch| rows.append(batch));
    }
    let listed = faults.listed.iter().map(|row| format!("{row:?}")).collect();
    Ok((rows, listed, faults.count))
}

/// The other reader of lines: they are counted, never longer than is allowed, and none is lost.
fn lines(text: Vec<u8>) {
    let mut lines = Lines::new(Unpacked::new(Cursor::new(text), "t").expect("it was opened just now"));
    let mut expected = 1;
    while let Some(line) = lines.next_line().expect("it was read to its end just now") {
        assert!(line.number == expected && line.text.len() <= LINE_LIMIT);
        expected += 1;
    }
}
