//! `command`: runs any program on declared inputs, and keeps its declared outputs.

use crate::artifact::Format;
use crate::name::PortName;
use crate::stage::{Contract, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shell::{Piece, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub mod shell;

/// Runs a program in a work directory of its own.
///
/// It starts in an empty directory but for `in/`, where copies of its inputs are; paths that stand for placeholders are
/// relative to it. HOME and TMPDIR are empty folders elsewhere.
///
/// The user writes `run` or `argv`, and `env`; the plan fills in the rest, so that the key is made of
/// all that the program can see.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// Text for bash, run with `set -eu -o pipefail`; `{in.PORT}`, `{out.PORT}` and `{param.NAME}` become
    /// quoted references to environment variables, inside quotes of your own too.
    pub run: Option<String>,
    /// A program and its arguments, run without a shell; the same placeholders stand for an argument or a part of one.
    pub argv: Option<Vec<String>>,
    /// Environment variables that the program sees; their values are part of the key.
    pub env: Vec<String>,
    /// Filled in by the plan: the values of `env`, null where unset.
    #[schemars(skip)]
    pub environment: BTreeMap<String, Option<String>>,
    /// Filled in by the plan: the pipeline parameters that the text uses, as text.
    #[schemars(skip)]
    pub values: BTreeMap<String, String>,
    /// Filled in by the plan: file name endings of the inputs, which the program can see (`.tsv.gz`).
    #[schemars(skip)]
    pub endings: BTreeMap<String, String>,
    /// Filled in by the plan from the stage's `out:`: where the program leaves each output, and what it is declared
    /// to be: another declaration is another check, and another key.
    #[schemars(skip)]
    pub out: BTreeMap<String, Declared>,
    /// Filled in by the plan from the stage's `secrets:`: environment variables that the program sees, whose values are
    /// looked up as late as it starts, with what the user calls their version.
    #[schemars(skip)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
}

/// A program with its arguments, and all that it sees of the environment.
#[derive(Debug)]
pub struct Invocation {
    pub argv: Vec<OsString>,
    pub variables: BTreeMap<String, OsString>,
}

/// An output that a program promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Relative to the work directory.
    pub path: String,
    pub format: Format,
}

impl Stage for Command {
    /// 1: first.
    /// 2: placeholders inside quotes are quoted references; declared formats are part of the key.
    fn version(&self) -> u32 {
        2
    }

    fn contract(&self) -> Contract {
        Contract {
            more_inputs: Some(Format::Raw),
            outputs: self.out.iter().map(|(port, declared)| (port.clone(), declared.format)).collect(),
            ..Contract::default()
        }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        match (&self.run, &self.argv) {
            (Some(_), Some(_)) => problems.push(("argv", "give `run` or `argv`, not both".to_owned())),
            (None, Some(argv)) if argv.is_empty() => problems.push(("argv", "names no program".to_owned())),
            _ => {}
        }
        for name in &self.env {
            if !is_identifier(name) {
                problems.push(("env", format!("{name:?} is not the name of an environment variable")));
            }
        }
        problems
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        let references = References::of(self, &ctx.inputs, &ctx.output_dir);
        let mut program = self.program(&references)?;
        if let Some(notes) = &ctx.trace {
            program = traced(&program, notes)?;
        }
        for declared in self.out.values() {
            if let Some(parent) = ctx.output_dir.join(&declared.path).parent() {
                fs_err::create_dir_all(parent)?;
            }
        }
        program.current_dir(&ctx.output_dir).env_clear().envs(self.variables(&references, ctx.scratch())?);
        // Both streams in the order of writing: the worker's standard error is the log.
        let log = || std::io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
        program.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
        let child = program
            .spawn()
            .map_err(|e| StageError::Failed(format!("can't start {}: {e}", program.get_program().to_string_lossy())))?;
        let status = wait(child, ctx)?;
        if !status.success() {
            return Err(StageError::Failed(match (status.code(), status.signal()) {
                (Some(code), _) => format!("the command ended with exit status {code}"),
                (None, Some(libc::SIGKILL)) => "the command was killed by signal 9 (out of memory?)".to_owned(),
                (None, Some(signal)) => format!("the command was killed by signal {signal}"),
                (None, None) => format!("the command ended with {status}"),
            }));
        }
        for (port, declared) in &self.out {
            let port = PortName::parse(port).map_err(|e| StageError::Failed(e.to_string()))?;
            ctx.outputs.insert(port, PathBuf::from(&declared.path));
        }
        Ok(())
    }
}

