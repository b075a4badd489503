//! What is told of chunks, by rows and by what the controller said.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::cluster::queue;
use crate::cluster::submission::tests::{PINV, document_of, submission_in};
use crate::spec::cluster::ClusterSpec;
use crate::store::fs::OsFs;

const NOTHING: IsDurable<'static> = &|_, _| false;

fn jobs(lines: &str) -> Vec<Job> {
    queue::parse(lines).unwrap()
}

fn said(jobs: &[Job]) -> Answer<'_> {
    Answer { jobs: Some((jobs, Duration::from_secs(2))), trouble: None }
}

/// Two submissions of two chunks each, arrays 7 and 8; the newer one is the second.
fn reader(root: &Path) -> ChunkReader {
    let mut ids = Vec::new();
    for job in [7, 8] {
        let mut submission = submission_in(root, ClusterSpec::default());
        submission.create(&document_of(PINV)).unwrap();
        let name = format!("dflow-{}-0", submission.short());
        let array = json!({ "name": name, "first": 0, "tasks": "0-1", "sweep": 0, "job": job });
        let array = serde_json::from_value(array).unwrap();
        submission.update(|file| file.arrays.push(array)).unwrap();
        ids.push(submission.id().to_owned());
    }
    let mut reader = ChunkReader::default();
    reader.refresh(&OsFs, root).unwrap();
    if ids[0] > ids[1] {
        // Made within one millisecond: the random part decided.
        let [a, b] = [&ids[0], &ids[1]].map(|id| root.join(FOLDER).join(id));
        let mut first = Submission::open(&a).unwrap();
        first.update(|file| file.arrays[0].job = Some(8)).unwrap();
        Submission::open(&b).unwrap().update(|file| file.arrays[0].job = Some(7)).unwrap();
        reader.refresh(&OsFs, root).unwrap();
    }
    reader
}

#[test]
fn a_queue_that_is_not_known_is_said_to_be_so_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let mut reader = reader(root.path());
    let answer = Answer { jobs: None, trouble: Some("the controller does not answer") };
    let counts = reader.counts(&answer, NOTHING).unwrap();
    assert_eq!((counts.total, counts.done, counts.open, &counts.queue), (2, 0, 2, &None));
    let json = serde_json::to_value(&counts).unwrap();
    assert_eq!((&json["open"], &json["trouble"]), (&2.into(), &"the controller does not answer".into()));
    for key in ["queued", "running", "absent", "failed"] {
        assert!(json.get(key).is_none(), "{key} is not known: {json}");
    }
    let known = serde_json::to_value(reader.counts(&said(&[]), NOTHING).unwrap()).unwrap();
    assert_eq!((&known["absent"], &known["queued"]), (&2.into(), &0.into()));
}

#[test]
fn one_question_is_for_every_submission_and_its_answer_is_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let mut reader = reader(root.path());
    let mut question = reader.question();
    question.ids.sort_unstable();
    assert_eq!(question, Question { ids: vec![7, 8], names: Vec::new() });
    let jobs = jobs(
        "7_0|RUNNING|node9|x|None\n7_1|COMPLETED||x|None\n8_0|RUNNING|node1|y|None\n8_1|PENDING||y|Priority\n",
    );
    let queue = reader.counts(&said(&jobs), NOTHING).unwrap().queue.unwrap();
    assert_eq!((queue.running, queue.queued, queue.older), (1, 1, 1));
    assert_eq!(queue.nodes, BTreeMap::from([("node1".to_owned(), 1)]));
    assert_eq!((queue.waiting, queue.age_seconds), (None, 2.0));
}

#[test]
fn a_chunk_is_done_when_its_rows_are_durable_whatever_the_queue_says() {
    let root = tempfile::tempdir().unwrap();
    let mut reader = reader(root.path());
    let first = Submission::all(root.path()).unwrap()[0].chunks().cells[0].hash.clone();
    let jobs = jobs("8_0|RUNNING|node1|y|None\n8_1|FAILED|node2|y|NonZeroExitCode\n");
    let counts = reader.counts(&said(&jobs), &|hash, _| hash == first).unwrap();
    assert_eq!((counts.done, counts.open), (1, 1));
    let queue = counts.queue.unwrap();
    assert_eq!((queue.running, queue.failed), (0, 1));
    assert_eq!(reader.counts(&said(&jobs), NOTHING).unwrap().done, 1, "a row that is durable stays so");
}

