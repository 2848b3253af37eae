//! Secrets of a command: taken from the environment by name, and kept out of all that is kept.

use crate::stages::StageKind;
use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A shorter value stands by chance in text that has nothing to do with it.
const SHORTEST: usize = 6;

/// What must not be kept of a command, and how to find it.
#[derive(Debug, Default)]
pub(super) struct Secrets(Option<Finder>);

#[derive(Debug)]
struct Finder {
    /// Of two that overlap the first, and of two that begin together the longer.
    replace: AhoCorasick,
    /// Any, also across the pieces in which a file is read.
    search: AhoCorasick,
    /// What stands in the place of each pattern.
    words: Vec<String>,
    longest: usize,
}

impl Secrets {
    /// Looks up the secrets of a stage; an error says which is missing or can't be kept.
    pub(super) fn of(kind: &StageKind) -> Result<Self, String> {
        let StageKind::Command(command) = kind else { return Ok(Self::default()) };
        let mut values = Vec::new();
        for name in command.secrets.keys() {
            values.push((name.as_str(), std::env::var_os(name).unwrap_or_default()));
        }
        Self::from_values(&values)
    }

    fn from_values(values: &[(&str, OsString)]) -> Result<Self, String> {
        let (mut patterns, mut words) = (Vec::new(), Vec::new());
        for (name, value) in values {
            if value.is_empty() {
                return Err(format!(
                    "it needs the secret {name}, which is not in the environment: `{name}=… cistage run …`, or `export {name}`"
                ));
            }
            if value.len() < SHORTEST {
                return Err(format!(
                    "the secret {name} has fewer than {SHORTEST} characters: it can't be told from other text, and so \
                     not be kept out of logs"
                ));
            }
            for form in forms(value.as_bytes()) {
                patterns.push(form);
                words.push(format!("[secret {name}]"));
            }
        }
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        let build = |kind| {
            let built = AhoCorasick::builder().match_kind(kind).build(&patterns);
            built.map_err(|e| format!("its secrets are too long: {e}"))
        };
        Ok(Self(Some(Finder {
            replace: build(MatchKind::LeftmostLongest)?,
            search: build(MatchKind::Standard)?,
            words,
            longest: patterns.iter().map(Vec::len).max().unwrap_or_default(),
        })))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The most bytes of one that may stand at a cut, unrecognisable.
    pub(super) fn longest_part(&self) -> usize {
        self.0.as_ref().map_or(0, |finder| finder.longest - 1)
    }

    /// The bytes with names in the place of values.
    pub(super) fn hidden(&self, bytes: Vec<u8>) -> Vec<u8> {
        match &self.0 {
            Some(finder) => finder.replace.replace_all_bytes(&bytes, &finder.words),
            None => bytes,
        }
    }

    pub(super) fn hidden_text(&self, text: String) -> String {
        match &self.0 {
            Some(finder) => finder.replace.replace_all(&text, &finder.words),
            None => text,
        }
    }

    /// The file of an output, below `path` or `path` itself, that holds one in its bytes or its name.
    pub(super) fn found_in(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let Some(finder) = &self.0 else { return Ok(None) };
        if finder.search.is_match(path.file_name().unwrap_or_default().as_bytes()) {
            return Ok(Some(path.to_owned()));
        }
        let kind = fs_err::symlink_metadata(path)?.file_type();
        if kind.is_dir() {
            for entry in fs_err::read_dir(path)? {
                if let Some(found) = self.found_in(&entry?.path())? {
                    return Ok(Some(found));
                }
            }
        } else if kind.is_file()
            && let Some(found) = finder.search.stream_find_iter(fs_err::File::open(path)?).next()
        {
            found?;
            return Ok(Some(path.to_owned()));
        }
        Ok(None)
    }
}

/// The forms in which programs write a value: as it is, escaped for JSON and for URLs, in base64 and in hexadecimal.
fn forms(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::from([value.to_vec()]);
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        let hex = |byte: u8| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]];
        forms.insert(value.iter().flat_map(|byte| hex(*byte)).collect());
        // With and without the slash, which some leave as it is.
        for kept in [&b"-_.~"[..], b"-_.~/"] {
            let escaped = value.iter().flat_map(|&byte| {
                if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
                    vec![byte]
                } else {
                    [&b"%"[..], &hex(byte)].concat()
                }
            });
            forms.insert(escaped.collect());
        }
    }
    if let Ok(text) = std::str::from_utf8(value) {
        let json = serde_json::to_string(text).expect("text");
        forms.insert(json.as_bytes()[1..json.len() - 1].to_vec());
    }
    // In a longer text, as in `user:password`, it may begin at each of three places in a group; the characters at its
    // ends depend on what stands beside it.
    for engine in [STANDARD, URL_SAFE] {
        for before in 0..3 {
            let text = engine.encode([&vec![0; before][..], value].concat());
            let whole = (before + value.len()) * 8 / 6;
            let inside = &text.as_bytes()[(before * 8).div_ceil(6)..whole];
            if inside.len() >= SHORTEST {
                forms.insert(inside.to_vec());
            }
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[(&str, &str)]) -> Secrets {
        let values: Vec<_> = values.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
        Secrets::from_values(&values).expect("can be kept out")
    }

    #[test]
    fn a_value_is_hidden_in_every_form_in_which_programs_write_it() {
        let value = "s3cr\"t/v+l~e";
        let secrets = secrets(&[("TOKEN", value)]);
        let basic = |before: &str| STANDARD.encode(format!("{before}{value}:rest"));
        let texts = [
            value.to_owned(),
            serde_json::to_string(value).expect("text"),
            "https://host/?t=s3cr%22t%2Fv%2Bl~e&x".to_owned(),
            "https://host/?t=s3cr%22t%2fv%2bl~e&x".to_owned(),
            value.bytes().map(|byte| format!("{byte:02x}")).collect(),
            basic(""),
            basic("a"),
            basic("ab"),
            URL_SAFE.encode(value),
        ];
        for text in texts {
            let hidden = secrets.hidden_text(format!("before {text} after"));
            assert!(hidden.contains("[secret TOKEN]") && hidden.starts_with("before "), "{text} -> {hidden}");
            assert!(hidden.ends_with(" after"), "{hidden}");
        }
        assert_eq!(secrets.hidden_text("s3cret".into()), "s3cret");
    }

    #[test]
    fn of_two_values_of_which_one_begins_the_other_nothing_is_left() {
        let secrets = secrets(&[("A", "password"), ("B", "password123")]);
        assert_eq!(secrets.hidden(b"x password123 password".to_vec()), b"x [secret B] [secret A]");
    }

    #[test]
    fn it_is_found_in_a_folder_in_bytes_and_in_names() {
        let secrets = secrets(&[("TOKEN", "opensesame")]);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let put = |name: &str, text: String| fs_err::write(dir.path().join(name), text).expect("writes");
        put("clean", "o".repeat(1 << 20));
        assert_eq!(secrets.found_in(dir.path()).expect("reads"), None);
        // Across the pieces in which a file is read.
        put("large", format!("{}opensesame", "o".repeat((64 << 10) - 5)));
        assert_eq!(secrets.found_in(dir.path()).expect("reads"), Some(dir.path().join("large")));
        fs_err::rename(dir.path().join("large"), dir.path().join("clean")).expect("moves");
        put("clean", String::new());
        put("opensesame.txt", String::new());
        assert_eq!(secrets.found_in(dir.path()).expect("reads"), Some(dir.path().join("opensesame.txt")));
    }

    #[test]
    fn what_is_missing_or_too_short_is_refused() {
        for (value, what) in [("", "not in the environment"), ("12345", "fewer than 6")] {
            let error = Secrets::from_values(&[("TOKEN", value.into())]).expect_err("refused");
            assert!(error.contains("TOKEN") && error.contains(what), "{error}");
        }
    }
}
