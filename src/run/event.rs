//! What happens during a run, as one stream of events; progress bars, plain lines and JSON are consumers of it.

use serde::Serialize;

use crate::plan::Unit;
use crate::worker::protocol::{Finished, Layouts, MemoryPlan, SlotChoice, Usage};

/// What a device, or the cores of one, do where calls were not timed before.
pub const MEASURING: &str = "times network calls first: seconds, once per model and machine";

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEvent {
    /// The run begins.
    Begin {
        /// Samples × cells of the plan, in this shard.
        planned: usize,
        /// Of these, durable already.
        done: usize,
        /// Devices.
        devices: Vec<String>,
    },
    /// How the cores are best shared out among workers was measured.
    Layout {
        /// What was measured.
        layouts: Layouts,
        /// Whether the devices are `auto`, so that the faster layout is taken.
        is_free: bool,
    },
    /// A worker takes samples from now on.
    WorkerReady {
        /// The device.
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
    /// Something that takes long goes on beside the samples, some of which wait for it.
    Preparing {
        /// What it is.
        what: String,
    },
    /// A sample took a slot.
    Started {
        /// The device.
        device: String,
        /// The sample.
        unit: Unit,
        /// Whether it goes on from a checkpoint.
        resumed: bool,
    },
    /// State of a running sample.
    Progress {
        /// The device.
        device: String,
        /// The sample.
        unit: Unit,
        /// Evaluations so far.
        evals: u32,
        /// Observed PSNR in dB.
        psnr: Option<f64>,
    },
    /// A sample's record is durable.
    Finished {
        /// The device.
        device: String,
        /// The end of the sample.
        sample: Finished,
    },
    /// A running sample was checkpointed, because the run stops.
    Suspended {
        /// The device.
        device: String,
        /// The sample.
        unit: Unit,
    },
    /// The device ran out of memory.
    FewerSlots {
        /// The device.
        device: String,
        /// Rows of a call from now on.
        slots: usize,
    },
    /// The device has no room for tapes: network calls are repeated from now on.
    NoTapes {
        /// The device.
        device: String,
    },
    /// A worker broke down; its samples go back to the queue or fail.
    WorkerBroken {
        /// The device.
        device: String,
        /// What is wrong.
        error: String,
        /// Seconds until it is started again; none: it is given up.
        restart_in: Option<f64>,
    },
    /// A worker ended.
    WorkerEnded {
        /// The device.
        device: String,
        /// Where its time went.
        usage: Usage,
    },
    /// The run was asked to stop early.
    Stopping {
        /// By what.
        reason: String,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunSummary {
    /// Samples whose record was made durable by this run.
    pub finished: usize,
    /// Of these, failed.
    pub failed: usize,
    /// Samples left: suspended or never started.
    pub left: usize,
    /// Why it stopped before the end; none: it did not.
    pub stopped: Option<String>,
    /// Of those that are left, the ones that were being solved when workers crashed.
    pub suspects: usize,
    /// Errors of workers that broke down.
    pub broken: Vec<String>,
    /// Whether one of them could not write its results, and none has written any since.
    pub unwritable: bool,
    /// Where the workers' time went, in order of devices.
    pub usage: Vec<Usage>,
    /// Wall seconds.
    pub seconds: f64,
}

impl RunSummary {
    /// Where the time of all workers went.
    pub fn usage_of_all(&self) -> Usage {
        self.usage.iter().sum()
    }
}
