//! Private copies of files, hashed on the way.

use crate::digest::{Digest, HashingWriter};
use std::io::{self, Read, Write};
use std::path::Path;

/// Copies a file to a name where nothing stands; gives digest and size in bytes of the copy.
///
/// Shares blocks where the file system can: never a hard link, through which a program could write.
pub fn copy(from: &Path, to: &Path) -> io::Result<(Digest, u64)> {
    let copy = || {
        let mut source = fs_err::File::open(from)?;
        let target = fs_err::OpenOptions::new().read(true).write(true).create_new(true).open(to)?;
        if shares_blocks(&source, &target) {
            return Digest::of_open_file(target.file(), &|| true);
        }
        let mut buffer = vec![0_u8; source.metadata()?.len().clamp(1, 256 << 10) as usize];
        let mut writer = HashingWriter::new(target);
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => writer.write_all(&buffer[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let (_, digest, bytes) = writer.finish()?;
        Ok((digest, bytes))
    };
    copy().inspect_err(|e| {
        if e.kind() != io::ErrorKind::AlreadyExists {
            let _ = fs_err::remove_file(to);
        }
    })
}

/// Makes an empty file share the blocks of another, where the file system can.
#[cfg(target_os = "linux")]
pub fn shares_blocks(source: &fs_err::File, target: &fs_err::File) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: the call takes and gives numbers alone; both descriptors are open for as long as it lasts.
    unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) == 0 }
}

/// Elsewhere bytes are copied.
#[cfg(not(target_os = "linux"))]
pub fn shares_blocks(_source: &fs_err::File, _target: &fs_err::File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_bytes_and_their_digest_and_takes_no_name_that_is_taken() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
        for size in [0_usize, 5, 3_000_000] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 253) as u8).collect();
            fs_err::write(&from, &bytes).expect("writes");
            assert_eq!(copy(&from, &to).expect("copies"), (Digest::of(&bytes), size as u64));
            assert_eq!(fs_err::read(&to).expect("there"), bytes);
            assert!(copy(&from, &to).is_err());
            assert_eq!(fs_err::read(&to).expect("still there"), bytes);
            fs_err::remove_file(&to).expect("removes");
        }
    }
}
