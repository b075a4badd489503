//! What becomes of chunks, by rows, queue and logs.

use super::*;
use crate::cluster::queue;
use crate::cluster::submission::tests::submission_in;
use crate::spec::cluster::ClusterSpec;

/// A submission of two chunks (all ten samples of cell a, five of cell b) with logs of its tasks.
fn submission(root: &Path, log: &str) -> Submission {
    let submission = submission_in(root, ClusterSpec::default());
    std::fs::create_dir_all(submission.logs()).unwrap();
    std::fs::write(submission.logs().join("7_0.out"), log).unwrap();
    submission
}

fn start(chunk: usize, node: &str, more: &str) -> String {
    format!(
        "dflow-task 2026-11-22T20:00:0{chunk}Z chunk={chunk} task=7_{chunk} node={node} restart=0 event=start gpus=0\n\
         dflow-task 2026-11-22T20:01:00Z chunk={chunk} task=7_{chunk} node={node} restart=0 {more}\n"
    )
}

const NOTHING: IsDurable<'static> = &|_, _| false;

fn job(state: &str, nodes: &str) -> Job {
    queue::parse(&format!("7_0|{state}|{nodes}|x|None")).unwrap().remove(0)
}

#[test]
fn chunks_are_open_until_every_row_is_durable() {
    let root = tempfile::tempdir().unwrap();
    let submission = submission(root.path(), "");
    let chunks = submission.chunks();
    let first = &chunks.cells[0].hash;
    assert_eq!(open_chunks(chunks, NOTHING), [0, 1]);
    assert_eq!(missing_rows(chunks, NOTHING), 15);
    assert_eq!(open_chunks(chunks, &|hash, _| hash == first), [1]);
    let all_but_one = |hash: &str, sample: &str| hash != first || sample != "s3";
    assert_eq!((open_chunks(chunks, &all_but_one), missing_rows(chunks, &all_but_one)), (vec![0], 1));
}

#[test]
fn what_failed_is_tried_again_and_what_was_cancelled_is_not() {
    let root = tempfile::tempdir().unwrap();
    let logs = start(0, "node1", "event=stopped code=1 signal=none");
    let submission = submission(root.path(), &logs);
    let with = |state: &str| {
        Sweep::of(&submission, &BTreeMap::from([(0, job(state, "")), (1, job(state, ""))]), NOTHING)
    };
    assert_eq!(with("FAILED").again, [0, 1]);
    assert_eq!(with("TIMEOUT").again, [0, 1]);
    assert_eq!(with("COMPLETED").again, [0, 1], "rows decide, not exit codes");
    assert_eq!((with("CANCELLED").again, with("CANCELLED").cancelled), (vec![], vec![0, 1]));
    assert_eq!(with("RUNNING").live, [0, 1]);
}

#[test]
fn where_the_controller_forgot_the_logs_say_what_failed() {
    let root = tempfile::tempdir().unwrap();
    for (line, again) in [
        ("event=stopped code=1 signal=none", true),
        ("event=end reason=restarts-used-up", true),
        ("event=stopped code=75 signal=term", false),
        ("event=waiting for=term", false),
    ] {
        let submission = submission(root.path(), &start(0, "node1", line));
        let sweep = Sweep::of(&submission, &BTreeMap::new(), NOTHING);
        assert_eq!(sweep.again, if again { vec![0] } else { vec![] }, "{line}");
        assert!(sweep.cancelled.contains(&1), "it never started");
    }
}

#[test]
fn a_node_is_to_blame_only_where_others_did_their_work() {
    let root = tempfile::tempdir().unwrap();
    let bad = start(0, "node1", "event=stopped code=74 signal=none");
    let good = start(1, "node2", "event=stopped code=0 signal=none");
    let jobs = BTreeMap::from([(0, job("FAILED", "node1"))]);
    let alone = submission(root.path(), &bad);
    let second = alone.chunks().cells[1].hash.clone();
    let done = |hash: &str, _: &str| hash == second;
    assert_eq!(Sweep::of(&alone, &jobs, &done).exclude(), "");
    let both = submission(root.path(), &(bad.clone() + &good));
    let sweep = Sweep::of(&both, &jobs, &done);
    assert_eq!((sweep.again.clone(), sweep.exclude()), (vec![0], "node1".to_owned()));
    assert!(sweep.is_worth_it(10, 10), "elsewhere it may work");
    // A row from there: the node can work.
    let row = |hash: &str, sample: &str| hash == second || sample == "s0";
    assert_eq!(Sweep::of(&both, &jobs, &row).exclude(), "");
    // Another chunk completed there.
    let same = submission(root.path(), &(bad + &good.replace("node2", "node1")));
    assert_eq!(Sweep::of(&same, &jobs, &done).exclude(), "");
}

#[test]
fn sweeps_go_on_while_rows_are_made() {
    let sweep = Sweep { again: vec![0], ..Sweep::default() };
    assert!(sweep.is_worth_it(10, 9));
    assert!(!sweep.is_worth_it(10, 10));
    assert!(!Sweep::default().is_worth_it(10, 5), "nothing to submit");
}

#[test]
fn counts_are_by_chunk_and_node() {
    let mut counts = ChunkCounts::default();
    for job in [
        job("PD", ""),
        job("R", "node1"),
        job("R", "node1"),
        job("CG", "node2"),
        job("F", "node2"),
        job("CA", ""),
    ] {
        counts.add(Some(&job));
    }
    counts.add(None);
    let ChunkCounts { queued, running, failed, cancelled, unknown, nodes, .. } = counts;
    assert_eq!((queued, running, failed, cancelled, unknown), (1, 3, 1, 1, 1));
    assert_eq!(nodes, BTreeMap::from([("node1".to_owned(), 2), ("node2".to_owned(), 1)]));
}

#[test]
fn a_held_task_is_pointed_out() {
    let mut counts = ChunkCounts::default();
    let held = queue::parse("7_0|PENDING||x|launch failed requeued held").unwrap().remove(0);
    counts.add(Some(&held));
    assert!(counts.notes[0].contains("scontrol release 7"), "{:?}", counts.notes);
}
