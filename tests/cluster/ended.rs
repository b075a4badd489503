//! A command that has ended.

use std::process::{Command, Output};

/// What a command said, and its exit code.
pub(crate) struct Ended {
    command: String,
    output: Output,
}

impl Ended {
    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { command: format!("{command:?}"), output }
    }

    /// Checks that the exit code is 0.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        self.fails_with(0)
    }

    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn fails_with(self, code: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(code), "{}", self.report());
        self
    }

    /// Checks that the output, of both kinds, holds a text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.stdout().contains(text) || self.stderr().contains(text),
            "no {text:?} in\n{}",
            self.report()
        );
        self
    }

    /// The exit code; none after a signal.
    pub(crate) fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// What was printed on stdout.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// What was printed on stderr.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Everything, for people.
    pub(crate) fn report(&self) -> String {
        let Self { command, output } = self;
        format!("{command}: {}\nstdout:\n{}\nstderr:\n{}", output.status, self.stdout(), self.stderr())
    }
}
