//! File systems that other machines write to at the same time, on which a cache's promises do not hold by themselves.

use std::io;
use std::path::{Path, PathBuf};

/// Says why a cache in this folder could be harmed by another machine; `None` where it could not.
pub fn hazard(folder: &Path) -> io::Result<Option<String>> {
    if is_local(folder) {
        return Ok(None);
    }
    // Other systems than Linux do not say what is mounted where in a file.
    let mounts = match fs_err::read_to_string("/proc/self/mountinfo") {
        Ok(mounts) => mounts,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    // It may not be there yet.
    let there = folder.ancestors().find_map(|folder| fs_err::canonicalize(folder).ok());
    Ok(there.and_then(|folder| hazard_among(&mounts, &folder)))
}

/// Whether the kernel says, of a folder that is there, that its file system is one of a disk or of memory: the usual case,
/// and quick to see.
#[cfg(target_os = "linux")]
fn is_local(folder: &Path) -> bool {
    // ext4, XFS, Btrfs, tmpfs, overlayfs
    const LOCAL: [i64; 5] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630];
    let Ok(name) = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes()) else { return false };
    // SAFETY: statfs is plain data for which zeros are valid; the call reads a text that ends in zero, and writes to it alone.
    let kind = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        (libc::statfs(name.as_ptr(), &raw mut found) == 0).then_some(found.f_type)
    };
    kind.is_some_and(|kind| LOCAL.contains(&kind))
}

#[cfg(not(target_os = "linux"))]
fn is_local(_: &Path) -> bool {
    false
}

fn hazard_among(mounts: &str, folder: &Path) -> Option<String> {
    // Of equal ones the later hides the earlier.
    let mount = mounts.lines().filter_map(Mount::read).filter(|mount| folder.starts_with(&mount.at));
    let mount = mount.max_by_key(|mount| mount.at.components().count())?;
    let (kind, at) = (mount.kind, mount.at.display());
    let has = |wanted: &str| mount.options.split(',').any(|option| option == wanted);
    let local = ["nolock", "local_lock=all", "local_lock=flock", "localflock", "nobrl"];
    if let Some(option) = local.into_iter().find(|option| has(option)) {
        return Some(format!(
            "{at} is mounted with `{option}`: a lock taken there is unknown to other machines ({kind})"
        ));
    }
    match kind {
        "nfs" | "nfs4" => Some(format!(
            "{at} is on NFS ({kind}), where a machine learns only after a while what another one wrote or locked"
        )),
        "cifs" | "smb3" | "smbfs" | "afs" | "davfs" | "fuse.sshfs" | "fuse.s3fs" | "fuse.gcsfuse" | "fuse.rclone" => {
            Some(format!("{at} is a network file system ({kind}) without the locks and renames of a local one"))
        }
        // Lustre, GPFS, BeeGFS and Ceph keep their machines in step, unless an option above says otherwise.
        _ => None,
    }
}

/// A line of `/proc/self/mountinfo`.
struct Mount<'a> {
    at: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let at = mount.split(' ').nth(4)?;
        let mut system = system.split(' ');
        let (kind, options) = (system.next()?, system.nth(1).unwrap_or_default());
        // What would end the field is written in octal.
        let at = at.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
        Some(Self { at: at.into(), kind, options })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = r"22 1 252:0 / / rw,relatime - ext4 /dev/vda rw
40 22 0:35 / /home rw,relatime shared:1 - nfs4 server:/home rw,vers=4.2,local_lock=none
41 22 0:36 / /old rw,relatime shared:2 - nfs server:/old rw,vers=3,nolock,local_lock=all
42 40 0:37 / /home/fast rw,relatime - lustre mgs@tcp:/fast rw,flock
43 22 0:38 / /alone rw,relatime - lustre mgs@tcp:/alone rw,localflock
44 22 0:39 / /with\040space rw,relatime master:3 propagate_from:1 - fuse.sshfs host: rw,user_id=0
45 22 0:40 / /shm rw,nosuid - tmpfs tmpfs rw,size=1g
";

    #[test]
    fn a_file_system_that_other_machines_write_to_is_told_by_what_is_mounted_there() {
        for (folder, expected) in [
            ("/project/cache", None),
            ("/home/me/cache", Some("on NFS")),
            ("/old/cache", Some("`nolock`")),
            ("/home/fast/cache", None),
            ("/alone/cache", Some("`localflock`")),
            ("/with space/cache", Some("fuse.sshfs")),
            ("/shm/cache", None),
            ("/homework", None),
        ] {
            let found = hazard_among(MOUNTS, Path::new(folder));
            assert_eq!(found.is_some(), expected.is_some(), "{folder}: {found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{folder}");
        }
    }

    #[test]
    fn the_folder_need_not_be_there() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        hazard(&dir.path().join("not/there")).expect("reads");
    }
}
