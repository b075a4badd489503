//! The thread that reads all devices every few seconds. It never disturbs a run: what fails there is one warning.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::gpu::Environment;
use super::reader::{Reader, Worker};
use crate::store::{TelemetryRow, TelemetryWriter};

/// How long the end of a run waits for a last reading: a driver may hang.
const PATIENCE: Duration = Duration::from_secs(10);
/// Readings are those of now for so many times the time between two, and for this long at the least.
const FRESH_TIMES: u32 = 3;
const FRESH: Duration = Duration::from_secs(30);

/// When to read and to write.
#[derive(Debug, Clone)]
pub struct SamplerOptions {
    /// Time between two readings.
    pub every: Duration,
    /// Time after which the first readings are durable; the next are after twice that, and so on.
    pub flush_first: Duration,
    /// Time after which readings are durable at the latest: what a crash may lose.
    pub flush_every: Duration,
    /// Name of this machine.
    pub host: String,
    /// Which library and which GPUs.
    pub environment: Environment,
}

impl SamplerOptions {
    /// A reading every `every`, of the GPUs of this process. Durable are the first after ten seconds, those of a long
    /// run after two minutes: all in one file that is replaced, some thirty times an hour.
    pub fn new(every: Duration, host: String) -> Self {
        let environment = Environment::of_this_process();
        let (flush_first, flush_every) = (Duration::from_secs(10), Duration::from_secs(120));
        Self { every, flush_first, flush_every, host, environment }
    }
}

/// Reads all devices of this process until it is ended.
pub struct Sampler {
    shared: Arc<Shared>,
    /// Age from which on readings are not those of now.
    fresh: Duration,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    /// Closed when the thread is gone.
    gone: Receiver<()>,
}

struct Shared {
    /// Who works on a device before its worker is ready: this process.
    process: Worker,
    /// Who works on each device.
    workers: Mutex<Vec<(String, Worker)>>,
    /// A worker took the place of another since the last reading.
    is_replaced: AtomicBool,
    newest: Mutex<Newest>,
}

/// The newest reading of every device.
struct Newest {
    /// When it was taken (before the first, when the reading began); later by the time in which nobody looked.
    at: Instant,
    /// When somebody looked last.
    looked: Instant,
    rows: BTreeMap<String, TelemetryRow>,
    /// Whether it was said that nothing newer comes.
    is_told: bool,
}

impl Newest {
    fn new(rows: BTreeMap<String, TelemetryRow>) -> Self {
        let now = Instant::now();
        Self { at: now, looked: now, rows, is_told: false }
    }

    /// The readings, unless they are older than `limit` at `now`, which is said once.
    fn look(&mut self, limit: Duration, now: Instant) -> BTreeMap<String, TelemetryRow> {
        let lapse = now.saturating_duration_since(std::mem::replace(&mut self.looked, now));
        if lapse > limit / 2 {
            // The whole process was suspended: the reader, too.
            self.at += lapse;
        }
        let age = now.saturating_duration_since(self.at);
        if age <= limit {
            return self.rows.clone();
        }
        if !std::mem::replace(&mut self.is_told, true) {
            let seconds = age.as_secs();
            tracing::warn!(
                "no readings of the devices for {seconds} s: their driver, or the run directory, does not answer"
            );
        }
        BTreeMap::new()
    }
}

/// A lock that no panic of another thread takes away: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sampler {
    /// Starts to read `devices`. Until [`Self::set_worker`] they belong to `process`, this process.
    pub fn start(
        options: SamplerOptions,
        devices: &[String],
        process: &str,
        writer: TelemetryWriter,
    ) -> Self {
        let worker = Worker { attempt: process.to_owned(), pid: std::process::id() };
        let workers = devices.iter().map(|device| (device.clone(), worker.clone())).collect();
        let shared = Arc::new(Shared {
            process: worker,
            workers: Mutex::new(workers),
            is_replaced: AtomicBool::new(false),
            newest: Mutex::new(Newest::new(BTreeMap::new())),
        });
        let fresh = (options.every * FRESH_TIMES).max(FRESH);
        let (stop, stopped) = bounded(0);
        let (leaving, gone) = bounded(0);
        let thread = SamplerThread { options, shared: Arc::clone(&shared), writer, has_warned: false };
        let devices = devices.to_owned();
        let body = move || {
            thread.run(&devices, &stopped);
            drop(leaving);
        };
        if let Err(error) = thread::Builder::new().name("telemetry".to_owned()).spawn(body) {
            tracing::warn!("devices are not read: cannot start a thread: {error}");
        }
        Self { shared, fresh, stop: Some(stop), gone }
    }

    /// From now on `worker` works on `device`: its rows carry its attempt. Those of a worker before it are made durable
    /// with the next reading.
    pub fn set_worker(&self, device: &str, worker: Worker) {
        let mut workers = lock(&self.shared.workers);
        if let Some(entry) = workers.iter_mut().find(|(name, _)| name == device) {
            let before = std::mem::replace(&mut entry.1, worker);
            if before != self.shared.process && before != entry.1 {
                self.shared.is_replaced.store(true, Ordering::Release);
            }
        }
    }

    /// The newest reading of every device that has one. A driver that hangs leaves none: what it said last is not how its
    /// device is.
    pub fn newest(&self) -> BTreeMap<String, TelemetryRow> {
        lock(&self.shared.newest).look(self.fresh, Instant::now())
    }

    /// Takes a last reading, makes all of them durable, and ends.
    pub fn end(mut self) {
        self.stop = None;
        if self.gone.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last readings of the devices are lost: the driver does not answer");
        }
    }
}

