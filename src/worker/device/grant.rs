//! What cgroup v2 and Slurm grant this process.
//!
//! Slurm limits the cgroups of the job and of the step, and leaves the process's own at `max`: a limit holds for
//! everything below it, so the least one between a process and the mount is what counts.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Where the limits of a process are written.
pub(super) struct Grant {
    /// Its cgroup and those above it, up to the mount.
    cgroups: Vec<PathBuf>,
    /// A variable of the environment.
    variable: fn(&str) -> Option<String>,
}

impl Grant {
    /// The grant of this process.
    pub(super) fn of_this_process() -> Self {
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::new(Path::new("/sys/fs/cgroup"), &membership, |name| std::env::var(name).ok())
    }

    /// The grant under a mount of cgroup v2; `membership` is the text of `/proc/self/cgroup`.
    fn new(mount: &Path, membership: &str, variable: fn(&str) -> Option<String>) -> Self {
        let own = membership.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        // A process outside of its namespace's root is told `/../…`, which no path below the mount leads to.
        let is_below = Path::new(own).components().all(|part| part != Component::ParentDir);
        let leaf = if is_below { mount.join(own.trim_start_matches('/')) } else { mount.to_owned() };
        let levels = leaf.ancestors().take_while(|level| level.starts_with(mount));
        Self { cgroups: levels.map(Path::to_owned).collect(), variable }
    }

    /// CPUs granted, at least one: the least quota of the cgroups, rounded up, and Slurm's; none without a limit.
    pub(super) fn cpus(&self) -> Option<usize> {
        let quotas = self.cgroups.iter().filter_map(|level| cpu_quota(level));
        quotas.chain(self.number("SLURM_CPUS_PER_TASK").map(|cpus| cpus as usize)).min()
    }

    /// Bytes that may still be taken, with `cores` granted cores: the least rest of the cgroups, and Slurm's grant per
    /// node and per core; none without a limit.
    pub(super) fn memory(&self, cores: usize) -> Option<u64> {
        let rests = self.cgroups.iter().filter_map(|level| memory_rest(level));
        let per_core = self.number("SLURM_MEM_PER_CPU").map(|mib| mib.saturating_mul(cores as u64));
        let slurm = [self.number("SLURM_MEM_PER_NODE"), per_core].into_iter().flatten();
        rests.chain(slurm.map(|mib| mib.saturating_mul(1 << 20))).min()
    }

    /// A number in the environment; Slurm's 0 (`--mem=0`) means the whole node.
    fn number(&self, name: &str) -> Option<u64> {
        (self.variable)(name)?.trim().parse().ok().filter(|number| *number > 0)
    }
}

/// CPUs of one cgroup's quota, rounded up; `cpu.max` is `max 100000` without one.
fn cpu_quota(cgroup: &Path) -> Option<usize> {
    let text = fs::read_to_string(cgroup.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1) as usize)
}

