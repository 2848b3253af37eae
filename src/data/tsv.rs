//! The challenge's rows as text: `sequence<TAB>expression`, a header or none.

use super::DataError;
use super::check::{self, BadRow};
use super::columns::GROUP_ROWS;
use super::rows::Rows;
use super::text::{Line, Lines};
use std::path::Path;

/// Reads rows from text, batch by batch; bad ones are reported, not kept.
///
/// A row's `pos` counts data lines from 0, bad ones included, so that it finds the row in the file again.
pub struct Reader {
    lines: Lines,
    labels_required: bool,
    pos: i64,
    /// Line numbers of empty lines that may still turn out to stand at the end, where they mean nothing.
    blank: Vec<u64>,
    bases: Vec<u8>,
}

/// More empty lines than this in a row are reported as one.
const BLANK_LIMIT: usize = 100;

impl Reader {
    /// Opens a file; messages name it `label`.
    pub fn open(path: &Path, label: &str, labels_required: bool) -> Result<Self, DataError> {
        Ok(Self::new(Lines::open(path, label)?, labels_required))
    }

    pub fn new(lines: Lines, labels_required: bool) -> Self {
        Self { lines, labels_required, pos: 0, blank: Vec::new(), bases: Vec::new() }
    }

    /// Gives the next rows, and adds the bad ones met on the way to `bad`; `None` at the end.
    pub fn next_batch(&mut self, bad: &mut Vec<BadRow>) -> Result<Option<Rows>, DataError> {
        let mut rows = Rows::default();
        let already = bad.len();
        // Bad rows count too: a file of nothing else must not be read in one go.
        while rows.len() + (bad.len() - already) < GROUP_ROWS {
            let Some(line) = self.lines.next_line()? else { break };
            if line.text.is_empty() {
                if self.blank.len() < BLANK_LIMIT {
                    self.blank.push(line.number);
                }
                continue;
            }
            if line.number == 1 && is_header(line.text) {
                continue;
            }
            for number in self.blank.drain(..) {
                self.pos += 1;
                bad.push(BadRow { line: number, column: 1, reason: "the line is empty".into() });
            }
            match parse(line, self.labels_required, &mut self.bases) {
                Ok(expression) => rows.push(self.pos, &self.bases, expression),
                Err((at, reason)) => bad.push(BadRow { line: line.number, column: at + 1, reason }),
            }
            self.pos += 1;
        }
        Ok((!rows.is_empty() || bad.len() > already).then_some(rows))
    }
}

/// A first line is a header when neither its sequence nor its value could be one.
fn is_header(line: &[u8]) -> bool {
    let mut fields = line.split(|&b| b == b'\t');
    let name = fields.next().unwrap_or_default();
    let words = name.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    words
        && check::sequence(name, &mut Vec::new()).is_err()
        && fields.next().is_none_or(|value| !value.is_empty() && check::expression(value, false).is_err())
}

fn parse(line: Line<'_>, labels_required: bool, bases: &mut Vec<u8>) -> Result<Option<f64>, (usize, String)> {
    if line.cut {
        return Err((line.text.len(), format!("the line is longer than {} bytes", line.text.len())));
    }
    let mut tabs = line.text.iter().enumerate().filter(|&(_, &b)| b == b'\t').map(|(at, _)| at);
    let (first, second) = (tabs.next(), tabs.next());
    if let Some(second) = second {
        let columns = 3 + tabs.count();
        return Err((second, format!("{columns} columns, where two are expected: sequence<TAB>expression")));
    }
    let (sequence, value) = line.text.split_at(first.unwrap_or(line.text.len()));
    check::sequence(sequence, bases)?;
    let Some(tab) = first else {
        // A plain list of sequences is what one has before measuring.
        return if labels_required {
            Err((line.text.len(), "1 column, where two are expected: sequence<TAB>expression".into()))
        } else {
            Ok(None)
        };
    };
    check::expression(&value[1..], labels_required).map_err(|reason| (tab + 1, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn read(text: &str, labels_required: bool) -> (Rows, Vec<BadRow>) {
        let lines = Lines::new(Cursor::new(text.to_owned().into_bytes()), "in.tsv").expect("opened");
        let (mut reader, mut bad, mut rows) = (Reader::new(lines, labels_required), Vec::new(), Rows::default());
        while let Some(batch) = reader.next_batch(&mut bad).expect("read") {
            rows.append(&batch);
        }
        (rows, bad)
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
        for (text, faults) in [("ACGX\t3\nA\t1\n", 1), ("ACGT\tx\nA\t1\n", 1), ("seq\tvalue\nA\t1\n", 0)] {
            assert_eq!(read(text, true).1.len(), faults, "{text:?}");
        }
    }
}
