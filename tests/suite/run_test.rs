//! The driver of end-to-end tests: the built program in a directory of its own.
//!
//! ```ignore
//! let test = RunTest::new();
//! test.file("p.yaml", "name: …");
//! test.run(&["plan", "p.yaml"]).succeeds().stdout("cells");
//! test.run(&["plan", "missing.yaml"]).fails_with(2).stderr("cannot read");
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
        command.env("NO_COLOR", "1").env_remove("RUST_LOG").env_remove("SLURM_JOB_ID");
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        let output = self.command(arguments).output().expect("the program starts");
        Finished { command: format!("dflow {}", arguments.join(" ")), output }
    }
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
