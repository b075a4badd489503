//! A node that cannot write into the run directory: others do its samples.

use super::Trial;
use crate::pipeline::Run;
use crate::queue::table;
use crate::sandbox::Cluster;

/// Every node of the cluster.
const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// The run directory is mounted read-only there. Slurm cannot even open the task's log.
pub(crate) fn a_read_only_node_is_gone_round(trial: &mut Trial<'_>) {
    is_gone_round(trial, "readonly");
}

/// The run directory is on a disk without a free byte there.
pub(crate) fn a_node_with_a_full_disk_is_gone_round(trial: &mut Trial<'_>) {
    is_gone_round(trial, "full");
}

/// No node has room for a while: nobody may be shut out for good.
pub(crate) fn a_run_goes_on_when_full_disks_have_room_again(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 2, chunk: 20s");
    std::fs::create_dir(run.directory()).unwrap();
    NODES.iter().for_each(|node| cluster.node(node, &["full", "run"]));
    run.submit();
    for node in NODES {
        cluster.wait_until("a task that was tried there", || cluster.starts_on(node) > 0);
    }
    NODES.iter().for_each(|node| cluster.node(node, &["heal"]));
    let jobs = run.wait_over();
    run.is_as_uninterrupted(trial.uninterrupted);
    let restarts: u32 = jobs.iter().map(|job| job.restarts).sum();
    trial.note(format!("{restarts} restarts until there was room"));
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
