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

/// Checks a sequence and gives it in upper case in `out`; an error is a place from 0 and a reason.
pub fn sequence(text: &[u8], out: &mut Vec<u8>) -> Result<(), (usize, String)> {
    out.clear();
    if text.is_empty() {
        return Err((0, "the sequence is empty".into()));
    }
    if text.len() > LONGEST {
        return Err((LONGEST, format!("the sequence has {} bases; {LONGEST} is the longest accepted", text.len())));
    }
    for (at, &letter) in text.iter().enumerate() {
        match letter.to_ascii_uppercase() {
            base @ (b'A' | b'C' | b'G' | b'T' | b'N') => out.push(base),
            _ => return Err((at, format!("{} is not a base: expected A, C, G, T or N", shown(letter)))),
        }
    }
    Ok(())
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
