//! The work directory of a command stage, made again as a run gave it to the program, for a person to look into.

use super::{EngineError, manifest, sources};
use crate::action::{ActionManifest, Input, Origin};
use crate::cache::{Cache, RunRecord, StepRecord};
use crate::name::{PortName, StageName};
use crate::pipeline::{self, Options, Step};
use crate::stages::{Command, Invocation, StageKind};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What was made below a folder: `work/` with the inputs, empty homes, and `run.sh`, which starts the program there.
#[derive(Debug)]
pub struct Reproduced {
    pub work: PathBuf,
    pub script: PathBuf,
    pub invocation: Invocation,
    /// What is not as it was in that run.
    pub differences: Vec<String>,
}

/// Makes the work directory of `step`, a command stage of `run`, below the new folder `dir`. Of a branch that did not
/// get its inputs, or whose inputs are gone, says so.
pub fn reproduce(cache: &Cache, run: &RunRecord, step: &StepRecord, dir: &Path) -> Result<Reproduced, EngineError> {
    let planned = plan_again(cache, run, &step.stage)?;
    let StageKind::Command(command) = &planned.kind else {
        return Err(EngineError::Input(format!(
            "{} is a `{}` stage: there is a shell for `command` stages alone",
            step.stage,
            planned.kind.name()
        )));
    };
    if step.inputs.len() < planned.inputs.len() {
        let why = step.error.clone().unwrap_or_else(|| "a stage before it made nothing".to_owned());
        return Err(EngineError::Input(format!("{} did not get its inputs in run {}: {why}", step.stage, run.run)));
    }
    let mut differences = Vec::new();
    let digests = step.inputs.iter().map(|(port, input)| (port.clone(), input.artifact.digest)).collect();
    if step.key != Some(manifest::manifest(&planned, digests).key()) {
        differences.push(
            "variables named by `env`, or this version of cistage, are not those of that run: the key is another"
                .to_owned(),
        );
    }
    let made = |error: std::io::Error| EngineError::Input(format!("can't make {}: {error}", dir.display()));
    let dir = std::path::absolute(dir).map_err(made)?;
    fs_err::create_dir_all(dir.parent().unwrap_or(&dir)).map_err(made)?;
    let is_new = fs_err::create_dir(&dir).is_ok();
    let (work, script) = (dir.join("work"), dir.join("run.sh"));
    // Whoever makes this folder has the place: nothing of others is touched.
    fs_err::create_dir(&work).map_err(made)?;
    let mut fill = || {
        let inputs = inputs(cache, command, step, &work, &mut differences)?;
        for parent in command.out.values().filter_map(|declared| work.join(&declared.path).parent().map(Path::to_owned))
        {
            fs_err::create_dir_all(parent).map_err(made)?;
        }
        let invocation = command.invocation(&inputs, &work, &dir);
        let invocation = invocation.map_err(|error| EngineError::Input(error.to_string()))?;
        fs_err::write(&script, script_of(&invocation, command, step, run, &dir)).map_err(made)?;
        fs_err::set_permissions(&script, Permissions::from_mode(0o755)).map_err(made)?;
        Ok(invocation)
    };
    // Half of it would be in the way of the next attempt.
    let invocation = fill().inspect_err(|_: &EngineError| {
        for folder in ["work", "home", "tmp"] {
            let _ = fs_err::remove_dir_all(dir.join(folder));
        }
        let _ = fs_err::remove_file(&script);
        if is_new {
            let _ = fs_err::remove_dir(&dir);
        }
    })?;
    Ok(Reproduced { work, script, invocation, differences })
}

/// What the key of a step is the digest of, made again from the run's pipeline: a failed action leaves no record of it.
/// `None` where something that it holds is another now, as the environment may be.
pub fn manifest_again(cache: &Cache, run: &RunRecord, step: &StepRecord) -> Option<ActionManifest> {
    let planned = plan_again(cache, run, &step.stage).ok()?;
    let digests = step.inputs.iter().map(|(port, input)| (port.clone(), input.artifact.digest)).collect();
    let manifest = manifest::manifest(&planned, digests);
    (step.key == Some(manifest.key())).then_some(manifest)
}

