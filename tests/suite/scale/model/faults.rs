//! What goes wrong, and how often. Times of detection and of waiting are those of a real Slurm where they were seen, or
//! of its defaults.

use std::time::Duration;

use super::service::{exponential, uniform};

/// From the death of a node, or the loss of contact, until its tasks may start elsewhere: `SlurmdTimeout` is 300 s by
/// default (with 10 s, 31 s passed).
pub const DETECTION: Duration = Duration::from_secs(320);
/// From a requeue until the task may start again: `cred_expire` is 120 s by default.
pub const REQUEUE: Duration = Duration::from_secs(120);
/// How long a node is away that died or lost contact.
pub const REPAIR: Duration = Duration::from_secs(3600);
/// How long an urgent job keeps a node that it took.
pub const TAKEN: Duration = Duration::from_secs(1800);

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It dies with its task.
    Crash,
    /// It loses contact: its task runs on, and starts elsewhere as well.
    Partition,
    /// An urgent job takes it; the task is warned, and has time to checkpoint.
    Preemption,
    /// As before, but nothing is left between the warning and the kill.
    SuddenPreemption,
    /// One of its workers dies; the task goes on.
    WorkerCrash,
}

/// How often, and how slow the slow are.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Hours between two faults of one node, on average.
    pub hours: f64,
    /// What they are, each as likely as the others; none: nothing happens.
    pub kinds: &'static [Fault],
    /// Share of devices that are slow.
    pub slow_share: f64,
    /// Their speed; that of the others is 1.
    pub slow_speed: f64,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self { hours: 1.0, kinds: &[], slow_share: 0.0, slow_speed: 1.0 };
    /// Nodes and workers die, contact is lost: hundreds of times as often as on a real machine.
    pub const NODES: Self =
        Self { hours: 12.0, kinds: &[Fault::Crash, Fault::Partition, Fault::WorkerCrash], ..Self::NONE };
    /// A partition for jobs that give way.
    pub const PREEMPTIONS: Self =
        Self { hours: 4.0, kinds: &[Fault::Preemption, Fault::SuddenPreemption], ..Self::NONE };
    /// One device of twenty has 0.4 of the speed.
    pub const STRAGGLERS: Self = Self { slow_share: 0.05, slow_speed: 0.4, ..Self::NONE };

    /// Time from now until the next fault of a node, its `number`-th.
    pub fn wait(&self, seed: u64, node: usize, number: u64) -> Option<Duration> {
        let seconds = || exponential(self.hours * 3600.0, &[seed, 1, node as u64, number]);
        (!self.kinds.is_empty()).then(|| Duration::from_secs_f64(seconds()))
    }

    /// What it is.
    pub fn kind(&self, seed: u64, node: usize, number: u64) -> Fault {
        let draw = uniform(&[seed, 2, node as u64, number]);
        self.kinds[(draw * self.kinds.len() as f64) as usize]
    }

    /// Speed of a device.
    pub fn speed(&self, seed: u64, device: usize) -> f64 {
        if uniform(&[seed, 3, device as u64]) < self.slow_share { self.slow_speed } else { 1.0 }
    }
}