#[test]
fn the_newest_failure_is_told_with_its_log_which_is_read_once() {
    let root = tempfile::tempdir().unwrap();
    let mut reader = reader(root.path());
    let submission = Submission::all(root.path()).unwrap().pop().unwrap();
    std::fs::create_dir_all(submission.logs()).unwrap();
    let log = |task: usize, words: &str| {
        let line = format!("dflow-task t chunk={task} task=8_{task} node=node{task} restart=0");
        let text = format!("{line} event=start gpus=0\n{line} {words}\n");
        std::fs::write(submission.logs().join(format!("8_{task}.out")), text).unwrap();
    };
    let mut told = |lines: &str| {
        let counts = reader.counts(&said(&jobs(lines)), NOTHING).unwrap();
        let newest = counts.queue.unwrap().newest_failed;
        (newest.map(|chunk| (chunk.ending, chunk.node)), counts.notes)
    };
    let of = |ending: &str, node: &str| Some((Some(ending.to_owned()), node.to_owned()));
    let note = |task: &str| vec![format!("failed: submit/{}/logs/{task}.out", submission.id())];
    assert_eq!(told("8_0|RUNNING|node0|y|None\n"), (None, vec![]));
    log(1, "event=stopped code=2 signal=none");
    let first = "8_0|RUNNING|node0|y|None\n8_1|FAILED|node1|y|NonZeroExitCode\n";
    assert_eq!(told(first), (of("code 2", "node1"), note("8_1")));
    log(1, "event=stopped code=1 signal=none");
    assert_eq!(told(first).0, of("code 2", "node1"), "nothing has changed: it is not read again");
    // The other one failed since.
    log(0, "event=setup-failed code=127");
    let both = first.replace("RUNNING", "FAILED");
    assert_eq!(told(&both), (of("the setup failed", "node0"), note("8_0")));
    std::fs::remove_file(submission.logs().join("8_1.out")).unwrap();
    let silent = told("8_0|RUNNING|node0|y|None\n8_1|FAILED|node7|y|NonZeroExitCode\n");
    assert_eq!(
        silent,
        (Some((None, "node7".to_owned())), vec!["failed without a log: sacct -j 8_1".to_owned()])
    );
}

#[test]
fn a_log_that_comes_late_is_seen_and_one_that_tells_nothing_is_no_missing_one() {
    let root = tempfile::tempdir().unwrap();
    let mut reader = reader(root.path());
    let submission = Submission::all(root.path()).unwrap().pop().unwrap();
    std::fs::create_dir_all(submission.logs()).unwrap();
    let write = |text: &str| std::fs::write(submission.logs().join("8_1.out"), text).unwrap();
    let jobs = jobs("8_1|FAILED|node1|y|NonZeroExitCode\n");
    let mut look = || {
        let counts = reader.counts(&said(&jobs), NOTHING).unwrap();
        (counts.queue.unwrap().newest_failed.unwrap().how().to_owned(), counts.notes)
    };
    let note = |text: &str| vec![text.to_owned()];
    assert_eq!(look(), ("no log".to_owned(), note("failed without a log: sacct -j 8_1")));
    write("slurmstepd: error: execve(): job.sbatch: Permission denied\n");
    let log = format!("submit/{}/logs/8_1.out", submission.id());
    let early = format!("failed before its script began: {log}; sacct -j 8_1");
    assert_eq!(look(), ("a log without a start".to_owned(), note(&early)));
    let line = "dflow-task t chunk=1 task=8_1 node=node1 restart=0";
    write(&format!("{line} event=start gpus=0\n{line} event=stopped code=2 signal=none\n"));
    assert_eq!(look(), ("code 2".to_owned(), note(&format!("failed: {log}"))));
}

/// Records jobs that collect: of the newer submission job 10, of the older one job 9.
fn with_collectors(root: &Path) {
    for (submission, job) in Submission::all(root).unwrap().iter_mut().zip([9, 10]) {
        let name = format!("dflow-{}-collect", submission.short());
        let collector = serde_json::from_value(json!({ "name": name, "job": job })).unwrap();
        submission.update(|file| file.collectors.push(collector)).unwrap();
    }
}

