//! `dflow collect`, and what is left by commands that were killed or cancelled halfway, against a Slurm of scripts.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::submit::{Cluster, SITE};

#[test]
fn collecting_submits_again_what_failed_and_ends_with_the_tables() {
    let cluster = Cluster::new();
    cluster.submit().succeeds();
    let dir = cluster.submissions()[0].display().to_string();
    cluster.queue("101_0|FAILED|node1|x|NonZeroExitCode\\n");
    // No row yet, and no node is to blame.
    cluster.run(&["collect", &dir]).fails_with(4).stdout("missing").stdout("no node is to blame");
    cluster.0.run(&["run", "p.yaml", "--limit", "2"]).succeeds();
    let again = cluster.run(&["collect", &dir]);
    again.fails_with(4).stdout("submitted 1 chunk again; another job will collect");
    assert!(cluster.calls("sbatch")[3].contains("--array=0%4") && cluster.calls("sbatch").len() == 5);
    // Nothing was made since.
    cluster.queue("103_0|FAILED|node1|x|NonZeroExitCode\\n");
    let log = cluster.submissions()[0].join("logs/103_0.out");
    let line =
        |words: &str| format!("dflow-task 2026-11-22T20:00:00Z chunk=0 task=103_0 node=node1 {words}\n");
    let (start, stop) = (line("event=start"), line("event=stopped code=2 signal=none"));
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    fs::write(&log, format!("{start}error: no such dataset\n{stop}")).unwrap();
    let told = cluster.run(&["collect", &dir]);
    told.fails_with(4).stdout("the last tries made no row");
    told.stdout("logs/103_0.out (code 2 on node1): error: no such dataset; `dflow submit`");
    cluster.0.run(&["run", "p.yaml"]).succeeds();
    let done = cluster.run(&["collect", &dir]);
    done.succeeds().stdout("complete: 16 ok").stdout("d-flow");
    assert!(fs::read_to_string(cluster.0.path("a/tables.md")).unwrap().contains("| d-flow"));
    cluster.run(&["collect", "a"]).fails_with(2).stderr("is no submission");
}

#[test]
fn nothing_is_submitted_again_by_a_collecting_job_that_cannot_ask_the_queue() {
    let cluster = Cluster::new();
    cluster.submit().succeeds();
    cluster.0.run(&["run", "p.yaml", "--limit", "2"]).succeeds();
    cluster.command("squeue", "echo 'squeue: error: Munge decode failed: Expired credential' >&2; exit 1");
    let dir = cluster.submissions()[0].display().to_string();
    let collected = cluster.run(&["collect", &dir]);
    collected
        .fails_with(4)
        .stdout("the queue could not be asked")
        .stdout("`dflow submit` of the same pipeline");
    assert_eq!(cluster.calls("sbatch").len(), 3, "the check, an array and a collecting job");
}

#[test]
fn what_a_newer_submission_has_in_the_queue_is_not_submitted_again() {
    let cluster = Cluster::new();
    cluster.submit().succeeds();
    cluster.queue("101_0|FAILED|node1|x|None\\n");
    cluster.0.run(&["run", "p.yaml", "--limit", "2"]).succeeds();
    cluster.submit().succeeds().stdout("array 104");
    cluster.queue("101_0|FAILED|node1|x|None\\n104_0|RUNNING|node2|y|None\\n105|PENDING||z|Dependency\\n");
    let dir = cluster.submissions()[0].display().to_string();
    cluster.run(&["collect", &dir]).fails_with(4).stdout("1 chunk still waiting or running");
    assert_eq!(cluster.calls("sbatch").len(), 6, "two submissions of three calls");
}

