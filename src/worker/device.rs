//! The devices of this process and what they may use: cores and memory as cgroup, Slurm and affinity grant them.

mod grant;

use std::fs;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use self::grant::Grant;
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
    resolve_on(list, &granted_cores())
}

/// The devices on a machine that grants these cores.
fn resolve_on(list: &DeviceList, granted: &[usize]) -> Result<Vec<Device>, DeviceError> {
    let mut cores = Cores::share(list, granted)?;
    let mut devices = Vec::new();
    for spec in list.devices() {
        match spec {
            DeviceSpec::Auto => match super::cuda::visible() {
                0 => devices.extend(cores.workers(NonZeroU32::MIN, None)),
                count => devices.extend((0..count).map(cuda_device)),
            },
            DeviceSpec::Cpu { workers, threads } => devices.extend(cores.workers(*workers, *threads)),
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

/// The granted cores, handed out from the first to the last: no two workers get the same.
struct Cores<'a> {
    /// Those that no worker has yet.
    free: &'a [usize],
    /// Those that are left for an entry without a number of threads.
    rest: usize,
    /// Whether workers are pinned to their cores: there are some with a number of threads.
    pinned: bool,
    /// Workers so far.
    count: usize,
}

impl<'a> Cores<'a> {
    /// Checks that there are enough cores for every entry of the list.
    fn share(list: &DeviceList, granted: &'a [usize]) -> Result<Self, DeviceError> {
        let (mut sized, mut unsized_workers) = (0_usize, 0_usize);
        for spec in list.devices() {
            match *spec {
                DeviceSpec::Cpu { workers, threads: Some(threads) } => {
                    let wanted = (workers.get() as usize).saturating_mul(threads.get() as usize);
                    sized = sized.saturating_add(wanted);
                }
                // A list has one of these at the most. Its workers need a core each.
                DeviceSpec::Cpu { workers, threads: None } => unsized_workers += workers.get() as usize,
                DeviceSpec::Auto | DeviceSpec::Cuda(_) => {}
            }
        }
        let wanted = sized.saturating_add(unsized_workers);
        if wanted > granted.len() {
            return Err(DeviceError::TooFewCores { spec: list.to_string(), wanted, granted: granted.len() });
        }
        Ok(Self { free: granted, rest: granted.len() - sized, pinned: sized > 0, count: 0 })
    }

    /// The workers of one entry, with `threads` cores each, or with the rest shared out evenly.
    fn workers(&mut self, workers: NonZeroU32, threads: Option<NonZeroU32>) -> Vec<Device> {
        let workers = workers.get() as usize;
        let each = threads.map_or(self.rest / workers, |threads| threads.get() as usize);
        let devices = (0..workers).map(|_| {
            let (own, free) = self.free.split_at(each);
            self.free = free;
            let name = format!("cpu:{}", self.count);
            self.count += 1;
            let cores = if self.pinned { own.to_vec() } else { Vec::new() };
            Device { name, kind: DeviceKind::Cpu { threads: each, cores } }
        });
        devices.collect()
    }
}

/// Cores this process may use: its affinity mask, cut to the cgroups' quota and to Slurm's grant.
pub fn granted_cores() -> Vec<usize> {
    let mut cores = affinity();
    if let Some(limit) = Grant::of_this_process().cpus() {
        cores.truncate(limit);
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

/// Bytes this process may still take: the least of free memory, the cgroups' rest and Slurm's grant.
pub fn free_memory() -> u64 {
    let available = kib_of("/proc/meminfo", "MemAvailable:").unwrap_or(u64::MAX);
    let granted = Grant::of_this_process().memory(granted_cores().len());
    granted.map_or(available, |granted| granted.min(available))
}

/// Peak resident memory of this process in bytes; 0 where the system does not tell.
pub fn peak_memory() -> u64 {
    kib_of("/proc/self/status", "VmHWM:").unwrap_or(0)
}

/// A figure in kB of a file of `/proc`, in bytes.
fn kib_of(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let figure = text.lines().find_map(|line| line.strip_prefix(name))?;
    figure.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(list: &str, granted: &[usize]) -> Result<Vec<Device>, DeviceError> {
        resolve_on(&list.parse().unwrap(), granted)
    }

    /// Name, threads and cores of every worker on the CPU.
    fn workers(list: &str, granted: &[usize]) -> Vec<(String, usize, Vec<usize>)> {
        let devices = devices(list, granted).unwrap().into_iter();
        let workers = devices.map(|device| match device.kind {
            DeviceKind::Cpu { threads, cores } => (device.name, threads, cores),
            DeviceKind::Cuda { .. } => panic!("{list} names no CUDA device"),
        });
        workers.collect()
    }

    fn worker(index: usize, threads: usize, cores: &[usize]) -> (String, usize, Vec<usize>) {
        (format!("cpu:{index}"), threads, cores.to_vec())
    }

    #[test]
    fn a_plain_cpu_has_every_core_and_is_not_pinned() {
        assert_eq!(workers("cpu", &[0, 1, 5]), [worker(0, 3, &[])]);
        assert_eq!(workers("cpu:2", &[0, 1, 2, 3, 4]), [worker(0, 2, &[]), worker(1, 2, &[])]);
        assert_eq!(workers("cpu", &[7]), [worker(0, 1, &[])]);
    }

    #[test]
    fn workers_with_threads_are_pinned_to_cores_of_their_own() {
        assert_eq!(workers("cpu:2x2", &[0, 2, 4, 6, 8]), [worker(0, 2, &[0, 2]), worker(1, 2, &[4, 6])]);
        assert_eq!(workers("cpu:1x1,cpu:1x1", &[3, 9]), [worker(0, 1, &[3]), worker(1, 1, &[9])]);
        assert_eq!(
            workers("cpu:2x1,cpu:1x3", &[0, 1, 2, 3, 4]),
            [worker(0, 1, &[0]), worker(1, 1, &[1]), worker(2, 3, &[2, 3, 4])]
        );
    }

    #[test]
    fn an_entry_without_threads_takes_the_cores_that_the_others_leave() {
        let expected = [worker(0, 2, &[0, 1]), worker(1, 1, &[2]), worker(2, 1, &[3])];
        assert_eq!(workers("cpu:1x2,cpu:2", &[0, 1, 2, 3]), expected);
        let before = [worker(0, 2, &[0, 1]), worker(1, 2, &[2, 3])];
        assert_eq!(workers("cpu,cpu:1x2", &[0, 1, 2, 3]), before);
    }

    #[test]
    fn more_threads_than_cores_are_refused_over_the_whole_list() {
        for (list, wanted) in [
            ("cpu:3", 3),
            ("cpu:1x3", 3),
            ("cpu:2x2", 4),
            ("cpu:1x2,cpu:1x1", 3),
            ("cpu:1x2,cpu", 3),
            ("cpu:4294967295x4294967295,cpu:4294967295x4294967295", usize::MAX),
        ] {
            let error = devices(list, &[0, 1]).unwrap_err();
            let is_expected = matches!(
                &error,
                DeviceError::TooFewCores { spec, wanted: found, granted: 2 } if spec == list && *found == wanted
            );
            assert!(is_expected, "{list}: {error}");
            assert!(error.to_string().contains("ask for fewer workers or threads"), "{error}");
        }
    }

    #[test]
    fn this_process_has_cores_and_memory() {
        let cores = granted_cores();
        assert!(!cores.is_empty());
        assert!(cores.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice: {cores:?}");
        assert!(free_memory() > 0 && peak_memory() > 0 && !host_name().is_empty());
    }

    #[test]
    fn a_pinned_thread_stays_on_its_core() {
        let core = *affinity().last().unwrap();
        let seen = std::thread::spawn(move || {
            pin_thread(core);
            affinity()
        });
        assert_eq!(seen.join().unwrap(), [core]);
    }
}
