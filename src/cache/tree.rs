//! Folders as artifacts: a sorted listing, itself an object, names the files, which are objects too.
//!
//! A listing has one line for each file, sorted by the bytes of the path:
//!
//! ```text
//! <64 hex digits of the file's BLAKE3> <size in bytes> <path relative to the folder, parts joined by '/'>\n
//! ```
//!
//! The BLAKE3 of these bytes is the digest of the folder. Modes, times and empty folders are no part of it.

use crate::digest::Digest;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub digest: Digest,
    /// Size in bytes.
    pub bytes: u64,
    /// Relative to the folder; parts joined by `/`.
    pub path: String,
}

/// Gives the bytes of a listing.
pub fn listing(mut entries: Vec<Entry>) -> Vec<u8> {
    entries.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    entries.iter().flat_map(|e| format!("{} {} {}\n", e.digest.hex(), e.bytes, e.path).into_bytes()).collect()
}

/// Reads a listing back; every path stays inside the folder. Takes what [`listing`] writes of a folder that can be, and
/// nothing else: no path twice, no file that is a folder too.
pub fn parse(listing: &[u8]) -> Result<Vec<Entry>, String> {
    let text = std::str::from_utf8(listing).map_err(|_| "a folder's listing is not UTF-8".to_owned())?;
    let entries: Vec<Entry> = text
        .split_terminator('\n')
        .enumerate()
        .map(|(n, line)| entry(line).ok_or_else(|| format!("line {} of a folder's listing is not valid", n + 1)))
        .collect::<Result<_, _>>()?;
    let files: BTreeSet<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    let is_folder = |path: &str| path.match_indices('/').any(|(at, _)| files.contains(&path[..at]));
    if files.len() < entries.len() || files.iter().any(|path| is_folder(path)) {
        return Err("a folder's listing has two things at one path".to_owned());
    }
    if self::listing(entries.clone()) != listing {
        return Err("a folder's listing is written otherwise than listings are".to_owned());
    }
    Ok(entries)
}

fn entry(line: &str) -> Option<Entry> {
    let mut parts = line.splitn(3, ' ');
    let digest = Digest::from_hex(parts.next()?).ok()?;
    let bytes = parts.next()?.parse().ok()?;
    let path = parts.next()?;
    let inside = path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.chars().any(char::is_control);
    inside.then(|| Entry { digest, bytes, path: path.to_owned() })
}

/// Lists the files of a folder as `(relative path, path)`, sorted. Refuses what is neither file nor folder, and names
/// that a listing can't hold.
pub fn files(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    walk(folder, "", &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_str().filter(|n| !n.chars().any(char::is_control)).ok_or_else(|| {
            refused(format!("{} has a name with control characters or invalid UTF-8: rename it", path.display()))
        })?;
        let relative = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&path, &format!("{relative}/"), found)?;
        } else if kind.is_file() {
            found.push((relative, path));
        } else {
            let what = if kind.is_symlink() { "a symbolic link" } else { "neither a file nor a folder" };
            return Err(refused(format!("{} is {what}: put a plain file in its place", path.display())));
        }
    }
    Ok(())
}

pub(super) fn refused(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> Entry {
        Entry { digest: Digest::of(content), bytes: content.len() as u64, path: path.to_owned() }
    }

    #[test]
    fn the_listing_is_sorted_by_bytes_and_its_digest_never_changes() {
        let listing = listing(vec![file("b/x.tsv", b"x"), file("b.tsv", b""), file("Z name", b"z")]);
        let paths: Vec<String> = parse(&listing).expect("reads back").into_iter().map(|e| e.path).collect();
        assert_eq!(paths, ["Z name", "b.tsv", "b/x.tsv"]);
        insta::assert_snapshot!(Digest::of(&listing), @"blake3:c2159fcae6254a8694a3dccd5ac1d5f8194e26b211142eea5338a3188757ff50");
    }

    #[test]
    fn a_listing_cannot_lead_out_of_its_folder() {
        for path in ["../a", "/a", "a//b", "a/./b", ""] {
            let line = format!("{} 1 {path}\n", Digest::of(b"x").hex());
            assert!(parse(line.as_bytes()).is_err(), "{path}");
        }
    }

    #[test]
    fn a_listing_has_one_text_and_each_path_is_one_thing() {
        let line = |size: &str, path: &str| format!("{} {size} {path}\n", Digest::of(b"x").hex());
        let good = line("1", "a") + &line("10", "b/a") + &line("0", "b/b");
        assert!(parse(good.as_bytes()).is_ok());
        for bad in [
            line("1", "b") + &line("1", "a"),
            line("1", "a") + &line("1", "a"),
            line("1", "a") + &line("1", "a-b") + &line("1", "a/b"),
            line("+1", "a"),
            line("01", "a"),
            good.trim_end().to_owned(),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_and_unprintable_names_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs_err::write(dir.path().join("plain"), "x").expect("writes");
        fs_err::os::unix::fs::symlink("plain", dir.path().join("link")).expect("links");
        assert!(files(dir.path()).expect_err("refused").to_string().contains("is a symbolic link"));
        fs_err::remove_file(dir.path().join("link")).expect("removes");
        fs_err::write(dir.path().join("new\nline"), "x").expect("writes");
        assert!(files(dir.path()).expect_err("refused").to_string().contains("control characters"));
    }
}
