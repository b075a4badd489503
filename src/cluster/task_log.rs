//! What the batch script wrote into the logs of its tasks: which node an attempt ran on, and how it ended.
//!
//! The controller forgets a task some minutes after its end; these lines do not.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// First word of the script's own lines.
const MARK: &str = "dflow-task";
/// How the line begins in which dflow says why it ends.
const ERROR: &str = "error:";
/// Signs of such a line that are kept.
const LONGEST: usize = 400;

/// One start of a task, as the log tells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Attempt {
    /// UTC time of its start, sortable.
    pub time: String,
    /// The chunk.
    pub chunk: usize,
    /// The node.
    pub node: String,
    /// Exit code of dflow; none if it never came that far.
    pub code: Option<i32>,
    /// Whether Slurm's TERM ended it: cancelled, requeued or preempted.
    pub terminated: bool,
    /// Why it ended, in the script's words; none if it was killed.
    pub end: Option<String>,
    /// Whether the setup failed, or dflow could not be started.
    pub setup_failed: bool,
    /// The last line that tells an error; while there is none, the last line that is not the script's.
    pub error: Option<String>,
    /// The log.
    pub log: PathBuf,
}

impl Attempt {
    /// How it ended, in a few words.
    pub fn ending(&self) -> String {
        match (self.code, &self.end) {
            _ if self.setup_failed => "the setup failed".to_owned(),
            (Some(code), _) => format!("code {code}"),
            (None, Some(end)) => end.clone(),
            (None, None) => "killed".to_owned(),
        }
    }

    /// Keeps a line of output, if it tells more than what was kept before.
    fn keep(&mut self, line: &str) {
        let line = line.trim();
        let is_error = |line: &str| line.starts_with(ERROR);
        if !line.is_empty() && (is_error(line) || !self.error.as_deref().is_some_and(is_error)) {
            self.error = Some(line.chars().take(LONGEST).collect());
        }
    }
}

/// The attempts of all tasks in a folder of logs, in the order of their starts; none if there is no such folder.
pub fn read(folder: &Path) -> Vec<Attempt> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut attempts = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        attempts.extend(read_log(&path));
    }
    attempts.sort();
    attempts
}

/// The attempts of one task, in their order; none if its log cannot be read.
pub fn read_log(path: &Path) -> Vec<Attempt> {
    let Ok(file) = std::fs::File::open(path) else { return Vec::new() };
    let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
    let mut attempts = parse(lines.map(|line| String::from_utf8_lossy(&line).into_owned()));
    attempts.iter_mut().for_each(|attempt| path.clone_into(&mut attempt.log));
    attempts
}

/// The attempts in the lines of one log.
fn parse(lines: impl Iterator<Item = String>) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::new();
    for line in lines {
        let Some((time, words)) = line.strip_prefix(MARK).and_then(|rest| rest.trim().split_once(' ')) else {
            if let Some(last) = attempts.last_mut() {
                last.keep(&line);
            }
            continue;
        };
        let value = |key: &str| words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        match value("event") {
            Some("start") => {
                let Some(chunk) = value("chunk").and_then(|chunk| chunk.parse().ok()) else { continue };
                let node = value("node").unwrap_or_default().to_owned();
                attempts.push(Attempt { time: time.to_owned(), chunk, node, ..Attempt::default() });
            }
            Some(event) => {
                let Some(last) = attempts.last_mut() else { continue };
                match event {
                    "stopped" => {
                        last.code = value("code").and_then(|code| code.parse().ok());
                        last.terminated |= value("signal") == Some("term");
                    }
                    "waiting" => last.terminated |= value("for") == Some("term"),
                    "setup-failed" => last.setup_failed = true,
                    "end" => last.end = value("reason").map(str::to_owned),
                    _ => {}
                }
            }
            None => {}
        }
    }
    attempts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Attempt> {
        parse(text.lines().map(str::to_owned))
    }

    #[test]
    fn every_start_is_an_attempt_with_its_end() {
        let text = "\
dflow-task 2026-11-22T20:00:00Z chunk=4 task=7_4 node=node1 restart=0 event=start gpus=0
some output of dflow
dflow-task 2026-11-22T20:01:00Z chunk=4 task=7_4 node=node1 restart=0 event=stopped code=74 signal=none
dflow-task 2026-11-22T20:01:20Z chunk=4 task=7_4 node=node1 restart=0 event=waiting for=requeue
slurmstepd: error: *** JOB 9 ON node1 CANCELLED ***
dflow-task 2026-11-22T20:02:00Z chunk=4 task=7_4 node=node2 restart=1 event=start gpus=1
dflow-task 2026-11-22T20:03:00Z chunk=4 task=7_4 node=node2 restart=1 event=stopped code=0 signal=none
dflow-task 2026-11-22T20:03:00Z chunk=4 task=7_4 node=node2 restart=1 event=end reason=complete";
        let attempts = of(text);
        let ends: Vec<_> =
            attempts.iter().map(|a| (&*a.node, a.code, a.terminated, a.end.as_deref())).collect();
        assert_eq!(ends, [("node1", Some(74), false, None), ("node2", Some(0), false, Some("complete"))]);
        assert!(attempts.iter().all(|attempt| attempt.chunk == 4));
    }

    #[test]
    fn a_task_that_was_told_to_end_is_known() {
        let start = "dflow-task t chunk=0 task=7_0 node=n restart=0 event=start gpus=0\n";
        for (line, terminated) in [
            ("event=stopped code=75 signal=term", true),
            ("event=waiting for=term", true),
            ("event=stopped code=75 signal=usr1", false),
            ("event=waiting for=requeue", false),
        ] {
            let text = format!("{start}dflow-task t chunk=0 task=7_0 node=n restart=0 {line}");
            assert_eq!(of(&text)[0].terminated, terminated, "{line}");
        }
    }

    #[test]
    fn the_last_error_is_kept_and_whether_dflow_was_started() {
        let line = |words: &str| format!("dflow-task t chunk=0 task=7_0 node=n restart=0 {words}\n");
        let start = line("event=start gpus=0");
        let failed = format!(
            "before\n{start}warming up\nerror: first\nerror: no such dataset\nbye\n{}{start}{}{}",
            line("event=stopped code=2 signal=none"),
            "line 9: dflow: No such file or directory\n\n",
            line("event=stopped code=127 signal=none") + &line("event=setup-failed code=127"),
        );
        let told: Vec<_> = of(&failed).into_iter().map(|a| (a.ending(), a.setup_failed, a.error)).collect();
        let error = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                ("code 2".to_owned(), false, error("error: no such dataset")),
                ("the setup failed".to_owned(), true, error("line 9: dflow: No such file or directory")),
            ]
        );
        assert_eq!(of(&start)[0].ending(), "killed");
        let used_up = of(&(start + &line("event=end reason=restarts-used-up")));
        assert_eq!(used_up[0].ending(), "restarts-used-up");
    }

    #[test]
    fn whatever_else_is_in_a_log_is_passed_over() {
        for text in
            ["", "dflow-task", "dflow-task x", "dflow-task t event=end", "dflow-task t chunk=a event=start"]
        {
            assert_eq!(of(text), [], "{text}");
        }
        assert_eq!(read(Path::new("/nowhere")), []);
    }
}
