//! Text in blocks of whole lines, read and unpacked ahead on a thread of its own.

use super::DataError;
use super::text::LINE_LIMIT;
use super::unpack::Unpacked;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Bytes that are read between two cuts. Where a block is cut depends on the text alone.
const BLOCK: u64 = 1 << 20;
/// Blocks that wait while all threads are busy.
const AHEAD: usize = 16;

/// Blocks of whole lines; the last line of the text may lack its end.
pub struct Blocks {
    receive: Receiver<io::Result<Vec<u8>>>,
    text: Unpacked,
    failed: Option<io::Error>,
}

impl Blocks {
    pub fn new(text: Unpacked) -> Result<Self, DataError> {
        Self::of_size(BLOCK, text)
    }

    /// Blocks of about `size` bytes: what is read from them must not depend on it.
    pub fn of_size(size: u64, text: Unpacked) -> Result<Self, DataError> {
        let (input, text) = text.split();
        let (send, receive) = sync_channel(AHEAD);
        thread::Builder::new().name("read-ahead".into()).spawn(move || read(input, size, &send))?;
        Ok(Self { receive, text, failed: None })
    }

    pub fn label(&self) -> &str {
        self.text.label()
    }

    /// Gives the next blocks, at most `most`; none at the end. `lines` were in those before: a damaged file is named by it.
    pub fn next(&mut self, most: usize, lines: u64) -> Result<Vec<Vec<u8>>, DataError> {
        let mut blocks = Vec::with_capacity(most);
        while self.failed.is_none() && blocks.len() < most {
            match self.receive.recv() {
                Ok(Ok(block)) => blocks.push(block),
                Ok(Err(error)) => self.failed = Some(error),
                // The reading thread has ended.
                Err(_) => break,
            }
        }
        // What was whole before the damage comes first: a bad row in it is named rather than the damage behind it.
        match self.failed.take_if(|_| blocks.is_empty()) {
            Some(error) => Err(self.text.fault(error, lines)),
            None => Ok(blocks),
        }
    }
}

/// Reads to the end, `size` bytes at a time; whoever listens may have gone, which ends it too.
fn read(mut input: Box<dyn BufRead + Send>, size: u64, send: &SyncSender<io::Result<Vec<u8>>>) {
    let (mut rest, mut too_long) = (Vec::new(), false);
    loop {
        let mut block = std::mem::take(&mut rest);
        block.reserve(size as usize);
        let before = block.len();
        let result = input.by_ref().take(size).read_to_end(&mut block);
        let ended = matches!(result, Ok(read) if read < size as usize);
        if too_long {
            // The end of a line whose beginning has been kept.
            match memchr::memchr(b'\n', &block[before..]) {
                Some(end) => drop(block.drain(before..before + end)),
                None => block.truncate(before),
            }
        }
        let whole = memchr::memrchr(b'\n', &block).map_or(0, |end| end + 1);
        if !ended {
            rest = block.split_off(whole);
            // Two bytes more than are allowed tell that it went on: one of them may pass for the `\r` of its end.
            too_long = rest.len() > LINE_LIMIT + 1;
            rest.truncate(LINE_LIMIT + 2);
        }
        if !block.is_empty() && send.send(Ok(block)).is_err() {
            return;
        }
        if let Err(error) = result {
            let _ = send.send(Err(error));
            return;
        }
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn blocks(text: impl Read + Send + 'static) -> Vec<Vec<u8>> {
        let mut blocks = Blocks::new(Unpacked::new(text, "t").expect("opened")).expect("started");
        let mut found = Vec::new();
        loop {
            match blocks.next(3, 0).expect("read") {
                none if none.is_empty() => return found,
                some => found.extend(some),
            }
        }
    }

    #[test]
    fn blocks_hold_whole_lines_and_nothing_is_lost() {
        let text: Vec<u8> = (0..400_000).flat_map(|i| format!("line {i}\n").into_bytes()).chain(*b"the last").collect();
        let found = blocks(Cursor::new(text.clone()));
        assert!(found.len() > 3 && found.concat() == text);
        assert!(found[..found.len() - 1].iter().all(|block| block.ends_with(b"\n")));
    }

    #[test]
    fn where_a_damaged_stream_ends_does_not_depend_on_the_blocks() {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        (0..300_000_u64).for_each(|i| writeln!(packed, "{}", "ACGT".repeat(i as usize % 7)).expect("memory"));
        let whole = packed.finish().expect("memory");
        let before_the_damage = |packed: &[u8], size| {
            let text = Unpacked::new(Cursor::new(packed.to_owned()), "t").expect("opened");
            let (mut blocks, mut found) = (Blocks::of_size(size, text).expect("started"), Vec::new());
            loop {
                match blocks.next(3, 0) {
                    Ok(some) => {
                        assert!(!some.is_empty(), "the damage was not met");
                        found.extend(some.concat());
                    }
                    Err(error) => return (found, error.to_string()),
                }
            }
        };
        for place in 5..10 {
            let mut packed = whole.clone();
            let damaged = packed.len() * place / 10;
            packed[damaged..].fill(0xff);
            let (text, error) = before_the_damage(&packed, BLOCK);
            assert!(text.len() > 1 << 19 && error.contains("fetch it again"), "{} bytes, then {error}", text.len());
            for size in [4419, 1 << 16, 3 << 20] {
                let found = before_the_damage(&packed, size);
                assert!(
                    found == (text.clone(), error.clone()),
                    "{} and {} bytes in blocks of {size}",
                    text.len(),
                    found.0.len()
                );
            }
        }
    }

    #[test]
    fn a_line_that_is_cut_at_a_carriage_return_is_still_too_long() {
        for (line, is_whole) in [("A".repeat(LINE_LIMIT) + "\r", true), ("A".repeat(LINE_LIMIT) + "\rA", false)] {
            let text = Unpacked::new(Cursor::new(format!("{line}\nC\n").into_bytes()), "t").expect("opened");
            let mut blocks = Blocks::of_size(LINE_LIMIT as u64 + 1, text).expect("started");
            let block = blocks.next(1, 0).expect("read").concat();
            let first = block.split(|&byte| byte == b'\n').next().expect("a line");
            assert_eq!(first.strip_suffix(b"\r").unwrap_or(first).len() <= LINE_LIMIT, is_whole);
        }
    }

    #[test]
    fn a_line_without_an_end_takes_bounded_memory() {
        let endless = io::repeat(b'A').take(50 << 20);
        let found = blocks(Cursor::new("A\t1\n").chain(endless).chain(Cursor::new("\nC\t2\n")));
        let text = found.concat();
        assert_eq!(text.len(), 4 + LINE_LIMIT + 2 + 5);
        assert!(text.starts_with(b"A\t1\nAAAA") && text.ends_with(b"A\nC\t2\n"));
    }
}