/// The step as the run planned it: of the text that it read then, with its profiles and values.
fn plan_again(cache: &Cache, run: &RunRecord, stage: &StageName) -> Result<Step, EngineError> {
    let text = String::from_utf8(cache.read_object(run.text)?)
        .map_err(|_| EngineError::Other(format!("the pipeline text of run {} is no text", run.run)))?;
    let options = Options { profiles: run.profiles.clone(), sets: run.sets.clone(), to: None };
    let plan = pipeline::plan_of_text(Path::new(&run.file), &text, &options)
        .map_err(|problems| EngineError::Input(format!("the pipeline of run {}: {problems}", run.run)))?;
    plan.steps.into_iter().find(|step| step.name == *stage).ok_or_else(|| {
        EngineError::Other(format!("this version of cistage finds no stage {stage} in the pipeline of run {}", run.run))
    })
}

/// Copies of the inputs, where the program looks for them.
fn inputs(
    cache: &Cache,
    command: &Command,
    step: &StepRecord,
    work: &Path,
    differences: &mut Vec<String>,
) -> Result<BTreeMap<PortName, PathBuf>, EngineError> {
    let mut paths = BTreeMap::new();
    for (port, Input { artifact, origin }) in &step.inputs {
        if paths.is_empty() {
            fs_err::create_dir(work.join("in")).map_err(|error| EngineError::Other(error.to_string()))?;
        }
        let copy = work.join(command.input_path(port));
        match origin {
            Origin::Action { .. } => cache.copy_out(artifact, &copy).map_err(|error| {
                EngineError::Input(format!(
                    "input `{port}` is not in the cache any more ({error}): run the pipeline again"
                ))
            })?,
            Origin::Source { path } => {
                let found = sources::copy(Path::new(path), &copy)
                    .map_err(|error| EngineError::Input(format!("input `{port}`: {error}")))?;
                if found != artifact.digest {
                    differences.push(format!("{path} has changed since (input `{port}`)"));
                }
            }
        }
        paths.insert(port.clone(), copy);
    }
    Ok(paths)
}

/// A text for bash that starts the program as the stage does, also after its folder was moved. Secrets are taken from
/// the environment, and not written down.
fn script_of(invocation: &Invocation, command: &Command, step: &StepRecord, run: &RunRecord, dir: &Path) -> Vec<u8> {
    let mut text = format!(
        "#!/usr/bin/env bash\n# Stage {} of {}, as run {} started it.\nset -eu\nunset CDPATH\nhere=$(cd -- \"$(dirname -- \"$0\")\" && pwd)\n\
         cd -- \"$here/work\"\nexec env -i \\\n",
        step.stage, run.pipeline, run.run
    )
    .into_bytes();
    for (name, value) in &invocation.variables {
        let is_home = matches!(name.as_str(), "HOME" | "TMPDIR") && !command.environment.contains_key(name);
        let below = Path::new(value).strip_prefix(dir).ok().filter(|_| is_home);
        let assigned = if command.secrets.contains_key(name) {
            format!("{name}=\"${{{name}:?is a secret of this stage, and not in the environment}}\"").into_bytes()
        } else if name == "PATH" && !command.environment.contains_key(name) {
            b"PATH=\"$PATH\"".to_vec()
        } else if let Some(below) = below {
            [name.as_bytes(), b"=\"$here\"/", &quoted(below.as_os_str())].concat()
        } else {
            [name.as_bytes(), b"=", &quoted(value)].concat()
        };
        text.extend([b"  ", &assigned[..], b" \\\n"].concat());
    }
    let words: Vec<Vec<u8>> = invocation.argv.iter().map(|word| quoted(word)).collect();
    // `env` would take such a program for a variable.
    let start: &[u8] = if invocation.argv[0].as_bytes().contains(&b'=') { b"sh -c 'exec \"$@\"' sh " } else { b"" };
    // The stage's program has no input, either.
    text.extend([b"  ", start, &words.join(&b' ')[..], b" < /dev/null\n"].concat());
    text
}

/// A word that a shell takes as it is.
pub(super) fn quoted(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word.as_bytes() {
        if byte == b'\'' { quoted.extend(b"'\\''") } else { quoted.push(byte) }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::quoted;
    use std::ffi::OsStr;

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_is() {
        for word in ["", "a b", "it's", "$HOME `x` \"y\" \\", "line\nline", "''"] {
            let quoted = String::from_utf8(quoted(OsStr::new(word))).expect("it was text");
            let text = format!("printf %s {quoted}");
            let out = std::process::Command::new("sh").args(["-c", &text]).output().expect("there is a shell");
            assert_eq!(String::from_utf8_lossy(&out.stdout), word, "{quoted}");
        }
    }
}
