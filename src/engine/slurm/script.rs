//! The text of a batch script: what is asked of Slurm, and how a node gets to the worker.

use crate::engine::reproduce::quoted;
use crate::site;
use crate::stage::Resources;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What jobs of one submission have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Request {
    pub resources: Resources,
    /// Environment variables that the job is handed: names alone, their values never stand in a file.
    pub secrets: Vec<String>,
    /// Processes that share it.
    pub ranks: u32,
    /// It computes on a GPU; each of several ranks on one of its own.
    pub on_gpu: bool,
    /// It saves its state when it is told that its time is nearly over.
    pub resumes: bool,
}

/// Seconds before the end at which a stage that saves its state is told.
const WARN: u64 = 120;

/// Environment variables that jobs are handed where they are set, beside Slurm's own.
const HANDED: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "LD_LIBRARY_PATH"];
const SLURMS: [&str; 2] = ["SLURM_", "SBATCH_"];

/// Would put other variables in the place of these.
const EXPORT: &str = "SBATCH_EXPORT";

impl Request {
    /// The script for the jobs in these folders, an array where they are several.
    pub(super) fn script(
        &self,
        name: &str,
        comment: &str,
        folders: &[&Path],
        site: &site::Slurm,
        program: &Path,
    ) -> String {
        // Set-up needs what a login gives (`module` is a shell's function), and may be slow; other jobs need none of it.
        let mut text = if site.setup.is_empty() { "#!/bin/bash\n" } else { "#!/bin/bash -l\n" }.to_owned();
        for option in self.options(name, comment, folders.len(), site) {
            let _ = writeln!(text, "#SBATCH {option}");
        }
        let words: Vec<String> = folders.iter().map(|folder| word(folder.as_os_str())).collect();
        let _ = writeln!(text, "folders=(\n  {}\n)", words.join("\n  "));
        text += "folder=${folders[${SLURM_ARRAY_TASK_ID:-0}]}\n";
        text += "exec >> \"$folder/slurm.out\" 2>&1\n";
        if let (false, Some(path)) = (site.setup.is_empty(), std::env::var_os("PATH")) {
            // A login has replaced it.
            let _ = writeln!(text, "export PATH={}:\"$PATH\"", word(&path));
        }
        for line in &site.setup {
            // Braces: the line may end in a comment.
            let said = word(OsStr::new(&format!("a line of set-up failed: {line}")));
            let _ = writeln!(text, "{{ {line}\n}} || {{ echo {said}; exit 1; }}");
        }
        // In the shell's place: signals reach the worker.
        let _ = writeln!(text, "exec {} worker --detached \"$folder\"", word(program.as_os_str()));
        text
    }

    /// The environment that a submission is made in, and the job handed: of all that is set here, as little as it needs.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        let is_handed = |name: &str| {
            let is_slurms = SLURMS.iter().any(|start| name.starts_with(start)) && name != EXPORT;
            is_slurms || HANDED.contains(&name) || self.secrets.iter().any(|secret| secret == name)
        };
        std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_handed)).collect()
    }

    fn options(&self, name: &str, comment: &str, jobs: usize, site: &site::Slurm) -> Vec<String> {
        let Resources { cpus, memory, gpus, time } = self.resources;
        let mut options = vec![
            format!("--job-name={}", word(OsStr::new(name))),
            format!("--comment={}", word(OsStr::new(comment))),
            format!("--ntasks={}", self.ranks),
            "--output=/dev/null".to_owned(),
            "--requeue".to_owned(),
            // All of what `environment` lets through. A list here would have every node go through a user's login.
            "--export=ALL".to_owned(),
        ];
        if jobs > 1 {
            options.push(format!("--array=0-{}", jobs - 1));
        }
        if self.ranks == 1 {
            options.push("--nodes=1".to_owned());
        }
        match (cpus, site.cpus) {
            (u32::MAX, Some(all)) => options.push(format!("--cpus-per-task={all}")),
            (u32::MAX, None) => options.push("--exclusive".to_owned()),
            (cpus, _) => options.push(format!("--cpus-per-task={}", cpus.div_ceil(self.ranks))),
        }
        match (memory, &site.memory) {
            (0, None) => {}
            (0, Some(memory)) => options.push(format!("--mem={memory}")),
            (memory, _) => options.push(format!("--mem={}M", memory.div_ceil(1 << 20))),
        }
        match gpus.max(site.gpus.unwrap_or(0)) {
            // Tasks lie on nodes as Slurm likes: each takes its GPUs along.
            gpus if self.on_gpu && self.ranks > 1 => {
                options.push(format!("--gpus-per-task={}", gpus.div_ceil(self.ranks).max(1)));
            }
            0 => {}
            gpus => options.push(format!("--gres=gpu:{gpus}")),
        }
        match (time, &site.time) {
            (0, None) => {}
            (0, Some(time)) => options.push(format!("--time={time}")),
            // Slurm counts in minutes.
            (time, _) => options.push(format!("--time={}", time.div_ceil(60))),
        }
        if self.resumes {
            let warn = site.warn_seconds.unwrap_or(WARN);
            let warn = if time == 0 { warn } else { warn.min(time.div_ceil(60) * 30) };
            options.push(format!("--signal=B:USR2@{warn}"));
        }
        for (option, value) in [("partition", &site.partition), ("account", &site.account), ("qos", &site.qos)] {
            options.extend(value.as_ref().map(|value| format!("--{option}={value}")));
        }
        options.extend(site.flags.iter().cloned());
        options
    }
}

