//! What one array task is given, where the spec leaves it open.

use crate::spec::cluster::ClusterSpec;
use crate::spec::device::{DeviceList, DeviceSpec};
use crate::spec::span::Span;

/// Cores beside each GPU, for reading data and scoring.
const CPUS_PER_GPU: u32 = 4;
/// Cores of a task without GPUs, unless its devices say how many.
const CPUS: u32 = 4;
/// Tasks that are assumed to run at once where nothing limits them.
const AT_ONCE: u32 = 32;
/// Seconds of a chunk.
const CHUNK: u64 = 1800;
/// Seconds of warning before the time limit. Slurm's timing is rough: 5 s to 24 s were seen for 10 s.
const WARN: u64 = 180;

/// How options of sbatch begin that ask for GPUs.
const GPU_OPTIONS: [&str; 4] = ["--gres", "--gpus", "--tres", "-G"];
/// How options of sbatch begin that ask for cores.
const CPU_OPTIONS: [&str; 4] = ["--cpus-per-", "--exclusive", "--tres", "-c"];

/// GPUs, cores and workers of one task, and how many tasks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskShape {
    /// GPUs.
    pub gpus: u32,
    /// Cores.
    pub cpus: u32,
    /// Samples that are solved at the same time on devices of their own.
    pub workers: u32,
    /// Tasks at once, as limited or assumed.
    pub at_once: u32,
    /// Seconds that a chunk should take.
    pub chunk: u64,
    /// Seconds of warning before the time limit.
    pub warn: u64,
}

impl TaskShape {
    /// The shape of the tasks of `spec`, whose devices are `devices`.
    pub fn of(spec: &ClusterSpec, devices: &DeviceList) -> Self {
        let (cpu_workers, cpu_threads) = on_cpus(devices);
        let gpus = spec.gpus.unwrap_or(u32::from(cpu_workers == 0));
        let cpus = cpu_threads.unwrap_or(if gpus > 0 { CPUS_PER_GPU * gpus } else { CPUS });
        let chunk = spec.chunk.map_or(CHUNK, Span::seconds);
        // A short limit has a short warning: most of it is to be worked in.
        let warn = spec.time.map_or(WARN, |time| WARN.min(time.seconds() / 3));
        Self {
            gpus,
            cpus: spec.cpus.unwrap_or(cpus.max(cpu_workers)),
            workers: if cpu_workers > 0 { cpu_workers } else { gpus.max(1) },
            at_once: spec.throttle.unwrap_or(AT_ONCE),
            chunk,
            warn: spec.warn.map_or(warn, u64::from),
        }
    }
}

/// Devices that do not go with what the tasks ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// What is wrong, and what to do.
    pub text: String,
    /// The field that says what the tasks ask for.
    pub field: &'static str,
}

/// What keeps tasks of `spec` from having `devices`, or lets GPUs lie idle beside them: the same on every node.
pub fn misfit(spec: &ClusterSpec, devices: &DeviceList) -> Option<Misfit> {
    let TaskShape { gpus, cpus, .. } = TaskShape::of(spec, devices);
    let on_gpus = misfit_on_gpus(gpus, devices).filter(|_| gpus > 0 || !asks_by_itself(spec, &GPU_OPTIONS));
    let on_gpus = on_gpus.map(|text| Misfit { text, field: "gpus" });
    let on_cpus = || misfit_on_cpus(cpus, devices).filter(|_| !asks_by_itself(spec, &CPU_OPTIONS));
    on_gpus.or_else(|| Some(Misfit { text: on_cpus()?, field: "cpus" }))
}

fn misfit_on_gpus(gpus: u32, devices: &DeviceList) -> Option<String> {
    let needed = devices.devices().iter().map(|device| match device {
        DeviceSpec::Cuda(Some(index)) => index.saturating_add(1),
        DeviceSpec::Cuda(None) | DeviceSpec::Sim => 1,
        // With `auto` it is the CPU where there is no GPU.
        DeviceSpec::Auto | DeviceSpec::Cpu { .. } => 0,
    });
    let needed = needed.max().unwrap_or_default();
    let asked = if gpus == 1 { "1 GPU".to_owned() } else { format!("{gpus} GPUs") };
    if gpus > 0 && on_cpus(devices).0 > 0 {
        Some(format!(
            "`devices: {devices}` uses no GPU, and every task asks for {asked}, which would lie idle: set `gpus: 0`, or \
             other `devices`, such as `auto`"
        ))
    } else if gpus == 0 && needed > 0 {
        Some(format!(
            "`devices: {devices}` needs GPUs, and the tasks ask for none: set `gpus: {needed}`, or `devices: cpu`"
        ))
    } else if needed > gpus {
        let last = needed - 1;
        Some(format!(
            "`devices: {devices}` names cuda:{last}, and a task asks for {asked} (the first is cuda:0): set \
             `gpus: {needed}`, or name fewer `devices`, or all by `devices: cuda`"
        ))
    } else {
        None
    }
}

