//! Where a shared cache is: a URL without credentials, or a folder.

use std::fmt;
use std::path::{Path, PathBuf};

/// The place of a shared cache; its text is fit for records and messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Folder(PathBuf),
    S3(Bucket),
    Gcs(Bucket),
    Azure(Bucket),
    /// A web server, which is read alone.
    Web,
}

/// A bucket or container, and a path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    pub name: String,
    pub prefix: String,
}

const HELP: &str =
    "a shared cache is s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, https://HOST/PREFIX, or a folder";

impl Address {
    /// Reads what a person wrote; relative folders start at `base`. An error never repeats what may hold a secret.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            let path = std::path::absolute(base.join(text)).map_err(|e| format!("{text:?} names no folder: {e}"))?;
            return if text.is_empty() {
                Err(format!("the shared cache has an empty name: {HELP}"))
            } else {
                Ok(Self::folder(path))
            };
        };
        if scheme == "file" {
            let path = PathBuf::from(rest);
            return if path.is_absolute() {
                Ok(Self::folder(path))
            } else {
                Err("file:// takes an absolute path".into())
            };
        }
        if rest.contains(['@', '?', '#']) {
            return Err(
                "the URL of a shared cache has no user, password or query: credentials come from the environment \
                        (docs/shared-cache.md lists the variables)"
                    .into(),
            );
        }
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let bucket = Bucket { name: name.to_owned(), prefix: prefix.trim_matches('/').to_owned() };
        if name.is_empty()
            || prefix.split('/').any(|part| matches!(part, "." | ".."))
            || text.chars().any(char::is_control)
        {
            return Err(format!("{text:?} names no place: {HELP}"));
        }
        let kind = match scheme {
            "s3" => Kind::S3(bucket),
            "gs" => Kind::Gcs(bucket),
            "az" => Kind::Azure(bucket),
            "http" | "https" => Kind::Web,
            _ => return Err(format!("{scheme}:// is not known here: {HELP}")),
        };
        Ok(Self { text: text.trim_end_matches('/').to_owned(), kind })
    }

    /// Whether nothing can be written there.
    pub fn is_read_alone(&self) -> bool {
        self.kind == Kind::Web
    }

    fn folder(path: PathBuf) -> Self {
        Self { text: path.display().to_string(), kind: Kind::Folder(path) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_known_and_relative_folders_start_where_they_are_named() {
        let kind = |text: &str| Address::parse(text, Path::new("/site")).expect("valid").kind;
        let bucket = |name: &str, prefix: &str| Bucket { name: name.into(), prefix: prefix.into() };
        assert_eq!(kind("s3://lab/a/b/"), Kind::S3(bucket("lab", "a/b")));
        assert_eq!(kind("gs://lab"), Kind::Gcs(bucket("lab", "")));
        assert_eq!(kind("az://c/p"), Kind::Azure(bucket("c", "p")));
        assert_eq!(kind("https://host/p"), Kind::Web);
        assert_eq!(kind("share"), Kind::Folder("/site/share".into()));
        assert_eq!(kind("file:///mnt/share"), Kind::Folder("/mnt/share".into()));
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        for text in ["https://me:s3cret@host/p", "az://c/p?sig=s3cret", "s3://key:s3cret@bucket", "https://h/#s3cret"] {
            let message = Address::parse(text, Path::new("/")).expect_err("refused");
            assert!(message.contains("environment") && !message.contains("s3cret"), "{message}");
        }
        for text in ["", "ftp://host/p", "s3:///p", "s3://b/../c", "file://relative"] {
            assert!(Address::parse(text, Path::new("/")).is_err(), "{text}");
        }
    }
}
