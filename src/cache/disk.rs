//! What the file system of a folder offers a cache.

use super::{copy, network};
use std::io;
use std::path::Path;

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that this user may still write.
    pub free: u64,
    /// Copies share their blocks until one of them is changed: they take no time and no room.
    pub reflinks: bool,
    /// Why other machines could harm a cache there.
    pub hazard: Option<String>,
}

/// Looks at the file system of a folder that is there and can be written to.
pub fn disk(folder: &Path) -> io::Result<Disk> {
    let tried = tempfile::tempdir_in(folder)?;
    let (from, to) = (tried.path().join("from"), tried.path().join("to"));
    fs_err::write(&from, vec![7; 8192])?;
    let from = fs_err::File::open(from)?;
    let to = fs_err::OpenOptions::new().read(true).write(true).create_new(true).open(to)?;
    Ok(Disk { free: free(folder)?, reflinks: copy::shares_blocks(&from, &to), hazard: network::hazard(folder)? })
}

fn free(folder: &Path) -> io::Result<u64> {
    let name = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes())?;
    // SAFETY: statvfs is plain data for which zeros are valid; the call reads a text that ends in zero, and writes to it alone.
    unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(name.as_ptr(), &raw mut found) == 0 {
            Ok(product(found.f_bavail, found.f_frsize))
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// Systems differ in how wide these numbers are.
fn product(blocks: impl TryInto<u64>, size: impl TryInto<u64>) -> u64 {
    blocks.try_into().unwrap_or(0).saturating_mul(size.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_has_room_and_is_left_as_it_was() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert!(disk(dir.path()).expect("can be looked at").free > 0);
        assert_eq!(fs_err::read_dir(dir.path()).expect("lists").count(), 0);
        assert!(disk(&dir.path().join("nowhere")).is_err());
    }
}