/// When readings are made durable, by the time since the first: soon at first, so that a short life leaves some too,
/// and then less and less often.
struct FlushTimes {
    last: Duration,
    wait: Duration,
    longest: Duration,
}

impl FlushTimes {
    fn new(first: Duration, longest: Duration) -> Self {
        Self { last: Duration::ZERO, wait: first.min(longest), longest }
    }

    /// Whether to flush now; `at_once`: whatever the time. The caller then does.
    fn is_due(&mut self, now: Duration, at_once: bool) -> bool {
        let is_time = now.saturating_sub(self.last) >= self.wait;
        if is_time {
            self.wait = (self.wait * 2).min(self.longest);
        }
        if is_time || at_once {
            self.last = now;
        }
        is_time || at_once
    }
}

struct SamplerThread {
    options: SamplerOptions,
    shared: Arc<Shared>,
    writer: TelemetryWriter,
    has_warned: bool,
}

impl SamplerThread {
    fn run(mut self, devices: &[String], stopped: &Receiver<()>) {
        let (mut reader, notes) = Reader::new(&self.options.host, devices, &self.options.environment);
        notes.iter().for_each(|note| tracing::warn!("{note}"));
        let mut flushes = FlushTimes::new(self.options.flush_first, self.options.flush_every);
        let begin = Instant::now();
        loop {
            self.read(&mut reader);
            let is_replaced = self.shared.is_replaced.swap(false, Ordering::AcqRel);
            if flushes.is_due(begin.elapsed(), is_replaced) {
                self.flush();
            }
            if stopped.recv_timeout(self.options.every) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        self.read(&mut reader);
        self.flush();
    }

    fn read(&mut self, reader: &mut Reader) {
        let workers = lock(&self.shared.workers).clone();
        let rows = reader.read(&workers);
        let newest = rows.iter().map(|row| (row.device.clone(), row.clone())).collect();
        *lock(&self.shared.newest) = Newest::new(newest);
        self.writer.push(rows);
    }

    /// Writes what there is; what cannot be written is kept for the next time.
    fn flush(&mut self) {
        match self.writer.flush() {
            Ok(()) => {}
            Err(error) if self.has_warned => tracing::debug!("{error}"),
            Err(error) => {
                tracing::warn!("readings of devices are not stored for now: {error}");
                self.has_warned = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::attempt::AttemptId;
    use crate::store::fault::{Fault, FaultFs};
    use crate::store::fs::Fs;
    use crate::store::{Layout, merge_telemetry, read_telemetry};

    fn sampler(fs: &FaultFs, flush_every: Duration) -> (Sampler, Layout) {
        let layout = Layout::new("/run");
        let attempt = AttemptId::from_text("p");
        let writer = TelemetryWriter::new(Arc::new(fs.clone()), layout.clone(), attempt);
        let options = SamplerOptions {
            every: Duration::from_millis(1),
            flush_first: flush_every,
            flush_every,
            host: "here".to_owned(),
            environment: Environment::default(),
        };
        (Sampler::start(options, &["cpu:0".to_owned()], "p", writer), layout)
    }

    /// Looks at the newest readings until they are as wanted.
    fn wait_until(sampler: &Sampler, holds: impl Fn(&TelemetryRow) -> bool) {
        while !sampler.newest().get("cpu:0").is_some_and(&holds) {
            thread::yield_now();
        }
    }

    #[test]
    fn readings_carry_the_attempt_of_their_worker_and_are_durable_at_the_end() {
        let fs = FaultFs::new(Path::new("/run"));
        let (sampler, layout) = sampler(&fs, Duration::from_secs(3600));
        wait_until(&sampler, |row| row.attempt == "p");
        sampler.set_worker("cpu:0", Worker { attempt: "w".to_owned(), pid: std::process::id() });
        sampler.set_worker("cuda:7", Worker { attempt: "x".to_owned(), pid: 1 });
        wait_until(&sampler, |row| row.attempt == "w");
        sampler.end();
        merge_telemetry(&fs, &layout).unwrap();
        let rows = read_telemetry(&fs, &layout).unwrap();
        assert_eq!((rows[0].attempt.as_str(), rows.last().unwrap().attempt.as_str()), ("p", "w"));
        assert!(rows.windows(2).all(|pair| pair[0].elapsed_seconds <= pair[1].elapsed_seconds));
        assert!(rows.iter().all(|row| row.device == "cpu:0" && row.host == "here" && row.pid > 0));
    }

    #[test]
    fn readings_that_cannot_be_written_are_written_later() {
        let fs = FaultFs::new(Path::new("/run"));
        fs.inject(1, Fault::Fail(std::io::ErrorKind::StorageFull));
        let (sampler, layout) = sampler(&fs, Duration::ZERO);
        wait_until(&sampler, |_| fs.exists(&layout.telemetry_parts().join("p-000.parquet")).unwrap());
        sampler.end();
        merge_telemetry(&fs, &layout).unwrap();
        let rows = read_telemetry(&fs, &layout).unwrap();
        assert!(rows[0].cpu_cores.is_none(), "the first reading of all is there");
    }

    #[test]
    fn readings_of_a_driver_that_hangs_are_not_shown_for_long_and_that_is_said_once() {
        let row = TelemetryRow { power: Some(300.0), ..TelemetryRow::default() };
        let mut newest = Newest::new(BTreeMap::from([("cuda:0".to_owned(), row)]));
        let (limit, begin) = (Duration::from_secs(30), newest.at);
        for third in 1..=3 {
            assert_eq!(newest.look(limit, begin + third * limit / 3).len(), 1);
        }
        assert!(!newest.is_told);
        assert!(newest.look(limit, begin + limit + Duration::from_millis(1)).is_empty());
        assert!(newest.is_told && newest.look(limit, begin + limit + limit / 3).is_empty());
        assert!(!Newest::new(BTreeMap::new()).is_told, "a new reading begins anew");
    }

    #[test]
    fn time_in_which_the_process_is_suspended_makes_no_reading_old() {
        let row = TelemetryRow::default();
        let mut newest = Newest::new(BTreeMap::from([("cuda:0".to_owned(), row)]));
        let (limit, begin) = (Duration::from_secs(30), newest.at);
        assert_eq!(newest.look(limit, begin + 20 * limit).len(), 1);
        assert!(!newest.is_told);
        for third in 1..=3 {
            assert_eq!(newest.look(limit, begin + 20 * limit + third * limit / 3).len(), 1);
        }
        assert!(newest.look(limit, begin + 20 * limit + 4 * limit / 3).is_empty(), "but the reader hangs");
    }

    #[test]
    fn readings_that_come_seldom_are_fresh_for_three_times_as_long() {
        let fresh = |every: u64| {
            let writer = TelemetryWriter::new(
                Arc::new(FaultFs::new(Path::new("/run"))),
                Layout::new("/run"),
                AttemptId::from_text("p"),
            );
            let options = SamplerOptions::new(Duration::from_secs(every), "here".to_owned());
            let sampler = Sampler::start(options, &["cpu:0".to_owned()], "p", writer);
            let fresh = sampler.fresh.as_secs();
            sampler.end();
            fresh
        };
        assert_eq!([1, 5, 60].map(fresh), [30, 30, 180]);
    }

    #[test]
    fn readings_are_durable_soon_at_first_and_then_every_two_minutes() {
        let options = SamplerOptions::new(Duration::from_secs(5), "here".to_owned());
        let mut flushes = FlushTimes::new(options.flush_first, options.flush_every);
        let readings = (0..=3600).step_by(5);
        let at: Vec<u64> =
            readings.filter(|&second| flushes.is_due(Duration::from_secs(second), false)).collect();
        assert_eq!(at[..6], [10, 30, 70, 150, 270, 390]);
        assert_eq!(at.len(), 32, "an hour");
        assert!(flushes.is_due(Duration::from_secs(3605), true), "a worker was replaced");
        assert!(!flushes.is_due(Duration::from_secs(3720), false), "two minutes from the last");
        assert!(flushes.is_due(Duration::from_secs(3725), false));
    }

    #[test]
    fn readings_of_a_worker_are_durable_once_another_is_in_its_place() {
        let fs = FaultFs::new(Path::new("/run"));
        let (sampler, layout) = sampler(&fs, Duration::from_secs(3600));
        let part = layout.telemetry_parts().join("p-000.parquet");
        let worker = |attempt: &str| Worker { attempt: attempt.to_owned(), pid: std::process::id() };
        sampler.set_worker("cpu:0", worker("first"));
        wait_until(&sampler, |row| row.attempt == "first");
        let seen = sampler.newest()["cpu:0"].elapsed_seconds;
        // At the second reading from here the one before is done with all that it does.
        wait_until(&sampler, |row| row.elapsed_seconds > seen);
        assert!(!fs.exists(&part).unwrap(), "the first worker takes nobody's place");
        sampler.set_worker("cpu:0", worker("second"));
        wait_until(&sampler, |_| fs.exists(&part).unwrap());
        merge_telemetry(&fs, &layout).unwrap();
        let rows = read_telemetry(&fs, &layout).unwrap();
        assert!(rows.iter().any(|row| row.attempt == "first"), "durable before the end: {rows:?}");
        sampler.end();
        merge_telemetry(&fs, &layout).unwrap();
        assert_eq!(read_telemetry(&fs, &layout).unwrap().last().unwrap().attempt, "second");
    }
}
