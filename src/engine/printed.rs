//! What a stage prints, shown while it runs.
//!
//! It grows in a file of the attempt, here or on a node, from which whoever wants to see it reads. What a stage with secrets
//! prints is not written before it is known to hold none, so nobody sees it early.

use super::tail::Tail;
use super::{attempts, work_dir};
use crate::action::ActionKey;
use crate::cache::Cache;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// In the folder of an attempt of this machine.
const FILE: &str = "printed";

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// No longer line is shown, bytes.
const LONGEST: usize = 4096;

/// The file of an attempt of this machine.
pub(super) fn of_attempt(work: &Path) -> PathBuf {
    work.join(FILE)
}

/// The file in which grows what the execution of an action under way prints; `None` where nothing was printed yet.
///
/// # Errors
/// The action's scratch folder can't be read.
pub fn printed_so_far(cache: &Cache, key: ActionKey) -> io::Result<Option<PathBuf>> {
    let scratch = cache.scratch(key);
    let local = attempts::under_way(&scratch)?.into_iter().map(|work| of_attempt(&work));
    let jobs = work_dir::jobs(&scratch)?;
    let elsewhere = jobs.iter().map(|placed| match placed.started() {
        Some(started) => placed.log(&started.start),
        None => placed.set_up(),
    });
    Ok(local.chain(elsewhere).rfind(|file| file.is_file()))
}

/// Shows lines as they come, until the sender of `ended` is dropped, and then the last ones.
pub(super) fn follow(path: PathBuf, ended: &Receiver<()>, show: &dyn Fn(String)) {
    let mut tail = Tail::new(path);
    let mut line = |bytes: &[u8]| show(readable(bytes));
    loop {
        let over = ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected);
        // What can't be read now is in the stage's log all the same.
        let _ = tail.read(&mut line);
        if over {
            return tail.finish(&mut line);
        }
    }
}

/// A line as it stands in the end: what a carriage return wrote over is gone.
pub(super) fn readable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let from = line.iter().rposition(|&byte| byte == b'\r').map_or(0, |at| at + 1);
    String::from_utf8_lossy(&line[from..line.len().min(from + LONGEST)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn lines_are_shown_to_the_last_even_where_it_has_no_end() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = of_attempt(dir.path());
        let (ending, ended) = std::sync::mpsc::channel();
        let shown = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let (path, shown) = (path.clone(), &shown);
            scope.spawn(move || follow(path, &ended, &|line| shown.lock().expect("no panic").push(line)));
            fs_err::write(of_attempt(dir.path()), "one\ntwo").expect("writes");
            drop(ending);
        });
        assert_eq!(shown.into_inner().expect("no panic"), ["one", "two"]);
    }

    #[test]
    fn a_bar_that_was_drawn_over_and_over_is_one_line() {
        assert_eq!(readable(b" 10 %\r 20 %\r100 %\r"), "100 %");
        assert_eq!(readable(&[b'x'; LONGEST + 1]).len(), LONGEST);
        assert_eq!(readable(b"caf\xe9"), "caf\u{fffd}");
    }
}