/// What is left of one cgroup's memory: to the limit, or to where the system begins to slow the process down.
fn memory_rest(cgroup: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(cgroup.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = [number("memory.max"), number("memory.high")].into_iter().flatten().min()?;
    // Cached file pages are given back when memory is needed: a run that has read a large dataset is not out of it.
    let statistics = fs::read_to_string(cgroup.join("memory.stat")).unwrap_or_default();
    let cached = statistics.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok());
    let used = number("memory.current")?.saturating_sub(cached.unwrap_or(0));
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// The cgroups of a Slurm step, each with what a test writes into its files.
    struct Mount(tempfile::TempDir);

    const STEP: &str = "system.slice/slurmstepd.scope/job_7/step_0";

    impl Mount {
        fn new() -> Self {
            let mount = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(mount.0.path().join(STEP).join("task_0")).unwrap();
            mount
        }

        fn file(self, name: &str, text: &str) -> Self {
            fs::write(self.0.path().join(name), text).unwrap();
            self
        }

        /// The grant of the step's only task.
        fn grant(&self) -> Grant {
            let membership = format!("3:cpu:/elsewhere\n0::/{STEP}/task_0\n");
            Grant::new(self.0.path(), &membership, |_| None)
        }
    }

    #[test]
    fn without_files_and_variables_nothing_is_limited() {
        let mount = Mount::new();
        assert_eq!((mount.grant().cpus(), mount.grant().memory(4)), (None, None));
        let nowhere = Grant::new(Path::new("/no/such/mount"), "", |_| None);
        assert_eq!((nowhere.cpus(), nowhere.memory(4)), (None, None));
    }

    #[test]
    fn a_limit_above_the_own_cgroup_holds() {
        let mount = Mount::new()
            .file(&format!("{STEP}/task_0/cpu.max"), "max 100000\n")
            .file(&format!("{STEP}/task_0/memory.max"), "max\n")
            .file(&format!("{STEP}/task_0/memory.current"), "1048576\n")
            .file(&format!("{STEP}/cpu.max"), "250000 100000\n")
            .file(&format!("{STEP}/memory.max"), &format!("{}\n", 8 * GIB))
            .file(&format!("{STEP}/memory.current"), &format!("{}\n", 3 * GIB));
        assert_eq!((mount.grant().cpus(), mount.grant().memory(4)), (Some(3), Some(5 * GIB)));
    }

    #[test]
    fn the_least_limit_of_all_levels_counts() {
        let job = "system.slice/slurmstepd.scope/job_7";
        let mount = Mount::new()
            .file("cpu.max", "1600000 100000")
            .file(&format!("{job}/cpu.max"), "400000 100000")
            .file(&format!("{STEP}/cpu.max"), "800000 100000")
            .file(&format!("{job}/memory.max"), &(6 * GIB).to_string())
            .file(&format!("{job}/memory.current"), &(5 * GIB).to_string())
            .file(&format!("{STEP}/memory.max"), &(4 * GIB).to_string())
            .file(&format!("{STEP}/memory.current"), &(2 * GIB).to_string());
        assert_eq!((mount.grant().cpus(), mount.grant().memory(4)), (Some(4), Some(GIB)));
    }

    #[test]
    fn the_mark_where_the_system_slows_down_is_a_limit() {
        let mount = Mount::new()
            .file(&format!("{STEP}/memory.max"), &(8 * GIB).to_string())
            .file(&format!("{STEP}/memory.high"), &(6 * GIB).to_string())
            .file(&format!("{STEP}/memory.current"), &(7 * GIB).to_string());
        assert_eq!(mount.grant().memory(4), Some(0), "more is taken already");
    }

    #[test]
    fn cached_files_are_free_memory() {
        let mount = Mount::new()
            .file(&format!("{STEP}/memory.max"), &(8 * GIB).to_string())
            .file(&format!("{STEP}/memory.current"), &(7 * GIB).to_string())
            .file(
                &format!("{STEP}/memory.stat"),
                &format!("anon 5\ninactive_file {}\nactive_file 9\n", 4 * GIB),
            );
        assert_eq!(mount.grant().memory(4), Some(5 * GIB));
    }

    #[test]
    fn a_quota_below_one_cpu_is_one() {
        let mount = Mount::new().file(&format!("{STEP}/cpu.max"), "1000 100000");
        assert_eq!(mount.grant().cpus(), Some(1));
        let broken = Mount::new().file(&format!("{STEP}/cpu.max"), "1000 0");
        assert_eq!(broken.grant().cpus(), None);
    }

    #[test]
    fn a_path_that_the_mount_does_not_show_leaves_the_mount_itself() {
        let mount = Mount::new().file("cpu.max", "200000 100000");
        for membership in ["0::/../../other\n", "0::/docker/not-in-this-namespace\n", "0::/\n", ""] {
            let grant = Grant::new(mount.0.path(), membership, |_| None);
            assert_eq!(grant.cpus(), Some(2), "{membership}");
        }
    }

    #[test]
    fn slurm_grants_memory_by_node_or_by_core() {
        let mount = Mount::new();
        let slurm = |variable| Grant::new(mount.0.path(), "", variable);
        let node = slurm(|name| (name == "SLURM_MEM_PER_NODE").then(|| "2048".to_owned()));
        assert_eq!(node.memory(4), Some(2 * GIB));
        let core = slurm(|name| (name == "SLURM_MEM_PER_CPU").then(|| "512".to_owned()));
        assert_eq!((core.memory(4), core.memory(1)), (Some(2 * GIB), Some(GIB / 2)));
        let whole_node = slurm(|name| (name == "SLURM_MEM_PER_NODE").then(|| "0".to_owned()));
        assert_eq!(whole_node.memory(4), None);
        let huge = slurm(|name| (name == "SLURM_MEM_PER_CPU").then(|| u64::MAX.to_string()));
        assert_eq!(huge.memory(4), Some(u64::MAX));
    }

    #[test]
    fn slurm_and_cgroup_are_both_kept_to() {
        let mount = Mount::new()
            .file("cpu.max", "300000 100000")
            .file("memory.max", &(4 * GIB).to_string())
            .file("memory.current", "0");
        let slurm = |variable| Grant::new(mount.0.path(), "0::/\n", variable);
        let fewer = slurm(|name| match name {
            "SLURM_CPUS_PER_TASK" => Some("2".to_owned()),
            "SLURM_MEM_PER_CPU" => Some(" 1024 ".to_owned()),
            _ => None,
        });
        assert_eq!((fewer.cpus(), fewer.memory(2)), (Some(2), Some(2 * GIB)));
        let more = slurm(|name| match name {
            "SLURM_CPUS_PER_TASK" => Some("64".to_owned()),
            "SLURM_MEM_PER_NODE" => Some("65536".to_owned()),
            _ => None,
        });
        assert_eq!((more.cpus(), more.memory(3)), (Some(3), Some(4 * GIB)));
    }
}
