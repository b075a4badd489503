//! Programs of a scheduler, run to their end.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::ClusterError;

/// What a program has until it is ended. Slurm's clients wait some seconds for an answer, and while the controller is away
/// try again for minutes by themselves.
const LIMIT: Duration = Duration::from_secs(300);

/// What a program that was killed has to be gone.
const KILLED: Duration = Duration::from_secs(5);

/// Pause between two looks at whether a program that has said all has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What stands in the place of the words of a program that was ended: nobody knows what it has done.
pub(super) const NO_ANSWER: &str = "no answer within";

/// What a program answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Whether its exit code was 0.
    pub ok: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Answer {
    /// What it said, without the names of the programs that said it.
    pub fn message(&self) -> String {
        let text = if self.err.trim().is_empty() { &self.out } else { &self.err };
        let lines: Vec<&str> = text.lines().map(plain).filter(|line| !line.is_empty()).collect();
        lines.join("; ")
    }
}

/// A line without `sbatch: error: ` and the like before it.
fn plain(line: &str) -> &str {
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let line = line.trim();
    let rest = match line.split_once(": ") {
        Some((program, rest)) if is_word(program) => rest,
        _ => line,
    };
    ["error: ", "fatal: "].iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(line)
}

/// Runs programs; tests have a stand-in.
pub trait Commands {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it is not there or cannot be started; that it fails is an answer.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, ClusterError>;
}

/// The programs in the folders of a search path.
#[derive(Debug, Clone)]
pub struct SearchPath {
    folders: OsString,
    limit: Duration,
    leash: Option<Leash>,
}

/// Holds the program that a search path runs, one at a time, so that somebody else can end it: one that hangs would outlive
/// whoever has given up waiting for it.
#[derive(Debug, Clone, Default)]
pub struct Leash(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    /// The program that is under way.
    child: Option<Child>,
    /// Nothing is started any more.
    is_over: bool,
}

impl Leash {
    /// Kills the program that is under way, and lets no other begin.
    pub fn end(&self) {
        self.lock().is_over = true;
        self.kill();
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Every change is one assignment: no panic leaves half of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a program to its end, or to [`Self::end`]; none if it has not ended in time: then it is killed.
    fn answer(&self, command: &mut Command, limit: Duration) -> io::Result<Option<Answer>> {
        let until = Instant::now() + limit;
        let (out, err) = self.start(command)?;
        let answer = said(out).and_then(|out| Ok((out, said(err)?))).map(|(out, err)| {
            let (out, err) = heard(&out, until).zip(heard(&err, until))?;
            Some(Answer { ok: self.ended(until)?.success(), out, err })
        });
        if !matches!(answer, Ok(Some(_))) {
            self.kill();
            // What the system itself holds up is not waited for.
            self.ended(Instant::now() + KILLED);
        }
        self.lock().child = None;
        answer
    }

    /// How the program has ended, if it has before this time.
    fn ended(&self, until: Instant) -> Option<ExitStatus> {
        loop {
            match self.lock().child.as_mut()?.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => {}
                _ => return None,
            }
            thread::sleep(LOOK);
        }
    }

    fn kill(&self) {
        if let Some(child) = &mut self.lock().child {
            // It may have ended by itself; whoever reads it sees its end.
            let _ = child.kill();
        }
    }

    /// Starts a program; its output and its errors.
    fn start(&self, command: &mut Command) -> io::Result<(ChildStdout, ChildStderr)> {
        let mut held = self.lock();
        if held.is_over {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let pipes = child.stdout.take().zip(child.stderr.take());
        held.child = Some(child);
        pipes.ok_or_else(|| io::Error::other("it has no pipes"))
    }
}

/// Reads all that comes, as far as it can be read; in a thread, because something that the program has started may keep
/// its output open for ever.
fn said(mut pipe: impl Read + Send + 'static) -> io::Result<Receiver<String>> {
    let (sender, receiver) = channel();
    let read = move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        // Nobody may wait for it any more.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    };
    thread::Builder::new().spawn(read)?;
    Ok(receiver)
}

/// What was said, if that is all before this time.
fn heard(said: &Receiver<String>, until: Instant) -> Option<String> {
    said.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
}

/// Variables of the job that this process may itself run in, which a job that it submits must not inherit: Slurm leaves
/// `SLURM_RESTART_COUNT` unset on a first start, those of arrays outside of them, and those of memory where no option names
/// any; a task would take the memory of the job that submitted it for its own.
const NOT_INHERITED: [&str; 10] = [
    "SLURM_RESTART_COUNT",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_ARRAY_TASK_COUNT",
    "SLURM_ARRAY_TASK_MIN",
    "SLURM_ARRAY_TASK_MAX",
    "SLURM_MEM_PER_NODE",
    "SLURM_MEM_PER_CPU",
    "SLURM_MEM_PER_GPU",
    "DFLOW_CHUNK",
];

impl SearchPath {
    /// The folders of `PATH`.
    pub fn from_environment() -> Self {
        Self::new(std::env::var_os("PATH").unwrap_or_default())
    }

