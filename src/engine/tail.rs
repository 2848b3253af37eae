//! A file that grows, read by lines as they come.

use fs_err::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// How far a growing file was read.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub path: PathBuf,
    at: u64,
    /// A line whose end has not come yet.
    rest: Vec<u8>,
}

impl Tail {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, ..Self::default() }
    }

    /// Hands on the lines that were finished since the last time, without their ends; none where there is no file yet.
    pub(super) fn read(&mut self, hear: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        file.seek(SeekFrom::Start(self.at))?;
        self.at += file.read_to_end(&mut self.rest)? as u64;
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else { return Ok(()) };
        let unfinished = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, unfinished);
        lines[..end].split(|&byte| byte == b'\n').for_each(hear);
        Ok(())
    }

    /// Hands on what came after the last line end: the file grows no more.
    pub(super) fn finish(&mut self, hear: &mut dyn FnMut(&[u8])) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            hear(&rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_once_and_whole() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut tail = Tail::new(dir.path().join("log"));
        let mut heard = Vec::new();
        let mut look = |text: Option<&str>| {
            if let Some(text) = text {
                fs_err::write(dir.path().join("log"), text).expect("writes");
            }
            tail.read(&mut |line| heard.push(String::from_utf8_lossy(line).into_owned())).expect("reads");
        };
        look(None);
        look(Some("one\ntw"));
        look(None);
        look(Some("one\ntwo\n\nthr"));
        tail.finish(&mut |line| heard.push(String::from_utf8_lossy(line).into_owned()));
        tail.finish(&mut |line| heard.push(String::from_utf8_lossy(line).into_owned()));
        assert_eq!(heard, ["one", "two", "", "thr"]);
    }
}
