//! The only name that bytes have here: their BLAKE3 digest.

use serde::{Deserialize, Serialize};
use std::{fmt, io, path::Path, str::FromStr};

mod canonical;
mod file;
mod writer;

pub use canonical::canonical;
pub use writer::HashingWriter;

/// The plain BLAKE3 of some bytes; written `blake3:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest: expected `blake3:` and 64 hex digits")]
pub struct DigestError(String);

impl Digest {
    pub const PREFIX: &'static str = "blake3:";

    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }

    /// Reads a file and gives its digest and its size in bytes.
    pub fn of_file(path: &Path) -> io::Result<(Self, u64)> {
        Self::of_open_file(fs_err::File::open(path)?.file(), &|| true)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn from_hash(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The first 12 hex digits, for people.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }

    /// Parses 64 hex digits.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let lower = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        blake3::Hash::from_hex(hex)
            .ok()
            .filter(|_| lower)
            .map(|h| Self(h.into()))
            .ok_or_else(|| DigestError(hex.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.short())
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.strip_prefix(Self::PREFIX).ok_or_else(|| DigestError(text.to_owned())).and_then(Self::from_hex)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_b3sums_with_a_prefix() {
        let empty = Digest::of(b"");
        let text = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(empty.to_string(), text);
        assert_eq!(text.parse::<Digest>(), Ok(empty));
        assert!(text.to_uppercase().parse::<Digest>().is_err());
        assert!("blake3:12".parse::<Digest>().is_err());
    }
}
