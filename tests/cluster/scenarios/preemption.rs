//! Urgent jobs of others that take the GPUs.

use rustix::process::Signal;

use super::Trial;
use crate::pipeline::{Run, Submission};
use crate::queue::{Job, table};
use crate::sandbox::Cluster;

/// Warned tasks checkpoint and leave; they go on when the urgent job is over.
pub(crate) fn an_obedient_task_is_preempted_and_goes_on(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "partition: overnight, gpus: 1, chunk: 4s, throttle: 2");
    let submission = run.submit();
    let held = run.hold_a_task();
    let urgent = Urgent::submit(&cluster);
    let is_warned = || held.processes.iter().any(|process| process.has_pending(Signal::USR1));
    cluster.wait_until("the warning", is_warned);
    held.release();
    urgent.has_its_turn();
    goes_on(trial, &run, &submission, held.task);
    assert!(submission.logs().contains("code=75"), "{}", submission.logs());
}

/// Tasks that do not even notice the warning are killed after the grace time; their checkpoints are older, that is all.
pub(crate) fn a_stubborn_task_is_preempted_and_goes_on(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "partition: overnight, gpus: 1, chunk: 4s, throttle: 2");
    let submission = run.submit();
    let held = run.hold_a_task();
    let urgent = Urgent::submit(&cluster);
    urgent.has_its_turn();
    assert!(held.has_ended(), "killed: the GPUs were handed on");
    goes_on(trial, &run, &submission, held.task);
}

fn goes_on(trial: &mut Trial<'_>, run: &Run<'_>, submission: &Submission, task: usize) {
    let jobs = run.wait_over();
    let tasks = submission.tasks(&jobs);
    let preempted = tasks.iter().find(|job| job.task == Some(task)).unwrap();
    assert!(preempted.restarts > 0, "{}", table(&jobs));
    assert!(tasks.iter().all(|job| job.state == "COMPLETED"), "{}", table(&jobs));
    let resumed = run.resumed();
    assert!(resumed > 0, "no solve went on from its checkpoint");
    run.is_as_uninterrupted(trial.uninterrupted);
    let restarted = tasks.iter().filter(|job| job.restarts > 0).count();
    trial.note(format!("{restarted} tasks preempted, {resumed} solves resumed"));
}

/// Somebody's job of higher priority on all GPUs of all nodes.
struct Urgent<'a> {
    cluster: &'a Cluster,
}

impl<'a> Urgent<'a> {
    const NAME: &'static str = "urgent";

    fn submit(cluster: &'a Cluster) -> Self {
        let wait = "while [ ! -e urgent-may-end ]; do sleep 0.2; done";
        let name = format!("--job-name={}", Self::NAME);
        let all =
            ["--partition=urgent", &name, "--nodes=3", "--gres=gpu:2", "--output=/dev/null", "--wrap", wait];
        cluster.run("sbatch", &all).succeeds();
        Self { cluster }
    }

    fn job(&self) -> Option<Job> {
        self.cluster.jobs().into_iter().find(|job| job.name == Self::NAME)
    }

    /// Waits until it has got the GPUs, and lets it end.
    fn has_its_turn(&self) {
        self.cluster.wait_until("the urgent job", || self.job().is_some_and(|job| job.is_running()));
        std::fs::write(self.cluster.work().join("urgent-may-end"), "").unwrap();
    }
}