impl Command {
    /// Where the program finds an input, below its work directory.
    pub fn input_path(&self, port: &PortName) -> PathBuf {
        let ending = self.endings.get(port.as_str()).map_or("", String::as_str);
        Path::new("in").join(format!("{port}{ending}"))
    }

    /// What the stage starts in the directory `work`, where copies of its inputs are; its empty homes are made in
    /// `private`.
    pub fn invocation(
        &self,
        inputs: &BTreeMap<PortName, PathBuf>,
        work: &Path,
        private: &Path,
    ) -> Result<Invocation, StageError> {
        let references = References::of(self, inputs, work);
        let program = self.program(&references)?;
        let argv = std::iter::once(program.get_program()).chain(program.get_args()).map(OsStr::to_owned).collect();
        Ok(Invocation { argv, variables: self.variables(&references, private)? })
    }

    /// What to start, with its arguments.
    fn program(&self, references: &References) -> Result<process::Command, StageError> {
        if let Some(argv) = &self.argv {
            let mut words = argv.iter().map(|word| references.argument(word));
            let name = words.next().ok_or_else(|| StageError::Input("`argv` names no program".to_owned()))??;
            let mut program = process::Command::new(find_program(&name)?);
            for word in words {
                program.arg(word?);
            }
            return Ok(program);
        }
        let text = self.run.as_deref().ok_or_else(|| {
            StageError::Input(
                "a command needs `run` (text for bash) or `argv` (a program and its arguments)".to_owned(),
            )
        })?;
        let mut program = process::Command::new(find_program("bash")?);
        program.args(["-eu", "-o", "pipefail", "-c"]);
        program.arg(references.script(text)?);
        Ok(program)
    }

    /// Everything that the program sees of the environment.
    fn variables(&self, references: &References, private: &Path) -> Result<BTreeMap<String, OsString>, StageError> {
        let mut variables: BTreeMap<String, OsString> = BTreeMap::new();
        for (name, value) in &self.values {
            if is_identifier(name) && !RESERVED.contains(&name.as_str()) {
                variables.insert(name.clone(), value.into());
            }
        }
        for reference in references.0.values() {
            variables.insert(reference.variable.clone(), (&reference.value).into());
        }
        variables.insert("PATH".to_owned(), std::env::var_os("PATH").unwrap_or_default());
        for (name, folder) in [("HOME", "home"), ("TMPDIR", "tmp")] {
            let folder = private.join(folder);
            fs_err::create_dir_all(&folder)?;
            variables.insert(name.to_owned(), folder.into());
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => variables.insert(name.clone(), value.into()),
                None => variables.remove(name),
            };
        }
        for name in self.secrets.keys() {
            let value = std::env::var_os(name)
                .ok_or_else(|| StageError::Input(format!("the secret {name} is not in the environment")))?;
            variables.insert(name.clone(), value);
        }
        Ok(variables)
    }
}

/// Variables that no pipeline parameter takes the place of.
const RESERVED: [&str; 9] = ["PATH", "HOME", "TMPDIR", "PWD", "OLDPWD", "IFS", "SHELL", "BASH_ENV", "ENV"];

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Finds a program as a shell would; a name with a slash is taken as it is.
fn find_program(name: &str) -> Result<PathBuf, StageError> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |file: &PathBuf| {
        fs_err::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(is_program).ok_or_else(
        || StageError::Failed(format!("there is no program {name:?} on PATH ({}): install it", path.to_string_lossy())),
    )
}

