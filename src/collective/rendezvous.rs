//! How ranks meet that only share a folder: each says there that it has come, and the first hands a few bytes to all.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The file with what the first rank hands out.
const HANDED_OUT: &str = "of-rank-0";

/// Waits until all ranks are there, and gives each what `make` makes on the first of them. A folder is good for one meeting.
pub fn meet(
    folder: &Path,
    rank: usize,
    world: usize,
    patience: Duration,
    make: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("rank {rank} can't meet the others: {error}");
    match fs_err::OpenOptions::new().write(true).create_new(true).open(folder.join(file_of(rank))) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(format!(
                "two processes were told that they are rank {rank}: the launcher does not number them"
            ));
        }
        Err(error) => return Err(failed(error)),
    }
    let shown = folder.display();
    let handed_out = folder.join(HANDED_OUT);
    let began = Instant::now();
    loop {
        // A listing, as networked file systems remember for a while that a file was not there.
        let there = names(folder).map_err(failed)?;
        let missing: Vec<usize> = (0..world).filter(|rank| !there.contains(&file_of(*rank))).collect();
        if rank == 0 && missing.is_empty() {
            let (bytes, unfinished) = (make()?, folder.join("unfinished-of-rank-0"));
            let written = fs_err::write(&unfinished, &bytes).and_then(|()| fs_err::rename(&unfinished, handed_out));
            return written.map(|()| bytes).map_err(failed);
        }
        if rank > 0 && there.contains(HANDED_OUT) {
            return fs_err::read(handed_out).map_err(failed);
        }
        if began.elapsed() >= patience {
            let seconds = patience.as_secs();
            return Err(match missing[..] {
                [] => format!("rank {rank}: rank 0 has handed nothing out in {shown} within {seconds} s"),
                [first, ..] => format!(
                    "{} of {world} ranks have not come to {shown} within {seconds} s, rank {first} is one of them: the launcher \
                     has to start all of them, and all have to see that folder",
                    missing.len()
                ),
            });
        }
        std::thread::sleep(LOOK);
    }
}

fn file_of(rank: usize) -> String {
    format!("rank-{rank}")
}

fn names(folder: &Path) -> io::Result<BTreeSet<String>> {
    fs_err::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn all_ranks_get_what_the_first_makes_once_all_are_there() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let heard: Vec<_> = std::thread::scope(|scope| {
            let rank = |rank: usize| {
                let folder = dir.path();
                scope.spawn(move || {
                    meet(folder, rank, 3, LONG, || {
                        let came = names(folder).expect("can be read");
                        assert_eq!(came.into_iter().collect::<Vec<_>>(), ["rank-0", "rank-1", "rank-2"]);
                        Ok(format!("made by {rank}").into_bytes())
                    })
                })
            };
            let ranks: Vec<_> = [2, 0, 1].map(rank).into_iter().collect();
            ranks.into_iter().map(|rank| rank.join().expect("no rank panics")).collect()
        });
        assert!(heard.iter().all(|bytes| bytes.as_deref() == Ok(b"made by 0")), "{heard:?}");
    }

    #[test]
    fn whoever_waits_in_vain_says_what_is_missing() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let meet = |rank, world| meet(dir.path(), rank, world, Duration::ZERO, || Ok(vec![]));
        let alone = meet(0, 3).expect_err("the others don't come");
        assert!(
            alone.starts_with("2 of 3 ranks have not come to ") && alone.contains("rank 1 is one of them"),
            "{alone}"
        );
        let silent = meet(1, 2).expect_err("rank 0 has given up");
        assert!(silent.starts_with("rank 1: rank 0 has handed nothing out in "), "{silent}");
        let twice = meet(1, 2).expect_err("its place is taken");
        assert!(twice.starts_with("two processes were told that they are rank 1"), "{twice}");
        let nowhere = super::meet(&dir.path().join("no"), 0, 1, LONG, || Ok(vec![])).expect_err("no folder");
        assert!(nowhere.starts_with("rank 0 can't meet the others: "), "{nowhere}");
    }

    #[test]
    fn one_rank_alone_waits_for_nobody_and_a_failure_to_make_is_told() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(meet(dir.path(), 0, 1, LONG, || Err("no id".to_owned())), Err("no id".to_owned()));
        let other = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(meet(other.path(), 0, 1, LONG, || Ok(vec![7])), Ok(vec![7]));
    }
}
