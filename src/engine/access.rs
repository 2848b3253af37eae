//! What a command read, wrote and connected to beside what it declares.

use super::strace::Touched;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a command touched outside its own folder, in which its inputs are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Undeclared files, and folders that were listed.
    pub reads: BTreeSet<String>,
    pub writes: BTreeSet<String>,
    pub network: BTreeSet<String>,
    /// Files read of installed software, by the folder that it is installed in: not part of the key.
    pub software: BTreeMap<String, u64>,
    /// Files read of the system.
    pub system: u64,
}

/// Where the system keeps programs, libraries and settings.
const SYSTEM: [&str; 14] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    "/run/systemd",
    "/run/resolvconf",
    "/nix/store",
    "/gnu/store",
];

/// Folders of programs, beside which their libraries are.
const BINARIES: [&str; 5] = ["bin", "sbin", "libexec", "shims", "condabin"];

impl Access {
    /// Whether it touched what is neither declared nor software.
    pub fn is_undeclared(&self) -> bool {
        !(self.reads.is_empty() && self.writes.is_empty() && self.network.is_empty())
    }

    /// Sorts what a command touched; `own` is its folder.
    pub(super) fn of(touched: &BTreeSet<Touched>, own: &Path) -> Self {
        let software = software(touched, &std::env::var_os("PATH").map(PathBuf::from).unwrap_or_default());
        let mut access = Self::default();
        for one in touched {
            match one {
                Touched::Read(path) | Touched::Program(path) if path.starts_with(own) => {}
                Touched::Read(path) | Touched::Program(path) => {
                    // Memory that looks like a file is one to other processes.
                    if SYSTEM.iter().any(|dir| path.starts_with(dir)) && !path.starts_with("/dev/shm") {
                        access.system += 1;
                    } else if let Some(dir) = software.iter().find(|dir| path.starts_with(dir)) {
                        *access.software.entry(dir.display().to_string()).or_default() += 1;
                    } else {
                        access.reads.insert(path.display().to_string());
                    }
                }
                Touched::Write(path) => {
                    let is_device = ["/dev", "/proc"].iter().any(|dir| path.starts_with(dir));
                    if !path.starts_with(own) && (!is_device || path.starts_with("/dev/shm")) {
                        access.writes.insert(path.display().to_string());
                    }
                }
                Touched::Network(address) => _ = access.network.insert(address.clone()),
            }
        }
        // What it made itself it may read.
        let own: Vec<String> = access.reads.intersection(&access.writes).cloned().collect();
        own.iter().for_each(|path| _ = access.reads.remove(path));
        access
    }
}

/// Folders of installed software: those on PATH, and those of the programs that were started by way of them.
fn software(touched: &BTreeSet<Touched>, path: &Path) -> BTreeSet<PathBuf> {
    let listed: Vec<PathBuf> = std::env::split_paths(path).filter(|dir| dir.is_absolute()).collect();
    let programs = touched.iter().filter_map(|one| match one {
        Touched::Program(path) => path.parent().map(Path::to_owned),
        _ => None,
    });
    // The program itself may be elsewhere, as that of a virtual environment is.
    let real = touched.iter().filter_map(|one| match one {
        Touched::Program(path) => fs_err::canonicalize(path).ok()?.parent().map(Path::to_owned),
        _ => None,
    });
    let project = std::env::current_dir().unwrap_or_default();
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let is_installed = |dir: &Path| dir.parent().is_some() && !project.starts_with(dir) && !home.starts_with(dir);
    let is_program_folder =
        |dir: &PathBuf| dir.file_name().is_some_and(|name| BINARIES.iter().any(|known| name == *known));
    let mut found = BTreeSet::new();
    for dir in listed.iter().cloned() {
        found.extend(is_installed(&dir).then_some(dir));
    }
    for dir in listed.into_iter().chain(programs).chain(real).filter(is_program_folder) {
        let dir = dir.parent().expect("it has a name").to_owned();
        found.extend(is_installed(&dir).then_some(dir));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_declared_nor_installed_is_told_from_the_rest() {
        let own = Path::new("/project/scratch");
        let read = |path: &str| Touched::Read(path.into());
        let write = |path: &str| Touched::Write(path.into());
        let touched = BTreeSet::from([
            read("/project/scratch/in/rows.tsv"),
            read("/project/data/rows.tsv"),
            read("/etc/passwd"),
            read("/opt/venv/lib/python/os.py"),
            read("/opt/tools/versions/3/lib/re.py"),
            read("/opt/data/genome.fa"),
            read("/tmp/mine"),
            write("/project/scratch/out.txt"),
            write("/tmp/mine"),
            write("/dev/null"),
            write("/dev/shm/x"),
            Touched::Program("/opt/tools/versions/3/bin/python".into()),
            Touched::Program("/project/run.sh".into()),
            Touched::Network("10.0.0.1:443".into()),
        ]);
        let mut access = Access::of(&touched, own);
        let installed = software(&touched, Path::new("/opt/venv/bin:/usr/bin"));
        assert!(installed.contains(Path::new("/opt/venv")) && installed.contains(Path::new("/opt/tools/versions/3")));
        assert!(access.is_undeclared());
        access.reads.remove("/opt/venv/lib/python/os.py");
        assert_eq!(
            access.reads,
            ["/opt/data/genome.fa", "/project/data/rows.tsv", "/project/run.sh"].map(String::from).into()
        );
        assert_eq!(access.writes, ["/dev/shm/x", "/tmp/mine"].map(String::from).into());
        assert_eq!(access.network, ["10.0.0.1:443".to_owned()].into());
        assert_eq!(access.software["/opt/tools/versions/3"], 2);
        assert_eq!(access.system, 1);
    }
}
