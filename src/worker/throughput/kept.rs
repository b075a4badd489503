//! Rates that are kept from one run to the next, in the user's cache folder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Sweep;
use crate::atomic;
use crate::net::kernel;
use crate::plan::identity::NUMERICS;
use crate::worker::device::{self, Device, DeviceKind, OtherLoad};

/// Raised whenever what is measured, or the file of it, changes.
const VERSION: u32 = 2;

/// Where other processes use more of the cores than this, the machine is busy: what is measured then is measured again once
/// it is idle.
const BUSY: f64 = 0.1;

/// What the rates of layouts are of.
const WORKERS: &str = "workers";

/// How long is looked whether a machine that was busy still is.
const GLANCE: Duration = Duration::from_millis(100);

/// Rows per second in calls of so many rows, or of so many workers.
pub(super) type Rates = Vec<(usize, f64)>;

/// What a measurement found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// The rates.
    pub(super) rates: Rates,
    /// Whether other processes used the cores meanwhile.
    pub(super) was_busy: bool,
    /// Whether an earlier run made it.
    pub(super) earlier: bool,
}

/// Measurements of this process: workers that share a cache folder, or have none, do not measure twice.
static MEASURED: Mutex<BTreeMap<PathBuf, Measured>> = Mutex::new(BTreeMap::new());

/// What the rates depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Key {
    version: u32,
    /// This program's file, by its size and time of change: another build may be faster.
    program: String,
    numerics: u32,
    /// Identity of the model: weights, network, path.
    network: String,
    /// Whether a call is timed with its pull-back.
    pub(super) has_pull_backs: bool,
    instruction_set: String,
    device: String,
    threads: usize,
    /// Rates of `rows` in a call, or of `workers` that the threads are shared out among.
    of: String,
}

impl Key {
    pub(super) fn new(network: String, device: &Device, has_pull_backs: bool) -> Self {
        let (device, threads) = match &device.kind {
            DeviceKind::Cpu { threads, .. } => (device::cpu_model(), *threads),
            DeviceKind::Cuda { visible, .. } | DeviceKind::Sim { visible } => {
                (format!("GPU {visible} of {}", device::host_name()), 0)
            }
        };
        Self {
            version: VERSION,
            program: program(),
            numerics: NUMERICS,
            network,
            has_pull_backs,
            instruction_set: kernel::instruction_set().to_owned(),
            device,
            threads,
            of: "rows".to_owned(),
        }
    }

    /// The key of rates by workers that the threads are shared out among.
    pub(super) fn of_workers(self) -> Self {
        Self { of: WORKERS.to_owned(), ..self }
    }

    fn file_name(&self) -> String {
        let key = serde_json::to_vec(self).unwrap_or_default();
        format!("throughput-{}.json", &blake3::hash(&key).to_hex()[..32])
    }
}

/// Version, size and time of change of this program's file.
fn program() -> String {
    let file = std::fs::metadata("/proc/self/exe").ok();
    let changed = file.as_ref().and_then(|file| file.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    let (size, changed) = (file.map_or(0, |file| file.len()), changed.unwrap_or_default().as_nanos());
    format!("{} {size} {changed}", env!("CARGO_PKG_VERSION"))
}

/// A file of the cache folder.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    key: Key,
    /// The sizes that there was memory for.
    asked: Vec<usize>,
    /// What there was time for.
    rows_per_second: Rates,
    /// Whether the machine had other things to do.
    was_busy: bool,
}

impl Kept {
    /// Whether it is what a measurement of these sizes would find now.
    fn serves(&self, asked: &[usize], is_busy: impl FnOnce() -> bool) -> bool {
        let had_memory = asked.iter().all(|rows| self.asked.contains(rows));
        had_memory && (!self.was_busy || is_busy())
    }

    /// Whether it can have been written by a measurement.
    fn is_sound(&self) -> bool {
        let rates = &self.rows_per_second;
        let is_rate = |(rows, rate): &(usize, f64)| *rows > 0 && (1e-9..1e12).contains(rate);
        // Of layouts there are none where calls take too long.
        (!rates.is_empty() || self.key.of == WORKERS)
            && rates.iter().all(is_rate)
            && rates.is_sorted_by(|a, b| a.0 < b.0)
    }
}

/// Whether other processes use the cores at this moment.
fn is_busy() -> bool {
    let load = OtherLoad::start();
    std::thread::sleep(GLANCE);
    load.per_core() > BUSY
}

/// The rates of a key: those in the folder, if it had memory for the sizes that are asked for, else those that `measure`
/// gives, which are kept where that is possible and no call failed.
pub(super) fn measured(
    key: &Key,
    asked: &[usize],
    folder: Option<&Path>,
    measure: impl FnOnce() -> Sweep,
) -> Measured {
    let file = folder.unwrap_or(Path::new("")).join(key.file_name());
    // Held meanwhile: two workers of one machine would disturb each other.
    let mut known = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(measured) = known.get(&file) {
        return measured.clone();
    }
    if folder.is_some() {
        match read(&file, key) {
            Ok(Some(kept)) if kept.serves(asked, is_busy) => {
                return Measured { rates: kept.rows_per_second, was_busy: kept.was_busy, earlier: true };
            }
            Ok(_) => {}
            Err(why) => tracing::warn!("{}: {why}; the throughput is measured again", file.display()),
        }
    }
    let load = OtherLoad::start();
    let Sweep { rates, has_failed } = measure();
    let measured = Measured { rates, was_busy: load.per_core() > BUSY, earlier: false };
    known.insert(file.clone(), measured.clone());
    if folder.is_some() && !has_failed {
        let (key, asked) = (key.clone(), asked.to_vec());
        let Measured { rates: rows_per_second, was_busy, .. } = measured.clone();
        let kept = Kept { key, asked, rows_per_second, was_busy };
        let bytes = serde_json::to_vec_pretty(&kept).map_err(io::Error::other);
        if let Err(error) = bytes.and_then(|bytes| atomic::write_bytes(&file, &bytes)) {
            tracing::debug!("the throughput could not be kept in {}: {error}", file.display());
        }
    }
    measured
}