    /// The folders of a text of the form of `PATH`.
    pub fn new(folders: impl AsRef<OsStr>) -> Self {
        Self { folders: folders.as_ref().to_owned(), limit: LIMIT, leash: None }
    }

    /// The same, where a program is ended after so long.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The same, whose programs `leash` can end.
    #[must_use]
    pub fn on(self, leash: &Leash) -> Self {
        Self { leash: Some(leash.clone()), ..self }
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let is_executable = |path: &PathBuf| {
            path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        };
        std::env::split_paths(&self.folders).map(|folder| folder.join(program)).find(is_executable)
    }
}

impl Commands for SearchPath {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, ClusterError> {
        let path =
            self.find(program).ok_or_else(|| ClusterError::NoProgram { program: program.to_owned() })?;
        let mut command = Command::new(&path);
        NOT_INHERITED.iter().for_each(|name| {
            command.env_remove(name);
        });
        // Long lists of array indices would be cut off with `...`.
        command.env("SLURM_BITSTR_LEN", "0").args(arguments).stdin(Stdio::null());
        let leash = self.leash.clone().unwrap_or_default();
        let answer = leash.answer(&mut command, self.limit).map_err(ClusterError::io("start", path))?;
        Ok(answer.unwrap_or_else(|| Answer {
            err: format!("{NO_ANSWER} {} s: it was ended", self.limit.as_secs()),
            ..Answer::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_hangs_is_ended_and_what_it_said_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        for (name, body) in [("silent", "exec sleep 1000"), ("closed", "exec >&- 2>&-; exec sleep 1000")] {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("#!/bin/bash\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            let answer = SearchPath::new(dir.path()).within(Duration::ZERO).run(name, &[]).unwrap();
            assert!(!answer.ok && answer.message().starts_with(NO_ANSWER), "{answer:?}");
        }
    }

    #[test]
    fn a_long_answer_is_heard_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("squeue");
        // More than a pipe holds, on both.
        let body = "for (( i = 0; i < 20000; i++ )); do echo \"line $i\"; echo \"note $i\" >&2; done; exit 3";
        std::fs::write(&path, format!("#!/bin/bash\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let answer = SearchPath::new(dir.path()).run("squeue", &[]).unwrap();
        assert!(!answer.ok && answer.out.ends_with("line 19999\n") && answer.err.ends_with("note 19999\n"));
    }

    #[test]
    fn a_message_does_not_repeat_who_said_it() {
        for (err, message) in [
            ("squeue: error: Invalid user: nobody", "Invalid user: nobody"),
            ("sbatch: error: a\nsbatch: fatal: b\n", "a; b"),
            (
                "slurm_load_jobs error: Invalid job id specified",
                "slurm_load_jobs error: Invalid job id specified",
            ),
            ("allocation failure: busy", "allocation failure: busy"),
        ] {
            assert_eq!(Answer { err: err.to_owned(), ..Answer::default() }.message(), message);
        }
        assert_eq!(Answer { out: "said here".to_owned(), ..Answer::default() }.message(), "said here");
    }

    #[test]
    fn a_program_on_a_leash_answers_as_ever_and_ends_with_it() {
        let leash = Leash::default();
        let free = SearchPath::new("/usr/bin:/bin");
        let path = free.clone().on(&leash);
        let say = ["-c", "echo out; echo err >&2; exit 3"];
        assert_eq!(path.run("sh", &say).unwrap(), free.run("sh", &say).unwrap());
        thread::scope(|scope| {
            let running = scope.spawn(|| path.run("sleep", &["600"]));
            while leash.lock().child.is_none() {
                thread::yield_now();
            }
            leash.end();
            assert!(!running.join().unwrap().unwrap().ok, "it was killed");
        });
        let refused = path.run("sleep", &["600"]).unwrap_err().to_string();
        assert!(refused.contains("nobody waits"), "{refused}");
    }
}
