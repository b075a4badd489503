//! How a submission stands: chunks by what the rows, the queue and the logs say, and what is worth submitting again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::error::ClusterError;
use super::frozen::ChunkFile;
use super::question::Question;
use super::queue::{Ending, Job, Phase};
use super::slurm::Slurm;
use super::submission::{Engine, Submission};
use super::task_log::{self, Attempt};
use crate::exit;

/// Whether the row of a cell hash and sample id is durable, ok or failed.
pub type IsDurable<'a> = &'a dyn Fn(&str, &str) -> bool;

/// The job of every chunk that the controller knows one for: the one that lives, else the newest.
///
/// # Errors
/// As [`Slurm::jobs`].
pub fn jobs_of_chunks(submission: &Submission, slurm: &Slurm) -> Result<BTreeMap<usize, Job>, ClusterError> {
    Ok(by_chunk(submission, &slurm.jobs(&Question::of_arrays([submission]))?))
}

/// Of these jobs, which may be of other submissions too, that of every chunk: the one that lives, else the newest.
pub fn by_chunk(submission: &Submission, jobs: &[Job]) -> BTreeMap<usize, Job> {
    let mut jobs: Vec<&Job> = jobs.iter().collect();
    jobs.sort_by_key(|job| (job.phase.is_live(), job.id));
    let mut chunks = BTreeMap::new();
    for job in jobs {
        let array = submission.file().arrays.iter().find(|array| array.is(job));
        if let Some((array, index)) = array.zip(job.index) {
            chunks.insert(array.chunk(index), job.clone());
        }
    }
    chunks
}

/// The collecting jobs of a submission that still wait or run.
///
/// # Errors
/// As [`Slurm::jobs`].
pub fn collector_jobs(submission: &Submission, slurm: &Slurm) -> Result<Vec<Job>, ClusterError> {
    let mut jobs = slurm.jobs(&Question::of_collectors(submission))?;
    jobs.retain(|job| job.phase.is_live());
    Ok(jobs)
}

/// Chunks of a submission of which a row is not durable.
pub fn open_chunks(chunks: &ChunkFile, is_durable: IsDurable<'_>) -> Vec<usize> {
    (0..chunks.chunks.len()).filter(|index| is_open(chunks, *index, is_durable)).collect()
}

/// Whether a row of a chunk is not durable.
pub(super) fn is_open(chunks: &ChunkFile, index: usize, is_durable: IsDurable<'_>) -> bool {
    chunks.keys(index).is_ok_and(|mut keys| keys.any(|(hash, sample)| !is_durable(hash, sample)))
}

/// Rows of a submission that are not durable.
pub fn missing_rows(chunks: &ChunkFile, is_durable: IsDurable<'_>) -> usize {
    let missing = |index: usize| {
        chunks.keys(index).map_or(0, |keys| keys.filter(|(hash, sample)| !is_durable(hash, sample)).count())
    };
    (0..chunks.chunks.len()).map(missing).sum()
}

/// What of a run still waits or runs: a further submission leaves it out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Live {
    /// Cell hashes and sample ids of its chunks.
    pub keys: Keys,
    /// Its arrays, by the folder of their submission.
    pub arrays: BTreeMap<PathBuf, BTreeSet<u64>>,
    /// What of cancelled submissions still ends, beside these: nobody goes on with it but a further submission.
    pub ending: Leftover,
}

/// Chunks of cancelled submissions that are not gone yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leftover {
    /// Cell hashes and sample ids.
    pub keys: Keys,
    /// Ids of their arrays.
    pub jobs: BTreeSet<u64>,
}

impl Live {
    /// Everything that may still write rows.
    pub fn into_all_keys(self) -> Keys {
        let Self { mut keys, ending, .. } = self;
        keys.extend(ending.keys);
        keys
    }
}

/// Cell hashes and sample ids.
pub type Keys = HashSet<(String, String)>;

