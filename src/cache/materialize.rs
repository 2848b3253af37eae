//! Artifacts made visible outside the store: private copies, and links for reading in place.

use super::copy::copy;
use super::tree::Entry;
use super::{Cache, CacheError, tree};
use crate::artifact::{Artifact, Layout};
use crate::digest::Digest;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

impl Cache {
    /// Makes an artifact appear at `to` as a private, writable copy (reflink, else copy), in one step where a file
    /// stands there already. Fails if bytes don't match.
    pub fn copy_out(&self, artifact: &Artifact, to: &Path) -> Result<(), CacheError> {
        let temp = beside(to)?;
        let copied = match artifact.layout {
            Layout::File => self.copy_object(artifact.digest, &temp),
            Layout::Tree => self.copy_tree(artifact, &temp),
        };
        let placed = copied.and_then(|()| place(&temp, to).map_err(CacheError::from));
        if placed.is_err() {
            remove(&temp);
        }
        placed
    }

    fn copy_tree(&self, artifact: &Artifact, to: &Path) -> Result<(), CacheError> {
        fs_err::create_dir(to)?;
        for entry in self.tree(artifact.digest)? {
            let file = to.join(&entry.path);
            fs_err::create_dir_all(file.parent().expect("a file in a folder has a parent"))?;
            self.copy_object(entry.digest, &file)?;
        }
        Ok(())
    }

    fn copy_object(&self, digest: Digest, to: &Path) -> Result<(), CacheError> {
        let object = self.object_path(digest);
        let (found, _) = copy(&object, to)?;
        if found != digest {
            let object = object.display();
            return Err(CacheError::Unusable(format!("{object} is damaged: the next run that meets it makes it anew")));
        }
        fs_err::set_permissions(to, std::fs::Permissions::from_mode(0o644))?;
        Ok(())
    }

    /// A path where a built-in stage can read an artifact in place: the object itself, or, for a folder, links to
    /// objects made below `work`.
    pub fn read_path(&self, artifact: &Artifact, work: &Path) -> Result<PathBuf, CacheError> {
        if artifact.layout == Layout::File {
            return Ok(self.object_path(artifact.digest));
        }
        let folder = work.join(artifact.digest.hex());
        if folder.exists() {
            return Ok(folder);
        }
        let temp = beside(&folder)?;
        fs_err::create_dir_all(&temp)?;
        for entry in self.tree(artifact.digest)? {
            let link = temp.join(&entry.path);
            fs_err::create_dir_all(link.parent().expect("a file in a folder has a parent"))?;
            fs_err::os::unix::fs::symlink(self.object_path(entry.digest), link)?;
        }
        place(&temp, &folder)?;
        Ok(folder)
    }

    /// The files of a folder artifact.
    pub fn tree(&self, digest: Digest) -> Result<Vec<Entry>, CacheError> {
        tree::parse(&self.read_object(digest)?).map_err(CacheError::Unusable)
    }

    /// The bytes of an object, checked.
    pub fn read_object(&self, digest: Digest) -> Result<Vec<u8>, CacheError> {
        let path = self.object_path(digest);
        let bytes = fs_err::read(&path)?;
        if Digest::of(&bytes) == digest {
            Ok(bytes)
        } else {
            let path = path.display();
            Err(CacheError::Unusable(format!("{path} is damaged: the next run that meets it makes it anew")))
        }
    }
}

/// A free name in the same folder, hence in the same file system.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| tree::refused(format!("{} does not name a file", path.display())))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    let name = format!(".{}.cistage-{}-{}", name.to_string_lossy(), std::process::id(), super::stamp::now());
    Ok(folder.join(name))
}

/// Moves `temp` to `to`; a folder that stands there gives way.
fn place(temp: &Path, to: &Path) -> io::Result<()> {
    match fs_err::rename(temp, to) {
        Err(e) if fs_err::symlink_metadata(to).is_ok() => {
            // A folder is not replaced in one step: the old one steps aside, and back where that fails.
            let old = beside(to)?;
            fs_err::rename(to, &old).map_err(|_| e)?;
            fs_err::rename(temp, to).inspect_err(|_| {
                let _ = fs_err::rename(&old, to);
            })?;
            remove(&old);
            Ok(())
        }
        result => result,
    }
}

fn remove(path: &Path) {
    let _ = if path.is_dir() { fs_err::remove_dir_all(path) } else { fs_err::remove_file(path) };
}
