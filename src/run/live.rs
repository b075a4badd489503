//! What goes on beside the solving of a process: readings of its devices, and its heartbeat. Neither can fail a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::event::RunEvent;
use super::heart::{Heart, Identity};
use crate::plan::Plan;
use crate::store::attempt::AttemptId;
use crate::store::nodes::{self, Node};
use crate::store::{RunDir, StoreError, TelemetryWriter};
use crate::telemetry::reader::Worker;
use crate::telemetry::{Sampler, SamplerOptions};

/// Time between two heartbeats.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// How long the end of a run waits for the last heartbeat.
const PATIENCE: Duration = Duration::from_secs(10);

/// Watches one process solve: feed it every event between [`start`](Self::start) and [`end`](Self::end).
pub struct Live {
    sampler: Option<Arc<Sampler>>,
    heart: Arc<Mutex<Heart>>,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    /// Closed when the thread is gone.
    gone: Receiver<()>,
}

impl Live {
    /// Begins to read `devices` every `every` (zero: not at all), and to beat.
    pub fn start(
        run_dir: &RunDir,
        plan: &Plan,
        devices: &[String],
        identity: Identity,
        every: Duration,
    ) -> Self {
        let sampler = (!every.is_zero()).then(|| {
            let (fs, layout) = (Arc::clone(run_dir.fs()), run_dir.layout().clone());
            let writer = TelemetryWriter::new(fs, layout, AttemptId::from_text(&*identity.attempt));
            let options = SamplerOptions::new(every, identity.host.clone());
            Arc::new(Sampler::start(options, devices, &identity.attempt, writer))
        });
        let heart = Arc::new(Mutex::new(Heart::new(identity, plan)));
        let (stop, stopped) = bounded(0);
        let (leaving, gone) = bounded(0);
        let beating =
            Beating { run_dir: run_dir.clone(), heart: Arc::clone(&heart), sampler: sampler.clone() };
        let body = move || {
            beating.run(&stopped);
            drop(leaving);
        };
        if let Err(error) = thread::Builder::new().name("heartbeat".to_owned()).spawn(body) {
            tracing::warn!("`dflow status` will not show this process: cannot start a thread: {error}");
        }
        Self { sampler, heart, stop: Some(stop), gone }
    }

    /// Takes note of an event; touches no file.
    pub fn observe(&self, event: &RunEvent) {
        if let (RunEvent::WorkerReady { device, attempt, pid, .. }, Some(sampler)) = (event, &self.sampler) {
            sampler.set_worker(device, Worker { attempt: attempt.clone(), pid: *pid });
        }
        lock(&self.heart).observe(event);
    }

    /// Takes the last readings, and marks the end; the heartbeat of a task with nothing to tell goes.
    pub fn end(mut self) {
        self.stop = None;
        // The thread's share of the sampler goes with it.
        let is_slow = self.gone.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        if is_slow {
            tracing::warn!("the last heartbeat is not written: the run directory does not answer");
        }
        if let Some(sampler) = self.sampler.take().and_then(Arc::into_inner) {
            sampler.end();
        }
    }
}

fn lock(heart: &Mutex<Heart>) -> MutexGuard<'_, Heart> {
    // A heartbeat that a panic left half changed is better than none.
    heart.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that writes heartbeats.
struct Beating {
    run_dir: RunDir,
    heart: Arc<Mutex<Heart>>,
    sampler: Option<Arc<Sampler>>,
}

impl Beating {
    fn run(self, stopped: &Receiver<()>) {
        if let Err(error) = self.remove_older() {
            tracing::debug!("heartbeats of earlier attempts stay: {error}");
        }
        let mut has_warned = false;
        loop {
            let node = lock(&self.heart).beat(&self.readings());
            match self.write(&node) {
                Ok(()) => {}
                Err(error) if has_warned => tracing::debug!("{error}"),
                Err(error) => {
                    tracing::warn!("`dflow status` does not see this process for now: {error}");
                    has_warned = true;
                }
            }
            if stopped.recv_timeout(BEAT_EVERY) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        if let Err(error) = self.end() {
            tracing::debug!("{error}");
        }
    }

    /// Leaves the last heartbeat, or none.
    fn end(&self) -> Result<(), StoreError> {
        let last = lock(&self.heart).end(&self.readings());
        if lock(&self.heart).leaves_nothing_to_tell() {
            return nodes::remove(&**self.run_dir.fs(), self.run_dir.layout(), &last.attempt)
                .or_else(|_| self.write(&last));
        }
        self.write(&last)
    }

    /// This process takes the place of earlier ones of its chunk.
    fn remove_older(&self) -> Result<(), StoreError> {
        let attempt = lock(&self.heart).attempt().to_owned();
        nodes::remove_older(&**self.run_dir.fs(), self.run_dir.layout(), &attempt)
    }

    fn readings(&self) -> BTreeMap<String, crate::store::TelemetryRow> {
        self.sampler.as_ref().map(|sampler| sampler.newest()).unwrap_or_default()
    }

    fn write(&self, node: &Node) -> Result<(), StoreError> {
        nodes::write(&**self.run_dir.fs(), self.run_dir.layout(), node)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::Start;
    use crate::store::fault::FaultFs;
    use crate::store::fs::Fs;
    use crate::store::nodes::FORMAT;
    use crate::store::samples::{document, plan};

    #[test]
    fn a_task_that_came_to_its_end_leaves_no_heartbeat_and_any_other_does() {
        let fs: Arc<dyn Fs> = Arc::new(FaultFs::new(Path::new("/run")));
        let document = document("");
        let plan = plan(&document);
        let start = Start { plan: &plan, document: &document };
        let run_dir = RunDir::open_on(Arc::clone(&fs), Path::new("/run"), &start).unwrap();
        let ended = |attempt: &str, chunk, planned| {
            let identity = Identity { attempt: attempt.to_owned(), chunk, ..Identity::default() };
            let devices = vec!["cpu:0".to_owned()];
            let live = Live::start(&run_dir, &plan, &devices, identity, Duration::ZERO);
            live.observe(&RunEvent::Begin { planned, done: 0, devices });
            live.end();
        };
        ended("complete", Some(1), 0);
        ended("incomplete", Some(2), 1);
        ended("run", None, 0);
        let left = nodes::read_all(&*fs, run_dir.layout()).unwrap();
        assert!(left.iter().all(|node| node.ended_ms.is_some()), "{left:?}");
        let left: Vec<_> = left.iter().map(|node| &*node.attempt).collect();
        assert_eq!(left, ["incomplete", "run"]);
    }

    #[test]
    fn a_task_takes_the_place_of_earlier_ones_of_its_chunk() {
        let fs: Arc<dyn Fs> = Arc::new(FaultFs::new(Path::new("/run")));
        let document = document("");
        let plan = plan(&document);
        let start = Start { plan: &plan, document: &document };
        let run_dir = RunDir::open_on(Arc::clone(&fs), Path::new("/run"), &start).unwrap();
        let attempt = |day: u32| format!("2026112{day}T000000.000Z-00000000-c1sff");
        let older = Node { dflow_node: FORMAT, attempt: attempt(1), ..Node::default() };
        nodes::write(&*fs, run_dir.layout(), &older).unwrap();
        let identity = Identity { attempt: attempt(2), ..Identity::default() };
        Live::start(&run_dir, &plan, &[], identity, Duration::ZERO).end();
        let left = nodes::read_all(&*fs, run_dir.layout()).unwrap();
        let left: Vec<_> = left.iter().map(|node| (&*node.attempt, node.ended_ms.is_some())).collect();
        assert_eq!(left, [(&*attempt(2), true)]);
    }
}