/// One word of a shell.
fn word(text: &OsStr) -> String {
    String::from_utf8_lossy(&quoted(text)).into_owned()
}

/// The program that nodes start: as the site says, else the file of this very one.
pub(super) fn program(site: &site::Slurm) -> std::io::Result<PathBuf> {
    match &site.program {
        Some(program) => std::path::absolute(program),
        None => std::env::current_exe(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(resources: Resources) -> Request {
        Request { resources, secrets: vec!["TOKEN".to_owned()], ranks: 1, on_gpu: false, resumes: true }
    }

    #[test]
    fn a_stage_asks_for_what_it_needs_and_the_site_fills_in_the_rest() {
        let site = site::Slurm {
            partition: Some("cpu".to_owned()),
            time: Some("2:00:00".to_owned()),
            flags: vec!["--nice".to_owned()],
            setup: vec!["module load gcc".to_owned()],
            ..site::Slurm::default()
        };
        let all = request(Resources { memory: 3 << 30, ..Resources::ALL_CPUS });
        let text = all.script("a", "stage=a", &[Path::new("/shared/it's")], &site, Path::new("/bin/cistage"));
        for line in [
            "#SBATCH --exclusive",
            "#SBATCH --mem=3072M",
            "#SBATCH --time=2:00:00",
            "#SBATCH --partition=cpu",
            "#SBATCH --nice",
            "#SBATCH --signal=B:USR2@120",
            "{ module load gcc",
            "} || { echo 'a line of set-up failed: module load gcc'; exit 1; }",
            r"  '/shared/it'\''s'",
            "exec '/bin/cistage' worker --detached \"$folder\"",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}\n{text}");
        }
        assert!(text.starts_with("#!/bin/bash -l\n") && !text.contains("--array"), "{text}");
    }

    #[test]
    fn ranks_are_tasks_that_may_lie_on_several_nodes() {
        let four = Request { ranks: 4, ..request(Resources { cpus: 10, ..Resources::ONE_CPU }) };
        let text = four.script("n", "c", &[Path::new("/a")], &site::Slurm::default(), Path::new("/bin/cistage"));
        assert!(text.contains("--ntasks=4\n") && text.contains("--cpus-per-task=3\n"), "{text}");
        assert!(!text.contains("--nodes"), "{text}");
    }

    #[test]
    fn ranks_on_gpus_have_one_each_and_more_where_the_stage_says_so() {
        let asks = |gpus: u32, on_gpu: bool, site: Option<u32>| {
            let four = Request { ranks: 4, on_gpu, ..request(Resources { gpus, ..Resources::ONE_CPU }) };
            let options = four.options("n", "c", 1, &site::Slurm { gpus: site, ..site::Slurm::default() });
            options.into_iter().filter(|option| option.contains("gpu")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(asks(0, true, None), "--gpus-per-task=1");
        assert_eq!(asks(4, true, Some(1)), "--gpus-per-task=1");
        assert_eq!(asks(6, true, None), "--gpus-per-task=2");
        assert_eq!(asks(0, false, None), "");
        assert_eq!(asks(2, false, None), "--gres=gpu:2");
    }

    #[test]
    fn equal_jobs_are_an_array_and_a_short_time_is_warned_of_halfway() {
        let one = request(Resources { time: 90, gpus: 2, ..Resources::ONE_CPU });
        let folders = [Path::new("/a"), Path::new("/b"), Path::new("/c")];
        let text = one.script("n", "c", &folders, &site::Slurm::default(), Path::new("/bin/cistage"));
        for line in ["--array=0-2", "--cpus-per-task=1", "--time=2", "--gres=gpu:2", "--signal=B:USR2@60"] {
            assert!(text.contains(&format!("#SBATCH {line}\n")), "{line}\n{text}");
        }
    }
}
