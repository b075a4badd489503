//! The script of the tasks, run by bash with stand-ins for dflow, Slurm's commands and `sleep`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::cluster::submission::tests::submission_in;

/// Nodes of the partition are in `nodes`, those that the task is kept off in `excluded`; for every line of `refusals` the
/// controller is busy once when something is to be requeued.
const SCONTROL: &str = r#"
case "$1 $2" in
    "show job") echo "   ReqNodeList=(null) ExcNodeList=$(cat "$S/excluded" 2>/dev/null || echo '(null)')" ;;
    "show hostnames") tr ',' '\n' <<< "$3" ;;
    "requeue "*) if [[ -s $S/refusals ]]; then sed -i 1d "$S/refusals"; exit 1; fi ;;&
    *) echo "$*" >> "$S/calls"; touch "$S/requeued" ;;
esac"#;

/// Refuses a job that is kept off every node.
const SBATCH: &str = r#"
list=,${2#--exclude=},
for node in $(cat "$S/nodes"); do [[ $list = *,$node,* ]] || exit 0; done
echo 'allocation failure: Requested node configuration is not available' >&2
exit 1"#;

/// Takes no time. Slurm ends the task some time after it is back in the queue.
const SLEEP: &str = r#"
echo "$1" >> "$S/sleeps"
[[ ! -e $S/requeued ]] || kill -KILL $PPID"#;

/// A scratch folder with a submission's script.
struct Trial(tempfile::TempDir);

/// How a run of the script ended.
#[derive(Debug)]
struct Ended {
    /// Exit code; none if it was killed, as Slurm does with what is back in the queue.
    code: Option<i32>,
    /// What scontrol was told to change.
    calls: Vec<String>,
    /// Seconds that it waited before.
    waited: u64,
    log: String,
}

impl Trial {
    /// Where dflow does what these lines of bash say.
    fn new(dflow: &str) -> Self {
        let trial = Self(tempfile::tempdir().unwrap());
        for (name, body) in [("scontrol", SCONTROL), ("sbatch", SBATCH), ("sleep", SLEEP), ("dflow", dflow)] {
            trial.command(name, body);
        }
        fs::create_dir(trial.path("work")).unwrap();
        trial.file("nodes", "node1 node2 node3")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    fn command(&self, name: &str, body: &str) {
        let path = self.path("bin").join(name);
        fs::create_dir_all(self.path("bin")).unwrap();
        fs::write(&path, format!("#!/bin/bash\nS='{}'\n{body}\n", self.0.path().display())).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self) -> Ended {
        self.run_with(&ClusterSpec::default(), &["0"], 0)
    }

    /// Runs task 4 of array 7 on node2.
    fn run_with(&self, cluster: &ClusterSpec, arguments: &[&str], restarts: u32) -> Ended {
        let submission = submission_in(self.0.path(), cluster.clone());
        let text = job(&submission, &[]).unwrap();
        let variables = [("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "4")];
        self.start(&submission, &text, ("$task.out", &variables), arguments, restarts)
    }

    /// Runs collecting job 9 on node2.
    fn collect_with(&self, cluster: &ClusterSpec, restarts: u32) -> Ended {
        let submission = submission_in(self.0.path(), cluster.clone());
        let text = collect(&submission).unwrap();
        self.start(&submission, &text, ("collect-$job.out", &[("SLURM_JOB_ID", "9")]), &[], restarts)
    }

    fn start(
        &self,
        submission: &Submission,
        text: &str,
        (log_name, variables): (&str, &[(&str, &str)]),
        arguments: &[&str],
        restarts: u32,
    ) -> Ended {
        fs::create_dir_all(submission.logs()).unwrap();
        let text = text.replace("/home/user/bin/dflow", &self.path("bin/dflow").display().to_string());
        let text = text.replace("/home/user/work", &self.path("work").display().to_string());
        // One log for all starts, whatever the random id of the submission.
        let log = self.path("task.out");
        let own = submission.logs().display().to_string();
        let text = text.replace(&format!("log={own}/{log_name}"), &format!("log={}", log.display()));
        fs::write(self.path("job.sbatch"), text).unwrap();
        for name in ["calls", "sleeps", "requeued"] {
            let _ = fs::remove_file(self.path(name));
        }
        let mut command = Command::new("bash");
        command.arg(self.path("job.sbatch")).args(arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        command.envs(variables.iter().copied()).env("SLURMD_NODENAME", "node2");
        command.env("SLURM_RESTART_COUNT", restarts.to_string());
        let output = command.output().unwrap();
        let lines = |path: &Path| -> Vec<String> {
            fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
        };
        Ended {
            code: output.status.code(),
            calls: lines(&self.path("calls")),
            // The last one is cut short by the end.
            waited: lines(&self.path("sleeps")).iter().map(|line| line.parse::<u64>().unwrap()).sum(),
            log: fs::read_to_string(log).unwrap_or_default(),
        }
    }
}

/// A cluster with these lines of setup.
fn with_setup(lines: &[&str]) -> ClusterSpec {
    let setup = lines.iter().map(|line| (*line).to_owned()).collect();
    ClusterSpec { setup: Some(setup), ..ClusterSpec::default() }
}

/// The nodes that a requeued task is kept off.
#[track_caller]
fn avoided(ended: &Ended) -> &str {
    let [requeue, update] = &ended.calls[..] else { panic!("{ended:?}") };
    assert_eq!(requeue, "requeue 7_4");
    update.strip_prefix("update JobId=7_4 ExcNodeList=").unwrap_or_else(|| panic!("{ended:?}"))
}

#[test]
fn a_task_works_off_the_chunk_that_its_array_deals_it() {
    let trial = Trial::new("echo \"$*\"; exit 0");
    let ended = trial.run_with(&ClusterSpec::default(), &["2", "3", "node9"], 0);
    assert_eq!((ended.code, ended.calls.len()), (Some(0), 0), "{ended:?}");
    assert!(ended.log.contains("--chunk 14\n") && ended.log.contains("reason=complete"), "{ended:?}");
    assert!(trial.run_with(&ClusterSpec::default(), &["2"], 0).log.contains("--chunk 6\n"), "a stride of 1");
}

#[test]
fn a_warning_before_dflow_listens_is_no_failure() {
    let ended = Trial::new("kill -USR1 $PPID; kill -USR1 $$").run();
    assert_eq!((&ended.calls[..], ended.code), (&["requeue 7_4".to_owned()][..], None), "{ended:?}");
    let ended = Trial::new("kill -USR1 $$").run();
    assert_eq!((ended.calls.len(), ended.code), (0, Some(138)), "nobody warned it: {ended:?}");
    assert!(ended.log.contains("event=killed by=USR1"), "{ended:?}");
}

/// Bash tells the exit code of what ends at the same moment in some runs only.
#[test]
fn a_warning_as_dflow_ends_is_no_failure() {
    let trial = Trial::new("kill -USR1 $PPID; exit 75");
    for _ in 0..20 {
        let ended = trial.run();
        assert_eq!((&ended.calls[..], ended.code), (&["requeue 7_4".to_owned()][..], None), "{ended:?}");
    }
}

#[test]
fn a_warning_during_the_setup_reaches_dflow() {
    let cluster = ClusterSpec { setup: Some(vec!["kill -USR1 $$".to_owned()]), ..ClusterSpec::default() };
    let works = "trap 'exit 75' USR1; for i in {1..300}; do /bin/sleep 0.1; done; exit 0";
    let ended = Trial::new(works).run_with(&cluster, &["0"], 0);
    assert_eq!((&ended.calls[..], ended.code), (&["requeue 7_4".to_owned()][..], None), "{ended:?}");
}

#[test]
fn what_was_told_to_end_is_not_brought_back() {
    // `sleep` ends it, as Slurm does. What is told on to dflow must not end it before it has said so.
    let ended = Trial::new("trap '' TERM; kill -TERM $PPID; touch \"$S/requeued\"; exit 75").run();
    assert_eq!((ended.calls.len(), ended.code), (0, None), "{ended:?}");
}

#[test]
fn a_node_without_the_folder_leaves_the_task_to_another() {
    let trial = Trial::new("exit 0");
    fs::remove_dir(trial.path("work")).unwrap();
    let ended = trial.run();
    assert_eq!(avoided(&ended), "node2");
    assert!(ended.log.contains("event=stopped code=74"), "{ended:?}");
}

#[test]
fn devices_that_do_not_answer_are_looked_for_elsewhere_some_times() {
    let trial = Trial::new("exit 73");
    for restarts in 0..2 {
        let ended = trial.run_with(&ClusterSpec::default(), &["0"], restarts);
        assert_eq!(avoided(&ended), "node2");
        assert!(ended.waited >= 20, "{ended:?}");
    }
    let ended = trial.run_with(&ClusterSpec::default(), &["0"], 2);
    assert_eq!((ended.code, ended.calls.len()), (Some(73), 0), "{ended:?}");
    assert!(ended.log.contains("reason=no-devices"), "{ended:?}");
    let once = ClusterSpec { max_restarts: Some(0), ..ClusterSpec::default() };
    let ended = Trial::new("exit 73").run_with(&once, &["0"], 0);
    assert_eq!((ended.code, ended.waited), (Some(73), 0), "{ended:?}");
}

/// A bad GPU must condemn no sample, and a bad sample must come to its end.
#[test]
fn samples_are_blamed_where_all_workers_crashed_on_them_in_two_starts() {
    let trial = Trial::new("echo \"asked: $*\"; exit 72");
    let asked = |restarts| {
        let ended = trial.run_with(&ClusterSpec::default(), &["0"], restarts);
        let line = ended.log.lines().rfind(|line| line.starts_with("asked: ")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{ended:?}"))
    };
    let blames = [0, 1, 2].map(|restarts| asked(restarts).ends_with(" --chunk 4 --blame-samples"));
    assert_eq!(blames, [false, false, true]);
    let once = ClusterSpec { max_restarts: Some(0), ..ClusterSpec::default() };
    let ended = Trial::new("echo \"asked: $*\"").run_with(&once, &["0"], 0);
    assert!(ended.log.contains("--blame-samples"), "nobody tries after it: {ended:?}");
    let last = trial.run_with(&ClusterSpec::default(), &["0"], 3);
    assert_eq!((last.code, last.calls.len()), (Some(72), 0), "{last:?}");
    assert!(last.log.ends_with("event=end reason=crashes\n"), "{last:?}");
    let twice = ClusterSpec { max_restarts: Some(1), ..ClusterSpec::default() };
    let trial = Trial::new("echo \"asked: $*\"; exit 72");
    let logs = [0, 1].map(|restarts| trial.run_with(&twice, &["0"], restarts).log);
    assert_eq!(
        logs.map(|log| log.contains("--blame-samples")),
        [false, true],
        "nobody tries after the second"
    );
    // One node says nothing, and rows that are left are tried again by what `dflow collect` submits.
    let late = Trial::new("echo \"asked: $*\"; exit $(( SLURM_RESTART_COUNT == 2 ? 72 : 73 ))");
    for restarts in [0, 1, 2] {
        let ended = late.run_with(&ClusterSpec::default(), &["0"], restarts);
        assert!(!ended.log.contains("--blame-samples"), "{ended:?}");
    }
    // The first node had no devices, or lost them.
    let mixed = Trial::new("echo \"asked: $*\"; exit $(( SLURM_RESTART_COUNT ? 72 : 73 ))");
    let logs = [0, 1, 2].map(|restarts| mixed.run_with(&ClusterSpec::default(), &["0"], restarts).log);
    assert_eq!(logs.map(|log| log.contains("--blame-samples")), [false, false, true]);
    for code in [73, 74] {
        let other = Trial::new(&format!("echo \"asked: $*\"; exit {code}"));
        for restarts in [0, 1, 2, 20] {
            let ended = other.run_with(&ClusterSpec::default(), &["0"], restarts);
            assert!(!ended.log.contains("--blame-samples"), "nothing crashed there: {ended:?}");
        }
    }
}

#[test]
fn a_task_is_kept_off_two_nodes_at_the_most_and_never_off_all() {
    for (nodes, excluded, left_out, avoids) in [
        ("node1 node2 node3", None, None, "node2"),
        ("node1 node2 node3", Some("node1"), None, "node1,node2"),
        ("node1 node2 node3 node4", Some("node1,node3"), None, "node3,node2"),
        // No other would remain.
        ("node1 node2", Some("node1"), None, "node2"),
        ("node2", None, None, ""),
        // What the user left out stays so.
        ("node1 node2 node3 node9", Some("node1,node9"), Some("node9"), "node9,node1,node2"),
        ("node1 node2 node9", Some("node1,node9"), Some("node9"), "node9,node2"),
        ("node2 node9", Some("node9"), Some("node9"), "node9"),
    ] {
        let mut trial = Trial::new("exit 74").file("nodes", nodes);
        if let Some(excluded) = excluded {
            trial = trial.file("excluded", excluded);
        }
        let arguments: Vec<&str> = ["0", "1"].into_iter().chain(left_out).collect();
        let ended = trial.run_with(&ClusterSpec::default(), &arguments, 0);
        assert_eq!(avoided(&ended), avoids, "{nodes}, {excluded:?}");
    }
}

#[test]
fn where_no_node_can_write_a_task_waits_longer_each_time() {
    let waited = |nodes, restarts| {
        let trial = Trial::new("exit 74").file("nodes", nodes);
        trial.run_with(&ClusterSpec::default(), &["0"], restarts).waited
    };
    let many = "node1 node2 node3";
    let (first, fifth, last) = (waited(many, 0), waited(many, 5), waited(many, 19));
    assert!(first < fifth && fifth < last, "{first} {fifth} {last}");
    assert!(waited("node2", 0) >= 300, "no other node is there");
    let used_up = Trial::new("exit 74").run_with(&ClusterSpec::default(), &["0"], 20);
    assert_eq!((used_up.code, used_up.calls.len(), used_up.waited), (Some(1), 0, 0), "{used_up:?}");
}

#[test]
fn an_unclear_answer_about_the_nodes_keeps_the_task_off_this_one() {
    let trial = Trial::new("exit 74").file("nodes", "node2");
    trial.command("sbatch", "echo 'allocation failure: Access/permission denied' >&2; exit 1");
    assert_eq!(avoided(&trial.run()), "node2");
}

#[test]
fn a_node_where_the_setup_ends_the_script_leaves_the_task_to_others_some_times() {
    for (setup, code) in [
        ("[[ $SLURMD_NODENAME = node2 ]] && exit 5", 5),
        ("set -e; export A=a; false", 1),
        ("exit 0", 1),
        // Bash cannot read it.
        (")", 2),
    ] {
        let (trial, cluster) = (Trial::new("echo started"), with_setup(&[setup]));
        for restarts in 0..2 {
            let ended = trial.run_with(&cluster, &["0"], restarts);
            assert_eq!(avoided(&ended), "node2", "{setup}");
            assert!(ended.waited >= 20, "it must not swallow an array: {ended:?}");
            assert!(ended.log.contains("event=setup-failed code="), "{ended:?}");
        }
        let ended = trial.run_with(&cluster, &["0"], 2);
        assert_eq!((ended.code, ended.calls.len(), ended.waited), (Some(code), 0, 0), "{ended:?}");
        assert!(ended.log.ends_with("event=end reason=setup-failed\n"), "{ended:?}");
        assert!(!ended.log.contains("started"), "{ended:?}");
    }
}

#[test]
fn a_node_that_cannot_start_the_program_leaves_the_task_to_others_some_times() {
    for code in [126, 127] {
        let trial = Trial::new("exit 0");
        match code {
            126 => {
                fs::set_permissions(trial.path("bin/dflow"), fs::Permissions::from_mode(0o644)).unwrap();
            }
            _ => fs::remove_file(trial.path("bin/dflow")).unwrap(),
        }
        for restarts in 0..2 {
            let ended = trial.run_with(&ClusterSpec::default(), &["0"], restarts);
            assert_eq!(avoided(&ended), "node2");
            assert!(ended.log.contains(&format!("event=setup-failed code={code}")), "{ended:?}");
        }
        let ended = trial.run_with(&ClusterSpec::default(), &["0"], 2);
        assert_eq!((ended.code, ended.calls.len()), (Some(code), 0), "{ended:?}");
        assert!(ended.log.ends_with("event=end reason=setup-failed\n"), "{ended:?}");
    }
}

#[test]
fn what_the_setup_sets_reaches_dflow_and_its_errors_do_not_end_the_script() {
    let cluster = with_setup(&["export SET=by-setup", "set -e", "trap 'echo cleaned' EXIT"]);
    let ended = Trial::new("echo \"it is $SET\"; exit 3").run_with(&cluster, &["0"], 0);
    assert!(ended.log.contains("it is by-setup\n"), "{ended:?}");
    assert!(ended.log.contains("event=stopped code=3 ") && ended.log.ends_with("cleaned\n"), "{ended:?}");
    assert_eq!((ended.code, ended.calls.len()), (Some(3), 0), "{ended:?}");
}

#[test]
fn a_task_that_was_told_to_end_in_its_setup_is_not_brought_back() {
    let cluster = with_setup(&["kill -TERM $$", "touch $(dirname $0)/requeued", "exit 1"]);
    let ended = Trial::new("exit 0").run_with(&cluster, &["0"], 0);
    assert_eq!((ended.calls.len(), ended.code), (0, None), "{ended:?}");
    assert!(ended.log.contains("event=waiting for=term"), "{ended:?}");
}

#[test]
fn a_node_that_cannot_collect_leaves_it_to_another() {
    let no_setup = ClusterSpec::default();
    let missing = Trial::new("");
    fs::remove_file(missing.path("bin/dflow")).unwrap();
    for (trial, cluster, said, code) in [
        (&Trial::new("exit 0"), &with_setup(&["exit 7"]), "node2 fails in the setup (code 7)", 7),
        (&Trial::new("exit 0"), &with_setup(&["set -e; false"]), "node2 fails in the setup (code 1)", 1),
        (&Trial::new("exit 0"), &with_setup(&[")"]), "node2 fails in the setup (code 2)", 2),
        (&missing, &no_setup, "node2 cannot start the program (code 127)", 127),
        (&Trial::new("exit 74"), &no_setup, "node2 cannot write into the run directory", 74),
    ] {
        let ended = trial.collect_with(cluster, 9);
        assert_eq!(ended.calls, ["requeue 9", "update JobId=9 ExcNodeList=node2"], "{ended:?}");
        assert!(ended.log.contains(said) && ended.waited >= 200, "{ended:?}");
        let last = trial.collect_with(cluster, 10);
        assert_eq!((last.code, last.calls.len()), (Some(code), 0), "{last:?}");
        assert!(last.log.contains("given up after 10 restarts"), "{last:?}");
    }
    let done = Trial::new("echo \"$*\"; exit 3").collect_with(&with_setup(&["set -e", "true"]), 0);
    assert_eq!((done.code, done.calls.len()), (Some(3), 0), "{done:?}");
    assert!(done.log.starts_with("collect "), "{done:?}");
}

#[test]
fn a_busy_controller_is_asked_again_to_requeue_and_given_up_in_the_end() {
    let busy = |dflow: &str, times: usize| Trial::new(dflow).file("refusals", &"busy\n".repeat(times));
    let ended = busy("exit 74", 5).run();
    assert_eq!(avoided(&ended), "node2");
    assert!(ended.log.contains("event=requeue-failed try=5"), "{ended:?}");
    let ended = busy("exit 74", 6).run();
    assert_eq!((ended.code, ended.calls.len()), (Some(1), 0), "{ended:?}");
    assert!(ended.log.ends_with("event=end reason=requeue-failed\n"), "{ended:?}");
    let collected = |times| busy("exit 74", times).collect_with(&ClusterSpec::default(), 0);
    let ended = collected(5);
    assert_eq!(ended.calls, ["requeue 9", "update JobId=9 ExcNodeList=node2"], "{ended:?}");
    let ended = collected(6);
    assert_eq!((ended.code, ended.calls.len()), (Some(74), 0), "{ended:?}");
}
