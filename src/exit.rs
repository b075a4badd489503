//! Exit codes: part of the interface, never renumbered.

/// Everything asked for is done.
pub const OK: i32 = 0;
/// The program failed in a way that no other code names (a full disk, a broken worker …).
pub const FAILURE: i32 = 1;
/// The command line, pipeline file or input is wrong; nothing was done.
pub const USAGE: i32 = 2;
/// The run or check is complete, but some rows have status `failed`.
pub const FAILED_ROWS: i32 = 3;
/// The run directory does not hold what was planned: rows missing, hashes differ, files damaged; or two runs that were
/// compared are not the same.
pub const INCOMPLETE: i32 = 4;
/// The workers of this task crash on whatever they solve: the samples or this machine's devices may be to blame; on another
/// machine the same command may go on.
pub const CRASHES: i32 = 72;
/// The devices of this task are not to be had on this machine: too few cores, no GPU granted, or one that does not answer or
/// was lost; on another machine the same command may go on.
pub const DEVICES: i32 = 73;
/// The run directory cannot be written from here (disk full, read-only, quota): what is durable stays, and another machine
/// may go on.
pub const UNWRITABLE: i32 = 74;
/// Stopped early by a signal or `--max-failures`; what is durable stays, running the same command continues.
pub const STOPPED_EARLY: i32 = 75;
/// Ended at once by a second interrupt; or a view that was ended before the run was complete.
pub const INTERRUPTED: i32 = 130;

/// Every code with its meaning, for `--help` and the documentation.
pub const ALL: [(i32, &str); 10] = [
    (OK, "done"),
    (FAILURE, "failed: see the message"),
    (USAGE, "wrong command line, pipeline file or input; nothing was done"),
    (FAILED_ROWS, "complete, but some samples failed"),
    (INCOMPLETE, "rows missing, hashes or rows differ, or files damaged"),
    (CRASHES, "a task's workers crash on whatever they solve; elsewhere the same command continues"),
    (DEVICES, "a task's devices are not to be had here; elsewhere the same command continues"),
    (UNWRITABLE, "the run directory cannot be written from here; elsewhere the same command continues"),
    (STOPPED_EARLY, "stopped early; the same command continues"),
    (INTERRUPTED, "ended at once by a second interrupt; a `status --watch` that was ended before the run"),
];