/// The program under strace, which notes what it and its children touch.
fn traced(program: &process::Command, notes: &Path) -> Result<process::Command, StageError> {
    let mut strace = process::Command::new(find_program("strace")?);
    strace.args(["-ff", "-y", "-qq", "-s", "4096", "-e", "signal=none", "-e", &format!("trace={CALLS}"), "-o"]);
    strace.arg(notes).arg("--").arg(program.get_program()).args(program.get_args());
    Ok(strace)
}

/// The calls that strace is asked for: those that name a file, start a process or reach for the network.
const CALLS: &str = "open,openat,openat2,creat,execve,execveat,chdir,fchdir,clone,clone3,fork,vfork,connect,sendto,sendmsg,\
unlink,unlinkat,rmdir,mkdir,mkdirat,mknod,mknodat,truncate,chmod,fchmodat,symlink,symlinkat,link,linkat,rename,renameat,\
renameat2";

/// How long a program may take to end itself once it was asked to.
const GRACE: Duration = Duration::from_secs(10);

/// Waits for the program; stops it, and all that it started, when the stage is cancelled.
fn wait(mut child: process::Child, ctx: &StageContext<'_>) -> Result<ExitStatus, StageError> {
    let id = child.id();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(child.wait()));
    let mut asked: Option<Instant> = None;
    loop {
        match receive.recv_timeout(Duration::from_millis(50)) {
            Ok(_) if asked.is_some() => return Err(StageError::Cancelled),
            Ok(status) => return Ok(status?),
            Err(_) => {}
        }
        if asked.is_none() && ctx.is_cancelled() {
            signal(id, libc::SIGTERM);
            asked = Some(Instant::now());
        }
        if asked.is_some_and(|since| since.elapsed() > GRACE) {
            signal(id, libc::SIGKILL);
        }
    }
}

/// Signals the program with its children: in a worker they are our own process group, of which we are the leader and
/// in which we have a handler for the polite signal.
fn signal(child: u32, signal: libc::c_int) {
    // SAFETY: these calls take and give numbers alone; the child is ours until its thread has waited for it.
    unsafe {
        let leads_a_group = libc::getpgrp() == libc::getpid();
        libc::kill(if leads_a_group { 0 } else { child.cast_signed() }, signal);
    }
}

/// What the placeholders of a command stand for, by their text between the braces (`in.metrics`).
struct References(BTreeMap<String, Reference>);

struct Reference {
    /// The environment variable that holds the value.
    variable: String,
    value: String,
}

impl References {
    /// Paths are relative to the work directory, in which the program starts: they are the same at each execution.
    fn of(command: &Command, inputs: &BTreeMap<PortName, PathBuf>, work: &Path) -> Self {
        let inputs = inputs.iter().map(|(port, path)| {
            let path = path.strip_prefix(work).unwrap_or(path);
            (format!("in.{port}"), path.to_string_lossy().into_owned())
        });
        let outputs = command.out.iter().map(|(port, declared)| (format!("out.{port}"), declared.path.clone()));
        let values = command.values.iter().map(|(name, value)| (format!("param.{name}"), value.clone()));
        Self::from_values(inputs.chain(outputs).chain(values))
    }

    fn from_values(values: impl Iterator<Item = (String, String)>) -> Self {
        let mut taken = BTreeSet::new();
        let sorted: BTreeMap<String, String> = values.collect();
        let with_variable = |(placeholder, value): (String, String)| {
            let word: String = placeholder.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            let mut variable = format!("CISTAGE_{}", word.to_ascii_uppercase());
            // `a-b` and `a_b` would share a name.
            while !taken.insert(variable.clone()) {
                variable.push('_');
            }
            (placeholder, Reference { variable, value })
        };
        Self(sorted.into_iter().map(with_variable).collect())
    }

