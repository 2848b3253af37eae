//! What a usable row is, the same for text and for Parquet.

/// The longest sequence that is accepted; the challenge's have 78 to 142 bases.
pub const LONGEST: usize = 1000;

/// A row that can't be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BadRow {
    /// The line of a text file, or the row of a Parquet file, counted from 1.
    pub line: u64,
    /// Counted from 1, in bytes; of a Parquet file, within the value.
    pub column: usize,
    pub reason: String,
}

/// Bad rows met on the way: the first ones, and how many there are.
#[derive(Debug, Default)]
pub struct Faults {
    pub listed: Vec<BadRow>,
    pub count: u64,
}

impl Faults {
    /// Bad rows that are kept; further ones are counted.
    pub const LISTED: usize = 100;

    pub fn add(&mut self, row: BadRow) {
        self.count += 1;
        if self.listed.len() < Self::LISTED {
            self.listed.push(row);
        }
    }
}

/// Checks a sequence and adds it, in upper case, to `out`; an error is a place from 0 and a reason, and adds nothing.
pub fn sequence(text: &[u8], out: &mut Vec<u8>) -> Result<(), (usize, String)> {
    if text.is_empty() {
        return Err((0, "the sequence is empty".into()));
    }
    if text.len() > LONGEST {
        return Err((LONGEST, format!("the sequence has {} bases; {LONGEST} is the longest accepted", text.len())));
    }
    // All at once, which compiles to vector instructions; the place of a wrong letter is looked for when there is one.
    let (start, mut wrong) = (out.len(), false);
    out.extend(text.iter().map(|letter| {
        let base = letter.to_ascii_uppercase();
        wrong |= !is_base(base);
        base
    }));
    if !wrong {
        return Ok(());
    }
    out.truncate(start);
    let at = text.iter().position(|letter| !is_base(letter.to_ascii_uppercase())).expect("one was met just above");
    Err((at, format!("{} is not a base: expected A, C, G, T or N", shown(text[at]))))
}

#[expect(clippy::needless_bitwise_bool, reason = "without jumps the loop around it becomes vector instructions")]
fn is_base(letter: u8) -> bool {
    (letter == b'A') | (letter == b'C') | (letter == b'G') | (letter == b'T') | (letter == b'N')
}

fn shown(letter: u8) -> String {
    if letter.is_ascii_graphic() { format!("{:?}", char::from(letter)) } else { format!("byte 0x{letter:02x}") }
}

/// Reads a measured value; empty and `nan` stand for "not measured".
pub fn expression(text: &[u8], required: bool) -> Result<Option<f64>, String> {
    if text.is_empty() || text.eq_ignore_ascii_case(b"nan") {
        return measured(None, required);
    }
    let text = String::from_utf8_lossy(text);
    match text.parse::<f64>() {
        Ok(value) => measured(Some(value), required),
        Err(_) => Err(format!("{:?} is not a number", clipped(&text))),
    }
}

/// Checks a value that may be missing.
pub fn measured(value: Option<f64>, required: bool) -> Result<Option<f64>, String> {
    match value.filter(|v| !v.is_nan()) {
        Some(value) if value.is_finite() => Ok(Some(value)),
        Some(value) => Err(format!("the expression is {value}: it has to be a finite number")),
        None if required => Err("no expression is given; `labels: optional` accepts such rows".into()),
        None => Ok(None),
    }
}

fn clipped(text: &str) -> String {
    let mut short: String = text.chars().take(30).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
