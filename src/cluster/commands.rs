//! Programs of a scheduler, run to their end.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::error::ClusterError;

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
        let mut held = self.lock();
        held.is_over = true;
        if let Some(child) = &mut held.child {
            // It may have ended by itself; whoever reads it sees its end.
            let _ = child.kill();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Every change is one assignment: no panic leaves half of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a program to its end, or to [`Self::end`].
    fn output(&self, command: &mut Command) -> io::Result<Output> {
        let (mut out, mut err) = self.start(command)?;
        let (stdout, stderr) = thread::scope(|scope| {
            let other = scope.spawn(|| read_all(&mut err));
            let stdout = read_all(&mut out);
            (stdout, other.join().unwrap_or_default())
        });
        // It has closed both: it ends now.
        let child = self.lock().child.take();
        let status = child.ok_or_else(|| io::Error::other("another program took its place"))?.wait()?;
        Ok(Output { status, stdout, stderr })
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

/// All that comes, as far as it can be read.
fn read_all(pipe: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    bytes
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
        Self { folders: folders.as_ref().to_owned(), leash: None }
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
        let output = match &self.leash {
            Some(leash) => leash.output(&mut command),
            None => command.output(),
        };
        let output = output.map_err(ClusterError::io("start", path))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Answer { ok: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
