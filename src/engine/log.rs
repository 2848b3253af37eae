//! What a stage prints, kept up to a size: the beginning and the end.

use super::secrets::Secrets;
use std::collections::VecDeque;

/// Bytes kept of each end.
const HALF: usize = 5 << 20;

/// A log of which the middle may be left out.
#[derive(Debug, Default)]
pub(super) struct Log {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Log {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.push_within(bytes, HALF);
    }

    fn push_within(&mut self, bytes: &[u8], half: usize) {
        let (head, rest) = bytes.split_at(bytes.len().min(half - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(half);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    /// Puts names in the place of secrets; what the cut in the middle may have left of one goes, too.
    pub(super) fn hide(&mut self, secrets: &Secrets) {
        if self.left_out > 0 {
            let part = secrets.longest_part();
            self.head.truncate(self.head.len().saturating_sub(part));
            self.tail.drain(..part.min(self.tail.len()));
            self.left_out += 2 * part as u64;
            self.head = secrets.hidden(std::mem::take(&mut self.head));
            self.tail = secrets.hidden(std::mem::take(&mut self.tail).into()).into();
        } else {
            // In one piece: what fell into both parts.
            self.head.extend(std::mem::take(&mut self.tail));
            self.head = secrets.hidden(std::mem::take(&mut self.head));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        if self.left_out > 0 {
            bytes.extend(format!("\n[… {} bytes left out …]\n", self.left_out).into_bytes());
        }
        bytes.extend(&self.tail);
        bytes
    }

    /// A message with the last lines below it.
    pub(super) fn after(&self, message: String) -> String {
        let lines = self.last_lines(20);
        if lines.is_empty() { message } else { format!("{message}; its last lines:\n  {}", lines.join("\n  ")) }
    }

    /// The last `lines` lines, each cut to a readable length; invalid UTF-8 replaced.
    fn last_lines(&self, lines: usize) -> Vec<String> {
        let bytes = self.bytes();
        let end = &bytes[bytes.len().saturating_sub(16 << 10)..];
        let text = String::from_utf8_lossy(end);
        let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| line.chars().take(400).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_keeps_its_ends() {
        let mut log = Log::default();
        for piece in ["abc", "def", "ghi", "jkl"] {
            log.push_within(piece.as_bytes(), 4);
        }
        assert_eq!(String::from_utf8_lossy(&log.bytes()), "abcd\n[… 4 bytes left out …]\nijkl");
    }

    #[test]
    fn the_last_lines_skip_empty_ones() {
        let mut log = Log::default();
        log.push(b"one\ntwo\n\nthree\n\n");
        assert_eq!(log.last_lines(2), ["two", "three"]);
    }
}
