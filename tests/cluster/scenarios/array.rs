//! Arrays that nothing happens to, and arrays over what another has left.

use std::collections::BTreeSet;

use super::Trial;
use crate::pipeline::{ROWS, Run, SUBMIT};
use crate::queue::table;
use crate::sandbox::Cluster;

/// Every task ends well, several nodes share the work, and the collecting job leaves the merged table.
pub(crate) fn an_array_is_complete(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 2, chunk: 2s");
    let submission = run.submit();
    assert_eq!(submission.units(), ROWS);
    let jobs = run.wait_over();
    assert!(jobs.iter().all(|job| job.state == "COMPLETED" && job.restarts == 0), "{}", table(&jobs));
    let tasks = submission.tasks(&jobs);
    let nodes: BTreeSet<&str> = tasks.iter().map(|task| &*task.node).collect();
    assert!(tasks.len() > 2 && nodes.len() > 1, "{}", table(&jobs));
    let devices: BTreeSet<String> =
        run.events("started").iter().map(|event| event["device"].as_str().unwrap().to_owned()).collect();
    assert_eq!(devices.len(), 2, "a task has a worker on each of its two GPUs: {devices:?}");
    assert_eq!(run.duplicates(), 0);
    run.is_as_uninterrupted(trial.uninterrupted);
    run.dflow(&SUBMIT).succeeds();
    assert_eq!(run.submissions().len(), 1, "there is nothing to submit any more");
    trial.note(format!("{} tasks on {} nodes, devices {devices:?}", tasks.len(), nodes.len()));
}

/// While tasks are queued or run nothing is submitted twice; what was cancelled half-way is gone on from.
pub(crate) fn submitting_again_adds_only_what_is_missing(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 1, chunk: 4s, throttle: 2");
    let first = run.submit();
    let queued = cluster.jobs().len();
    run.dflow(&SUBMIT).succeeds();
    assert_eq!((run.submissions().len(), cluster.jobs().len()), (1, queued), "all of it is queued or runs");

    // The other task goes on meanwhile.
    let held = run.hold_a_task();
    cluster.wait_until("a finished solve", || run.finished_solves() > 0);
    // Slurm lets stopped processes go on before it asks them to end.
    run.dflow(&["cancel", "run"]).succeeds();
    held.release();
    let jobs = run.wait_over();
    assert!(first.tasks(&jobs).iter().any(|task| task.state == "CANCELLED"), "{}", table(&jobs));
    run.merge();
    let done = run.rows().len();
    assert_eq!(run.resumed(), 0);

    let units = run.submit().units();
    assert!(done > 0 && units > 0 && units == ROWS - done, "{units} submitted again, {done} done of {ROWS}");
    run.wait_over();
    assert_eq!(run.duplicates(), 0, "what was done is not done again");
    let resumed = run.resumed();
    assert!(resumed > 0, "no solve of the first submission went on in the second");
    run.is_as_uninterrupted(trial.uninterrupted);
    trial.note(format!("{units} of {ROWS} samples submitted again, {resumed} solves resumed"));
}
