//! slurmctld is killed and started again.

use super::Trial;
use crate::pipeline::{Held, Run};
use crate::queue::{Job, table};
use crate::sandbox::Cluster;

/// Tasks that run do not notice. What Slurm starts right after may lack its GPU; that is tried again.
pub(crate) fn a_controller_killed_later_stops_no_task(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 1, chunk: 4s, throttle: 2");
    let submission = run.submit();
    // What it has written down it will know again: nothing may end or begin between that and its end.
    let held = run.hold_all_tasks();
    let array = submission.arrays()[0];
    cluster.save_state(array);
    let running: Vec<Option<usize>> =
        cluster.jobs().into_iter().filter(Job::is_running).map(|job| job.task).collect();
    let finished = run.finished_solves();
    cluster.node("controller", &["crash"]);
    held.iter().for_each(Held::release);
    cluster.wait_until("a solve without a controller", || run.finished_solves() > finished);
    cluster.node("controller", &["heal"]);
    let jobs = run.wait_over();
    let was_running = |job: &&Job| job.id == array && running.contains(&job.task);
    for job in jobs.iter().filter(was_running) {
        assert!(job.state == "COMPLETED" && job.restarts == 0, "{}", table(&jobs));
    }
    run.is_as_uninterrupted(trial.uninterrupted);
    trial.note(format!("{} tasks ran, none of them was started again", running.len()));
}

/// It forgets what it did last: running tasks are offered again, nodes refuse them and are drained. An administrator
/// clears that up; nothing of the run is lost or counted twice.
pub(crate) fn a_controller_killed_at_once_loses_nothing(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 1, chunk: 4s, throttle: 2");
    run.submit();
    cluster.wait_until("a running task", || !cluster.processes().is_empty());
    cluster.node("controller", &["crash"]);
    cluster.node("controller", &["heal"]);
    let mut repairs = 0;
    cluster.wait_until("the end of all jobs", || {
        repairs += cluster.repair();
        let jobs = cluster.jobs();
        !jobs.is_empty() && jobs.iter().all(Job::is_over)
    });
    // It may have forgotten any job, also the one that collects: what is missing is submitted, and collected by hand.
    let again = run.submit();
    run.wait_over();
    run.dflow(&["collect", again.directory().to_str().unwrap()]).succeeds();
    run.is_as_uninterrupted(trial.uninterrupted);
    trial.note(format!(
        "{repairs} nodes or tasks had to be put right by hand, {} rows written twice",
        run.duplicates()
    ));
}
