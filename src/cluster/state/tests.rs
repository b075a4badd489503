//! What becomes of chunks, by rows, queue and logs.

use super::*;
use crate::cluster::queue;
use crate::cluster::submission::Array;
use crate::cluster::submission::tests::{PINV, document_of, submission_in};
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
        Sweep::of(
            &submission,
            &BTreeMap::from([(0, job(state, "")), (1, job(state, ""))]),
            &Keys::new(),
            NOTHING,
        )
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
        // Preempted, on a cluster that cancels what it preempts.
        ("event=stopped code=75 signal=term", true),
        ("event=waiting for=term", true),
    ] {
        let submission = submission(root.path(), &start(0, "node1", line));
        let sweep = Sweep::of(&submission, &BTreeMap::new(), &Keys::new(), NOTHING);
        assert_eq!(sweep.again, if again { vec![0] } else { vec![] }, "{line}");
        assert!(sweep.cancelled.contains(&1), "it never started");
    }
}

#[test]
fn what_was_cancelled_with_the_submission_stays_so() {
    let root = tempfile::tempdir().unwrap();
    let mut submission = submission(root.path(), &start(0, "node1", "event=stopped code=75 signal=term"));
    submission.create(&document_of(PINV)).unwrap();
    submission.mark_cancelled().unwrap();
    let sweep = Sweep::of(&submission, &BTreeMap::new(), &Keys::new(), NOTHING);
    assert_eq!((sweep.again, sweep.cancelled), (vec![], vec![0, 1]));
}

#[test]
fn what_another_submission_has_in_the_queue_is_left_to_it() {
    let root = tempfile::tempdir().unwrap();
    let submission = submission(root.path(), "");
    let jobs = BTreeMap::from([(0, job("FAILED", "node1")), (1, job("FAILED", "node1"))]);
    let first = submission.chunks().cells[0].hash.clone();
    let live = Keys::from([(first.clone(), "s3".to_owned())]);
    let sweep = Sweep::of(&submission, &jobs, &live, NOTHING);
    assert_eq!((sweep.again, sweep.live), (vec![1], vec![0]));
    // What is durable is in nobody's way.
    let sweep = Sweep::of(&submission, &jobs, &live, &|hash, sample| hash == first && sample == "s3");
    assert_eq!((sweep.again, sweep.live), (vec![0, 1], vec![]));
}

#[test]
fn what_was_handed_to_kubernetes_is_taken_to_live_until_it_is_cancelled() {
    let root = tempfile::tempdir().unwrap();
    let made = submission_in(root.path(), ClusterSpec::default()).with_engine(Engine::Kubernetes);
    made.create(&document_of(PINV)).unwrap();
    let [(found, keys)] = &in_kubernetes(root.path()).unwrap()[..] else { panic!("one submission") };
    assert_eq!((found.id(), keys.len()), (made.id(), 15));
    Submission::open(made.dir()).unwrap().mark_cancelled().unwrap();
    assert!(in_kubernetes(root.path()).unwrap().is_empty());
}

#[test]
fn a_node_is_to_blame_only_where_others_did_their_work() {
    let root = tempfile::tempdir().unwrap();
    let ended =
        |chunk, node: &str, code| start(chunk, node, &format!("event=stopped code={code} signal=none"));
    let bad = |logs: &[String]| {
        let submission = submission(root.path(), &logs.concat());
        let second = submission.chunks().cells[1].hash.clone();
        let jobs = BTreeMap::from([(0, job("FAILED", "node1"))]);
        Sweep::of(&submission, &jobs, &Keys::new(), &|hash, _| hash == second)
    };
    assert!(bad(&[ended(0, "node1", 1)]).bad_nodes.is_empty(), "nothing was ever completed");
    let sweep = bad(&[ended(0, "node1", 1), ended(1, "node2", 0)]);
    assert_eq!((&*sweep.again, sweep.bad_nodes.iter().next().unwrap().as_str()), (&[0][..], "node1"));
    assert!(sweep.is_worth_it(10, 10), "elsewhere it may work");
    assert!(bad(&[ended(0, "node1", 1), ended(1, "node1", 0)]).bad_nodes.is_empty(), "the node works");
    let again = [ended(0, "node1", 1), ended(1, "node2", 0), ended(0, "node2", 1).replace("20:00", "20:30")];
    assert!(bad(&again).bad_nodes.is_empty(), "it fails on a node that works");
    // The controller alone knows where a task was that left no log.
    assert_eq!(bad(&[ended(1, "node2", 0)]).bad_nodes.len(), 1);
}

