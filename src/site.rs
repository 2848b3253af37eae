//! `cistage.toml`: what a site says once for all runs of a folder. None of it is part of a key.

use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

/// The file's name; it is looked for in the working directory and in those above.
pub const FILE: &str = "cistage.toml";

/// All that a site may say.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Site {
    /// Where stages run when the command line does not say: `local` or `slurm`.
    pub executor: Option<Executor>,
    /// The URL of a shared cache: `s3://bucket/prefix`, `gs://…`, `az://…`, `https://…`, or a folder.
    pub remote: Option<String>,
    pub remote_mode: Option<RemoteMode>,
    /// Whose records from a shared cache are served.
    pub trust: Trust,
    pub slurm: Slurm,
    /// The folder that the file is in: its relative paths start there.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Where stages run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// On this machine.
    #[default]
    Local,
    /// As jobs of Slurm.
    Slurm,
}

/// What a run does with the shared cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RemoteMode {
    /// Serves from it, and adds nothing.
    #[default]
    Read,
    /// Serves from it, and adds what was executed.
    Write,
    Off,
}

/// Whose records from a shared cache are served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Trust {
    /// Those signed with one of these keys, each a file with a public key.
    Keys(Vec<PathBuf>),
    /// `any`: whoever may write to it is trusted.
    Any(Any),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Any {
    Any,
}

impl Default for Trust {
    fn default() -> Self {
        Self::Keys(Vec::new())
    }
}

/// How jobs are submitted to Slurm.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Slurm {
    pub partition: Option<String>,
    pub account: Option<String>,
    pub qos: Option<String>,
    /// Of stages that do not say, as Slurm has it: minutes, or `HH:MM:SS`.
    pub time: Option<String>,
    /// Of stages that do not say, as Slurm has it: `8G`.
    pub memory: Option<String>,
    /// Of stages that would take all processors of a machine.
    pub cpus: Option<u32>,
    /// Of stages that do not say.
    pub gpus: Option<u32>,
    /// Further options of `sbatch`.
    pub flags: Vec<String>,
    /// Lines of shell that run on the node before the stage: `module load …`.
    pub setup: Vec<String>,
    /// The program on the nodes; this very one where nothing is said.
    pub program: Option<PathBuf>,
    /// How often a stage whose node failed, or that was preempted, is submitted again.
    pub retries: Option<u32>,
    /// Jobs queued or running at once.
    pub jobs: Option<usize>,
    /// The least seconds between two questions to the controller.
    pub poll_seconds: Option<u64>,
    /// After so many seconds without a trace of it a job is lost.
    pub lost_seconds: Option<u64>,
    /// So many seconds before its time is over a training is told to save its state.
    pub warn_seconds: Option<u64>,
}

/// Why a site file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{path}: {message}")]
    Wrong { path: String, message: String },
}

impl Site {
    /// Reads the nearest file from `folder` upwards; without one a site says nothing.
    pub fn find(folder: &Path) -> Result<Self, SiteError> {
        let Some(path) = folder.ancestors().map(|folder| folder.join(FILE)).find(|path| path.is_file()) else {
            return Ok(Self::default());
        };
        let text = fs_err::read_to_string(&path)?;
        let mut site =
            Self::read(&text).map_err(|message| SiteError::Wrong { path: path.display().to_string(), message })?;
        path.parent().unwrap_or(folder).clone_into(&mut site.folder);
        Ok(site)
    }

    fn read(text: &str) -> Result<Self, String> {
        let site: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        for line in site.slurm.flags.iter().chain(&site.slurm.setup) {
            if line.contains('\n') {
                return Err(format!("an entry of `flags` or `setup` is one line, not {line:?}"));
            }
        }
        Ok(site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_upwards_is_read() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let below = dir.path().join("a/b");
        fs_err::create_dir_all(&below).expect("makes");
        assert_eq!(Site::find(&below).expect("nothing said"), Site::default());
        let text = "executor = \"slurm\"\nremote = \"s3://lab/cache\"\nremote-mode = \"write\"\ntrust = \"any\"\n\
                    [slurm]\npartition = \"cpu\"\nflags = [\"--exclusive\"]\npoll-seconds = 1\n";
        fs_err::write(dir.path().join(FILE), text).expect("writes");
        let site = Site::find(&below).expect("reads");
        assert_eq!((site.executor, site.remote_mode), (Some(Executor::Slurm), Some(RemoteMode::Write)));
        assert_eq!((site.trust, site.folder.as_path()), (Trust::Any(Any::Any), dir.path()));
        assert_eq!(site.slurm.flags, ["--exclusive"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, expected) in [
            ("[slurm]\npartion = \"cpu\"", "line 2"),
            ("executor = \"pbs\"", "expected `local` or `slurm`"),
            ("[slurm]\nsetup = [\"a\\nb\"]", "one line"),
        ] {
            let message = Site::read(text).expect_err("wrong");
            assert!(message.contains(expected), "{message}");
        }
    }
}
