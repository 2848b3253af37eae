//! The only name that bytes have here: their BLAKE3 digest.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, io, path::Path, str::FromStr};

mod canonical;
mod file;
mod writer;

pub use canonical::{canonical, canonical_sized};
pub use writer::HashingWriter;

/// The plain BLAKE3 of some bytes; written `blake3:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
        let mut bytes = [0; 32];
        let pairs = hex.as_bytes().as_chunks::<2>().0;
        let mut read = || {
            for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
                *byte = nibble(high)? << 4 | nibble(low)?;
            }
            (hex.len() == 64).then_some(())
        };
        read().map(|()| Self(bytes)).ok_or_else(|| DigestError(hex.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::PREFIX)?;
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
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

/// The value of a hex digit; capital ones are not used, so that a digest has one text.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Not by way of a formatter: a run's record holds thousands of digests.
        serializer.serialize_str(&[Self::PREFIX, &blake3::Hash::from_bytes(self.0).to_hex()].concat())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
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