/// What the submissions of the run in `root` still have in the queue.
///
/// # Errors
/// As [`Submission::all`] and [`Slurm::jobs`].
pub fn live(root: &Path, slurm: &Slurm) -> Result<Live, ClusterError> {
    let submissions = Submission::all(root)?;
    let jobs = slurm.jobs(&Question::of_arrays(&submissions))?;
    let mut live = Live::default();
    for submission in submissions {
        for (chunk, job) in by_chunk(&submission, &jobs) {
            if !job.phase.is_live() {
                continue;
            }
            if submission.is_cancelled() {
                live.ending.keys.extend(keys_of(submission.chunks(), chunk));
                live.ending.jobs.insert(job.id);
            } else {
                live.keys.extend(keys_of(submission.chunks(), chunk));
                live.arrays.entry(submission.dir().to_owned()).or_default().insert(job.id);
            }
        }
    }
    Ok(live)
}

fn keys_of(chunks: &ChunkFile, chunk: usize) -> impl Iterator<Item = (String, String)> {
    let keys = chunks.keys(chunk).into_iter().flatten();
    keys.map(|(hash, sample)| (hash.to_owned(), sample.to_owned()))
}

/// What the submissions of the run in `root` handed to Kubernetes, with their folders, oldest first: nobody asks it how its
/// jobs stand, so that all of them are taken to live until they are cancelled.
///
/// # Errors
/// As [`Submission::all`].
pub fn in_kubernetes(root: &Path) -> Result<Vec<(Submission, Keys)>, ClusterError> {
    let is_there = |submission: &Submission| {
        submission.file().engine == Engine::Kubernetes && !submission.is_cancelled()
    };
    let all = Submission::all(root)?.into_iter().filter(is_there);
    let with_keys = |submission: Submission| {
        let chunks = submission.chunks();
        let keys = (0..chunks.chunks.len()).flat_map(|chunk| keys_of(chunks, chunk)).collect();
        (submission, keys)
    };
    Ok(all.map(with_keys).collect())
}

/// What becomes of the chunks with rows missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sweep {
    /// Chunks to be submitted again.
    pub again: Vec<usize>,
    /// Chunks that somebody cancelled; they stay so.
    pub cancelled: Vec<usize>,
    /// Chunks of which something still waits or runs, in this submission or in another one.
    pub live: Vec<usize>,
    /// Nodes on which chunks ended without a single row, and none was completed.
    pub bad_nodes: BTreeSet<String>,
    /// The newest of the last tries of what failed.
    pub newest: Option<Attempt>,
}

impl Sweep {
    /// What is known of the chunks of `submission` with rows missing; `live` is what the run has in the queue. Only what
    /// failed is worth another try: a task that was cancelled, also while it waited, is not brought back.
    pub fn of(
        submission: &Submission,
        jobs: &BTreeMap<usize, Job>,
        live: &Keys,
        is_durable: IsDurable<'_>,
    ) -> Self {
        let attempts = task_log::read(&submission.logs());
        let mut last: BTreeMap<usize, &Attempt> = BTreeMap::new();
        for attempt in &attempts {
            last.insert(attempt.chunk, attempt);
        }
        let is_live = |chunk| {
            let mut missing = keys_of(submission.chunks(), chunk).filter(|(cell, id)| !is_durable(cell, id));
            missing.any(|key| live.contains(&key))
        };
        let mut sweep = Self::default();
        for chunk in open_chunks(submission.chunks(), is_durable) {
            let phase = jobs.get(&chunk).map(|job| job.phase);
            match (phase, last.get(&chunk)) {
                (Some(phase), _) if phase.is_live() => sweep.live.push(chunk),
                _ if is_live(chunk) => sweep.live.push(chunk),
                // Without a phase the controller has forgotten it. One that never started did not fail; one that was told
                // to end may have been preempted on a cluster that does not requeue.
                (Some(Phase::Over(Ending::Cancelled)), _) | (None, None) => sweep.cancelled.push(chunk),
                (None, Some(attempt)) if attempt.terminated && submission.is_cancelled() => {
                    sweep.cancelled.push(chunk);
                }
                (Some(_), _) | (None, Some(_)) => sweep.again.push(chunk),
            }
        }
        let is_empty = |chunk: &usize| {
            let keys = submission.chunks().keys(*chunk);
            keys.is_ok_and(|mut keys| keys.all(|(hash, sample)| !is_durable(hash, sample)))
        };
        let empty: BTreeSet<usize> = sweep.again.iter().copied().filter(is_empty).collect();
        let good = attempts.iter().filter(|attempt| attempt.code == Some(exit::OK));
        let good = good.map(|attempt| attempt.node.as_str()).collect();
        sweep.bad_nodes = bad_nodes(&empty, &last, &good, jobs);
        sweep.bad_nodes.extend(without_setup(&empty, &last, &attempts));
        let last_tries = sweep.again.iter().filter_map(|chunk| last.get(chunk));
        sweep.newest = last_tries.max().map(|attempt| (*attempt).clone());
        sweep
    }

