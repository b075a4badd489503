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

    #[test]
    fn a_short_limit_has_a_short_warning() {
        let with =
            |seconds| ClusterSpec { time: Some(Span::from_seconds(seconds)), ..ClusterSpec::default() };
        let warn = |spec| TaskShape::of(&spec, &DeviceList::default()).warn;
        assert_eq!((warn(with(3600)), warn(with(300)), warn(ClusterSpec::default())), (180, 100, 180));
        assert_eq!(warn(ClusterSpec { warn: Some(60), ..with(300) }), 60);
    }
}
