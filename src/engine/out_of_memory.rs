//! Whether the kernel has killed a process of this job for want of memory: a script that goes on after that ends as if all
//! were well.

use std::path::{Path, PathBuf};

/// How often that has happened in the control group of this process; 0 where nobody counts.
pub(super) fn kills() -> u64 {
    let groups = fs_err::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let counted = files(&groups).into_iter().filter_map(|file| count(&fs_err::read_to_string(file).ok()?));
    counted.max().unwrap_or(0)
}

/// The files in which the kernel counts, by `/proc/self/cgroup`: of the unified hierarchy, and of the one before it.
fn files(groups: &str) -> Vec<PathBuf> {
    let file = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let root = Path::new("/sys/fs/cgroup");
        if controllers.is_empty() {
            Some(root.join(path).join("memory.events"))
        } else {
            let counts = controllers.split(',').any(|controller| controller == "memory");
            counts.then(|| root.join("memory").join(path).join("memory.oom_control"))
        }
    };
    groups.lines().filter_map(file).collect()
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hierarchies_are_read() {
        let groups = "5:memory:/slurm/uid_0/job_7/step_batch\n3:cpu,cpuacct:/x\n0::/user.slice/job\n";
        assert_eq!(
            files(groups),
            [
                Path::new("/sys/fs/cgroup/memory/slurm/uid_0/job_7/step_batch/memory.oom_control"),
                Path::new("/sys/fs/cgroup/user.slice/job/memory.events"),
            ]
        );
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(count("low 0\noom 1\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(count("nothing"), None);
    }
}
