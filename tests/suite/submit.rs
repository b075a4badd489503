//! `dflow submit` and `cancel` against a Slurm of scripts that keep a record of their calls.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

use serde_json::Value;

use crate::run::PIPELINE;
use crate::run_test::{Finished, RunTest};

pub(crate) const SITE: &str =
    "partition: gpu\ngpus: 2\ndevices: sim\nthrottle: 4\ntime: 1h\ncommand: /shared/bin/dflow\n";

const SUBMIT: [&str; 5] = ["submit", "p.yaml", "--slurm", "--seconds-per-eval", "1"];

/// A directory with the suite's pipeline, a site file, and stand-ins for Slurm's commands.
pub(crate) struct Cluster(pub(crate) RunTest);

impl Cluster {
    pub(crate) fn new() -> Self {
        let test = RunTest::new();
        test.file("p.yaml", PIPELINE).file("site.yaml", SITE);
        let cluster = Self(test);
        // The first call asks for the version: ids count up from 101.
        cluster.command("sbatch", "echo $(( 99 + $(wc -l < $0.calls) ))");
        cluster.queue("");
        cluster.command("scancel", "true");
        cluster.command("scontrol", "echo 'MaxArraySize            = 1001'");
        cluster
    }

    /// A stand-in that keeps a record of its calls. What `sbatch --test-only` answers is in `bin/sbatch.test`, if that is
    /// there, and its calls do not count.
    pub(crate) fn command(&self, name: &str, body: &str) {
        let test = "if [[ ${1-} = --test-only ]]; then [[ ! -e $0.test ]] || . $0.test; exit; fi";
        let script = format!("#!/bin/bash\nPATH=/usr/bin:/bin\n{test}\necho \"$*\" >> $0.calls\n{body}\n");
        self.0.file(&format!("bin/{name}"), &script);
        fs::set_permissions(self.0.path(format!("bin/{name}")), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What squeue shows from now on: the lines of `bin/queue`, which other stand-ins may change.
    pub(crate) fn queue(&self, lines: &str) {
        self.0.file("bin/queue", &lines.replace("\\n", "\n"));
        let filter = "asked=$(sed -n 's/.*--jobs=\\([0-9,]*\\).*/\\1/p' <<< \"$*\")\n\
                      while IFS= read -r line; do\n\
                      \x20 [[ -n $asked && ,$asked, != *,${line%%[_|]*},* ]] || echo \"$line\"\n\
                      done < ${0%/*}/queue";
        self.command("squeue", filter);
    }

    pub(crate) fn calls(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.path(format!("bin/{name}.calls"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Runs dflow with these commands and no others on its search path.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, &[])
    }

    /// The same, with these variables besides.
    pub(crate) fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let bin = self.0.path("bin").display().to_string();
        let settings = self.0.path("settings").display().to_string();
        let site = self.0.path("site.yaml").display().to_string();
        let own = [("PATH", &*bin), ("XDG_CONFIG_HOME", &*settings), ("DFLOW_SITE", &*site)];
        self.0.run_with(arguments, &[variables, &own].concat())
    }

    pub(crate) fn submit(&self) -> Finished {
        self.run(&SUBMIT)
    }

    /// The folders of the submissions.
    pub(crate) fn submissions(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.path("a/submit")).into_iter().flatten();
        let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        dirs.sort();
        dirs
    }

    pub(crate) fn file(&self, submission: usize) -> Value {
        let text = fs::read_to_string(self.submissions()[submission].join("submission.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

#[test]
fn a_dry_run_prints_the_script_and_writes_nothing() {
    let cluster = Cluster::new();
    let shown = cluster.run(&["submit", "p.yaml", "--slurm", "--dry-run"]);
    shown.succeeds().stdout("#SBATCH --gres=gpu:2").stdout("/shared/bin/dflow work").stdout("--array=0%4");
    shown.stderr("nothing was measured yet for inpainting/d-flow");
    assert!(!cluster.0.path("a").exists() && cluster.calls("sbatch").is_empty());
    // Also where there is no Slurm.
    fs::remove_dir_all(cluster.0.path("bin")).unwrap();
    cluster.run(&["submit", "p.yaml", "--slurm", "--dry-run"]).succeeds().stdout("#SBATCH --gres=gpu:2");
}

#[test]
fn a_submission_is_frozen_submitted_and_collected_afterwards() {
    let cluster = Cluster::new();
    cluster.submit().succeeds().stdout("submitted 16 rows in 1 chunk: array 101, then job 102 collects");
    let [array, collector] = &cluster.calls("sbatch")[1..] else { panic!("two jobs after the check") };
    assert!(array.contains("--array=0%4") && array.ends_with("job.sbatch 0 1"), "{array}");
    assert!(
        collector.contains("--dependency=afterany:101") && collector.ends_with("collect.sbatch"),
        "{collector}"
    );
    let dir = &cluster.submissions()[0];
    assert_eq!(fs::read_to_string(dir.join("pipeline.yaml")).unwrap(), PIPELINE);
    assert!(dir.join("logs").is_dir() && cluster.0.path("a/run.json").exists());
    let file = cluster.file(0);
    assert_eq!((&file["arrays"][0]["job"], &file["collectors"][0]["job"]), (&101.into(), &102.into()));
    assert_eq!(file["cluster"]["partition"], "gpu");
}

#[test]
fn a_job_does_not_inherit_what_slurm_said_of_the_job_that_submits_it() {
    let cluster = Cluster::new();
    cluster.command("sbatch", "/usr/bin/env >> $0.env; echo $(( 99 + $(wc -l < $0.calls) ))");
    let names = ["SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU", "SLURM_RESTART_COUNT"];
    let variables = names.iter().chain(&["SLURM_CONF"]).map(|name| (*name, "7"));
    cluster.run_with(&SUBMIT, &variables.collect::<Vec<_>>()).succeeds();
    let environment = fs::read_to_string(cluster.0.path("bin/sbatch.env")).unwrap();
    assert!(environment.contains("SLURM_CONF=7\n"), "{environment}");
    for name in names {
        assert!(!environment.contains(&format!("{name}=")), "{environment}");
    }
}

#[test]
fn only_what_is_neither_done_nor_in_the_queue_is_submitted_again() {
    let cluster = Cluster::new();
    cluster.submit().succeeds();
    for state in ["PENDING", "RUNNING", "COMPLETING", "REQUEUED"] {
        cluster.queue(&format!("101_0|{state}||x|None\\n102|PENDING||y|Dependency\\n"));
        cluster
            .submit()
            .succeeds()
            .stdout("nothing to submit: 0 of 16 rows done, 16 in chunks that wait or run");
    }
    assert_eq!(cluster.submissions().len(), 1);
    cluster.run(&["submit", "p.yaml", "--slurm", "--force"]).succeeds().stdout("submitted 16 rows");
    cluster.queue("101_0|FAILED|node1|x|None\\n");
    cluster.0.run(&["run", "p.yaml", "--methods", "pinv"]).succeeds();
    cluster
        .submit()
        .succeeds()
        .stdout("submitted 8 rows")
        .stderr("8 of 16 rows to submit: 8 done, 0 in chunks");
    cluster.queue("");
    cluster.0.run(&["run", "p.yaml"]).succeeds();
    cluster.submit().succeeds().stdout("nothing to submit: 16 of 16 rows done");
    assert_eq!(cluster.submissions().len(), 3);
}

#[test]
fn what_cannot_be_submitted_is_one_clear_error() {
    let cluster = Cluster::new();
    let refuse =
        |text: &str| format!("[ \"$1\" = --version ] || {{ echo 'sbatch: error: {text}' >&2; exit 1; }}");
    cluster.command("sbatch", &refuse("Batch job submission failed: Invalid partition name specified"));
    let error = cluster.submit();
    error
        .fails_with(2)
        .stderr("Invalid partition name specified")
        .stderr("sinfo -s")
        .stderr("nothing was submitted");
    assert!(cluster.submissions().is_empty());
    fs::remove_file(cluster.0.path("bin/sbatch")).unwrap();
    cluster.submit().fails_with(2).stderr("sbatch not found").stderr("login node");
    cluster.0.file("site.yaml", "partiton: gpu\n");
    cluster.command("sbatch", "echo 1");
    cluster
        .submit()
        .fails_with(2)
        .stderr("site.yaml:1:1: unknown field `partiton`")
        .stderr("did you mean `partition`");
    cluster.0.file("site.yaml", SITE).file("file", "");
    cluster.run(&["submit", "p.yaml", "--slurm", "--output", "file/a"]).fails_with(2).stderr("file/a");
    cluster.run(&["submit", "p.yaml"]).fails_with(2).stderr("--slurm");
    let nowhere = cluster.run(&["submit", "p.yaml", "--slurm", "--output", "/proc/dflow-run"]);
    nowhere.fails_with(74).stderr("/proc/dflow-run").stderr("choose an `output`");
    cluster.run(&["submit", "p.yaml", "--slurm", "--chunk", "0"]).fails_with(2).stderr("above 0");
    cluster
        .run(&["submit", "p.yaml", "--slurm", "--set", "cluster.throttle=0"])
        .fails_with(2)
        .stderr("throttle");
}

#[test]
fn cancelling_takes_the_collecting_job_first_and_is_remembered() {
    let cluster = Cluster::new();
    cluster.submit().succeeds();
    cluster.queue("101_0|RUNNING|node1|x|None\\n102|PENDING||y|Dependency\\n");
    cluster.command("scancel", "[[ $1 != 101 ]] || : > ${0%/*}/queue");
    cluster.run(&["cancel", "a"]).succeeds().stdout("cancelled 0 chunks that waited and 1 that ran");
    assert_eq!(cluster.calls("scancel"), ["102", "101"]);
    assert_eq!(cluster.file(0)["cancelled"], true);
    cluster.run(&["cancel", "a", "--submission", "nope"]).fails_with(2).stderr("there are 20");
    cluster.run(&["cancel", "a", "--submission", ""]).fails_with(2).stderr("--submission");
    cluster.run(&["cancel", "p.yaml"]).fails_with(2);
    cluster.queue("101_0|FAILED|node1|x|None\\n");
    let dir = cluster.submissions()[0].display().to_string();
    cluster.run(&["collect", &dir]).fails_with(4).stdout("the submission was cancelled");
    assert_eq!(cluster.calls("sbatch").len(), 3, "the check and two jobs");
}

/// A squeue that shows array 101 in a state for so many looks at it, and nothing afterwards.
fn shows_for(looks: usize, state: &str) -> String {
    format!(
        "[[ $* = *--jobs=101* ]] || exit 0\necho look >> $0.looks\n\
         [[ $(wc -l < $0.looks) -gt {looks} ]] || echo '101_0|{state}|node1|x|None'"
    )
}

#[test]
fn cancelling_waits_until_what_ran_is_gone() {
    let cluster = Cluster::new();
    cluster.submit().succeeds();
    // One look to cancel it, one that finds nothing new, and one that finds it ending.
    cluster.command("squeue", &shows_for(3, "RUNNING"));
    let cancelled = cluster.run(&["cancel", "a"]);
    cancelled.succeeds().stdout("1 that ran").stderr("waiting until 1 chunk has checkpointed and ended");
    assert!(!cancelled.results().contains("not ended"), "{}", cancelled.results());
    assert_eq!(cluster.calls("scancel"), ["101"]);
    assert_eq!(fs::read_to_string(cluster.0.path("bin/squeue.looks")).unwrap().lines().count(), 4);
}

#[test]
fn what_was_cancelled_is_submitted_again_when_it_has_ended() {
    let cluster = Cluster::new();
    cluster.submit().succeeds();
    cluster.queue("101_0|RUNNING|node1|x|None\\n");
    cluster.command("scancel", ": > ${0%/*}/queue");
    cluster.run(&["cancel", "a"]).succeeds();
    cluster.command("squeue", &shows_for(1, "COMPLETING"));
    let looked = cluster.run(&["submit", "p.yaml", "--slurm", "--dry-run"]);
    looked.succeeds().stdout("/shared/bin/dflow work").stderr("what was cancelled is still ending");
    fs::remove_file(cluster.0.path("bin/squeue.looks")).unwrap();
    cluster.command("squeue", &shows_for(2, "COMPLETING"));
    let again = cluster.submit();
    again.succeeds().stdout("submitted 16 rows in 1 chunk: array 104");
    again.stderr("waiting until 1 chunk of what was cancelled");
    assert_eq!(cluster.submissions().len(), 2);
}

#[test]
fn of_several_at_the_same_time_one_submits() {
    let cluster = Cluster::new();
    let shown = "case \"$*\" in *--array=*) echo \"${id}_0|PENDING||x|None\" >> ${0%/*}/queue ;; esac";
    cluster.command("sbatch", &format!("id=$(( 99 + $(wc -l < $0.calls) ))\n{shown}\necho $id"));
    let ended: Vec<Finished> = thread::scope(|scope| {
        let started: Vec<_> = (0..3).map(|_| scope.spawn(|| cluster.submit())).collect();
        started.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let submitted = ended.iter().filter(|one| one.results().contains("submitted 16 rows")).count();
    assert_eq!((submitted, cluster.submissions().len()), (1, 1));
    let arrays = cluster.calls("sbatch").iter().filter(|call| call.contains("--array=")).count();
    assert_eq!(arrays, 1, "{:?}", cluster.calls("sbatch"));
}

#[test]
fn a_collecting_job_that_would_be_refused_keeps_the_arrays_back() {
    let cluster = Cluster::new();
    let refused = "echo 'allocation failure: Invalid partition name specified' >&2; exit 1";
    cluster.0.file("bin/sbatch.test", &format!("case \"$2\" in *collect.sbatch) {refused} ;; esac\n"));
    cluster.0.file("site.yaml", &format!("{SITE}collect: {{ partition: cpuu }}\n"));
    let error = cluster.submit();
    error.fails_with(2).stderr("the job that collects (`collect:`) would be refused (partition cpuu)");
    error.stderr("sinfo -s").stderr("nothing was submitted");
    assert_eq!(cluster.calls("sbatch"), ["--version"]);
    assert!(cluster.submissions().is_empty());
}

#[test]
fn a_submission_that_is_refused_halfway_says_how_far_it_got_and_goes_on_from_there() {
    let cluster = Cluster::new();
    cluster.command("scontrol", "echo 'MaxArraySize = 1'");
    let refused = "echo 'sbatch: error: Job violates accounting/QOS policy' >&2; exit 1";
    let halfway =
        format!("id=$(( 99 + $(wc -l < $0.calls) ))\n[[ $id -lt 102 ]] || {{ {refused}; }}\necho $id");
    cluster.command("sbatch", &halfway);
    let submit = ["submit", "p.yaml", "--slurm", "--seconds-per-eval", "100", "--chunk", "1m"];
    let error = cluster.run(&submit);
    let arrays = cluster.file(0)["arrays"].as_array().unwrap().len();
    assert!(arrays > 1, "{arrays}");
    error.fails_with(2).stderr("longer chunks make fewer tasks");
    error.stderr(&format!(
        "1 of {arrays} arrays already submitted, and will run; mend that, then run the same"
    ));
    cluster.queue("101_0|RUNNING|node1|x|None\\n");
    cluster.command("sbatch", "echo $(( 99 + $(wc -l < $0.calls) ))");
    let rows = |submission: usize| cluster.file(submission)["units"].as_u64().unwrap();
    cluster.run(&submit).succeeds();
    assert!(rows(1) > 0 && rows(1) < rows(0), "all but what runs: {} of {}", rows(1), rows(0));
}

#[test]
fn an_array_that_may_never_start_is_pointed_out() {
    let cluster = Cluster::new();
    cluster.queue("101_[0]|PENDING||x|BadConstraints\\n102|PENDING||y|Dependency\\n");
    cluster.submit().succeeds().stderr("array 101 waits and may never start (BadConstraints)");
}

#[test]
fn gpus_for_a_program_without_cuda_are_refused() {
    if cfg!(feature = "cuda") {
        return;
    }
    let cluster = Cluster::new();
    cluster.0.file("site.yaml", "gpus: 2\n");
    let submit = ["submit", "p.yaml", "--slurm", "--devices", "auto"];
    cluster.run(&submit).fails_with(2).stderr("cargo build --release --features cuda").stderr("`command:`");
    assert_eq!(cluster.calls("sbatch"), ["--version"]);
    assert!(!cluster.0.path("a").exists());
    let shown = cluster.run(&[&submit[..], &["--dry-run"]].concat());
    shown.succeeds().stdout("--gres=gpu:2").stderr("note: the tasks ask for GPUs");
    cluster.run(&["submit", "p.yaml", "--slurm", "--devices", "sim"]).succeeds().stdout("submitted 16 rows");
}

#[test]
fn devices_that_are_not_to_be_had_have_an_exit_code_of_their_own() {
    let cluster = Cluster::new();
    cluster.submit().succeeds();
    let dir = cluster.submissions()[0].display().to_string();
    let work = ["work", &dir, "--chunk", "0"];
    // Those of the site file, not the pipeline's.
    cluster.run(&work).fails_with(73).stderr("`devices: sim`: no GPU is granted");
    let auto = [&work[..], &["--devices", "auto"]].concat();
    // Whatever GPU there is, it is not shown.
    let hidden = cluster.run_with(&auto, &[("CUDA_VISIBLE_DEVICES", "")]);
    hidden.fails_with(73).stderr("the task asks for 2 GPUs and none is granted");
    // With GPUs granted and without: it is not about them.
    for granted in ["0,1", ""] {
        let cpu = [&work[..], &["--devices", "cpu:1x1"]].concat();
        let idle = cluster.run_with(&cpu, &[("CUDA_VISIBLE_DEVICES", granted)]);
        idle.fails_with(2).stderr("`devices: cpu:1x1` uses no GPU, and every task asks for 2 GPUs");
        assert!(!idle.messages().contains("granted"), "{}", idle.messages());
    }
}

#[test]
fn devices_that_no_task_would_have_are_refused_before_anything_is_written() {
    let cluster = Cluster::new();
    for (site, devices, words) in [
        ("gpus: 1", "cpu:1x1", ["uses no GPU", "set `gpus: 0`", "`gpus: 1` in the site file"]),
        ("gpus: 0", "cuda", ["needs GPUs", "`devices: cpu`", "`gpus: 0` in the site file"]),
        ("gpus: 0", "sim", ["needs GPUs", "set `gpus: 1`", "`devices: sim` on the command line"]),
        ("gpus: 2", "cuda:0,cuda:1,cuda:2", ["names cuda:2", "set `gpus: 3`", "`gpus: 2` in the site file"]),
        ("cpus: 4", "cpu:64x2", ["needs 128 cores", "set `cpus: 128`", "`cpus: 4` in the site file"]),
    ] {
        cluster.0.file("site.yaml", &format!("{site}\ncommand: /shared/bin/dflow\n"));
        let options = ["submit", "p.yaml", "--slurm", "--devices", devices];
        for refused in [cluster.run(&options), cluster.run(&[&options[..], &["--dry-run"]].concat())] {
            words.iter().fold(refused.fails_with(2), |refused, word| refused.stderr(word));
        }
    }
    assert!(!cluster.0.path("a").exists() && cluster.calls("sbatch").iter().all(|call| call == "--version"));
    // The pipeline's devices are CPUs.
    cluster.0.file("site.yaml", "gpus: 1\n");
    cluster.submit().fails_with(2).stderr("`devices: cpu:1x1` in p.yaml");
    assert!(!cluster.0.path("a").exists());
}

#[test]
fn site_file_and_pipeline_are_checked_together() {
    let cluster = Cluster::new();
    cluster.0.file("site.yaml", &format!("{SITE}warn: 600\n"));
    cluster.submit().succeeds();
    let short = cluster.run(&[&SUBMIT[..], &["--force", "--set", "cluster.time=10m"]].concat());
    short.fails_with(2).stderr("lower `warn` or raise `time`").stderr("`warn: 600` in the site file");
    short.stderr("by --set cluster.time=10m");
    assert_eq!(cluster.submissions().len(), 1);
    fs::remove_file(cluster.0.path("site.yaml")).unwrap();
    cluster.submit().fails_with(2).stderr("cannot read the site file").stderr("--site");
}

#[test]
fn setup_that_bash_does_not_read_is_refused_before_anything_is_written() {
    let cluster = Cluster::new();
    cluster.0.file("site.yaml", &format!("{SITE}setup: [ \"if\" ]\n"));
    std::os::unix::fs::symlink("/bin/bash", cluster.0.path("bin/bash")).unwrap();
    cluster.submit().fails_with(2).stderr("syntax error").stderr("`setup:`");
    assert!(!cluster.0.path("a/run.json").exists() && cluster.submissions().is_empty());
    assert_eq!(cluster.calls("sbatch"), ["--version"]);
    let shown = cluster.run(&["submit", "p.yaml", "--slurm", "--dry-run"]);
    shown.succeeds().stdout("#SBATCH --gres=gpu:2").stderr("note: bash does not read");
}

#[test]
fn with_json_stdout_is_json_also_where_nothing_is_submitted() {
    let cluster = Cluster::new();
    let json = [&["--json"], &SUBMIT[..]].concat();
    let shown = cluster.run(&[&json[..], &["--dry-run"]].concat());
    assert!(shown.json()["script"].as_str().unwrap().contains("#SBATCH --gres=gpu:2"));
    assert_eq!(cluster.run(&json).json()["units"], 16);
    cluster.queue("101_0|RUNNING|node1|x|None\\n102|PENDING||y|Dependency\\n");
    let nothing = cluster.run(&json);
    nothing.succeeds().stderr("nothing to submit: 0 of 16 rows done, 16 in chunks that wait or run");
    let expected = serde_json::json!({ "submitted": 0, "planned": 16, "done": 0, "in_queue": 16 });
    assert_eq!(nothing.json(), expected);
    // All done, and nobody there to merge them.
    cluster.queue("");
    let dir = cluster.submissions()[0].display().to_string();
    cluster.run_with(&["work", &dir, "--chunk", "0"], &[("CUDA_VISIBLE_DEVICES", "0,1")]).succeeds();
    let done = cluster.run(&json);
    done.succeeds().stderr("no job is there to collect: dflow collect");
    assert_eq!((&done.json()["done"], &done.json()["in_queue"]), (&16.into(), &0.into()));
}

#[test]
fn what_was_handed_to_kubernetes_is_not_handed_to_it_twice() {
    let cluster = Cluster::new();
    let mount = cluster.0.path("").display().to_string();
    let volumes = format!("volumes: {{ results: {} }}", mount.trim_end_matches('/'));
    cluster.0.file("site.yaml", &format!("{SITE}kubernetes: {{ image: dflow, {volumes} }}\n"));
    cluster.run(&["submit", "p.yaml", "--k8s"]).succeeds();
    let again = cluster.run(&["submit", "p.yaml", "--k8s"]);
    again.succeeds().stdout("nothing to submit").stderr("16 rows left out").stderr("dflow cancel a");
    assert_eq!(cluster.submissions().len(), 1);
    cluster.run(&["submit", "p.yaml", "--k8s", "--force"]).succeeds().stdout("completionMode: Indexed");
    cluster.run(&["cancel", "a"]).succeeds().stdout("kubectl delete job dflow-");
    cluster.run(&["submit", "p.yaml", "--k8s"]).succeeds().stdout("completionMode: Indexed");
    assert_eq!(cluster.submissions().len(), 3);
}

#[test]
fn the_manifest_of_kubernetes_is_printed_and_kept() {
    let cluster = Cluster::new();
    let mount = cluster.0.path("").display().to_string();
    let site = format!(
        "{SITE}kubernetes: {{ image: dflow, volumes: {{ results: {} }} }}\n",
        mount.trim_end_matches('/')
    );
    cluster.0.file("site.yaml", &site);
    cluster.run(&["submit", "p.yaml", "--k8s", "--dry-run"]).succeeds().stdout("completionMode: Indexed");
    assert!(cluster.submissions().is_empty());
    let made = cluster.run(&["submit", "p.yaml", "--k8s"]);
    made.succeeds().stdout("completionMode: Indexed").stderr("written to");
    let kept = fs::read_to_string(cluster.submissions()[0].join("job.k8s.yaml")).unwrap();
    assert_eq!(kept, made.results());
}
