//! How the chunks of a run stand, for people: what the rows tell, and what the queue said last.

mod failures;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;

pub use self::failures::FailedChunk;
use self::failures::Failures;
use super::error::ClusterError;
use super::question::Question;
use super::queue::{Ending, Job, Phase};
use super::queue_watch::Answer;
use super::state::{IsDurable, by_chunk, is_open};
use super::submission::{Engine, FOLDER, Submission, SubmissionFile};
use crate::store::fs::Fs;

/// Why a task waits in a cluster that works: nothing to tell.
const ORDINARY: [&str; 7] =
    ["None", "", "Resources", "Priority", "Dependency", "JobArrayTaskLimit", "BeginTime"];

/// How many chunks of a run wait, run, are done or failed.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ChunkCounts {
    /// The newest submission.
    pub submission: String,
    /// Its chunks.
    pub total: usize,
    /// Every row durable.
    pub done: usize,
    /// Rows missing.
    pub open: usize,
    /// Where the open ones are; none while that is not known.
    #[serde(flatten)]
    pub queue: Option<QueueCounts>,
    /// Why the controller's last word is missing or old.
    pub trouble: Option<String>,
    /// What else is worth saying, such as tasks that are held.
    pub notes: Vec<String>,
}

/// What the controller said of the chunks with rows missing.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct QueueCounts {
    /// In the queue.
    pub queued: usize,
    /// Running now.
    pub running: usize,
    /// Over with rows missing.
    pub failed: usize,
    /// The newest of these.
    pub newest_failed: Option<FailedChunk>,
    /// Cancelled with rows missing.
    pub cancelled: usize,
    /// The controller does not know them (any more).
    pub absent: usize,
    /// Chunks that run, by node.
    pub nodes: BTreeMap<String, usize>,
    /// Chunks of older submissions that still wait or run.
    pub older: usize,
    /// A job in the queue that will collect, and submit again what failed.
    pub collector: Option<u64>,
    /// The commonest reason to wait, but for those of every cluster that works.
    pub waiting: Option<Waiting>,
    /// Seconds since the controller was asked.
    pub age_seconds: f64,
}

/// Why tasks wait.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Waiting {
    /// In Slurm's words, such as `PartitionConfig`.
    pub reason: String,
    /// How many tasks.
    pub tasks: usize,
}

/// Reads the submissions of a run again and again.
#[derive(Debug, Default)]
pub struct ChunkReader {
    /// By id, which sorts by time.
    submissions: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    submission: Submission,
    /// Chunks that had rows missing when they were looked at last: a row that is durable stays so.
    open: Vec<usize>,
    failures: Failures,
}

impl Known {
    fn new(submission: Submission) -> Self {
        let open = (0..submission.chunks().chunks.len()).collect();
        Self { submission, open, failures: Failures::default() }
    }
}

impl ChunkReader {
    /// Looks which submissions there are in `root`, and what was submitted of them: one listing. Those whose files cannot be
    /// read are told, and hide no others; one that was cut short before its `submission.json` was written is left out.
    ///
    /// # Errors
    /// What the file system says of the listing.
    pub fn refresh(&mut self, fs: &dyn Fs, root: &Path) -> Result<Vec<String>, ClusterError> {
        let folder = root.join(FOLDER);
        let names = match fs.list(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            names => names.map_err(ClusterError::io("list", &folder))?,
        };
        let mut before = std::mem::take(&mut self.submissions);
        let mut damaged = Vec::new();
        for name in names {
            let known = match before.remove(&name) {
                Some(mut known) => known.submission.refresh().map(|()| known),
                None => Submission::open_among(&folder.join(&name)).map(Known::new),
            };
            match known {
                Ok(known) => {
                    self.submissions.insert(name, known);
                }
                Err(ClusterError::NoSubmission { .. }) => {}
                Err(error) => damaged.push(format!("a submission is not shown: {error}")),
            }
        }
        Ok(damaged)
    }

    /// What to ask the controller: all arrays of all submissions, and the jobs that will collect, at once.
    pub fn question(&self) -> Question {
        let all = || self.submissions.values().map(|known| &known.submission);
        let collecting = all().filter(|submission| !submission.file().cancelled);
        collecting.map(Question::of_collectors).fold(Question::without_lost(all()), Question::and)
    }