#[test]
fn a_job_that_will_collect_is_asked_for_and_told_unless_its_submission_was_cancelled() {
    let root = tempfile::tempdir().unwrap();
    let mut reader = reader(root.path());
    with_collectors(root.path());
    reader.refresh(&OsFs, root.path()).unwrap();
    let mut question = reader.question();
    question.ids.sort_unstable();
    assert_eq!(question.ids, [7, 8, 9, 10]);
    let failed = "7_0|FAILED|node1|x|None\n8_0|FAILED|node1|x|None\n";
    let collector = |reader: &mut ChunkReader, more: &str| {
        let jobs = jobs(&format!("{failed}{more}"));
        reader.counts(&said(&jobs), NOTHING).unwrap().queue.unwrap().collector
    };
    assert_eq!(collector(&mut reader, ""), None);
    assert_eq!(collector(&mut reader, "10|PENDING||y|Dependency\n"), Some(10));
    assert_eq!(collector(&mut reader, "9|RUNNING|node1|y|None\n10|RUNNING|node1|y|None\n"), Some(10));
    assert_eq!(collector(&mut reader, "9|RUNNING|node1|y|None\n10|COMPLETED||y|None\n"), Some(9));
    Submission::all(root.path()).unwrap()[1].mark_cancelled().unwrap();
    reader.refresh(&OsFs, root.path()).unwrap();
    assert!(!reader.question().ids.contains(&10) && reader.question().ids.contains(&8));
    assert_eq!(collector(&mut reader, "10|PENDING||y|Dependency\n"), None);
}

#[test]
fn a_job_that_would_collect_but_is_held_is_pointed_out() {
    let root = tempfile::tempdir().unwrap();
    let mut reader = reader(root.path());
    with_collectors(root.path());
    reader.refresh(&OsFs, root.path()).unwrap();
    let jobs = jobs("10|PENDING||y|JobHeldUser\n");
    let notes = reader.counts(&said(&jobs), NOTHING).unwrap().notes;
    assert_eq!(notes, ["a task is held (JobHeldUser): scontrol release 10"]);
}

#[test]
fn counts_are_by_chunk_and_node() {
    let lines = "1|PD||a|None\n2|R|node1|a|None\n3|R|node1|a|None\n4|CG|node2|a|None\n5|F|node2|a|None\n6|CA||a|None\n";
    let mut counts = QueueCounts::default();
    jobs(lines).iter().for_each(|job| counts.add(Some(job), false));
    counts.add(None, false);
    counts.add(None, true);
    let QueueCounts { queued, running, failed, cancelled, absent, nodes, .. } = counts;
    assert_eq!((queued, running, failed, cancelled, absent), (1, 3, 1, 2, 1));
    assert_eq!(nodes, BTreeMap::from([("node1".to_owned(), 2), ("node2".to_owned(), 1)]));
}

#[test]
fn the_commonest_reason_to_wait_is_told_unless_it_is_an_ordinary_one() {
    let why = |lines: &str| why_waiting(&jobs(lines).iter().collect::<Vec<_>>());
    let ordinary = "7_[0-3]|PENDING||x|Priority\n7_4|PENDING||x|Resources\n7_5|PENDING||x|JobArrayTaskLimit\n\
                    7_6|PENDING||x|Dependency\n7_7|PENDING||x|None\n7_8|RUNNING|node1|x|PartitionConfig\n";
    assert_eq!(why(ordinary), None);
    let stuck = format!("{ordinary}7_9|PENDING||x|BadConstraints\n7_[10-11]|PENDING||x|PartitionConfig\n");
    let waiting = Waiting { reason: "PartitionConfig".to_owned(), tasks: 2 };
    assert_eq!(why(&stuck), Some(waiting));
}

#[test]
fn a_held_task_is_pointed_out() {
    let text = "7_0|PENDING||x|launch failed requeued held\n7_1|PENDING||x|launch failed requeued held\n";
    let jobs = jobs(text);
    let jobs: Vec<&Job> = jobs.iter().collect();
    let notes = held(&jobs);
    assert!(notes.len() == 1 && notes[0].contains("scontrol release 7"), "{notes:?}");
    assert_eq!(why_waiting(&jobs), None, "it is told once");
}

#[test]
fn a_submission_that_was_cut_short_is_left_out() {
    let root = tempfile::tempdir().unwrap();
    let mut reader = reader(root.path());
    std::fs::create_dir(root.path().join(FOLDER).join("99999999T000000.000Z-00000000")).unwrap();
    reader.refresh(&OsFs, root.path()).unwrap();
    assert_eq!(reader.counts(&said(&[]), NOTHING).unwrap().total, 2);
    let mut empty = ChunkReader::default();
    empty.refresh(&OsFs, &root.path().join("nowhere")).unwrap();
    assert_eq!(empty.counts(&said(&[]), NOTHING), None);
}
