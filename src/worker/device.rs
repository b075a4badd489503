//! The devices of this process and what they may use: cores and memory as cgroup, Slurm and affinity grant them.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::spec::device::{DeviceList, DeviceSpec};

/// One device that a worker drives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `cpu:0`, `cuda:1` …
    pub name: String,
    /// What computes.
    pub kind: DeviceKind,
}

/// Kinds of device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Some cores of this machine.
    Cpu {
        /// Threads of the worker's pool.
        threads: usize,
        /// Cores that the threads are pinned to, one each; empty: not pinned.
        cores: Vec<usize>,
    },
    /// A CUDA device by its index among the visible ones.
    Cuda {
        /// Index as CUDA counts the visible devices.
        index: usize,
    },
}

/// Why the devices asked for cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// More threads asked for than cores granted.
    #[error(
        "`devices: {spec}` needs {wanted} cores, but this process may use {granted} (affinity, cgroup and Slurm limits); ask for fewer workers or threads"
    )]
    TooFewCores {
        /// What was asked for.
        spec: String,
        /// Cores needed.
        wanted: usize,
        /// Cores granted.
        granted: usize,
    },
    /// CUDA asked for in a binary without it.
    #[error(
        "`devices: {0}` needs a binary with CUDA: build with `cargo build --release --features cuda`, or use `--devices cpu`"
    )]
    NoCuda(String),
    /// A CUDA device that does not answer.
    #[error("{0}")]
    Cuda(String),
}

/// This machine's name, as the system has it.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The devices that `list` names on this machine, in a fixed order, with unique names.
///
/// # Errors
/// When cores or CUDA devices are asked for that this process does not have.
pub fn resolve(list: &DeviceList) -> Result<Vec<Device>, DeviceError> {
    let mut devices = Vec::new();
    for spec in list.devices() {
        match spec {
            DeviceSpec::Auto => match super::cuda::visible() {
                0 => add_cpu(&mut devices, list, NonZeroU32::MIN, None)?,
                count => devices.extend((0..count).map(cuda_device)),
            },
            DeviceSpec::Cpu { workers, threads } => add_cpu(&mut devices, list, *workers, *threads)?,
            DeviceSpec::Cuda(index) => {
                let count = super::cuda::checked_count(&list.to_string(), *index)?;
                let chosen = index.map_or(0..count, |i| i as usize..i as usize + 1);
                devices.extend(chosen.map(cuda_device));
            }
        }
    }
    Ok(devices)
}

fn cuda_device(index: usize) -> Device {
    Device { name: format!("cuda:{index}"), kind: DeviceKind::Cuda { index } }
}

fn add_cpu(
    devices: &mut Vec<Device>,
    list: &DeviceList,
    workers: NonZeroU32,
    threads: Option<NonZeroU32>,
) -> Result<(), DeviceError> {
    let cores = granted_cores();
    let taken: usize = devices.iter().filter(|device| matches!(device.kind, DeviceKind::Cpu { .. })).count();
    let workers = workers.get() as usize;
    let (each, pinned) = match threads {
        Some(threads) => (threads.get() as usize, true),
        None => ((cores.len() / workers).max(1), false),
    };
    if workers * each > cores.len() {
        let wanted = workers * each;
        return Err(DeviceError::TooFewCores { spec: list.to_string(), wanted, granted: cores.len() });
    }
    devices.extend((0..workers).map(|i| Device {
        name: format!("cpu:{}", taken + i),
        kind: DeviceKind::Cpu {
            threads: each,
            cores: if pinned { cores[i * each..(i + 1) * each].to_vec() } else { Vec::new() },
        },
    }));
    Ok(())
}

/// Cores this process may use: its affinity mask, cut to the cgroup's quota and to Slurm's grant.
pub fn granted_cores() -> Vec<usize> {
    let mut cores = affinity();
    let limits = [cgroup_cpus(Path::new("/sys/fs/cgroup")), slurm_number("SLURM_CPUS_PER_TASK")];
    for limit in limits.into_iter().flatten() {
        cores.truncate(limit.max(1));
    }
    cores
}

fn affinity() -> Vec<usize> {
    let fallback = || (0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get)).collect();
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return fallback() };
    let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    if cores.is_empty() { fallback() } else { cores }
}

/// Pins the calling thread to one core; without effect where the system refuses.
pub fn pin_thread(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "could not pin a thread");
    }
}

fn slurm_number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.trim().parse().ok()
}

/// CPUs of a cgroup-v2 quota (`cpu.max`), rounded up; none without a limit.
fn cgroup_cpus(root: &Path) -> Option<usize> {
    let text = fs::read_to_string(own_cgroup(root).join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| (quota / period).ceil() as usize)
}

fn own_cgroup(root: &Path) -> std::path::PathBuf {
    let line = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let relative =
        line.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/").trim_start_matches('/').to_owned();
    root.join(relative)
}

/// Bytes this process may still take: the least of free memory, the cgroup's rest and Slurm's grant.
pub fn free_memory() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(u64::MAX, |kib| kib * 1024);
    let slurm = slurm_number("SLURM_MEM_PER_NODE").map(|mib| mib as u64 * 1024 * 1024);
    [Some(available), cgroup_memory(Path::new("/sys/fs/cgroup")), slurm]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(available)
}

fn cgroup_memory(root: &Path) -> Option<u64> {
    let dir = own_cgroup(root);
    let number = |name: &str| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

/// Peak resident memory of this process in bytes; 0 where the system does not tell.
pub fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
