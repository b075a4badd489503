//! Why the chunk that failed last did.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cluster::queue::{Ending, Job, Phase};
use crate::cluster::submission::Submission;
use crate::cluster::task_log;

/// The newest of the chunks that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FailedChunk {
    /// How its last try ended, such as `code 2`; none where its log does not tell of any.
    pub ending: Option<String>,
    /// Whether there is a log.
    pub has_log: bool,
    /// Where it ran.
    pub node: String,
    /// Its task, as Slurm names it.
    pub task: String,
    /// Its log, from the run directory.
    pub log: String,
}

impl FailedChunk {
    fn of(submission: &Submission, job: &Job, index: usize) -> Self {
        let task = format!("{}_{index}", job.id);
        let path = submission.logs().join(format!("{task}.out"));
        let last = task_log::read_log(&path).pop();
        let has_log = last.is_some() || path.exists();
        let log = path.strip_prefix(submission.run_dir()).unwrap_or(&path).display().to_string();
        let node = last.as_ref().map_or_else(|| job.nodes.clone(), |attempt| attempt.node.clone());
        Self { ending: last.map(|attempt| attempt.ending()), has_log, node, task, log }
    }

    /// How it ended, in a few words.
    pub fn how(&self) -> &str {
        match &self.ending {
            Some(ending) => ending,
            None if self.has_log => "a log without a start",
            None => "no log",
        }
    }

    /// Where to read more.
    pub(super) fn note(&self) -> String {
        let Self { task, log, .. } = self;
        match (&self.ending, self.has_log) {
            (Some(_), _) => format!("failed: {log}"),
            (None, true) => format!("failed before its script began: {log}; sacct -j {task}"),
            (None, false) => format!("failed without a log: sacct -j {task}"),
        }
    }
}

/// Follows which tasks of a submission failed; a log is read only when that changes, and only one. While it does not tell
/// how its task ended it is read again: a shared file system may show it late.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Ids and indices of the tasks that had failed when they were looked at last.
    seen: BTreeSet<(u64, usize)>,
    newest: Option<((u64, usize), FailedChunk)>,
}

impl Failures {
    /// The newest of those that failed among the jobs of the open chunks.
    pub(super) fn newest(
        &mut self,
        submission: &Submission,
        jobs: &BTreeMap<usize, Job>,
        open: &[usize],
    ) -> Option<FailedChunk> {
        let is_failed = |job: &&Job| matches!(job.phase, Phase::Over(Ending::Completed | Ending::Failed));
        let failed = open.iter().filter_map(|chunk| jobs.get(chunk)).filter(is_failed);
        let failed: BTreeMap<(u64, usize), &Job> =
            failed.filter_map(|job| Some(((job.id, job.index?), job))).collect();
        let now: BTreeSet<(u64, usize)> = failed.keys().copied().collect();
        if now != self.seen {
            let kept = self.newest.take().filter(|(task, _)| now.contains(task));
            // Of several at once the one that began last, as tasks are dealt.
            let new = now.difference(&self.seen).last().copied();
            let new = new.or_else(|| now.last().copied().filter(|_| kept.is_none()));
            let read = |task| Some((task, FailedChunk::of(submission, failed.get(&task)?, task.1)));
            self.newest = new.and_then(read).or(kept);
            self.seen = now;
        } else if let Some((task, chunk)) = &mut self.newest
            && chunk.ending.is_none()
            && let Some(job) = failed.get(task)
        {
            *chunk = FailedChunk::of(submission, job, task.1);
        }
        self.newest.as_ref().map(|(_, chunk)| chunk.clone())
    }
}
