//! What a program and its children asked the kernel for, read from what strace noted of each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// Something outside itself that a program touched; paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    /// Opened to be read, or listed; links resolved.
    Read(PathBuf),
    /// Opened to be written, made, moved or removed.
    Write(PathBuf),
    /// Started, under the name that was given.
    Program(PathBuf),
    /// `address:port`.
    Network(String),
}

/// Reads the files `notes.PID`, made by `strace -ff -y -o notes`, of a program that was started in `dir`.
pub(super) fn read(notes: &Path, dir: &Path) -> io::Result<BTreeSet<Touched>> {
    let name = format!("{}.", notes.file_name().unwrap_or_default().to_string_lossy());
    let mut texts = BTreeMap::new();
    for entry in fs_err::read_dir(notes.parent().unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let file = entry.file_name();
        if let Some(process) = file.to_str().and_then(|file| file.strip_prefix(&name)?.parse::<u64>().ok()) {
            texts.insert(process, String::from_utf8_lossy(&fs_err::read(entry.path())?).into_owned());
        }
    }
    let mut reader = Reader { folders: BTreeMap::new(), found: BTreeSet::new() };
    let children: BTreeSet<u64> = texts.values().flat_map(|text| text.lines().filter_map(child)).collect();
    let mut next: Vec<u64> = texts.keys().copied().filter(|process| !children.contains(process)).collect();
    for process in &next {
        reader.folders.insert(*process, dir.to_owned());
    }
    while let Some(process) = next.pop() {
        // Where it was when its child was started, so is the child at first.
        if let Some(text) = texts.remove(&process) {
            next.extend(reader.process(process, &text));
        }
    }
    Ok(reader.found)
}

fn child(line: &str) -> Option<u64> {
    let call = Call::parse(line)?;
    ["clone", "clone3", "fork", "vfork"].contains(&call.name).then(|| call.result.parse().ok())?
}

struct Reader {
    /// The working directories of processes.
    folders: BTreeMap<u64, PathBuf>,
    found: BTreeSet<Touched>,
}

impl Reader {
    /// Reads what one process did; gives its children.
    fn process(&mut self, process: u64, text: &str) -> Vec<u64> {
        let mut folder = self.folders.get(&process).cloned().unwrap_or_default();
        let mut children = Vec::new();
        for call in text.lines().filter_map(Call::parse) {
            if matches!(call.name, "connect" | "sendto" | "sendmsg") {
                self.found.extend(call.address().map(Touched::Network));
            }
            if call.result.starts_with(['-', '?']) {
                continue;
            }
            match call.name {
                "clone" | "clone3" | "fork" | "vfork" => {
                    if let Ok(child) = call.result.parse() {
                        self.folders.insert(child, folder.clone());
                        children.push(child);
                    }
                }
                "chdir" => folder = call.path(None, 0, &folder).unwrap_or(folder),
                "fchdir" => folder = descriptor(call.arg(0)).unwrap_or(folder),
                "execve" => self.found.extend(call.path(None, 0, &folder).map(Touched::Program)),
                "execveat" => self.found.extend(call.path(Some(0), 1, &folder).map(Touched::Program)),
                "open" | "openat" | "openat2" | "creat" => self.found.extend(call.opened()),
                _ => {
                    let written = written(call.name).iter();
                    let paths = written.filter_map(|(base, path)| call.path(*base, *path, &folder));
                    self.found.extend(paths.map(Touched::Write));
                }
            }
        }
        children
    }
}

/// Which arguments of a call name what it changes: the folder that a name is relative to, where the call takes one, and the name.
fn written(call: &str) -> &'static [(Option<usize>, usize)] {
    match call {
        "unlink" | "rmdir" | "mkdir" | "mknod" | "truncate" | "chmod" => &[(None, 0)],
        "unlinkat" | "mkdirat" | "mknodat" | "fchmodat" => &[(Some(0), 1)],
        "symlink" | "link" => &[(None, 1)],
        "symlinkat" => &[(Some(1), 2)],
        "linkat" => &[(Some(2), 3)],
        "rename" => &[(None, 0), (None, 1)],
        "renameat" | "renameat2" => &[(Some(0), 1), (Some(2), 3)],
        _ => &[],
    }
}

/// One line: `name(arguments) = result`.
struct Call<'a> {
    name: &'a str,
    args: Vec<&'a str>,
    result: &'a str,
}

