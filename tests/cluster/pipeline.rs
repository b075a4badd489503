//! The pipeline of the scenarios, its uninterrupted run, and runs on a cluster that have to equal it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use dflow::store::fs::OsFs;
use dflow::store::{Columns, Layout, Record, read_samples};
use rustix::process::Signal;
use serde_json::Value;

use crate::ended::Ended;
use crate::process::Process;
use crate::queue::Job;
use crate::sandbox::{Cluster, DFLOW};

/// Two tasks, two methods, the shipped prior. A solve of `d-flow` takes one or two seconds of a core, alone
/// on it; its outer steps, after which it may be checkpointed, are short.
const PIPELINE: &str = "\
name: scenario
dataset: { name: mini-images, limit: 4 }
model: mini-images
devices: sim
tasks:
  - { name: inpainting, operator: { center_mask: { size: 10 } } }
  - { name: super-resolution-noisy, operator: { bicubic: { factor: 2 } }, noise: 0.05 }
methods:
  - dflow:
      name: d-flow
      regularizer: { chi: 0.01 }
      optimizer: { lbfgs: { inner: 4, history: 100 } }
      stop: [ { evals: 40 } ]
  - pinv: {}
save: [ reconstructions ]
output: run
";

/// Rows of the pipeline: tasks × methods × samples.
pub(crate) const ROWS: usize = 2 * 2 * 4;

/// The run that all others are compared with: one process, one thread, nothing happens to it.
pub(crate) fn run_uninterrupted(directory: &Path) -> PathBuf {
    std::fs::write(directory.join("p.yaml"), PIPELINE).unwrap();
    let arguments = ["run", "p.yaml", "--quiet", "--devices", "cpu:1x1"];
    Ended::of(Command::new(DFLOW).args(arguments).current_dir(directory)).succeeds();
    directory.join("run")
}

/// The pipeline on a cluster, with its run directory.
pub(crate) struct Run<'a> {
    cluster: &'a Cluster,
}

impl<'a> Run<'a> {
    /// The pipeline with what its `cluster:` section says, such as `gpus: 2, chunk: 10s`.
    pub(crate) fn new(cluster: &'a Cluster, section: &str) -> Self {
        let text = format!("{PIPELINE}cluster: {{ {section} }}\n");
        std::fs::write(cluster.work().join("p.yaml"), text).unwrap();
        Self { cluster }
    }

    /// The run directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.cluster.work().join("run")
    }

    /// `dflow` with some arguments, where the pipeline is.
    #[track_caller]
    pub(crate) fn dflow(&self, arguments: &[&str]) -> Ended {
        self.cluster.run(DFLOW, arguments)
    }

    /// Submits what is missing; the newest submission, an earlier one if nothing is.
    #[track_caller]
    pub(crate) fn submit(&self) -> Submission {
        self.dflow(&SUBMIT).succeeds();
        self.submissions().pop().expect("a submission leaves its folder")
    }

    /// All submissions, oldest first.
    pub(crate) fn submissions(&self) -> Vec<Submission> {
        let folders = std::fs::read_dir(self.directory().join("submit")).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
        folders.sort();
        folders.into_iter().map(|directory| Submission { directory }).collect()
    }

    /// The objects of one name in the run's logs, one file per process.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let files = std::fs::read_dir(self.directory().join("log")).into_iter().flatten().flatten();
        let texts: Vec<String> =
            files.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default()).collect();
        let lines = texts.iter().flat_map(|text| text.lines());
        // A line may be half written.
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["event"] == name).collect()
    }

    /// Samples whose solves have started, so often.
    pub(crate) fn started(&self) -> usize {
        self.events("started").len()
    }

    /// Solves of the method that takes time that have ended, by every process that wrote them.
    pub(crate) fn finished_solves(&self) -> usize {
        self.events("finished").iter().filter(|event| is_solve(event)).count()
    }

    /// Whether a process has begun a solve that it has not finished.
    pub(crate) fn is_solving(&self, process: &Process) -> bool {
        let of_it = |name| {
            let events = self.events(name).into_iter();
            events.filter(|event| is_solve(event) && event["pid"] == process.id()).count()
        };
        of_it("started") > of_it("finished")
    }

    /// Waits for an array task in the middle of a solve that has a checkpoint, and holds it there: a fault then hits it
    /// however fast the machine is.
    #[track_caller]
    pub(crate) fn hold_a_task(&self) -> Held {
        self.cluster.wait_for("a task with a checkpoint", || {
            let processes = self.cluster.processes();
            let solving = processes.iter().filter(|process| self.is_solving(process));
            let task = solving.filter_map(Process::task).find(|task| self.has_checkpoint(*task))?;
            let held = Held::new(task, self.cluster.processes_of(task));
            if held.processes.iter().any(|process| self.is_solving(process)) {
                return Some(held);
            }
            held.release();
            None
        })
    }

    /// As [`Self::hold_a_task`], and every other task that runs: none ends, and so none begins.
    #[track_caller]
    pub(crate) fn hold_all_tasks(&self) -> Vec<Held> {
        let mut held = vec![self.hold_a_task()];
        self.cluster.wait_until("all that run are held", || {
            let running = self.cluster.jobs().into_iter().filter(Job::is_running).filter_map(|job| job.task);
            let open: Vec<usize> =
                running.filter(|task| held.iter().all(|held| held.task != *task)).collect();
            for task in &open {
                let processes = self.cluster.processes_of(*task);
                held.extend((!processes.is_empty()).then(|| Held::new(*task, processes)));
            }
            open.is_empty()
        });
        held
    }

    /// Whether a chunk has left checkpoints. Chunks have the numbers of their array tasks here.
    fn has_checkpoint(&self, chunk: usize) -> bool {
        let files = std::fs::read_dir(self.directory().join("checkpoints")).into_iter().flatten().flatten();
        let tag = format!("-c{chunk}s");
        // A log of checkpoints begins with a header of some hundred bytes; a state has 3,072 numbers.
        let is_state =
            |entry: std::fs::DirEntry| entry.metadata().is_ok_and(|metadata| metadata.len() > 3072);
        files.into_iter().any(|entry| entry.file_name().to_string_lossy().contains(&tag) && is_state(entry))
    }

    /// Solves that went on from a checkpoint.
    pub(crate) fn resumed(&self) -> usize {
        self.events("started").iter().filter(|event| event["resumed"] == true).count()
    }

    /// Merges what is there, with rows missing.
    #[track_caller]
    pub(crate) fn merge(&self) {
        self.dflow(&["merge", "run"]).fails_with(4).says("missing");
    }

    /// The rows of `samples.parquet`.
    pub(crate) fn rows(&self) -> Vec<Record> {
        read_samples(&OsFs, &Layout::new(self.directory()), Columns::WithoutTrace).unwrap()
    }

    /// Rows that are found more than once when all are merged: once more, because what was cut off may have ended after the
    /// job that collected.
    pub(crate) fn duplicates(&self) -> u64 {
        self.dflow(&["merge", self.directory().to_str().unwrap()]).succeeds();
        let text = std::fs::read_to_string(self.directory().join("run.json")).unwrap();
        let run: Value = serde_json::from_str(&text).unwrap();
        run["rows"]["duplicates"].as_u64().expect("run.json counts duplicates")
    }

    /// Waits until nothing is queued or runs any more.
    #[track_caller]
    pub(crate) fn wait_over(&self) -> Vec<Job> {
        self.cluster.wait_for("the end of all jobs", || {
            let jobs = self.cluster.jobs();
            (!jobs.is_empty() && jobs.iter().all(Job::is_over)).then_some(jobs)
        })
    }

    /// Checks that every planned row is there once, and equals that of the uninterrupted run bit for bit.
    #[track_caller]
    pub(crate) fn is_as_uninterrupted(&self, uninterrupted: &Path) {
        let run = self.directory();
        let (run, uninterrupted) = (run.to_str().unwrap(), uninterrupted.to_str().unwrap());
        self.dflow(&["verify", run, "--deep"]).succeeds();
        let equal = format!("{ROWS} rows equal bit for bit, 0 different");
        self.dflow(&["verify", run, "--same-as", uninterrupted]).succeeds().says(&equal);
        let rows = self.rows();
        let keys: BTreeSet<_> = rows.iter().map(Record::key).collect();
        assert_eq!((rows.len(), keys.len()), (ROWS, ROWS), "rows, and different ones");
    }
}

