//! The driver of end-to-end tests: the built program in a directory of its own.
//!
//! ```ignore
//! let test = RunTest::new();
//! test.file("p.yaml", "name: …");
//! test.run(&["plan", "p.yaml"]).succeeds().stdout("cells");
//! test.run(&["plan", "missing.yaml"]).fails_with(2).stderr("cannot read");
//! ```

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A directory that is removed at the end, and the program run in it.
pub(crate) struct RunTest {
    directory: tempfile::TempDir,
}

impl RunTest {
    /// An empty directory.
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory can be made") }
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub(crate) fn file(&self, name: &str, text: &str) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// The program, ready to be started in the directory; colours and progress off, log level as by default.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dflow"));
        command.args(arguments).current_dir(self.directory.path());
        command
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG")
            .env_remove("DFLOW_CPU")
            .env_remove("SLURM_MEM_PER_NODE")
            .env_remove("SLURM_MEM_PER_CPU")
            .env_remove("SLURM_GPUS_ON_NODE")
            .env_remove("SLURM_JOB_GPUS")
            .env_remove("SLURM_STEP_GPUS")
            .env_remove("SLURM_GPUS")
            .env_remove("CUDA_VISIBLE_DEVICES");
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        let output = self.command(arguments).output().expect("the program starts");
        Finished { command: format!("dflow {}", arguments.join(" ")), output }
    }

    /// As [`Self::run`], with these variables in its environment.
    pub(crate) fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let output =
            self.command(arguments).envs(variables.iter().copied()).output().expect("the program starts");
        Finished { command: format!("dflow {}", arguments.join(" ")), output }
    }

    /// Starts the program with `--json`, to read its events while it runs.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Self::watch(self.command(arguments))
    }

    /// Starts a command of the program with `--json`, to read its events while it runs.
    pub(crate) fn watch(mut command: Command) -> Running {
        let mut child = command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines, events: Vec::new() }
    }
}

/// A run under way, with the events read so far. It is killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    events: Vec<Value>,
}

impl Running {
    /// Reads events until one of a name, for which `holds` is true.
    #[track_caller]
    pub(crate) fn until(&mut self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        while let Some(event) = self.next() {
            if event["event"] == name && holds(&event) {
                return event;
            }
        }
        panic!("the run ended without the event {name:?}: {:?}", self.events);
    }

    fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.unwrap();
        let event: Value = serde_json::from_str(&line).expect("a line is one object");
        self.events.push(event.clone());
        Some(event)
    }

    /// The processes that it has started and that still are.
    pub(crate) fn children(&self) -> Vec<Pid> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of_task = |task: std::io::Result<std::fs::DirEntry>| {
            let text = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
            text.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<i32>>()
        };
        tasks.flat_map(of_task).filter_map(Pid::from_raw).collect()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, checks the exit code, and gives all events.
    #[track_caller]
    pub(crate) fn ends_with(mut self, code: i32) -> Vec<Value> {
        while self.next().is_some() {}
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{:?}", self.events);
        std::mem::take(&mut self.events)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rows of all events of a name, sorted.
pub(crate) fn rows_of(events: &[Value], name: &str) -> Vec<String> {
    let named = events.iter().filter(|event| event["event"] == name);
    let mut rows: Vec<String> = named.map(|event| event["row"].as_str().unwrap().to_owned()).collect();
    rows.sort();
    rows
}

/// A run that has ended.
pub(crate) struct Finished {
    command: String,
    output: Output,
}

impl Finished {
    /// Checks that the exit code is 0.
    #[track_caller]
    pub(crate) fn succeeds(&self) -> &Self {
        self.fails_with(0)
    }

    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn fails_with(&self, code: i32) -> &Self {
        assert_eq!(self.output.status.code(), Some(code), "{}", self.report());
        self
    }

    /// Checks that the results hold a text.
    #[track_caller]
    pub(crate) fn stdout(&self, text: &str) -> &Self {
        assert!(self.results().contains(text), "no {text:?} on stdout\n{}", self.report());
        self
    }

    /// Checks that the messages hold a text.
    #[track_caller]
    pub(crate) fn stderr(&self, text: &str) -> &Self {
        assert!(self.messages().contains(text), "no {text:?} on stderr\n{}", self.report());
        self
    }

    /// The results as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.results())
            .unwrap_or_else(|error| panic!("stdout is no JSON: {error}\n{}", self.report()))
    }

    /// The results as events, one a line.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.results().lines().map(read).collect()
    }

    /// What was printed on stdout.
    pub(crate) fn results(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// What was printed on stderr.
    pub(crate) fn messages(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn report(&self) -> String {
        let Self { command, output } = self;
        format!("{command}: {}\nstdout:\n{}\nstderr:\n{}", output.status, self.results(), self.messages())
    }
}
