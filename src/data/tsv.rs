//! The challenge's rows as text: `sequence<TAB>expression`, a header or none.

use super::DataError;
use super::blocks::Blocks;
use super::check::{self, BadRow, Faults};
use super::rows::Rows;
use super::text::LINE_LIMIT;
use rayon::prelude::*;

/// Reads rows from text, blocks of lines side by side; bad ones are reported, not kept.
///
/// A row's `pos` counts data lines from 0, bad ones included, so that it finds the row in the file again.
pub struct Reader {
    blocks: Blocks,
    labels_required: bool,
    /// Lines of the blocks before.
    lines: u64,
    /// The position of the next data line.
    pos: i64,
    /// Empty lines that the text so far ends with: at the end of the file they mean nothing.
    blank: u64,
}

/// What one block holds, its lines and rows counted for themselves.
#[derive(Default)]
struct Parsed {
    /// `pos`: data lines before it, those after the leading empty lines.
    rows: Rows,
    /// Lines count from 1.
    faults: Faults,
    lines: u64,
    /// Rows, bad rows, and empty lines between them.
    data_lines: u64,
    /// The line of the first of them.
    first: u64,
    /// Empty lines before the first and after the last data line.
    leading: u64,
    trailing: u64,
}

impl Reader {
    pub fn new(blocks: Blocks, labels_required: bool) -> Self {
        Self { blocks, labels_required, lines: 0, pos: 0, blank: 0 }
    }

    /// Gives the next rows, and adds the bad ones met on the way to `faults`; `None` at the end.
    pub fn next_batches(&mut self, faults: &mut Faults) -> Result<Option<Vec<Rows>>, DataError> {
        let blocks = self.blocks.next(8 * rayon::current_num_threads(), self.lines)?;
        if blocks.is_empty() {
            return Ok(None);
        }
        let (labels_required, start) = (self.labels_required, self.lines == 0);
        let parsed: Vec<Parsed> = blocks
            .into_par_iter()
            .enumerate()
            .map(|(i, block)| Parsed::of(&block, start && i == 0, labels_required))
            .collect();
        Ok(Some(parsed.into_iter().map(|parsed| self.place(parsed, faults)).collect()))
    }

    /// Gives the rows of the next block their places in the file.
    fn place(&mut self, parsed: Parsed, faults: &mut Faults) -> Rows {
        let Parsed { mut rows, faults: met, lines, data_lines, first, leading, trailing } = parsed;
        self.blank += leading;
        if data_lines > 0 {
            // A row follows: the empty lines do stand between rows.
            let end = self.lines + first - 1;
            (end - self.blank..end).for_each(|line| faults.add(empty_line(line + 1)));
            self.pos += self.blank as i64;
            rows.pos.iter_mut().for_each(|pos| *pos += self.pos);
            self.pos += data_lines as i64;
            self.blank = trailing;
            faults.count += met.count - met.listed.len() as u64;
            met.listed.into_iter().for_each(|row| faults.add(BadRow { line: row.line + self.lines, ..row }));
        }
        self.lines += lines;
        rows
    }
}

fn empty_line(line: u64) -> BadRow {
    BadRow { line, column: 1, reason: "the line is empty".into() }
}

impl Parsed {
    /// Parses a block; `start`: its first line may be a header.
    fn of(block: &[u8], start: bool, labels_required: bool) -> Self {
        let mut parsed = Self::default();
        let mut rest = block;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
            parsed.lines += 1;
            if line.is_empty() {
                parsed.trailing += 1;
            } else if !(start && parsed.lines == 1 && is_header(line)) {
                parsed.data_line(line, labels_required);
            }
        }
        if parsed.data_lines == 0 {
            parsed.leading = std::mem::take(&mut parsed.trailing);
        }
        parsed
    }

    fn data_line(&mut self, line: &[u8], labels_required: bool) {
        let blank = std::mem::take(&mut self.trailing);
        if self.data_lines == 0 {
            (self.first, self.leading) = (self.lines, blank);
        } else {
            (self.lines - blank..self.lines).for_each(|line| self.faults.add(empty_line(line)));
            self.data_lines += blank;
        }
        let pos = self.data_lines as i64;
        match self.rows.sequences.push_with(|bases| parse(line, labels_required, bases)) {
            Ok(expression) => {
                self.rows.pos.push(pos);
                self.rows.expression.push(expression);
            }
            Err((at, reason)) => self.faults.add(BadRow { line: self.lines, column: at + 1, reason }),
        }
        self.data_lines += 1;
    }
}

/// A first line is a header when neither its sequence nor its value could be one. One that is too long is none, as its end
/// may not be here; nor is a sequence that is too long.
fn is_header(line: &[u8]) -> bool {
    let mut fields = line.split(|&b| b == b'\t');
    let name = fields.next().unwrap_or_default();
    let words = name.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    words
        && line.len() <= LINE_LIMIT
        && name.len() <= check::LONGEST
        && check::sequence(name, &mut Vec::new()).is_err()
        && fields.next().is_none_or(|value| !value.is_empty() && check::expression(value, false).is_err())
}