#[test]
fn a_refused_collecting_job_is_mended_and_submitted_again() {
    let cluster = Cluster::new();
    let collect = "case \"$*\" in *collect.sbatch) grep -q -- --partition=cpu \"${!#}\" || {\n\
                   echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2; exit 1; } ;; esac\n";
    cluster.command("sbatch", &format!("{collect}echo $(( 99 + $(wc -l < $0.calls) ))"));
    let refused = cluster.submit();
    refused
        .fails_with(2)
        .stderr("1 array submitted, and will run, but no job that collects")
        .stderr("`collect:`");
    cluster.queue("101_0|RUNNING|node1|x|None\\n");
    cluster.0.file("site.yaml", &format!("{SITE}collect: {{ partition: cpu }}\n"));
    let again = cluster.submit();
    again.succeeds().stderr("started again").stdout("nothing to submit: 0 of 16 rows done, 16 in chunks");
    let last = cluster.calls("sbatch").last().cloned().unwrap();
    assert!(last.contains("--dependency=afterany:101") && last.ends_with("collect.sbatch"), "{last}");
    assert_eq!(cluster.submissions().len(), 1);
}

#[test]
fn rows_that_nobody_merged_are_pointed_out() {
    let cluster = Cluster::new();
    cluster.0.file("site.yaml", &SITE.replace("gpus: 2\ndevices: sim", "gpus: 0"));
    cluster.submit().succeeds();
    let dir = cluster.submissions()[0].display().to_string();
    cluster.run(&["work", &dir, "--chunk", "0"]).succeeds();
    cluster.queue("102|PENDING||y|Dependency\\n");
    cluster.submit().succeeds().stdout("16 of 16 rows done").stdout("job 102 collects");
    // The controller was restarted and has forgotten it.
    cluster.queue("");
    cluster.submit().succeeds().stdout("no job is there to collect: dflow collect");
    cluster.run(&["collect", &dir]).succeeds();
    let done = cluster.submit();
    done.succeeds().stdout("16 of 16 rows done");
    assert!(!done.results().contains("dflow collect"), "{}", done.results());
}

/// What a stand-in for sbatch does: it numbers jobs from 101, and does this besides for an array or a collecting job.
fn sbatch(array: &str, collector: &str) -> String {
    format!(
        "id=$(( 99 + $(wc -l < $0.calls) ))\n\
         case \"$*\" in *--array=*) {array} ;; *collect.sbatch) {collector} ;; esac\necho $id"
    )
}

/// A submission of which a chunk failed after some rows.
fn failed_once(cluster: &Cluster) -> String {
    cluster.submit().succeeds();
    cluster.queue("101_0|FAILED|node1|x|NonZeroExitCode\\n");
    cluster.0.run(&["run", "p.yaml", "--limit", "2"]).succeeds();
    cluster.submissions()[0].display().to_string()
}

const KILL: &str = "kill -KILL $PPID; exit 1";

#[test]
fn a_collecting_job_that_is_killed_before_its_array_is_taken_has_tried_nothing() {
    let cluster = Cluster::new();
    let dir = failed_once(&cluster);
    cluster.command("sbatch", &sbatch(KILL, "true"));
    cluster.run(&["collect", &dir]);
    assert_eq!(cluster.file(0)["arrays"].as_array().unwrap().len(), 2, "it was about to be submitted");
    cluster.command("sbatch", &sbatch("true", "true"));
    cluster.run(&["collect", &dir]).fails_with(4).stdout("submitted 1 chunk again");
    let file = cluster.file(0);
    assert_eq!(file["missing"].as_array().unwrap().len(), 1, "one sweep: {file}");
    let [_, lost, new] = &file["arrays"].as_array().unwrap()[..] else { panic!("{file}") };
    assert_eq!((&lost["lost"], &new["sweep"], new.get("lost")), (&true.into(), &1.into(), None), "{file}");
    assert!(new["job"].is_u64() && new["name"] != lost["name"], "{file}");
    // A busy controller has taken it after all.
    fs::write(
        cluster.0.path("bin/queue"),
        format!("900_0|PENDING||{}|None\n", lost["name"].as_str().unwrap()),
    )
    .unwrap();
    cluster.run(&["collect", &dir]).fails_with(4).stdout("still waiting or running");
    let found = &cluster.file(0)["arrays"][1];
    assert_eq!((&found["job"], found.get("lost")), (&900.into(), None), "{found}");
}

