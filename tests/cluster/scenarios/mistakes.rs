//! What a user or a site got wrong: one error that says what, and nothing left in the queue.

use super::Trial;
use crate::ended::Ended;
use crate::pipeline::{Run, SUBMIT};
use crate::queue::table;
use crate::sandbox::{Cluster, DFLOW};

/// Most lines that an error may have: what is wrong, where, what to do.
const LINES: usize = 6;

/// Checks that a command was refused, shortly, with certain words.
#[track_caller]
fn is_refused(ended: Ended, words: &[&str]) -> String {
    let message = ended.stderr();
    assert_ne!(ended.code(), Some(0), "{}", ended.report());
    assert!(words.iter().all(|word| message.contains(word)), "{words:?} in\n{}", ended.report());
    assert!(message.lines().count() <= LINES && !message.contains("panicked"), "{}", ended.report());
    let mut errors = message.lines().filter(|line| line.starts_with("error: "));
    match (errors.next(), errors.next()) {
        (Some(error), None) => error.to_owned(),
        _ => panic!("one error is wanted\n{}", ended.report()),
    }
}

pub(crate) fn a_wrong_partition_is_one_clear_error(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 1, partition: overnigth");
    trial.note(is_refused(run.dflow(&SUBMIT), &["overnigth", "partition"]));
    assert_eq!(cluster.jobs(), []);
}

pub(crate) fn a_missing_sbatch_is_one_clear_error(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 1");
    let ended = Ended::of(cluster.command(DFLOW, &SUBMIT).env("PATH", run.directory()));
    trial.note(is_refused(ended, &["sbatch"]));
    assert_eq!(cluster.jobs(), []);
}

pub(crate) fn an_unwritable_directory_is_one_clear_error(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run = Run::new(&cluster, "gpus: 1");
    // Nobody can make a directory there, root neither.
    let there = "/proc/dflow-run";
    trial.note(is_refused(run.dflow(&[&SUBMIT as &[&str], &["--output", there]].concat()), &[there]));
    assert_eq!(cluster.jobs(), []);
}

/// GPUs are counted for the task but not shown to it, as on a site with a broken gres.conf.
pub(crate) fn no_gpus_granted_is_one_clear_error(trial: &mut Trial<'_>) {
    let cluster = Cluster::start();
    let run =
        Run::new(&cluster, "gpus: 1, chunk: 1h, max_restarts: 0, setup: [ unset CUDA_VISIBLE_DEVICES ]");
    let submission = run.submit();
    let jobs = run.wait_over();
    let tasks = submission.tasks(&jobs);
    assert!(tasks.iter().all(|task| task.state == "FAILED" && task.exit_code == 73), "{}", table(&jobs));
    let logs = submission.logs();
    // The last job quotes it.
    let is_error = |line: &&str| line.starts_with("error: ") && line.contains("CUDA_VISIBLE_DEVICES");
    let errors: Vec<&str> = logs.lines().filter(is_error).collect();
    assert_eq!(errors.len(), tasks.len(), "one error a task:\n{logs}");
    assert_eq!(run.started(), 0, "no sample is solved on anything else instead");
    trial.note(errors[0]);
}
