//! Attempts at an action that made nothing: noted beside its unfinished work, and then in the record of the one that
//! made its outputs.

use super::clock;
use crate::action::FailedAttempt;
use crate::name::RunId;
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "attempts.json";

/// How many are kept, the newest.
const MOST: usize = 20;

/// What an attempt of our own stages leaves for the next, below the action's scratch folder.
pub(super) const STATE: &str = "state";

/// The folder of one attempt of a run, below the action's scratch folder.
const WORK: &str = "work-";

pub(super) fn folder(run: &RunId) -> String {
    format!("{WORK}{run}")
}

/// The folders of attempts that go on, or ended without a word.
pub(super) fn under_way(scratch: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs_err::read_dir(scratch) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let is_work =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(WORK));
    Ok(paths.into_iter().filter(is_work).collect())
}

/// The attempts noted in an action's scratch folder, oldest first; none where the notes can't be read.
pub(super) fn read(scratch: &Path) -> Vec<FailedAttempt> {
    fs_err::read(scratch.join(FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Adds an attempt. What can't be noted is lost, and nothing else.
pub(super) fn note(scratch: &Path, attempt: FailedAttempt) {
    let mut attempts = read(scratch);
    attempts.push(attempt);
    let from = attempts.len().saturating_sub(MOST);
    let text = serde_json::to_vec(&attempts[from..]).expect("attempts are plain data");
    let temp = scratch.join(format!("{FILE}.new"));
    let _ = fs_err::create_dir_all(scratch)
        .and_then(|()| fs_err::write(&temp, text))
        .and_then(|()| fs_err::rename(&temp, scratch.join(FILE)));
}

/// Removes what attempts left that ended without a word, and notes them. Whoever calls holds the claim: none goes on.
pub(super) fn clear(scratch: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(scratch)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(run) = name.to_str().and_then(|name| name.strip_prefix(WORK)) else { continue };
        if let Ok(run) = RunId::parse(run) {
            let began = entry.metadata().and_then(|folder| folder.created().or_else(|_| folder.modified())).ok();
            note(
                scratch,
                FailedAttempt {
                    run,
                    started: began.and_then(clock::at).unwrap_or_default(),
                    seconds: None,
                    error: "killed, or cut short by the machine".to_owned(),
                    log: None,
                },
            );
        }
        let _ = fs_err::remove_dir_all(entry.path());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_attempts_are_kept_and_killed_ones_are_among_them() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let scratch = dir.path().join("key");
        let run = RunId::parse("20261123-094012-0000").expect("valid");
        assert_eq!(read(&scratch), []);
        let attempt = |n: usize| FailedAttempt {
            run: run.clone(),
            started: String::new(),
            seconds: Some(n as f64),
            error: format!("error {n}"),
            log: None,
        };
        (0..MOST + 3).for_each(|n| note(&scratch, attempt(n)));
        assert_eq!(read(&scratch)[0], attempt(3));
        fs_err::create_dir_all(scratch.join(folder(&run)).join("out")).expect("makes");
        fs_err::create_dir_all(scratch.join("state")).expect("makes");
        clear(&scratch).expect("clears");
        let attempts = read(&scratch);
        let last = attempts.last().expect("there are some");
        assert!(last.error.starts_with("killed") && last.run == run && last.started.ends_with('Z'), "{last:?}");
        assert_eq!(attempts.len(), MOST);
        assert!(scratch.join("state").is_dir() && !scratch.join(folder(&run)).exists());
        fs_err::write(scratch.join(FILE), "{").expect("writes");
        assert_eq!(read(&scratch), []);
    }
}