    /// Whether another sweep is worth it: rows were made since the last one, or there is a node to blame.
    pub fn is_worth_it(&self, missing_before: usize, missing: usize) -> bool {
        !self.again.is_empty() && (missing < missing_before || !self.bad_nodes.is_empty())
    }

    /// The bad nodes and those that were left out before, in Slurm's form.
    pub fn exclude(&self, submission: &Submission) -> String {
        let before = submission.file().arrays.last().map_or("", |array| array.exclude.as_str());
        let nodes = self.bad_nodes.iter().map(String::as_str);
        let all = (!before.is_empty()).then_some(before).into_iter().chain(nodes);
        all.collect::<Vec<_>>().join(",")
    }
}

/// Nodes to blame for chunks that ended without a row: those that could not write, and those that only failed while others
/// (`good`) did their work; no others where such chunks fail on good nodes too, because then the work is wrong.
fn bad_nodes(
    empty: &BTreeSet<usize>,
    last: &BTreeMap<usize, &Attempt>,
    good: &BTreeSet<&str>,
    jobs: &BTreeMap<usize, Job>,
) -> BTreeSet<String> {
    let failed: Vec<&Attempt> = empty.iter().filter_map(|chunk| last.get(chunk).copied()).collect();
    let is_work = good.is_empty() || failed.iter().any(|attempt| good.contains(attempt.node.as_str()));
    let blamed = failed.iter().filter(|attempt| !is_work || attempt.code == Some(exit::UNWRITABLE));
    let logged = blamed.filter(|attempt| !attempt.terminated).map(|attempt| attempt.node.as_str());
    // A node that cannot even write the log is known to the controller only.
    let silent = empty.iter().filter(|chunk| !is_work && !last.contains_key(chunk));
    let silent = silent.filter_map(|chunk| jobs.get(chunk)).map(|job| job.nodes.as_str());
    let nodes = logged.chain(silent).filter(|node| !node.is_empty() && !good.contains(node));
    nodes.map(str::to_owned).collect()
}

/// Nodes on which the setup failed, or dflow could not be started, for chunks that ended so: on no node of them dflow ever
/// ran, but on others it did. Where it never ran anywhere, the setup is wrong.
fn without_setup(
    empty: &BTreeSet<usize>,
    last: &BTreeMap<usize, &Attempt>,
    attempts: &[Attempt],
) -> BTreeSet<String> {
    let ran = attempts
        .iter()
        .filter(|attempt| !attempt.setup_failed && attempt.code.is_some_and(|code| code != exit::UNWRITABLE));
    let ran: BTreeSet<&str> = ran.map(|attempt| attempt.node.as_str()).collect();
    let ended_so =
        |chunk: &usize| empty.contains(chunk) && last.get(chunk).is_some_and(|attempt| attempt.setup_failed);
    let failed = attempts.iter().filter(|attempt| attempt.setup_failed && ended_so(&attempt.chunk));
    let nodes = failed.map(|attempt| attempt.node.as_str()).filter(|node| !node.is_empty());
    let is_bad = |node: &&str| !ran.is_empty() && !ran.contains(node);
    nodes.filter(is_bad).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
