//! Pins: artifacts that are never given up.

use super::records::list;
use super::{Cache, CacheError, durable, seal};
use crate::artifact::Artifact;
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// Why an artifact is kept for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub artifact: Artifact,
    /// What the person named: a file, `STAGE.PORT`, a run.
    pub target: String,
    /// RFC 3339, UTC.
    pub at: String,
}

impl Cache {
    pub fn pin(&self, pin: &Pin) -> Result<(), CacheError> {
        let file = self.pin_file(pin.artifact.digest);
        fs_err::create_dir_all(self.root().join("pins"))?;
        Ok(durable::replace(&self.session()?.path(), &file, &seal::seal(pin))?)
    }

    /// Takes a pin away; `false` where there is none.
    pub fn unpin(&self, artifact: Digest) -> Result<bool, CacheError> {
        match fs_err::remove_file(self.pin_file(artifact)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// All pins, by digest.
    ///
    /// # Errors
    ///
    /// Where one can't be read: what it kept is not known, so nothing may be given up.
    pub fn pins(&self) -> Result<Vec<Pin>, CacheError> {
        let mut files: Vec<PathBuf> = list(&self.root().join("pins"))?.iter().map(fs_err::DirEntry::path).collect();
        files.sort();
        let read = |file: PathBuf| {
            seal::open(&fs_err::read(&file)?).map_err(|what| {
                let file = self.relative(&file);
                CacheError::Unusable(format!("the pin {file} {what}: remove this file, and pin again what it was for"))
            })
        };
        files.into_iter().map(read).collect()
    }

    fn pin_file(&self, artifact: Digest) -> PathBuf {
        self.root().join("pins").join(format!("{}.json", artifact.hex()))
    }
}
