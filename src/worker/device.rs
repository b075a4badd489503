//! The devices of this process and what they may use: cores and memory as cgroup, Slurm and affinity grant them.

mod gpus;
mod grant;

use std::fs;
use std::num::NonZeroU32;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use self::gpus::Gpus;
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
    /// A CUDA device; its worker is a process of its own.
    Cuda {
        /// Index as CUDA counts the visible devices.
        index: usize,
        /// The entry of CUDA_VISIBLE_DEVICES that shows it alone.
        visible: String,
    },
    /// One thread of the CPU in the place of a GPU, as a process of its own: for tests of clusters.
    Sim {
        /// The entry of CUDA_VISIBLE_DEVICES in whose place it is.
        visible: String,
    },
}

impl DeviceKind {
    /// What CUDA_VISIBLE_DEVICES is for the process of its worker; none: the worker is a thread of this process.
    pub fn visible(&self) -> Option<&str> {
        match self {
            Self::Cpu { .. } => None,
            Self::Cuda { visible, .. } | Self::Sim { visible } => Some(visible),
        }
    }
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
    /// GPUs that the process is not shown.
    #[error(
        "Slurm has granted GPUs ({0}), but CUDA_VISIBLE_DEVICES shows none: start dflow directly in the batch script or with srun --gpus, or ask for no GPUs and use `--devices cpu`"
    )]
    Hidden(String),
    /// GPUs that this binary leaves idle, on any machine.
    #[error(
        "{} granted (CUDA_VISIBLE_DEVICES), but this binary was built without CUDA: build with `cargo build --release --features cuda`, or use `--devices cpu` and ask for no GPUs",
        gpus_are(*.0)
    )]
    GrantedWithoutCuda(usize),
    /// GPUs that would lie idle.
    #[error(
        "{} granted (CUDA_VISIBLE_DEVICES), but {reason}; or use `--devices cpu` and ask for no GPUs",
        gpus_are(*granted)
    )]
    Unusable {
        /// How many.
        granted: usize,
        /// Why they cannot be used, and what to do.
        reason: String,
    },
    /// No GPU where one is needed.
    #[error(
        "`devices: {0}`: no GPU is granted (CUDA_VISIBLE_DEVICES is empty or not set); ask for some, such as `gpus: 1` under `cluster:` or `sbatch --gpus=1`"
    )]
    NoneGranted(String),
}

/// `1 GPU is`, `2 GPUs are`.
fn gpus_are(count: usize) -> String {
    if count == 1 { "1 GPU is".to_owned() } else { format!("{count} GPUs are") }
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
    let needs_gpus = list.devices().iter().any(|device| !matches!(device, DeviceSpec::Cpu { .. }));
    let gpus =
        if needs_gpus { Gpus::of_this_process().map_err(DeviceError::Hidden)? } else { Gpus::Unrestricted };
    resolve_on(list, &granted_cores(), &gpus)
}

/// The devices on a machine that grants these cores and GPUs.
fn resolve_on(list: &DeviceList, granted: &[usize], gpus: &Gpus) -> Result<Vec<Device>, DeviceError> {
    let mut cores = Cores::share(list, granted)?;
    let mut devices = Vec::new();
    for spec in list.devices() {
        match spec {
            DeviceSpec::Auto => match checked_visible(gpus)? {
                0 => devices.extend(cores.workers(NonZeroU32::MIN, None)),
                count => devices.extend((0..count).map(|index| cuda_device(index, gpus))),
            },
            DeviceSpec::Cpu { workers, threads } => devices.extend(cores.workers(*workers, *threads)),
            DeviceSpec::Cuda(index) => {
                let count = super::cuda::checked_count(&list.to_string(), *index)?;
                if index.is_none() {
                    checked_visible(gpus)?;
                }
                let chosen = index.map_or(0..count, |i| i as usize..i as usize + 1);
                devices.extend(chosen.map(|index| cuda_device(index, gpus)));
            }
            DeviceSpec::Sim => match gpus {
                Gpus::Listed(entries) if !entries.is_empty() => {
                    devices.extend(entries.iter().enumerate().map(|(index, visible)| {
                        let visible = visible.clone();
                        Device { name: format!("sim:{index}"), kind: DeviceKind::Sim { visible } }
                    }));
                }
                _ => return Err(DeviceError::NoneGranted(list.to_string())),
            },
        }
    }
    Ok(devices)
}

