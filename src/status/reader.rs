//! Reads a run directory again and again, and the queue beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::progress::Progress;
use super::snapshot::{History, Now, Snapshot};
use crate::cluster::{ChunkReader, QueueWatch};
use crate::plan::Plan;
use crate::store::fs::Fs;
use crate::store::nodes::NodeReader;
use crate::store::{RunDir, StoreError, Watch};

/// Folders that a look lists, once each: journals, parts, heartbeats, submissions.
const LISTINGS: u64 = 4;

/// Reads how a run stands.
#[derive(Debug)]
pub struct Reader {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    /// A plan, and what was seen of its rows.
    rows: Option<(Plan, Watch)>,
    nodes: NodeReader,
    history: History,
    chunks: ChunkReader,
    queue: QueueWatch,
    last: Option<Snapshot>,
}

impl Reader {
    /// Reads the run in `root`; `queue` tells what its jobs do.
    ///
    /// # Errors
    /// When there is no run.
    pub fn open(fs: Arc<dyn Fs>, root: &Path, queue: QueueWatch) -> Result<Self, StoreError> {
        RunDir::existing_on(Arc::clone(&fs), root)?;
        Ok(Self {
            fs,
            root: root.to_owned(),
            rows: None,
            nodes: NodeReader::default(),
            history: History::default(),
            chunks: ChunkReader::default(),
            queue,
            last: None,
        })
    }

    /// Time between two looks of somebody who asks for one every so many seconds: a shared file system serves everybody,
    /// and is asked for one listing a second at the most.
    pub fn interval(seconds: u64) -> Duration {
        Duration::from_secs(seconds.max(LISTINGS))
    }

    /// How the run stands. A file system that does not answer for a while costs nothing but news: what was seen last is
    /// shown again, with its trouble.
    ///
    /// # Errors
    /// What the file system says at the first look.
    pub fn look(&mut self, now: Now) -> Result<Snapshot, StoreError> {
        match (self.read(now), &self.last) {
            (Ok(snapshot), _) => {
                self.last = Some(snapshot.clone());
                Ok(snapshot)
            }
            (Err(error), Some(last)) => Ok(Snapshot { trouble: Some(error.to_string()), ..last.clone() }),
            (Err(error), None) => Err(error),
        }
    }

    fn read(&mut self, now: Now) -> Result<Snapshot, StoreError> {
        // A plan may grow while it is watched.
        let run_dir = RunDir::existing_on(Arc::clone(&self.fs), &self.root)?;
        let plan = run_dir.plan();
        // Before the rows: what is over by its answer has its rows by then.
        let submissions = self.chunks.refresh(&*self.fs, &self.root);
        let answer = self.queue.look(self.chunks.question(), now.instant);
        let mut rows = match self.rows.take() {
            Some((known, watch)) if known == *plan => watch,
            _ => Watch::new(Arc::clone(&self.fs), run_dir.layout().clone(), plan),
        };
        let seen = rows.refresh().map(|seen| {
            let notes: Vec<String> = seen.notes.iter().map(ToString::to_string).collect();
            (Progress::of(plan, seen), notes)
        });
        // What was read stays so, whatever comes next.
        let (_, rows) = self.rows.insert((plan.clone(), rows));
        let (progress, mut notes) = seen?;
        let nodes = self.nodes.read(&*self.fs, run_dir.layout())?;
        let mut snapshot = Snapshot::new(&plan.name, progress, nodes, &mut self.history, now);
        let is_durable = |hash: &str, sample: &str| rows.has_row(hash, sample);
        match submissions {
            Ok(damaged) => {
                notes.extend(damaged);
                snapshot.chunks = self.chunks.counts(&answer, &is_durable);
            }
            Err(error) => notes.push(format!("chunks are not shown: {error}")),
        }
        snapshot.notes = notes;
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests;