/// What a file of the cache has for a key; none: there is no file.
fn read(file: &Path, key: &Key) -> Result<Option<Kept>, String> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if kept.key != *key || !kept.is_sound() {
        return Err("it does not hold what its name says".to_owned());
    }
    Ok(Some(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(network: &str) -> Key {
        let kind = DeviceKind::Cpu { threads: 2, cores: Vec::new() };
        Key::new(network.to_owned(), &Device { name: "cpu:0".to_owned(), kind }, true)
    }

    fn swept(rates: &[(usize, f64)]) -> Sweep {
        Sweep { rates: rates.to_vec(), has_failed: false }
    }

    fn kept(key: &Key, rates: &[(usize, f64)]) -> Kept {
        let asked = vec![1, 2];
        Kept { key: key.clone(), asked, rows_per_second: rates.to_vec(), was_busy: false }
    }

    #[test]
    fn rates_are_measured_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, rates) = (folder.path().join("new"), vec![(1, 1.5), (2, 3.0)]);
        let key = key("kept");
        let first = measured(&key, &[1, 2], Some(&folder), || swept(&rates));
        assert_eq!((&first.rates, first.earlier), (&rates, false));
        assert_eq!(measured(&key, &[1, 2], Some(&folder), || unreachable!()), first);
        // As another process finds it.
        let found = read(&folder.join(key.file_name()), &key).unwrap().unwrap();
        assert_eq!(found, Kept { was_busy: found.was_busy, ..kept(&key, &rates) });
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        assert_ne!(key.file_name(), key.clone().of_workers().file_name());
    }

    #[test]
    fn a_file_of_an_earlier_run_is_used_and_a_broken_one_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (key, other) = (key("earlier"), key("other"));
        let file = folder.path().join(key.file_name());
        let write = |kept: &Kept| std::fs::write(&file, serde_json::to_vec(kept).unwrap()).unwrap();
        write(&kept(&key, &[(1, 2.5)]));
        let found = measured(&key, &[1, 2], Some(folder.path()), || unreachable!());
        assert_eq!(found, Measured { rates: vec![(1, 2.5)], was_busy: false, earlier: true });
        for broken in [
            &|| std::fs::write(&file, "{\"key\": 1").unwrap() as (),
            &|| write(&kept(&other, &[(1, 2.5)])),
            &|| write(&kept(&key, &[(1, -1.0)])),
            &|| write(&kept(&key, &[])),
            &|| write(&kept(&key, &[(2, 1.0), (1, 1.0)])),
            &|| write(&kept(&key, &[(1, 1e300)])),
        ] as [&dyn Fn(); 6]
        {
            broken();
            assert!(read(&file, &key).is_err());
        }
        assert_eq!(measured(&key, &[1, 2], Some(folder.path()), || swept(&[(1, 7.0)])).rates, [(1, 7.0)]);
        assert_eq!(read(&file, &key).unwrap().unwrap().rows_per_second, [(1, 7.0)]);
    }

    #[test]
    fn what_failed_is_used_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        for (name, rates) in [("cut off", vec![(1, 3.0)]), ("nothing", Rates::new())] {
            let sweep = || Sweep { rates: rates.clone(), has_failed: true };
            assert_eq!(measured(&key(name), &[1, 2], Some(folder.path()), sweep).rates, rates);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_little_memory_left_out_is_measured_when_there_is_more() {
        let little = Kept { asked: vec![1], ..kept(&key("little"), &[(1, 2.0)]) };
        let idle = || false;
        assert!(little.serves(&[1], idle) && !little.serves(&[1, 2], idle));
        let much = Kept { asked: vec![1, 2, 4], ..little };
        // What there was no time for then would take too long now.
        assert!(much.serves(&[1, 2, 4], idle) && much.serves(&[1], idle));
    }

    #[test]
    fn what_was_measured_beside_other_load_is_measured_again_once_there_is_none() {
        let busy = Kept { was_busy: true, ..kept(&key("busy"), &[(1, 2.0)]) };
        assert!(busy.serves(&[1], || true) && !busy.serves(&[1], || false));
    }

    #[test]
    fn another_build_or_use_is_another_measurement() {
        let key = key("one");
        assert!(key.program.len() > env!("CARGO_PKG_VERSION").len() + 10, "{}", key.program);
        for other in [
            Key { program: "0.1.0 7 8".to_owned(), ..key.clone() },
            Key { has_pull_backs: false, ..key.clone() },
            Key { threads: 1, ..key.clone() },
        ] {
            assert_ne!(other.file_name(), key.file_name());
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        std::fs::write(&file, "").unwrap();
        for (name, folder) in [("no folder", None), ("a file in its place", Some(&*file))] {
            assert_eq!(measured(&key(name), &[1], folder, || swept(&[(1, 2.0)])).rates, [(1, 2.0)]);
            assert_eq!(measured(&key(name), &[1], folder, || unreachable!()).rates, [(1, 2.0)]);
        }
    }
}
