//! Where a cache may lie, and where its index does: looked at before anything in it is.

use super::{CacheError, FORMAT, network};
use crate::digest::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// Whether a variable is there and says something.
pub fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Where the index is: in the cache, or in a folder of its own below CISTAGE_INDEX, which may be on a faster disk.
pub fn index_of(root: &Path) -> PathBuf {
    let elsewhere = std::env::var_os("CISTAGE_INDEX").filter(|folder| !folder.is_empty());
    let name = || Digest::of(root.as_os_str().as_encoded_bytes()).hex();
    elsewhere.map_or_else(|| root.join("index"), |folder| Path::new(&folder).join(&name()[..16]))
}

/// Refuses to write where other machines may write unseen, unless the user says that none does.
pub fn refuse_network(root: &Path) -> Result<(), CacheError> {
    const ALLOW: &str = "CISTAGE_NETWORK_CACHE";
    match network::hazard(root)? {
        Some(hazard) if !is_set(ALLOW) => Err(CacheError::Unusable(format!(
            "the cache {} is not safe there: {hazard}. Put it on a local disk (--cache DIR or CISTAGE_CACHE), or, if only \
             one machine at a time uses it, set {ALLOW}=1",
            root.display()
        ))),
        _ => Ok(()),
    }
}

pub fn check_format(root: &Path) -> Result<(), CacheError> {
    let text = match fs_err::read_to_string(root.join("format")) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let root = root.display();
    match text.trim().parse::<u32>() {
        Ok(FORMAT) => Ok(()),
        Ok(other) => Err(CacheError::Unusable(format!(
            "the cache {root} has format {other}, and this cistage reads format {FORMAT}: use the cistage that made it, \
             or another folder with --cache DIR"
        ))),
        Err(_) => Err(CacheError::Unusable(format!(
            "{root}/format holds no number: restore it (this cistage writes {FORMAT}), or use another folder with \
             --cache DIR"
        ))),
    }
}