/// The number of CUDA devices: all of those granted, so that none lies idle unnoticed.
fn checked_visible(gpus: &Gpus) -> Result<usize, DeviceError> {
    let count = super::cuda::visible();
    let Gpus::Listed(entries) = gpus else { return Ok(count) };
    let granted = entries.len();
    let reason = match count {
        _ if count >= granted => return Ok(count),
        _ if !cfg!(feature = "cuda") => return Err(DeviceError::GrantedWithoutCuda(granted)),
        0 => "none answers: look at `nvidia-smi` on this node".to_owned(),
        1 => "only 1 of them answers: look at `nvidia-smi` on this node".to_owned(),
        _ => format!("only {count} of them answer: look at `nvidia-smi` on this node"),
    };
    Err(DeviceError::Unusable { granted, reason })
}

fn cuda_device(index: usize, gpus: &Gpus) -> Device {
    let visible = gpus.entry(index);
    Device { name: format!("cuda:{index}"), kind: DeviceKind::Cuda { index, visible } }
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
                DeviceSpec::Auto | DeviceSpec::Cuda(_) | DeviceSpec::Sim => {}
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

/// The CPU's model, as the system names it; the architecture where it names none.
pub fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned())
}

/// A CPU's threads as devices of one thread each, not bound to cores: others may have been given a share of them too.
pub fn split(device: &Device) -> Vec<Device> {
    let DeviceKind::Cpu { threads, .. } = device.kind else { return vec![device.clone()] };
    let one =
        |i| Device { name: format!("cpu:{i}"), kind: DeviceKind::Cpu { threads: 1, cores: Vec::new() } };
    (0..threads).map(one).collect()
}

/// How much other processes use the cores that this one may use, from its start on.
pub(super) struct OtherLoad {
    cores: Vec<usize>,
    begun: Instant,
    others: Option<f64>,
}

impl OtherLoad {
    /// Begins now.
    pub(super) fn start() -> Self {
        let cores = affinity();
        Self { others: Self::seconds(&cores), cores, begun: Instant::now() }
    }

    /// Core-seconds of other processes per second and core, 0 to 1; 0 where the system does not tell.
    pub(super) fn per_core(&self) -> f64 {
        let wall = self.begun.elapsed().as_secs_f64() * self.cores.len() as f64;
        let used = Self::seconds(&self.cores).zip(self.others).map_or(0.0, |(now, before)| now - before);
        (used / wall).clamp(0.0, 1.0)
    }

    /// Core-seconds of all processes on these cores since the system's start, without those of this one.
    fn seconds(cores: &[usize]) -> Option<f64> {
        let all = fs::read_to_string("/proc/stat").ok()?;
        let own = fs::read_to_string("/proc/self/stat").ok()?;
        let ticks = busy_ticks(&all, cores)? as f64 - own_ticks(&own)? as f64;
        Some(ticks / rustix::param::clock_ticks_per_second() as f64)
    }
}

/// Ticks that these cores were busy, of the text of `/proc/stat` (proc(5)).
fn busy_ticks(stat: &str, cores: &[usize]) -> Option<u64> {
    let of_core = |core: &usize| {
        let name = format!("cpu{core}");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '))?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|ticks| ticks.parse().ok()).collect();
        // User, nice, system; interrupts of both kinds; what other systems took. (Idle and waiting are between them.)
        let [user, nice, system, _, _, rest @ ..] = &ticks[..] else { return None };
        Some(user + nice + system + rest.iter().take(3).sum::<u64>())
    };
    cores.iter().map(of_core).sum()
}