impl<'a> Call<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, rest) = line.split_once('(')?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return None;
        }
        let (mut args, mut start, mut depth, mut before) = (Vec::new(), 0, 0, b' ');
        // What a quoted text or a path in angle brackets ends with.
        let mut until = None;
        let mut bytes = rest.bytes().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match (until, byte) {
                (Some(_), b'\\') => _ = bytes.next(),
                (Some(end), _) => until = (byte != end).then_some(end),
                (None, b'"') => until = Some(b'"'),
                (None, b'<') if before.is_ascii_alphanumeric() => until = Some(b'>'),
                (None, b'(' | b'[' | b'{') => depth += 1,
                (None, b')') if depth == 0 => {
                    args.push(rest[start..at].trim());
                    let result = rest[at + 1..].trim_start().strip_prefix('=')?.trim();
                    return Some(Self { name, args, result });
                }
                (None, b')' | b']' | b'}') => depth -= 1,
                (None, b',') if depth == 0 => {
                    args.push(rest[start..at].trim());
                    start = at + 1;
                }
                _ => {}
            }
            before = byte;
        }
        None
    }

    fn arg(&self, n: usize) -> &'a str {
        self.args.get(n).copied().unwrap_or_default()
    }

    /// The path in an argument, relative to the folder in another one or to the process's.
    fn path(&self, base: Option<usize>, n: usize, folder: &Path) -> Option<PathBuf> {
        let text = self.arg(n).strip_prefix('"')?;
        let path = unescaped(text.strip_suffix("...").unwrap_or(text).strip_suffix('"')?);
        let base = base.and_then(|n| descriptor(self.arg(n)));
        let path = base.as_deref().unwrap_or(folder).join(path);
        // Its folder may be reached by a link, and itself be gone by now.
        let real = path.parent().and_then(|parent| fs_err::canonicalize(parent).ok());
        Some(real.zip(path.file_name()).map_or_else(|| flat(&path), |(parent, name)| parent.join(name)))
    }

    fn opened(&self) -> Option<Touched> {
        let path = descriptor(self.result)?;
        let flags =
            if self.name == "creat" { "O_WRONLY" } else { self.args.iter().rev().find(|a| a.contains("O_"))? };
        let has = |flag: &str| flags.split(['|', ',', '=', '{', '}']).any(|one| one.trim() == flag);
        if has("O_PATH") {
            return None;
        }
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].into_iter().any(has);
        Some(if writes { Touched::Write(path) } else { Touched::Read(path) })
    }

    fn address(&self) -> Option<String> {
        let all = self.args.join(",");
        let after = |start: &str, end: &str| Some(all.split_once(start)?.1.split_once(end)?.0.to_owned());
        if let Some(port) = after("sin_port=htons(", ")") {
            return Some(format!("{}:{port}", after("sin_addr=inet_addr(\"", "\"")?));
        }
        if let Some(port) = after("sin6_port=htons(", ")") {
            return Some(format!(
                "[{}]:{port}",
                after("inet_pton(AF_INET6,\"", "\"").or_else(|| after("inet_pton(AF_INET6, \"", "\""))?
            ));
        }
        let path = after("sun_path=\"", "\"").filter(|_| !self.result.starts_with('-'))?;
        Some(format!("the socket {path}"))
    }
}

/// The path of an open file, `3</a/b>`, as strace adds it.
fn descriptor(text: &str) -> Option<PathBuf> {
    let path = unescaped(text.split_once('<')?.1.rsplit_once('>')?.0);
    path.is_absolute().then_some(path)
}

/// What strace wrote with backslashes.
fn unescaped(text: &str) -> PathBuf {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let digits = rest.iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
        if digits > 0 {
            out.push(rest[..digits].iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0')) as u8);
            rest = &rest[digits..];
        } else if let Some((&letter, tail)) = rest.split_first() {
            out.push(match letter {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'v' => 11,
                b'f' => 12,
                other => other,
            });
            rest = tail;
        }
    }
    OsString::from_vec(out).into()
}

/// Without `.` and `..`.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = flat.pop(),
            Component::CurDir => {}
            part => flat.push(part),
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_program_and_its_children_are_read_from_where_each_of_them_was() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let note = |process: u32, text: &str| {
            fs_err::write(dir.path().join(format!("notes.{process}")), text).expect("writes")
        };
        note(
            // The number of a later process may be smaller.
            900,
            r#"execve("/usr/bin/bash", ["bash", "-c", "a (b, c"], 0x7ffd /* 5 vars */) = 0
openat(AT_FDCWD</nowhere/wd>, "in/x.txt", O_RDONLY|O_CLOEXEC) = 3</nowhere/wd/in/x.txt>
openat(AT_FDCWD</nowhere/wd>, "gone", O_RDONLY) = -1 ENOENT (No such file or directory)
openat(AT_FDCWD</nowhere/wd>, "o", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</nowhere/wd/o>
openat(AT_FDCWD</nowhere/wd>, "/etc", O_RDONLY|O_CLOEXEC|O_PATH) = 3</etc>
chdir("sub")                            = 0
clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD} => {parent_tid=[17]}, 88) = 17
chdir("/nowhere/else")                  = 0
--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=17, si_uid=0, si_status=0} ---
+++ exited with 0 +++
"#,
        );
        note(
            17,
            r#"mkdir("../made", 0777)                  = 0
rename("a \"b\"", "/nowhere/c\n\303\251") = 0
openat2(AT_FDCWD</nowhere/wd/sub>, "y", {flags=O_RDONLY|O_CLOEXEC, resolve=0}, 24) = 4</data/in \76 y, z>
unlinkat(5</data/dir>, "old", 0)        = 0
connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("127.0.0.1")}, 16) = -1 EINPROGRESS (x)
connect(3<socket:[2]>, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 0
connect(3<socket:[3]>, {sa_family=AF_UNIX, sun_path="/run/nscd"}, 110) = -1 ENOENT (x)
sendto(3<socket:[3]>, "sin_port", 8, 0, NULL, 0) = 8
execve("./tool", ["./tool"], 0x55 /* 5 vars */) = 0
"#,
        );
        let found = read(&dir.path().join("notes"), Path::new("/nowhere/wd")).expect("reads");
        let path = PathBuf::from;
        let expected = [
            Touched::Read(path("/data/in > y, z")),
            Touched::Read(path("/nowhere/wd/in/x.txt")),
            Touched::Write(path("/data/dir/old")),
            Touched::Write(path("/nowhere/c\né")),
            Touched::Write(path("/nowhere/wd/made")),
            Touched::Write(path("/nowhere/wd/o")),
            Touched::Write(path("/nowhere/wd/sub/a \"b\"")),
            Touched::Program(path("/nowhere/wd/sub/tool")),
            Touched::Program(path("/usr/bin/bash")),
            Touched::Network("127.0.0.1:443".into()),
            Touched::Network("[::1]:80".into()),
        ];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }
}
