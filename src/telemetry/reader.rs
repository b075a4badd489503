//! What each device of a process is read from.

use std::collections::BTreeMap;
use std::time::Instant;

use super::gpu::{Environment, Gpus};
use super::process::Process;
use crate::store::TelemetryRow;
use crate::store::nodes::now_ms;

/// Who works on a device now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Attempt that its rows carry.
    pub attempt: String,
    /// Process it runs in.
    pub pid: u32,
}

/// Reads all devices of a process.
pub struct Reader {
    host: String,
    gpus: Option<Gpus>,
    /// By process id: the use of cores is counted from the reading before.
    processes: BTreeMap<u32, Process>,
    begin: Instant,
}

impl Reader {
    /// Loads the driver's library if a device is a GPU. The notes say what will not be read and why, once.
    pub fn new(host: &str, devices: &[String], environment: &Environment) -> (Self, Vec<String>) {
        // Stand-ins of GPUs are read from a stand-in of the library only.
        let is_read = |device: &&String| device.starts_with("cuda:") || environment.library.is_some();
        let wants_gpus = devices.iter().filter(is_read).any(|device| gpu_index(device).is_some());
        let opened = wants_gpus.then(|| Gpus::open(environment));
        let (gpus, notes) = match opened {
            None => (None, Vec::new()),
            Some(Ok((gpus, notes))) => (Some(gpus), notes),
            Some(Err(reason)) => (None, vec![format!("NVML: {reason}; processes are read, GPUs are not")]),
        };
        let host = host.to_owned();
        (Self { host, gpus, processes: BTreeMap::new(), begin: Instant::now() }, notes)
    }

    /// Reads every device, whose worker is given, once.
    pub fn read(&mut self, devices: &[(String, Worker)]) -> Vec<TelemetryRow> {
        let pids: Vec<u32> = devices.iter().map(|(_, worker)| worker.pid).collect();
        self.processes.retain(|pid, _| pids.contains(pid));
        let mut processes = BTreeMap::new();
        for pid in pids {
            // Once each, also where workers share one.
            let process = self.processes.entry(pid).or_insert_with(|| Process::new(pid));
            processes.entry(pid).or_insert_with(|| process.read());
        }
        let elapsed_seconds = self.begin.elapsed().as_secs_f64();
        let rows = devices.iter().map(|(device, worker)| {
            let process = processes.get(&worker.pid).copied().unwrap_or_default();
            let mut row = TelemetryRow {
                time_ms: now_ms(),
                elapsed_seconds,
                host: self.host.clone(),
                device: device.clone(),
                attempt: worker.attempt.clone(),
                pid: worker.pid,
                cpu_cores: process.cpu_cores,
                resident_memory: process.resident,
                ..TelemetryRow::default()
            };
            if let (Some(gpus), Some(index)) = (&self.gpus, gpu_index(device)) {
                gpus.read(index, &mut row);
            }
            row
        });
        rows.collect()
    }
}

/// Place of a device among those that CUDA shows: `cuda:1`; `sim:1` stands for it in tests of clusters.
fn gpu_index(device: &str) -> Option<usize> {
    let index = device.strip_prefix("cuda:").or_else(|| device.strip_prefix("sim:"))?;
    index.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(pid: u32) -> Worker {
        Worker { attempt: format!("attempt-of-{pid}"), pid }
    }

    #[test]
    fn workers_of_one_process_share_its_figures_and_have_their_own_attempt() {
        let devices = ["cpu:0", "cpu:1"].map(str::to_owned);
        let (mut reader, notes) = Reader::new("here", &devices, &Environment::default());
        assert!(notes.is_empty(), "a run on the CPU asks for no library: {notes:?}");
        let own = std::process::id();
        let rows = reader.read(&devices.map(|device| (device, worker(own))));
        assert_eq!(rows[0].resident_memory, rows[1].resident_memory);
        assert!(rows[0].resident_memory.is_some() && rows[0].power.is_none());
        assert_eq!((rows[1].device.as_str(), rows[1].pid), ("cpu:1", own));
        let gone = reader.read(&[("cpu:0".to_owned(), worker(u32::MAX))]);
        assert_eq!(gone[0].resident_memory, None);
    }

    #[test]
    fn without_a_library_gpus_have_the_figures_of_their_process() {
        let environment = Environment { library: Some("/nowhere/x.so".into()), ..Environment::default() };
        let (mut reader, notes) = Reader::new("here", &["cuda:0".to_owned()], &environment);
        assert!(notes.len() == 1 && notes[0].contains("processes are read"), "{notes:?}");
        let rows = reader.read(&[("cuda:0".to_owned(), worker(std::process::id()))]);
        assert!(rows[0].resident_memory.is_some() && rows[0].uuid.is_none());
    }

    #[test]
    fn gpus_are_known_by_their_names() {
        assert_eq!(
            ["cuda:3", "sim:0", "cpu:1", "cuda:", "cuda:x"].map(gpu_index),
            [Some(3), Some(0), None, None, None]
        );
    }
}
