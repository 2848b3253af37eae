//! Text input, plain or compressed, read in whole lines with bounded memory.

use super::DataError;
use super::unpack::Unpacked;
use std::io::BufRead;
use std::path::Path;

/// The longest line that is kept; what goes on longer is cut there and said to be too long.
pub const LINE_LIMIT: usize = 1 << 16;

/// Lines of a text file: plain, gzip (of any number of members) or zstd, told by content.
pub struct Lines {
    text: Unpacked,
    line: Vec<u8>,
    number: u64,
}

/// One line, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Counted from 1.
    pub number: u64,
    pub text: &'a [u8],
    /// The line went on past [`LINE_LIMIT`]; `text` is its beginning.
    pub cut: bool,
}

impl Lines {
    /// Opens a file; messages name it `label`.
    pub fn open(path: &Path, label: &str) -> Result<Self, DataError> {
        Ok(Self::new(open(path, label)?))
    }

    pub fn new(text: Unpacked) -> Self {
        Self { text, line: Vec::new(), number: 0 }
    }

    pub fn label(&self) -> &str {
        self.text.label()
    }

    /// Gives the next line, without its `\n` or `\r\n`; `None` at the end.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, DataError> {
        self.line.clear();
        let (mut cut, mut any) = (false, false);
        loop {
            if self.fill()? == 0 {
                break;
            }
            any = true;
            let buffer = self.text.input.fill_buf()?;
            let (end, used) = match buffer.iter().position(|&b| b == b'\n') {
                Some(end) => (end, end + 1),
                None => (buffer.len(), buffer.len()),
            };
            let room = LINE_LIMIT - self.line.len();
            self.line.extend_from_slice(&buffer[..end.min(room)]);
            cut |= end > room;
            self.text.input.consume(used);
            if used > end {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        let text = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        Ok(Some(Line { number: self.number, text, cut }))
    }

    /// Makes sure that the buffer holds something, and gives its length; 0 at the end.
    fn fill(&mut self) -> Result<usize, DataError> {
        match self.text.input.fill_buf() {
            Ok(buffer) => Ok(buffer.len()),
            Err(error) => Err(self.text.fault(error, self.number)),
        }
    }
}

/// Opens a text file; messages name it `label`.
pub fn open(path: &Path, label: &str) -> Result<Unpacked, DataError> {
    if fs_err::metadata(path)?.is_dir() {
        return Err(DataError::Input(format!("{label}: a folder, where a text file is needed")));
    }
    Unpacked::new(fs_err::File::open(path)?, label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Read, Write};

    fn lines(bytes: &[u8]) -> Result<Vec<String>, DataError> {
        let mut lines = Lines::new(Unpacked::new(Cursor::new(bytes.to_vec()), "in.tsv")?);
        let mut found = Vec::new();
        while let Some(line) = lines.next_line()? {
            found.push(String::from_utf8_lossy(line.text).into_owned());
        }
        Ok(found)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("memory does not fail");
        encoder.finish().expect("memory does not fail")
    }

    #[test]
    fn the_packing_is_told_by_content() {
        let text = b"A\t1\r\n\nC\t2";
        let expected = ["A\t1", "", "C\t2"];
        let two_members = [gzip(&text[..3]), gzip(&text[3..])].concat();
        for bytes in [text.to_vec(), gzip(text), two_members, zstd::encode_all(&text[..], 1).expect("packed")] {
            assert_eq!(lines(&bytes).expect("read"), expected);
        }
        assert_eq!(lines(b"\xef\xbb\xbfA\t1\n").expect("read"), ["A\t1"]);
    }

    #[test]
    fn cut_and_empty_files_are_named_as_such() {
        let rows: Vec<u8> =
            (0..5000_u32).flat_map(|i| format!("ACGT\t{}\n", i.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        for packed in [gzip(&rows), zstd::encode_all(&rows[..], 1).expect("packed")] {
            let error = lines(&packed[..packed.len() / 2]).expect_err("cut").to_string();
            assert!(error.starts_with("in.tsv:") && error.contains("ends early"), "{error}");
        }
        assert_eq!(lines(b"").expect_err("empty").to_string(), "in.tsv: the file is empty");
        assert!(lines(&gzip(b"")).expect_err("empty").to_string().contains("empty once unpacked"));
        assert!(lines(b"PK\x03\x04....").expect_err("zip").to_string().contains("zip archive"));
    }

    #[test]
    fn a_line_without_an_end_takes_bounded_memory() {
        let endless = std::io::repeat(b'A').take(10 << 20);
        let mut lines = Lines::new(Unpacked::new(endless, "in.tsv").expect("opened"));
        let line = lines.next_line().expect("read").expect("a line");
        assert!(line.cut && line.text.len() == LINE_LIMIT);
        assert_eq!(lines.next_line().expect("read"), None);
    }
}
