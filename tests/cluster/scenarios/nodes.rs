//! Nodes that are lost, in part or whole, and come back or not.

use super::Trial;
use crate::pipeline::Run;
use crate::queue::{Job, table};
use crate::sandbox::Cluster;

/// The power of a node fails: its tasks are started elsewhere, and go on from their last checkpoints.
pub(crate) fn a_crashed_node_loses_nothing(trial: &mut Trial<'_>) {
    let cluster = Cluster::with(&["SlurmdTimeout=5"]);
    let run = Run::new(&cluster, "gpus: 1, chunk: 4s, throttle: 2");
    let submission = run.submit();
    let held = run.hold_a_task();
    let (task, node) = (held.task, &*held.node);
    cluster.node(node, &["crash"]);
    cluster.wait_until("the end of all processes on the node", || held.has_ended());
    let jobs = run.wait_over();
    let tasks = submission.tasks(&jobs);
    let lost = tasks.iter().find(|job| job.task == Some(task)).unwrap();
    assert!(lost.restarts > 0 && lost.node != node, "{}", table(&jobs));
    assert!(tasks.iter().all(|job| job.state == "COMPLETED"), "{}", table(&jobs));
    let resumed = run.resumed();
    assert!(resumed > 0, "no solve went on from its checkpoint");
    run.is_as_uninterrupted(trial.uninterrupted);
    trial.note(format!("task {task} went from {node} to {}, {resumed} solves resumed", lost.node));
}

/// slurmd of a node is killed alone, and comes back later: its tasks are not its children, and go on.
pub(crate) fn a_lost_slurmd_stops_no_task(trial: &mut Trial<'_>) {
    // Longer than the tasks take: a node that is down loses its tasks.
    let cluster = Cluster::with(&["SlurmdTimeout=300"]);
    let run = Run::new(&cluster, "gpus: 1, chunk: 4s, throttle: 2");
    let submission = run.submit();
    let held = run.hold_a_task();
    let (task, node) = (held.task, &*held.node);
    cluster.node(node, &["lose-daemon"]);
    assert!(!held.has_ended(), "the task lives on");
    let finished = run.finished_solves();
    held.release();
    cluster.wait_until("the end of the task's work", || held.has_ended());
    assert!(run.finished_solves() > finished, "solves were finished without slurmd");
    cluster.node(node, &["heal"]);
    let jobs = run.wait_over();
    let tasks = submission.tasks(&jobs);
    assert!(tasks.iter().all(|job| job.state == "COMPLETED" && job.restarts == 0), "{}", table(&jobs));
    run.is_as_uninterrupted(trial.uninterrupted);
    trial.note(format!("task {task} ended on {node} without slurmd, no restart"));
}

/// A node loses its network while its tasks hang, and come to life again when others have taken over.
pub(crate) fn two_copies_of_a_task_may_both_write(trial: &mut Trial<'_>) {
    let cluster = Cluster::with(&["SlurmdTimeout=5"]);
    let run = Run::new(&cluster, "gpus: 1, chunk: 4s, throttle: 2");
    let submission = run.submit();
    let held = run.hold_a_task();
    let (task, node) = (held.task, &*held.node);
    cluster.node(node, &["freeze"]);
    cluster.wait_until("the second copy, solving", || {
        let new = cluster.processes_of(task);
        let mut new = new.iter().filter(|process| process.node() != node);
        new.any(|process| run.is_solving(process))
    });
    held.release();
    cluster.wait_until("the end of the first copy", || held.has_ended());
    let is_done = |job: &Job| job.is_over() || (job.node == node && job.task.is_some());
    cluster.wait_until("the end of all other tasks", || {
        let jobs = cluster.jobs();
        !jobs.is_empty() && jobs.iter().all(is_done)
    });
    let jobs = cluster.jobs();
    let twice = submission.tasks(&jobs).into_iter().find(|job| job.task == Some(task)).unwrap();
    assert!(twice.restarts > 0 && twice.node != node, "{}", table(&jobs));
    let duplicates = run.duplicates();
    assert!(duplicates > 0, "both copies have written the same rows");
    run.is_as_uninterrupted(trial.uninterrupted);
    trial.note(format!("task {task} ran on {node} and {}, {duplicates} rows were written twice", twice.node));
}
