//! What a simulated submission came to.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use dflow::plan::Unit;

use super::cluster::Setting;
use super::ledger::{Ledger, Tally};

/// Figures of one submission.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Seconds until everything was durable.
    pub makespan: f64,
    /// Seconds that the devices need at least: all work over all speeds.
    pub bound: f64,
    /// The work over what the devices could have done while their nodes were there: 1 is best.
    pub of_available: f64,
    /// Array tasks.
    pub chunks: usize,
    /// Units without a row.
    pub lost: usize,
    /// Rows beyond the first of a unit.
    pub duplicates: usize,
    /// Work done that was not needed, as a share of what was: killed before a checkpoint, or done twice.
    pub repeated: f64,
    /// Share of the devices' time without a sample.
    pub idle: f64,
    /// Share of the devices' time, ready and without a sample, while samples of their task had not begun.
    pub starved: f64,
    /// Sums over the devices.
    pub tally: Tally,
}

/// What the devices could have done.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Sum of the speeds of all devices.
    pub speed: f64,
    /// Seconds of speed 1 in which nodes were away.
    pub away: f64,
}

impl Outcome {
    pub(super) fn new(
        setting: &Setting,
        units: &[Unit],
        chunks: usize,
        makespan: Duration,
        capacity: Capacity,
        ledger: &Ledger,
    ) -> Self {
        let Capacity { speed, away } = capacity;
        let work: f64 = units.iter().map(|unit| setting.service.seconds(*unit)).sum();
        let (makespan, tally) = (makespan.as_secs_f64(), ledger.tally);
        let device_seconds = makespan * setting.devices as f64;
        Self {
            makespan,
            bound: work / speed,
            of_available: work / (speed * makespan - away),
            chunks,
            lost: units.len() - ledger.done(),
            duplicates: ledger.duplicates(),
            repeated: tally.work / work - 1.0,
            idle: 1.0 - tally.busy / device_seconds,
            starved: tally.starved / device_seconds,
            tally,
        }
    }

    /// The bound over the makespan: 1 is best.
    pub fn of_bound(&self) -> f64 {
        self.bound / self.makespan
    }
}

/// Seconds of the same samples on devices that take them one by one, longest first, and need no start.
pub fn list_scheduling(setting: &Setting, units: &[Unit]) -> f64 {
    let mut samples: Vec<Duration> =
        units.iter().map(|unit| Duration::from_secs_f64(setting.service.seconds(*unit))).collect();
    samples.sort_unstable_by_key(|seconds| Reverse(*seconds));
    let mut free = BinaryHeap::from(vec![Reverse(Duration::ZERO); setting.devices]);
    for seconds in samples {
        let Reverse(at) = free.pop().expect("there are devices");
        free.push(Reverse(at + seconds));
    }
    free.into_iter().map(|Reverse(at)| at).max().unwrap_or_default().as_secs_f64()
}
