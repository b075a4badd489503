//! What dispatcher and worker say to each other: plain data without tensors or shared pointers, so that the same
//! loop runs in a thread behind channels or in a child process behind pipes.

use serde::{Deserialize, Serialize};

use crate::plan::Unit;

/// From the dispatcher to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Solve this sample as soon as a slot is free.
    Solve {
        /// Which.
        unit: Unit,
        /// Whether another worker had begun it, and may have left a checkpoint since this one started.
        again: bool,
    },
    /// Give this sample back unless it has begun: another worker has nothing to do.
    Recall(Unit),
    /// Write down that this sample failed, without solving it.
    Fail {
        /// Which.
        unit: Unit,
        /// Why.
        error: String,
    },
    /// Checkpoint the running solves at the next evaluation, flush, and end.
    Stop,
    /// No more samples will come: end when the last one is done.
    Finish,
}

/// From a worker to the dispatcher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The worker has its models and takes samples.
    Ready {
        /// The device's name.
        device: String,
        /// Samples it solves at a time.
        slots: usize,
        /// Why so many.
        choice: SlotChoice,
        /// The decision between tape and recompute.
        memory: MemoryPlan,
        /// Attempt that its rows carry.
        attempt: String,
        /// Process it runs in.
        pid: u32,
    },
    /// The worker times network calls, which takes seconds.
    Measuring,
    /// A sample took a slot.
    Started {
        /// Which.
        unit: Unit,
        /// Whether it goes on from a checkpoint.
        resumed: bool,
    },
    /// State of a running sample, after an evaluation.
    Progress {
        /// Which.
        unit: Unit,
        /// Evaluations so far.
        evals: u32,
        /// Observed PSNR so far in dB, when there is one.
        psnr: Option<f64>,
    },
    /// A sample that was recalled, and not begun.
    Returned {
        /// Which.
        unit: Unit,
    },
    /// A sample's record is durable.
    Finished(Finished),
    /// A running sample was checkpointed and given up, because the worker stops.
    Suspended {
        /// Which.
        unit: Unit,
    },
    /// The device ran out of memory: the worker goes on with fewer rows in a call.
    FewerSlots {
        /// Rows of a call from now on.
        slots: usize,
    },
    /// The device has no room for the tape of one row: network calls are repeated for their pull-back from now on.
    NoTapes,
    /// The worker has ended.
    Ended(Usage),
    /// The worker could not start or go on; samples it held are not done.
    Broken {
        /// What kind of breakdown it is.
        cause: Cause,
        /// What is wrong and what to do.
        error: String,
    },
}

/// Kinds of breakdown of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It could not start or go on, and said why: no sample is to blame.
    Start,
    /// The file system refused: a full disk, a folder that is not ours.
    Store,
    /// It ended without a word, panicked, or lost its device: any sample it was solving may be to blame.
    Crash,
}

/// What a run has to do, as far as a worker's slots depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Samples × cells that are left.
    pub units: usize,
    /// The cells that they are of, ascending.
    pub cells: Vec<usize>,
}

/// Why a worker solves so many samples at a time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotChoice {
    /// The user said so.
    #[default]
    Asked,
    /// It is the usual number: nothing was measured, and why.
    Unmeasured(String),
    /// They are the fewest whose network calls have about the best throughput.
    Measured {
        /// Rows of a call, and rows per second.
        rates: Vec<(usize, f64)>,
        /// Whether with pull-backs: the methods have some.
        has_pull_backs: bool,
        /// Whether an earlier run measured it.
        earlier: bool,
        /// Whether other processes used the cores meanwhile.
        was_busy: bool,
        /// Rows that there is memory for.
        room: usize,
    },
}

/// How fast a CPU's threads are as those of one worker, and each as a worker of its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Layouts {
    /// Workers of one thread each.
    pub workers: usize,
    /// Rows per second in network calls: one worker.
    pub together: f64,
    /// As many workers as threads.
    pub apart: f64,
    /// Whether with pull-backs: the methods have some.
    pub has_pull_backs: bool,
    /// Whether an earlier run measured it.
    pub earlier: bool,
    /// Whether other processes used the cores meanwhile: it then says nothing.
    pub was_busy: bool,
}

impl Layouts {
    /// Smaller gains are not worth a word to somebody who has chosen the other layout.
    const LEAST_GAIN: f64 = 1.05;

    /// Whether workers of one thread are not slower in network calls, for certain. Then they are the better layout: what is
    /// outside of the calls does not wait for other samples.
    pub fn is_better_apart(&self) -> bool {
        !self.was_busy && self.apart >= self.together
    }

    /// Whether they are so much faster that it is worth advice.
    pub fn is_much_better_apart(&self) -> bool {
        !self.was_busy && self.apart >= Self::LEAST_GAIN * self.together
    }
}

/// Whether the tapes of all network calls of a full batch are kept, or the calls repeated for the pull-back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// Whether they are kept.
    pub kept: bool,
    /// Bytes that they take, or would take.
    pub tape_bytes: u64,
    /// Bytes that they may take; none: the user decided.
    pub budget: Option<u64>,
}

/// The end of one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Which.
    pub unit: Unit,
    /// Why it failed; none: it did not.
    pub error: Option<String>,
    /// Stop reason of the solve.
    pub stop_reason: Option<String>,
    /// Evaluations.
    pub evals: u32,
    /// Wall seconds in a slot.
    pub seconds: f64,
    /// Observed PSNR in dB, when there is one.
    pub psnr: Option<f64>,
}

/// Where a worker's time went.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds between the first sample and the end, without those in which there was nothing to do.
    pub busy_seconds: f64,
    /// Seconds of them inside network calls.
    pub network_seconds: f64,
    /// Slots × seconds between the first sample and the end.
    pub slots: SlotTime,
    /// The part of it until the last sample began, so that there was always one left.
    pub slots_until_last: SlotTime,
}

/// Slots × seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SlotTime {
    /// Of all slots.
    pub seconds: f64,
    /// Of slots without a running solve.
    pub idle_seconds: f64,
}

impl SlotTime {
    /// The idle part, 0 to 1.
    pub fn idle_share(self) -> f64 {
        share(self.idle_seconds, self.seconds)
    }
}

impl Usage {
    /// The part of the time that was spent outside of network calls, 0 to 1.
    pub fn outside_share(&self) -> f64 {
        share(self.busy_seconds - self.network_seconds, self.busy_seconds)
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 }
}

impl<'a> std::iter::Sum<&'a Usage> for Usage {
    fn sum<I: Iterator<Item = &'a Self>>(usages: I) -> Self {
        let both = |a: SlotTime, b: SlotTime| SlotTime {
            seconds: a.seconds + b.seconds,
            idle_seconds: a.idle_seconds + b.idle_seconds,
        };
        usages.fold(Self::default(), |sum, usage| Self {
            busy_seconds: sum.busy_seconds + usage.busy_seconds,
            network_seconds: sum.network_seconds + usage.network_seconds,
            slots: both(sum.slots, usage.slots),
            slots_until_last: both(sum.slots_until_last, usage.slots_until_last),
        })
    }
}
