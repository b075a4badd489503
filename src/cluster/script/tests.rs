//! The batch scripts against committed ones, and against bash.

use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::cluster::submission::tests::submission_in;
use crate::spec::diagnostic::Source;

const SITE: &str = "\
partition: gpu
account: lab
qos: long
constraint: a100&ib
gpus: 2
gpu_type: a100
cpus: 16
memory: 64G
time: 08:00:00
throttle: 32
warn: 240
max_restarts: 5
exclude: node[3-5]
modules: [ gcc/14, cuda/13.0 ]
setup: [ \"export TMPDIR=/scratch/$USER\", \"echo \\\"it's $HOSTNAME\\\"\" ]
sbatch: [ --mail-type=END, --reservation=week ]
command: apptainer exec --nv /shared/dflow.sif dflow
collect: { partition: cpu, time: 1h, memory: 8G }
";

fn spec(text: &str) -> ClusterSpec {
    ClusterSpec::parse(&Source { name: "site.yaml".to_owned(), text: text.to_owned() }).unwrap()
}

fn array(name: &str, first: usize, tasks: &str) -> Array {
    let (name, tasks) = (name.to_owned(), tasks.to_owned());
    Array { name, first, stride: 2, tasks, sweep: 0, exclude: String::new(), job: None, lost: false }
}

/// The two scripts of a submission, its random id replaced.
fn scripts(root: &str, cluster: ClusterSpec) -> (String, String) {
    let mut submission = submission_in(Path::new(root), cluster);
    let id = submission.id().to_owned();
    let arrays = [array(&format!("dflow-{id}-0"), 0, "0-616"), array(&format!("dflow-{id}-1"), 1, "0-616")];
    submission.keep_arrays(&arrays);
    let plain = |text: String| text.replace(&id, "20261122T203405.123Z-0a1b2c3d");
    (plain(job(&submission, &arrays).unwrap()), plain(collect(&submission).unwrap()))
}

/// Compares with a file of `tests/golden/cluster`; `DFLOW_WRITE_GOLDEN=1` writes it.
pub(in crate::cluster) fn assert_golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cluster").join(name);
    if std::env::var_os("DFLOW_WRITE_GOLDEN").is_some() {
        crate::atomic::write_bytes(&path, text.as_bytes()).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == text,
        "{} differs; look at it, then run with DFLOW_WRITE_GOLDEN=1:\n{text}",
        path.display()
    );
}

#[test]
fn the_scripts_are_as_committed() {
    let (job, collect) = scripts("/shared/reports/small", spec(SITE));
    assert_golden("job.sbatch", &job);
    assert_golden("collect.sbatch", &collect);
    let (job, collect) = scripts("/shared/reports/small", ClusterSpec::default());
    assert_golden("job-plain.sbatch", &job);
    assert_golden("collect-plain.sbatch", &collect);
}

#[test]
fn bash_reads_the_scripts_whatever_the_paths() {
    for root in ["/shared/reports/small", "/shared/it's a run/üñ (2)", "/a%b/c d"] {
        for cluster in [ClusterSpec::default(), spec(SITE)] {
            let (job, collect) = scripts(root, cluster);
            for text in [&job, &collect] {
                assert!(!text.contains("@NAME") && !text.contains("@COMMAND"), "{text}");
                let status = Command::new("bash").args(["-n", "-c", text]).status().unwrap();
                assert!(status.success(), "{text}");
            }
        }
    }
}

#[test]
fn paths_are_one_word_of_bash() {
    for path in ["/a/b", "/it's/a b", "/$HOME/`x`", "/ü"] {
        let quoted = quoted_path(Path::new(path)).unwrap();
        let output = Command::new("bash").args(["-c", &format!("printf %s {quoted}")]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), path);
    }
    assert!(quoted_path(Path::new("/a\nb")).is_err());
}

#[test]
fn arrays_share_the_throttle_and_leave_nodes_out() {
    let submission = submission_in(Path::new("/r"), spec("throttle: 9\nexclude: node9"));
    let arrays = [array("a", 0, "0-9"), array("b", 1, "0-9")];
    assert_eq!(array_options(&submission, &arrays, 0), ["--array=0-9%5", "--exclude=node9"]);
    assert_eq!(array_options(&submission, &arrays, 1), ["--array=0-9%4", "--exclude=node9"]);
    assert_eq!(array_arguments(&submission, &arrays[1]), ["1", "2", "node9"]);
    let again = [Array { sweep: 1, exclude: "node1,node2".to_owned(), ..array("c", 0, "3,7") }];
    assert_eq!(array_options(&submission, &again, 0), ["--array=3,7%9", "--exclude=node9,node1,node2"]);
    assert_eq!(array_arguments(&submission, &again[0]), ["0", "2", "node9,node1,node2"]);
}

#[test]
fn a_dry_run_shows_the_throttle_of_each_array() {
    // Nothing is recorded of the arrays yet.
    let submission = submission_in(Path::new("/r"), spec("throttle: 32"));
    let arrays = [array("a", 0, "0-9"), array("b", 1, "0-9"), array("c", 2, "0-9")];
    let text = job(&submission, &arrays).unwrap();
    for shown in
        ["--array=0-9%11 job.sbatch 0 2", "--array=0-9%11 job.sbatch 1 2", "--array=0-9%10 job.sbatch 2 2"]
    {
        assert!(text.contains(shown), "{shown} in {text}");
    }
    assert_eq!(
        (0..3).map(|i| share(2, 3, i)).collect::<Vec<_>>(),
        [1, 1, 1],
        "an array of none would never end"
    );
}

#[test]
fn what_is_filled_in_is_not_filled_again() {
    let fills = |name: &str| match name {
        "A" => Some("@B@"),
        "B" => Some("b"),
        _ => None,
    };
    assert_eq!(fill("x@A@y@B@z@C@@", fills), "x@B@ybz@C@@");
}
