//! The processes that run under a sandbox cluster, as the process table shows them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// A process of `dflow` in an array task: the task's main process, or one of its workers.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pid: Pid,
    environment: BTreeMap<String, String>,
}

impl Process {
    /// All of them in the cluster of a `slurm.conf`.
    pub(crate) fn all(program: &Path, slurm_conf: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir("/proc").expect("Linux has /proc").flatten();
        let found = entries.filter_map(|entry| Self::read(&entry.path(), program));
        let conf = slurm_conf.to_string_lossy();
        found.filter(|process| process.variable("SLURM_CONF") == Some(&conf)).collect()
    }

    /// None for other programs, and for what ended meanwhile.
    fn read(proc: &Path, program: &Path) -> Option<Self> {
        let pid = Pid::from_raw(proc.file_name()?.to_str()?.parse().ok()?)?;
        let is_program = std::fs::read_link(proc.join("exe")).ok()? == program;
        let environment = is_program.then(|| std::fs::read(proc.join("environ")).ok()).flatten()?;
        let variables = environment.split(|byte| *byte == 0).filter_map(|variable| {
            let text = String::from_utf8_lossy(variable).into_owned();
            text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        });
        Some(Self { pid, environment: variables.collect() })
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// Its number.
    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Node that it runs on.
    pub(crate) fn node(&self) -> &str {
        self.variable("SLURMD_NODENAME").unwrap_or_default()
    }

    /// Index of its array task; none in a plain job.
    pub(crate) fn task(&self) -> Option<usize> {
        self.variable("SLURM_ARRAY_TASK_ID")?.parse().ok()
    }

    /// Sends a signal; one that ended meanwhile gets none.
    pub(crate) fn signal(&self, signal: Signal) {
        // The only error that a living process of our own can give is that it ended.
        let _ = kill_process(self.pid, signal);
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.id().to_string()).join(file)
    }

    /// Whether it has ended, waited for or not.
    pub(crate) fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(self.proc("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|state| state.is_empty() || state.starts_with('Z'))
    }

    /// Whether a signal waits to be taken: a stopped process takes none.
    pub(crate) fn has_pending(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(self.proc("status")).unwrap_or_default();
        let pending = status.lines().filter_map(|line| {
            let (name, set) = line.split_once(':')?;
            matches!(name, "SigPnd" | "ShdPnd").then(|| u64::from_str_radix(set.trim(), 16).ok())?
        });
        pending.fold(0, |all, set| all | set) & 1 << (signal.as_raw() - 1) != 0
    }
}
