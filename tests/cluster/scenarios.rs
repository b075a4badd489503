//! What may happen to a run on a cluster, one function each, named by what must hold.

mod array;
mod controller;
mod mistakes;
mod nodes;
mod preemption;
mod stops;
mod storage;

use std::path::Path;

/// Which scenarios are run when nobody names any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// Always.
    Short,
    /// With `FULL=1`.
    Full,
}

/// One scenario while it runs.
pub(crate) struct Trial<'a> {
    /// Run directory that every other has to equal.
    pub(crate) uninterrupted: &'a Path,
    /// What was injected and what came of it, for the summary.
    pub(crate) notes: Vec<String>,
}

impl Trial<'_> {
    /// Adds a remark to the summary.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// One row of the list.
pub(crate) struct Scenario {
    /// What must hold.
    pub(crate) name: &'static str,
    /// When it is run.
    pub(crate) set: Set,
    /// Whether a node needs mounts of its own.
    pub(crate) needs_mounts: bool,
    /// Panics if it does not hold.
    pub(crate) run: fn(&mut Trial<'_>),
}

const fn short(name: &'static str, run: fn(&mut Trial<'_>)) -> Scenario {
    Scenario { name, set: Set::Short, needs_mounts: false, run }
}

const fn full(name: &'static str, run: fn(&mut Trial<'_>)) -> Scenario {
    Scenario { name, set: Set::Full, needs_mounts: false, run }
}

const fn with_mounts(scenario: Scenario) -> Scenario {
    Scenario { needs_mounts: true, ..scenario }
}

/// All scenarios, in the order in which they are run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    short("an_array_is_complete", array::an_array_is_complete),
    short("submitting_again_adds_only_what_is_missing", array::submitting_again_adds_only_what_is_missing),
    short("a_requeued_task_goes_on", stops::a_requeued_task_goes_on),
    short("a_task_goes_on_after_its_time_limit", stops::a_task_goes_on_after_its_time_limit),
    short("a_cancelled_array_stays_cancelled", stops::a_cancelled_array_stays_cancelled),
    short("a_wrong_partition_is_one_clear_error", mistakes::a_wrong_partition_is_one_clear_error),
    short("a_missing_sbatch_is_one_clear_error", mistakes::a_missing_sbatch_is_one_clear_error),
    short("an_unwritable_directory_is_one_clear_error", mistakes::an_unwritable_directory_is_one_clear_error),
    short("no_gpus_granted_is_one_clear_error", mistakes::no_gpus_granted_is_one_clear_error),
    with_mounts(short("a_read_only_node_is_gone_round", storage::a_read_only_node_is_gone_round)),
    with_mounts(short(
        "a_node_with_a_full_disk_is_gone_round",
        storage::a_node_with_a_full_disk_is_gone_round,
    )),
    with_mounts(full(
        "a_run_goes_on_when_full_disks_have_room_again",
        storage::a_run_goes_on_when_full_disks_have_room_again,
    )),
    full("a_crashed_node_loses_nothing", nodes::a_crashed_node_loses_nothing),
    full("a_lost_slurmd_stops_no_task", nodes::a_lost_slurmd_stops_no_task),
    full("two_copies_of_a_task_may_both_write", nodes::two_copies_of_a_task_may_both_write),
    full("an_obedient_task_is_preempted_and_goes_on", preemption::an_obedient_task_is_preempted_and_goes_on),
    full("a_stubborn_task_is_preempted_and_goes_on", preemption::a_stubborn_task_is_preempted_and_goes_on),
    full("a_controller_killed_later_stops_no_task", controller::a_controller_killed_later_stops_no_task),
    full("a_controller_killed_at_once_loses_nothing", controller::a_controller_killed_at_once_loses_nothing),
];