#[test]
fn a_node_that_cannot_write_is_bad_whoever_else_failed() {
    let attempt =
        |node: &str, code| Attempt { node: node.to_owned(), code: Some(code), ..Attempt::default() };
    let (full, broken) = (attempt("node1", exit::UNWRITABLE), attempt("node2", 1));
    let last = BTreeMap::from([(0, &full), (1, &broken)]);
    let good = BTreeSet::from(["node2"]);
    let bad = bad_nodes(&BTreeSet::from([0, 1]), &last, &good, &BTreeMap::new());
    assert_eq!(bad, BTreeSet::from(["node1".to_owned()]));
}

#[test]
fn nodes_without_setup_are_bad_where_dflow_ran_on_others() {
    let root = tempfile::tempdir().unwrap();
    let unusable = |chunk, node: &str, minute: u32| {
        start(chunk, node, "event=setup-failed code=1").replace("20:0", &format!("20:{minute}"))
    };
    let bad = |logs: &[String]| {
        let submission = submission(root.path(), &logs.concat());
        Sweep::of(&submission, &BTreeMap::new(), &Keys::new(), NOTHING)
    };
    let tries = [unusable(0, "node1", 1), unusable(0, "node2", 2)];
    let sweep = bad(&tries);
    assert!(sweep.bad_nodes.is_empty() && !sweep.is_worth_it(15, 15), "the setup is wrong");
    // It made no row, and yet dflow ran.
    let ran = start(1, "node3", "event=stopped code=1 signal=none");
    let sweep = bad(&[&tries[..], &[ran]].concat());
    assert_eq!(sweep.bad_nodes, ["node1", "node2"].map(str::to_owned).into());
    assert!(sweep.is_worth_it(15, 15), "elsewhere it may work");
    let ran_later = start(0, "node3", "event=stopped code=1 signal=none").replace("20:0", "20:5");
    assert!(bad(&[&tries[..], &[ran_later]].concat()).bad_nodes.is_empty(), "another node was found");
}

#[test]
fn the_newest_failure_is_known_with_its_log() {
    let root = tempfile::tempdir().unwrap();
    let submission = submission(root.path(), &start(0, "node1", "event=stopped code=2 signal=none"));
    let log = start(1, "node2", "x\nerror: no such dataset\n");
    std::fs::write(submission.logs().join("7_1.out"), log).unwrap();
    let newest = Sweep::of(&submission, &BTreeMap::new(), &Keys::new(), NOTHING).newest.unwrap();
    assert_eq!((newest.chunk, newest.log), (1, submission.logs().join("7_1.out")));
    assert_eq!(newest.error.unwrap(), "error: no such dataset");
}

#[test]
fn nodes_stay_left_out() {
    let root = tempfile::tempdir().unwrap();
    let mut submission = submission(root.path(), "");
    let array = |exclude: &str| Array {
        name: "a".to_owned(),
        first: 0,
        stride: 1,
        tasks: "0".to_owned(),
        sweep: 1,
        exclude: exclude.to_owned(),
        lost: false,
        job: None,
    };
    let sweep = Sweep { bad_nodes: BTreeSet::from(["node3".to_owned()]), ..Sweep::default() };
    assert_eq!(sweep.exclude(&submission), "node3");
    submission.keep_arrays(&[array(""), array("node1,node2")]);
    assert_eq!(sweep.exclude(&submission), "node1,node2,node3");
    assert_eq!(Sweep::default().exclude(&submission), "node1,node2");
}

#[test]
fn sweeps_go_on_while_rows_are_made() {
    let sweep = Sweep { again: vec![0], ..Sweep::default() };
    assert!(sweep.is_worth_it(10, 9));
    assert!(!sweep.is_worth_it(10, 10));
    assert!(!Sweep::default().is_worth_it(10, 5), "nothing to submit");
}