#[test]
fn a_collecting_job_that_is_killed_while_it_prepares_has_tried_nothing() {
    let cluster = Cluster::new();
    let dir = failed_once(&cluster);
    let calls = cluster.calls("scontrol").len();
    cluster.command("scontrol", KILL);
    cluster.run(&["collect", &dir]);
    assert_eq!(cluster.calls("scontrol").len(), calls + 1, "it was killed there");
    cluster.command("scontrol", "echo 'MaxArraySize            = 1001'");
    cluster.run(&["collect", &dir]).fails_with(4).stdout("submitted 1 chunk again");
    assert_eq!(cluster.file(0)["missing"].as_array().unwrap().len(), 1);
}

#[test]
fn a_collecting_job_that_is_killed_after_its_array_leaves_the_rest_to_the_next() {
    let cluster = Cluster::new();
    let dir = failed_once(&cluster);
    cluster.command("sbatch", &sbatch("echo \"${id}_0|RUNNING|node1|x|None\" >> ${0%/*}/queue", KILL));
    cluster.run(&["collect", &dir]);
    let array = cluster.file(0)["arrays"][1]["job"].as_u64().unwrap();
    cluster.command("sbatch", &sbatch("true", "true"));
    // It is itself in the queue, as job 102, and collects no more after this.
    fs::write(
        cluster.0.path("bin/queue"),
        format!("101_0|FAILED|node1|x|None\n{array}_0|RUNNING|node1|x|None\n102|RUNNING|node1|y|None\n"),
    )
    .unwrap();
    let calls = cluster.calls("sbatch").len();
    cluster.run(&["collect", &dir, "--no-resubmit"]).fails_with(4).stdout("not submitted again");
    assert_eq!(cluster.calls("sbatch").len(), calls, "it only looks");
    let next = || cluster.run_with(&["collect", &dir], &[("SLURM_JOB_ID", "102")]);
    next().fails_with(4).stdout("1 chunk still waiting or running").stdout("another job will collect");
    let last = cluster.calls("sbatch").last().cloned().unwrap();
    assert!(
        last.contains(&format!("--dependency=afterany:{array} ")) && last.ends_with("collect.sbatch"),
        "{last}"
    );
    let calls = cluster.calls("sbatch").len();
    // By hand, beside one that is to come.
    cluster.run(&["collect", &dir]).fails_with(4).stdout("1 chunk still waiting or running");
    assert_eq!(cluster.calls("sbatch").len(), calls);
}

#[test]
fn a_collecting_job_waits_for_a_submission_that_is_under_way() {
    let cluster = Cluster::new();
    let dir = failed_once(&cluster);
    let lock =
        File::options().write(true).create(true).truncate(false).open(cluster.0.path("a/.submit.lock"));
    let lock = lock.unwrap();
    lock.lock().unwrap();
    let looks = cluster.calls("squeue").len();
    let mut command = cluster.0.command(&["collect", &dir]);
    command.env("PATH", cluster.0.path("bin")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut collecting = command.spawn().unwrap();
    let mut said = BufReader::new(collecting.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.starts_with("waiting until another `dflow submit`")), "it does not wait");
    assert_eq!(cluster.calls("squeue").len(), looks, "what is submitted meanwhile would not be seen");
    lock.unlock().unwrap();
    let output = collecting.wait_with_output().unwrap();
    let results = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(4) && results.contains("submitted 1 chunk again"), "{results}");
}

#[test]
fn what_is_cancelled_while_sbatch_is_at_work_is_cancelled_in_the_end() {
    let cluster = Cluster::new();
    let mark = "for dir in ${0%/*}/../a/submit/*/; do touch \"$dir/cancelled\"; done";
    cluster.command("sbatch", &sbatch(mark, "true"));
    let cut_short = cluster.submit();
    cut_short.fails_with(1).stderr("cancelled meanwhile").stderr("makes a new one");
    assert!(!cut_short.messages().contains("will run"), "{}", cut_short.messages());
    assert_eq!(cluster.calls("scancel"), ["101"]);
    assert_eq!(cluster.calls("sbatch").len(), 2, "no job collects: {:?}", cluster.calls("sbatch"));
    cluster.command("sbatch", &sbatch("true", "true"));
    cluster.submit().succeeds().stdout("submitted 16 rows");
}