/// Adds the bases of a line to `bases` and gives its value; an error is a place from 0 and a reason.
fn parse(line: &[u8], labels_required: bool, bases: &mut Vec<u8>) -> Result<Option<f64>, (usize, String)> {
    if line.len() > LINE_LIMIT {
        return Err((LINE_LIMIT, format!("the line is longer than {LINE_LIMIT} bytes")));
    }
    let tab = memchr::memchr(b'\t', line);
    let (sequence, value) = match tab {
        Some(tab) => (&line[..tab], &line[tab + 1..]),
        None => (line, &[][..]),
    };
    if let Some(second) = memchr::memchr(b'\t', value) {
        let columns = 2 + memchr::memchr_iter(b'\t', value).count();
        let at = sequence.len() + 1 + second;
        return Err((at, format!("{columns} columns, where two are expected: sequence<TAB>expression")));
    }
    check::sequence(sequence, bases)?;
    match tab {
        Some(tab) => check::expression(value, labels_required).map_err(|reason| (tab + 1, reason)),
        None if labels_required => {
            Err((line.len(), "1 column, where two are expected: sequence<TAB>expression".into()))
        }
        // A plain list of sequences is what one has before measuring.
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::unpack::Unpacked;
    use std::io::Cursor;

    fn read(text: &str, labels_required: bool) -> (Rows, Vec<BadRow>) {
        let text = Unpacked::new(Cursor::new(text.to_owned().into_bytes()), "in.tsv").expect("opened");
        let mut reader = Reader::new(Blocks::new(text).expect("started"), labels_required);
        let (mut faults, mut rows) = (Faults::default(), Rows::default());
        while let Some(batches) = reader.next_batches(&mut faults).expect("read") {
            batches.iter().for_each(|batch| rows.append(batch));
        }
        assert_eq!(faults.listed.len() as u64, faults.count.min(100));
        (rows, faults.listed)
    }

    #[test]
    fn rows_keep_their_place_and_are_upper_cased() {
        let (rows, bad) = read("sequence\texpression\r\nacgtn\t1.5\r\nAX\t1\r\nT\t-2e-1\n\n\n", true);
        assert_eq!(rows.pos, [0, 2]);
        assert_eq!((rows.sequences.get(0), rows.sequences.get(1)), (&b"ACGTN"[..], &b"T"[..]));
        assert_eq!(rows.expression, [Some(1.5), Some(-0.2)]);
        assert_eq!(bad, [BadRow { line: 3, column: 2, reason: "'X' is not a base: expected A, C, G, T or N".into() }]);
    }

    #[test]
    fn each_fault_has_its_line_and_column() {
        let text = "AC\t1\nAC\nAC\tnan\nAC\tinf\nAC\tx\n\nAC\t1\t2\n\t3\nAC\t\nA C\t1\nA\t1";
        let (rows, bad) = read(text, true);
        let places: Vec<(u64, usize)> = bad.iter().map(|b| (b.line, b.column)).collect();
        assert_eq!(places, [(2, 3), (3, 4), (4, 4), (5, 4), (6, 1), (7, 5), (8, 1), (9, 4), (10, 2)]);
        assert_eq!(rows.pos, [0, 10]);
        let (rows, bad) = read(text, false);
        assert_eq!(bad.len(), 6, "{bad:?}");
        assert_eq!(rows.expression, [Some(1.0), None, None, None, Some(1.0)]);
    }

    #[test]
    fn a_bad_first_row_is_not_taken_for_a_header() {
        let long = "A".repeat(check::LONGEST + 1) + "\nA\t1\n";
        let endless = format!("seq\t0.{}x\nA\t1\n", "0".repeat(LINE_LIMIT));
        for (text, faults) in
            [(&*long, 1), (&*endless, 1), ("ACGX\t3\nA\t1\n", 1), ("ACGT\tx\nA\t1\n", 1), ("seq\tvalue\nA\t1\n", 0)]
        {
            assert_eq!(read(text, true).1.len(), faults, "{text:?}");
        }
    }

    #[test]
    fn places_hold_across_blocks() {
        // Some megabytes: bad and empty lines stand in several blocks, and around their edges.
        let line = |i: usize| match i {
            i if i % 50_021 == 7 => String::new(),
            i if i % 40_009 == 11 => format!("ACGX\t{i}"),
            i => format!("{}\t{i}", "ACGTN".repeat(i % 9 + 1)),
        };
        let text: Vec<String> = (0..200_000).map(line).collect();
        let (rows, bad) = read(&(text.join("\n") + "\n\n\n"), true);
        let expected: Vec<i64> = (0..200_000_i64).filter(|i| i % 50_021 != 7 && i % 40_009 != 11).collect();
        assert!(rows.pos == expected && rows.expression.iter().zip(&rows.pos).all(|(v, pos)| *v == Some(*pos as f64)));
        let lines: Vec<u64> = bad.iter().map(|b| b.line).collect();
        let mut expected: Vec<u64> =
            (0..200_000).filter(|&i| i % 50_021 == 7 || i % 40_009 == 11).map(|i| i + 1).collect();
        expected.sort_unstable();
        assert_eq!(lines, expected);
    }

    #[test]
    fn many_bad_lines_are_counted_and_the_first_listed() {
        let text = "ACGX\t1\n".repeat(300_000) + &"\n".repeat(300) + "A\t1\n";
        let blocks = Blocks::new(Unpacked::new(Cursor::new(text.into_bytes()), "t").expect("opened")).expect("started");
        let (mut reader, mut faults) = (Reader::new(blocks, true), Faults::default());
        let mut pos = Vec::new();
        while let Some(batches) = reader.next_batches(&mut faults).expect("read") {
            batches.iter().for_each(|batch| pos.extend_from_slice(&batch.pos));
        }
        assert_eq!((faults.count, faults.listed.len(), pos), (300_300, 100, vec![300_300]));
    }
}
