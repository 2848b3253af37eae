//! Plain, gzip or zstd text, told by its first bytes.

use super::DataError;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};

const BUFFER: usize = 1 << 18;

/// The text of a file, and how it was packed.
pub struct Unpacked {
    pub input: Box<dyn BufRead + Send>,
    packing: &'static str,
    label: String,
}

impl Unpacked {
    /// Takes any input that holds something; messages name it `label`. A byte order mark is passed over.
    pub fn new(input: impl Read + Send + 'static, label: &str) -> Result<Self, DataError> {
        let mut input = BufReader::with_capacity(BUFFER, input);
        let magic = input.fill_buf()?;
        let refuse =
            |what: &str| Err(DataError::Input(format!("{label}: {what}; give it as plain text, gzip or zstd")));
        let (input, packing): (Box<dyn BufRead + Send>, _) = match magic {
            [] => return Err(DataError::Input(format!("{label}: the file is empty"))),
            [0x1f, 0x8b, ..] => (Box::new(Steady::new(MultiGzDecoder::new(input))), "gzip"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                (Box::new(Steady::new(zstd::stream::read::Decoder::with_buffer(input)?)), "zstd")
            }
            [b'P', b'K', 3, 4, ..] => return refuse("a zip archive (or a spreadsheet)"),
            [b'B', b'Z', b'h', ..] => return refuse("compressed with bzip2"),
            [0xfd, b'7', b'z', b'X', ..] => return refuse("compressed with xz"),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return refuse("text in UTF-16"),
            [b'P', b'A', b'R', b'1', ..] => return refuse("a Parquet file, where text is needed"),
            _ => (Box::new(input), "text"),
        };
        let mut unpacked = Self { input, packing, label: label.to_owned() };
        match unpacked.input.fill_buf() {
            Ok([]) => return Err(DataError::Input(format!("{label}: the file is empty once unpacked ({packing})"))),
            Ok(text) if text.starts_with(b"\xef\xbb\xbf") => unpacked.input.consume(3),
            Ok(_) => {}
            Err(error) => return Err(unpacked.fault(error, 0)),
        }
        Ok(unpacked)
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    /// Takes the input away; what is left still names its faults.
    pub fn split(self) -> (Box<dyn BufRead + Send>, Self) {
        let empty: Box<dyn BufRead + Send> = Box::new(io::empty());
        (self.input, Self { input: empty, packing: self.packing, label: self.label })
    }

    /// Says what a failed read after `lines` whole lines means.
    pub fn fault(&self, error: io::Error, lines: u64) -> DataError {
        let Self { label, packing, .. } = self;
        let next = lines + 1;
        match error.kind() {
            _ if *packing == "text" => DataError::Io(error),
            ErrorKind::UnexpectedEof => DataError::Input(format!(
                "{label}:{next}: the {packing} stream ends early: the file is cut off after {lines} whole lines; fetch it again"
            )),
            _ => DataError::Input(format!(
                "{label}:{next}: the {packing} stream is damaged after {lines} whole lines ({error}); fetch it again"
            )),
        }
    }
}

/// A decoder that is asked for the same amounts whoever reads.
///
/// A decoder drops what it made in the call that meets the damage. A plain `BufReader` hands large reads on, so that where
/// the good text ended would depend on the reader's buffer.
struct Steady<R>(BufReader<R>);

impl<R: Read> Steady<R> {
    fn new(decoder: R) -> Self {
        Self(BufReader::with_capacity(BUFFER, decoder))
    }
}

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let text = self.0.fill_buf()?;
        let count = text.len().min(out.len());
        out[..count].copy_from_slice(&text[..count]);
        self.0.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Steady<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
}