/// A squeue by which chunk 0 of array 101 is over. All its rows get into sight as it answers.
fn over_as_it_is_asked(cluster: &Cluster) {
    cluster.submit().succeeds();
    cluster.0.run(&["run", "p.yaml"]).succeeds();
    fs::create_dir(cluster.0.path("a/hidden")).unwrap();
    for name in ["samples.parquet", "parts"] {
        fs::rename(cluster.0.path("a").join(name), cluster.0.path("a/hidden").join(name)).unwrap();
    }
    let shows = "cd ${0%/*}/../a\n[[ ! -e hidden ]] || { cp -r hidden/. . && rm -r hidden; }\n\
                 echo '101_0|COMPLETED|node1|x|None'";
    cluster.command("squeue", shows);
}

#[test]
fn what_leaves_the_queue_as_it_is_asked_is_not_submitted_again() {
    let cluster = Cluster::new();
    over_as_it_is_asked(&cluster);
    cluster.submit().succeeds().stdout("nothing to submit: 16 of 16 rows done");
    assert!(!cluster.0.path("a/hidden").exists(), "the queue was asked");
    assert_eq!(cluster.calls("sbatch").iter().filter(|call| call.contains("--array=")).count(), 1);
}

#[test]
fn rows_that_come_as_the_queue_is_asked_are_collected_too() {
    let cluster = Cluster::new();
    over_as_it_is_asked(&cluster);
    let dir = cluster.submissions()[0].display().to_string();
    let collected = cluster.run(&["collect", &dir]);
    collected.succeeds().stdout("16 missing").stdout("rows have come meanwhile").stdout("complete: 16 ok");
    assert!(fs::read_to_string(cluster.0.path("a/tables.md")).unwrap().contains("| 4/0/4"));
    assert_eq!(cluster.calls("sbatch").len(), 3, "nothing is submitted again");
}

#[test]
fn what_leaves_the_queue_as_it_is_asked_is_not_shown_as_failed() {
    let cluster = Cluster::new();
    over_as_it_is_asked(&cluster);
    let shown = cluster.run(&["status", "a", "--json"]);
    shown.succeeds();
    let chunks = &shown.json()["chunks"];
    assert_eq!((&chunks["done"], &chunks["failed"]), (&1.into(), &0.into()), "{chunks}");
}

#[test]
fn a_submission_whose_chunks_were_damaged_can_be_cancelled() {
    let cluster = Cluster::new();
    cluster.submit().succeeds();
    let dir = &cluster.submissions()[0];
    fs::write(dir.join("chunks.json"), "{").unwrap();
    cluster.submit().fails_with(1).stderr("chunks.json").stderr("dflow cancel");
    cluster.queue("101_0|RUNNING|node1|x|None\\n");
    cluster.command("scancel", ": > ${0%/*}/queue");
    cluster.run(&["cancel", "a"]).succeeds().stdout("1 that ran");
    assert_eq!(cluster.calls("scancel"), ["101"]);
    cluster.submit().succeeds().stdout("submitted 16 rows");
    let shown = cluster.run(&["status", "a", "--json"]).json();
    assert_eq!(
        (&shown["chunks"]["total"], &shown["notes"]),
        (&1.into(), &Value::Array(Vec::new())),
        "{shown}"
    );
    // Not even its jobs are known; the other one is cancelled all the same.
    let other = cluster.file(1)["arrays"][0]["job"].to_string();
    fs::write(dir.join("submission.json"), "{").unwrap();
    cluster.queue(&format!("{other}_0|PENDING||x|None\\n"));
    cluster
        .run(&["cancel", "a"])
        .fails_with(1)
        .stderr("squeue --me")
        .stderr("then remove")
        .stdout("1 chunk that waited");
    assert_eq!(cluster.calls("scancel"), ["101", &*other]);
}