/// The processes of an array task, stopped.
pub(crate) struct Held {
    /// Index of the task.
    pub(crate) task: usize,
    /// Where it runs.
    pub(crate) node: String,
    /// Its processes.
    pub(crate) processes: Vec<Process>,
}

impl Held {
    fn new(task: usize, processes: Vec<Process>) -> Self {
        processes.iter().for_each(|process| process.signal(Signal::STOP));
        let node = processes.first().map(|process| process.node().to_owned()).unwrap_or_default();
        Self { task, node, processes }
    }

    /// Lets them go on.
    pub(crate) fn release(&self) {
        self.processes.iter().for_each(|process| process.signal(Signal::CONT));
    }

    /// Whether all of them have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.processes.iter().all(Process::has_ended)
    }
}

/// Whether an event is about a row of the method that takes time.
fn is_solve(event: &Value) -> bool {
    event["row"].as_str().is_some_and(|row| row.contains("/d-flow/"))
}

/// The arguments that submit the pipeline. Checkpoints as often as there is something new: the solves are short. Two
/// and a half seconds are said for each, so that chunks are the same on every machine.
pub(crate) const SUBMIT: [&str; 7] =
    ["submit", "p.yaml", "--slurm", "--checkpoint-every", "0", "--seconds-per-eval", "0.06"];

/// A folder `submit/<id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submission {
    directory: PathBuf,
}

impl Submission {
    fn json(&self, file: &str) -> Value {
        let path = self.directory.join(file);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Its folder.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ids of its arrays, those that it submitted again included.
    pub(crate) fn arrays(&self) -> Vec<u64> {
        let submission = self.json("submission.json");
        submission["arrays"].as_array().unwrap().iter().filter_map(|array| array["job"].as_u64()).collect()
    }

    /// Number of its samples, each of one cell.
    pub(crate) fn units(&self) -> usize {
        let chunks = self.json("chunks.json");
        let stretches =
            chunks["chunks"].as_array().unwrap().iter().flat_map(|chunk| chunk["units"].as_array().unwrap());
        stretches.map(|stretch| stretch[2].as_u64().unwrap() as usize).sum()
    }

    /// Everything that its tasks have printed.
    pub(crate) fn logs(&self) -> String {
        let logs = std::fs::read_dir(self.directory.join("logs")).into_iter().flatten().flatten();
        logs.map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default()).collect()
    }

    /// Its array tasks among some jobs.
    pub(crate) fn tasks<'a>(&self, jobs: &'a [Job]) -> Vec<&'a Job> {
        let arrays = self.arrays();
        jobs.iter().filter(|job| arrays.contains(&job.id)).collect()
    }
}