fn misfit_on_cpus(cpus: u32, devices: &DeviceList) -> Option<String> {
    let cores = devices.devices().iter().map(|device| match device {
        DeviceSpec::Cpu { workers, threads } => {
            workers.get().saturating_mul(threads.map_or(1, std::num::NonZeroU32::get))
        }
        _ => 0,
    });
    let needed = cores.fold(0, u32::saturating_add);
    (needed > cpus).then(|| {
        format!(
            "`devices: {devices}` needs {needed} cores, and a task asks for {cpus}: set `cpus: {needed}`, or fewer workers \
             or threads"
        )
    })
}

/// Whether the user's own options of sbatch ask for what one of these asks for.
fn asks_by_itself(spec: &ClusterSpec, names: &[&str]) -> bool {
    spec.sbatch.iter().flatten().any(|option| names.iter().any(|name| option.starts_with(name)))
}

/// Workers on the CPU, if all devices are, and their cores where they are said.
fn on_cpus(devices: &DeviceList) -> (u32, Option<u32>) {
    let (mut workers, mut threads) = (0_u32, Some(0_u32));
    for device in devices.devices() {
        let DeviceSpec::Cpu { workers: more, threads: each } = device else { return (0, None) };
        workers = workers.saturating_add(more.get());
        threads =
            threads.zip(*each).map(|(sum, each)| sum.saturating_add(more.get().saturating_mul(each.get())));
    }
    (workers, threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(spec: &ClusterSpec, devices: &str) -> (u32, u32, u32) {
        let TaskShape { gpus, cpus, workers, .. } = TaskShape::of(spec, &devices.parse().unwrap());
        (gpus, cpus, workers)
    }

    #[test]
    fn devices_say_what_a_task_needs() {
        let spec = ClusterSpec::default();
        assert_eq!(shape(&spec, "auto"), (1, 4, 1));
        assert_eq!(shape(&spec, "cpu"), (0, 4, 1));
        assert_eq!(shape(&spec, "cpu:6"), (0, 6, 6));
        assert_eq!(shape(&spec, "cpu:2x3"), (0, 6, 2));
        let two = ClusterSpec { gpus: Some(2), ..spec };
        assert_eq!(shape(&two, "auto"), (2, 8, 2));
        assert_eq!(shape(&ClusterSpec { cpus: Some(3), ..two }, "cuda"), (2, 3, 2));
    }

    /// The field that a list of devices does not go with.
    fn field(spec: &ClusterSpec, devices: &str) -> Option<&'static str> {
        misfit(spec, &devices.parse().unwrap()).map(|misfit| misfit.field)
    }

    #[test]
    fn gpus_are_neither_missing_nor_idle() {
        let with = |gpus| ClusterSpec { gpus: Some(gpus), ..ClusterSpec::default() };
        for (gpus, devices, fits) in [
            (1, "auto", true),
            (0, "auto", true),
            (0, "cpu", true),
            (1, "cpu", false),
            (2, "cpu:2x1,cpu:1x1", false),
            (1, "cpu,cuda", true),
            (2, "sim", true),
            (0, "sim", false),
            (0, "cuda", false),
            (0, "cpu,cuda:0", false),
            (2, "cuda:0,cuda:1", true),
            (2, "cuda:0,cuda:1,cuda:2", false),
            (1, "cuda:1", false),
        ] {
            assert_eq!(field(&with(gpus), devices), (!fits).then_some("gpus"), "{devices} on {gpus}");
        }
        // What is not said suits them.
        for devices in ["auto", "cpu:3", "cuda", "cuda:0", "sim", "cpu:2,cuda"] {
            assert_eq!(misfit(&ClusterSpec::default(), &devices.parse().unwrap()), None);
        }
        let own = ClusterSpec { sbatch: Some(vec!["--gres=gpu:a100:2".to_owned()]), ..with(0) };
        assert_eq!(field(&own, "cuda"), None);
    }

    #[test]
    fn cores_are_enough_for_every_worker() {
        let four = ClusterSpec { cpus: Some(4), ..ClusterSpec::default() };
        for (devices, fits) in [
            ("cpu", true),
            ("cpu:2x2", true),
            ("cpu:4", true),
            ("cpu:5", false),
            ("cpu:64x2", false),
            ("cpu:2x2,cpu:1x1", false),
            ("cpu:3x2,cuda", false),
            ("cuda", true),
        ] {
            assert_eq!(field(&four, devices), (!fits).then_some("cpus"), "{devices}");
        }
        let text = misfit(&four, &"cpu:64x2".parse().unwrap()).unwrap().text;
        assert!(text.contains("needs 128 cores") && text.contains("set `cpus: 128`"), "{text}");
        assert_eq!(field(&ClusterSpec::default(), "cpu:64x2"), None, "so many are asked for");
        let own = ClusterSpec { sbatch: Some(vec!["--exclusive".to_owned()]), ..four };
        assert_eq!(field(&own, "cpu:64x2"), None);
    }

    #[test]
    fn a_short_limit_has_a_short_warning() {
        let with =
            |seconds| ClusterSpec { time: Some(Span::from_seconds(seconds)), ..ClusterSpec::default() };
        let warn = |spec| TaskShape::of(&spec, &DeviceList::default()).warn;
        assert_eq!((warn(with(3600)), warn(with(300)), warn(ClusterSpec::default())), (180, 100, 180));
        assert_eq!(warn(ClusterSpec { warn: Some(60), ..with(300) }), 60);
    }
}