    /// How the newest submission stands; none if nothing was ever submitted.
    pub fn counts(&mut self, answer: &Answer<'_>, is_durable: IsDurable<'_>) -> Option<ChunkCounts> {
        let mut known: Vec<&mut Known> = self.submissions.values_mut().collect();
        let Known { submission, open, failures } = known.pop()?;
        open.retain(|chunk| is_open(submission.chunks(), *chunk, is_durable));
        let total = submission.chunks().chunks.len();
        let mut counts = ChunkCounts {
            submission: submission.id().to_owned(),
            total,
            done: total - open.len(),
            open: open.len(),
            ..ChunkCounts::default()
        };
        if submission.file().engine == Engine::Kubernetes {
            counts.notes.push("its pods are Kubernetes's to tell: kubectl get pods".to_owned());
            return Some(counts);
        }
        counts.trouble = answer.trouble.map(str::to_owned);
        let Some((jobs, age)) = answer.jobs else { return Some(counts) };
        let of = |submission: &Submission| by_chunk(submission, jobs);
        let mut queue = QueueCounts { age_seconds: age.as_secs_f64(), ..QueueCounts::default() };
        let newest = of(submission);
        let was_cancelled = submission.file().cancelled;
        open.iter().for_each(|chunk| queue.add(newest.get(chunk), was_cancelled));
        queue.newest_failed = failures.newest(submission, &newest, open);
        counts.notes.extend(queue.newest_failed.as_ref().map(FailedChunk::note));
        let older = known.iter().flat_map(|known| of(&known.submission).into_values());
        queue.older = older.filter(|job| job.phase.is_live()).count();
        let all = known.iter().map(|known| &known.submission).chain([&*submission]);
        let collector = all.rev().find_map(|submission| collector(submission, jobs));
        queue.collector = collector.map(|job| job.id);
        let mut waiting: Vec<&Job> = open.iter().filter_map(|chunk| newest.get(chunk)).collect();
        queue.waiting = why_waiting(&waiting);
        waiting.extend(collector);
        counts.notes.extend(held(&waiting));
        counts.queue = Some(queue);
        Some(counts)
    }
}

/// The job of these that waits or runs to collect a submission, unless that was cancelled.
fn collector<'a>(submission: &Submission, jobs: &'a [Job]) -> Option<&'a Job> {
    let SubmissionFile { cancelled, collectors, .. } = submission.file();
    let is_its =
        |job: &&Job| collectors.iter().any(|known| known.job == Some(job.id) || known.name == job.name);
    jobs.iter().filter(|job| job.phase.is_live() && !cancelled).find(is_its)
}

impl QueueCounts {
    /// Counts a chunk with rows missing.
    fn add(&mut self, job: Option<&Job>, was_cancelled: bool) {
        match job.map(|job| (job.phase, &job.nodes)) {
            None if was_cancelled => self.cancelled += 1,
            None => self.absent += 1,
            Some((Phase::Queued, _)) => self.queued += 1,
            Some((Phase::Running, nodes)) => {
                self.running += 1;
                *self.nodes.entry(nodes.clone()).or_default() += 1;
            }
            Some((Phase::Over(Ending::Cancelled), _)) => self.cancelled += 1,
            Some((Phase::Over(Ending::Completed | Ending::Failed), _)) => self.failed += 1,
        }
    }
}

fn is_held(job: &Job) -> bool {
    job.phase == Phase::Queued && job.reason.to_lowercase().contains("held")
}

/// The commonest of the reasons that no waiting mends, or that a user would like to know.
fn why_waiting(jobs: &[&Job]) -> Option<Waiting> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for job in jobs.iter().filter(|job| job.phase == Phase::Queued && !is_held(job)) {
        *reasons.entry(job.reason.trim()).or_default() += 1;
    }
    reasons.retain(|reason, _| !ORDINARY.contains(reason));
    let (reason, tasks) = reasons.into_iter().max_by_key(|(_, tasks)| *tasks)?;
    Some(Waiting { reason: reason.to_owned(), tasks })
}

/// A note for every array with tasks that are held, and every reason.
fn held(jobs: &[&Job]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for job in jobs.iter().filter(|job| is_held(job)) {
        let note = format!("a task is held ({}): scontrol release {}", job.reason, job.id);
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}

#[cfg(test)]
mod tests;
