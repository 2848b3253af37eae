//! Names that a user gives or reads: stages, ports, runs. Valid by type once parsed.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Says why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: {rule}")]
pub struct NameError {
    pub what: &'static str,
    pub text: String,
    pub rule: &'static str,
}

const WORD_RULE: &str = "use letters, digits, '-' and '_', starting with a letter, 64 characters at most";

fn is_word(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// A branch is what a matrix adds to a name: `per_bin=3000`, `a=1,b=x`.
fn is_branch(text: &str) -> bool {
    !text.is_empty() && text.len() <= 200 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_=,.+".contains(c))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a text, and takes it as a name.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { what: $what, text: text.to_owned(), rule: $rule })
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// Names a stage of a pipeline, with its matrix branch where it has one (`balance@per_bin=3000`).
    StageName,
    "stage name",
    WORD_RULE,
    |text| match text.split_once('@') {
        Some((word, branch)) => is_word(word) && is_branch(branch),
        None => is_word(text),
    }
);

name_type!(
    /// Names an input or output of a stage; a gathering stage's ports carry a branch too (`k@per_bin=3000`).
    PortName,
    "port name",
    WORD_RULE,
    |text| match text.split_once('@') {
        Some((word, branch)) => is_word(word) && is_branch(branch),
        None => is_word(text),
    }
);

name_type!(
    /// Names a run: the UTC time it began and four random hex digits, `20261123-094012-1f3a`; sorts by time.
    RunId,
    "run id",
    "a run id looks like 20261123-094012-1f3a",
    |text| {
        let parts: Vec<&str> = text.split('-').collect();
        matches!(parts[..], [day, time, tag]
            if day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit())
                && time.len() == 6 && time.bytes().all(|b| b.is_ascii_digit())
                && tag.len() == 4 && tag.bytes().all(|b| b.is_ascii_hexdigit()))
    }
);

impl StageName {
    /// The name as written in the file, without a matrix branch.
    pub fn base(&self) -> &str {
        self.0.split_once('@').map_or(&self.0, |(word, _)| word)
    }

    /// The matrix branch, `per_bin=3000`, where there is one.
    pub fn branch(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, branch)| branch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_names_are_words_with_an_optional_branch() {
        for good in ["split", "fine-tune_2", "balance@per_bin=3000", "a@x=1,y=b.c"] {
            assert_eq!(StageName::parse(good).map(String::from), Ok(good.to_owned()));
        }
        for bad in ["", "2nd", "a b", "a.b", "a@", "@x", "a/../b", "a\n", "ä"] {
            assert!(StageName::parse(bad).is_err(), "{bad:?}");
        }
        let name = StageName::parse("balance@per_bin=3000").expect("valid");
        assert_eq!((name.base(), name.branch()), ("balance", Some("per_bin=3000")));
    }

    #[test]
    fn run_ids_sort_by_time_and_refuse_paths() {
        assert!(RunId::parse("20261123-094012-1f3a").is_ok());
        assert!(RunId::parse("../etc").is_err());
    }
}