/// Ticks of all threads of a process, of the text of its `stat`. Its name, in brackets, may hold anything.
fn own_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
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
        resolve_on(&list.parse().unwrap(), granted, &Gpus::Unrestricted)
    }

    /// Name, threads and cores of every worker on the CPU.
    fn workers(list: &str, granted: &[usize]) -> Vec<(String, usize, Vec<usize>)> {
        let devices = devices(list, granted).unwrap().into_iter();
        let workers = devices.map(|device| match device.kind {
            DeviceKind::Cpu { threads, cores } => (device.name, threads, cores),
            other => panic!("{list} names no {other:?}"),
        });
        workers.collect()
    }

    fn worker(index: usize, threads: usize, cores: &[usize]) -> (String, usize, Vec<usize>) {
        (format!("cpu:{index}"), threads, cores.to_vec())
    }

    #[test]
    fn load_is_that_of_others_on_our_cores() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 400 50 4 5 6 700 800\ncpu1 10 0 0 0 0 0 0 0 0 0\ncpu10 1 1 1\nintr 5\n";
        assert_eq!(busy_ticks(stat, &[0]), Some(21));
        assert_eq!(busy_ticks(stat, &[0, 1]), Some(31));
        assert_eq!((busy_ticks(stat, &[2]), busy_ticks(stat, &[10])), (None, None), "not there, or cut off");
        let own = "17 (a) name) R 1 2 3 4 5 6 7 8 9 10 1200 34 0 0";
        assert_eq!((own_ticks(own), own_ticks("17 (a")), (Some(1234), None));
        // This thread is no other process; sleeping is no load.
        let load = OtherLoad::start();
        assert!(load.others.is_some_and(|seconds| seconds > 0.0));
        let clock = std::time::Instant::now();
        while clock.elapsed().as_millis() < 300 {}
        assert!((0.0..=1.0).contains(&load.per_core()));
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
    fn a_simulated_gpu_stands_for_each_that_is_granted() {
        let gpus = Gpus::Listed(vec!["2".to_owned(), "GPU-5a".to_owned()]);
        let devices = resolve_on(&"sim".parse().unwrap(), &[0], &gpus).unwrap();
        let shown: Vec<_> =
            devices.iter().map(|device| (device.name.as_str(), device.kind.visible())).collect();
        assert_eq!(shown, [("sim:0", Some("2")), ("sim:1", Some("GPU-5a"))]);
        for none in [Gpus::Unrestricted, Gpus::Listed(vec![])] {
            let error = resolve_on(&"sim".parse().unwrap(), &[0], &none).unwrap_err().to_string();
            assert!(error.contains("no GPU is granted"), "{error}");
        }
    }

    #[test]
    fn one_granted_gpu_is_not_spoken_of_as_many() {
        let text = |granted| DeviceError::Unusable { granted, reason: "none answers".to_owned() }.to_string();
        assert!(
            text(1).starts_with("1 GPU is granted (CUDA_VISIBLE_DEVICES), but none answers;"),
            "{}",
            text(1)
        );
        assert!(text(3).starts_with("3 GPUs are granted "), "{}", text(3));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn granted_gpus_do_not_lie_idle_beside_a_program_without_cuda() {
        let gpus = Gpus::Listed(vec!["0".to_owned(), "1".to_owned()]);
        let error = resolve_on(&"auto".parse().unwrap(), &[0], &gpus).unwrap_err().to_string();
        assert!(error.contains("2 GPUs are granted") && error.contains("without CUDA"), "{error}");
        assert_eq!(resolve_on(&"cpu".parse().unwrap(), &[0], &gpus).unwrap().len(), 1);
        assert_eq!(resolve_on(&"auto".parse().unwrap(), &[0], &Gpus::Listed(vec![])).unwrap().len(), 1);
    }

    #[test]
    fn this_process_has_cores_and_memory() {
        let cores = granted_cores();
        assert!(!cores.is_empty());
        assert!(cores.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice: {cores:?}");
        assert!(free_memory() > 0 && peak_memory() > 0 && !host_name().is_empty() && !cpu_model().is_empty());
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