    /// Puts the value in the place of each placeholder; any other brace stays as it is.
    fn argument(&self, text: &str) -> Result<String, StageError> {
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, from_brace) = rest.split_at(open);
            replaced.push_str(before);
            let (put, length) = match shell::placeholder(from_brace) {
                Some(inside) => (self.find(inside)?.value.as_str(), inside.len() + 2),
                None => ("{", 1),
            };
            replaced.push_str(put);
            rest = &from_brace[length..];
        }
        replaced.push_str(rest);
        Ok(replaced)
    }

    /// Puts a reference to a variable in the place of each placeholder, quoted as its place asks for.
    fn script(&self, text: &str) -> Result<String, StageError> {
        let pieces = shell::pieces(text).map_err(|trouble| {
            StageError::Input(format!("`run`, line {}: {}: {}", trouble.line, trouble.what, trouble.help))
        })?;
        let mut script = String::with_capacity(text.len());
        for piece in pieces {
            match piece {
                Piece::Text(text) => script.push_str(text),
                Piece::Placeholder { inside, place, line } => {
                    let reference = self.find(inside)?;
                    if place == Place::Arithmetic && !shell::is_whole_number(&reference.value) {
                        return Err(StageError::Input(format!(
                            "`run`, line {line}: bash calculates with {{{inside}}}, and {:?} is not a whole number",
                            reference.value
                        )));
                    }
                    script.push_str(&place.reference(&reference.variable));
                }
            }
        }
        Ok(script)
    }

    fn find(&self, inside: &str) -> Result<&Reference, StageError> {
        self.0.get(inside).ok_or_else(|| {
            let known: Vec<String> = self.0.keys().map(|known| format!("{{{known}}}")).collect();
            StageError::Input(format!("{{{inside}}} stands for nothing; there are: {}", known.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references() -> References {
        let pairs = [("in.rows", "in/rows.parquet"), ("in.a-b", "in/a-b"), ("in.a_b", "in/a_b"), ("param.seed", "42")];
        References::from_values(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn placeholders_become_quoted_references_and_other_braces_stay() {
        let text = "cut -f1 {in.rows} | awk '{print $1}' > ${HOME}/{param.seed}; echo {a,b} {";
        let expected =
            "cut -f1 \"${CISTAGE_IN_ROWS}\" | awk '{print $1}' > ${HOME}/\"${CISTAGE_PARAM_SEED}\"; echo {a,b} {";
        assert_eq!(references().script(text).expect("all are known"), expected);
        assert_eq!(
            references().script("show '{in.rows}' \"{in.rows}\" $(( {param.seed} + 1 ))").expect("all are known"),
            "show ''\"${CISTAGE_IN_ROWS}\"'' \"${CISTAGE_IN_ROWS}\" $(( ${CISTAGE_PARAM_SEED} + 1 ))"
        );
        assert_eq!(references().argument("--in={in.rows},{x}").expect("all are known"), "--in=in/rows.parquet,{x}");
    }

    #[test]
    fn names_that_look_alike_get_variables_of_their_own() {
        let references = references();
        assert_ne!(references.0["in.a-b"].variable, references.0["in.a_b"].variable);
    }

    #[test]
    fn a_placeholder_for_nothing_is_an_error_that_lists_what_there_is() {
        let error = references().script("cat {in.row}").expect_err("no such input");
        assert!(matches!(&error, StageError::Input(m) if m.contains("{in.row}") && m.contains("{in.rows}")), "{error}");
    }

    #[test]
    fn bash_never_calculates_with_anything_but_a_whole_number() {
        let error = references().script("echo $(( {in.rows} ))").expect_err("a path");
        assert!(matches!(&error, StageError::Input(m) if m.contains("{in.rows}")), "{error}");
    }
}
