//! Tasks that are stopped while they run, with a warning.

use rustix::process::Signal;

use super::Trial;
use crate::pipeline::{ROWS, Run};
use crate::queue::table;
use crate::sandbox::Cluster;

/// `scontrol requeue` of one running task: it and no other starts again, and goes on.
pub(crate) fn a_requeued_task_goes_on(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 1, chunk: 4s, throttle: 2");
    let submission = run.submit();
    let held = run.hold_a_task();
    let id = format!("{}_{}", submission.arrays()[0], held.task);
    cluster.run("scontrol", &["requeue", &id]).succeeds();
    held.release();
    let jobs = run.wait_over();
    for job in submission.tasks(&jobs) {
        assert_eq!(job.restarts, u32::from(job.task == Some(held.task)), "{}", table(&jobs));
        assert_eq!(job.state, "COMPLETED", "{}", table(&jobs));
    }
    let resumed = run.resumed();
    assert!(resumed > 0, "no solve went on from its checkpoint");
    run.is_as_uninterrupted(trial.uninterrupted);
    trial.note(format!("task {id} requeued, {resumed} solves resumed"));
}

/// The array's own time limit comes near: the task is warned, checkpoints, requeues itself, and goes on.
pub(crate) fn a_task_goes_on_after_its_time_limit(trial: &mut Trial<'_>) {
    // Slurm looks every 30 s whether a limit is near.
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 1, chunk: 4s, throttle: 2, time: 2m, warn: 60");
    let submission = run.submit();
    let held = run.hold_a_task();
    let is_warned = || held.processes.iter().any(|process| process.has_pending(Signal::USR1));
    cluster.wait_until("the warning", is_warned);
    held.release();
    let jobs = run.wait_over();
    let tasks = submission.tasks(&jobs);
    let warned = tasks.iter().find(|job| job.task == Some(held.task)).unwrap();
    assert!(warned.restarts > 0, "{}", table(&jobs));
    assert!(tasks.iter().all(|job| job.state == "COMPLETED"), "{}", table(&jobs));
    assert!(submission.logs().contains("code=75 signal=usr1"), "{}", submission.logs());
    let resumed = run.resumed();
    assert!(resumed > 0, "no solve went on from its checkpoint");
    run.is_as_uninterrupted(trial.uninterrupted);
    trial.note(format!(
        "task {} warned by USR1, {} restarts, {resumed} solves resumed",
        held.task, warned.restarts
    ));
}

/// A user's `scancel` is the last word, also for the collecting job, which runs nevertheless.
pub(crate) fn a_cancelled_array_stays_cancelled(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 1, chunk: 4s, throttle: 2");
    let submission = run.submit();
    // The other task goes on meanwhile.
    let held = run.hold_a_task();
    cluster.wait_until("a finished solve", || run.finished_solves() > 0);
    cluster.run("scancel", &[&submission.arrays()[0].to_string()]).succeeds();
    held.release();
    let jobs = run.wait_over();
    assert_eq!(submission.arrays().len(), 1, "what was cancelled is not submitted again");
    let tasks = submission.tasks(&jobs);
    let cancelled = tasks.iter().filter(|job| job.state == "CANCELLED").count();
    assert!(cancelled > 0 && tasks.iter().all(|job| job.restarts == 0), "{}", table(&jobs));
    assert!(cluster.processes().is_empty(), "{:?}", cluster.processes());
    run.dflow(&["verify", "run"]).fails_with(4).says("missing");

    run.merge();
    let done = run.rows().len();
    let units = run.submit().units();
    assert_eq!(units, ROWS - done, "samples submitted again");
    run.wait_over();
    let resumed = run.resumed();
    assert!(resumed > 0, "no solve of the cancelled submission went on");
    run.is_as_uninterrupted(trial.uninterrupted);
    trial.note(format!(
        "{cancelled} tasks cancelled; {units} of {ROWS} samples submitted again, {resumed} solves resumed"
    ));
}
