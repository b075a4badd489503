//! A node that cannot write into the run directory: others do its samples.

use super::Trial;
use crate::pipeline::Run;
use crate::queue::table;
use crate::sandbox::Cluster;

/// The run directory is mounted read-only there. Slurm cannot even open the task's log.
pub(crate) fn a_read_only_node_is_gone_round(trial: &mut Trial<'_>) {
    is_gone_round(trial, "readonly");
}

/// The run directory is on a disk without a free byte there.
pub(crate) fn a_node_with_a_full_disk_is_gone_round(trial: &mut Trial<'_>) {
    is_gone_round(trial, "full");
}

fn is_gone_round(trial: &mut Trial<'_>, fault: &str) {
    // The first that Slurm chooses.
    const NODE: &str = "node1";
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 1, chunk: 4s");
    std::fs::create_dir(run.directory()).unwrap();
    cluster.node(NODE, &[fault, "run"]);
    let submission = run.submit();
    let jobs = run.wait_over();
    let tried = cluster.starts_on(NODE);
    assert!(tried > 0, "no task was ever started on {NODE}:\n{}", table(&jobs));
    let there = submission.tasks(&jobs).into_iter().filter(|task| task.node == NODE);
    assert!(there.clone().all(|task| task.state != "COMPLETED"), "{}", table(&jobs));
    run.is_as_uninterrupted(trial.uninterrupted);
    trial.note(format!("{tried} tasks tried on {NODE}, {} submissions in all", submission.arrays().len()));
}
