//! How many samples a device solves at a time, and by how many workers a CPU's cores, from how fast calls of so many rows are.
//!
//! A network's calls are timed once per machine (a few seconds at the most), with their pull-backs, and the rates kept in
//! the user's cache folder. Only speed depends on the result: a row's numbers do not depend on the rows beside it.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::assembly::{Assembly, Subject};
use super::cuda;
use super::device::{self, Device, DeviceKind};
use super::engine::{Field, MemoryBudget};
use super::protocol::{Layouts, SlotChoice};
use crate::atomic;
use crate::flow::{Cond, Rows, VelocityField};
use crate::net::kernel;
use crate::plan::identity::NUMERICS;
use crate::user_cache;

/// Raised whenever what is measured, or the file of it, changes.
const VERSION: u32 = 1;

/// Slots per thread of a CPU worker where nothing is measured: enough that a batch rarely leaves a thread without a row,
/// few enough that the last samples are spread over the workers.
const SLOTS_PER_THREAD: usize = 4;

/// A call of more rows than this, and than two for each thread, is not timed.
const MOST_ROWS: usize = 64;

/// Rates that differ by less than this count as equal.
const TOLERANCE: f64 = 0.03;

/// Seconds that all calls may take together; the one that ends them may take longer.
const ALL_SECONDS: f64 = 3.0;

/// Seconds of calls of one size.
const EACH_SECONDS: f64 = 0.25;

/// A machine with more load than this per core, beside us, is busy: what is measured on it is measured again once it is idle.
const BUSY: f64 = 0.3;

/// Rows per second in calls of so many rows, or of so many workers.
type Rates = Vec<(usize, f64)>;

/// Rates that were measured by this process: workers that share a cache folder, or have none, do not measure twice.
static MEASURED: Mutex<BTreeMap<PathBuf, Rates>> = Mutex::new(BTreeMap::new());

/// The slots of a worker that was not told how many, and why so many.
pub(super) fn choose(
    assembly: &Assembly,
    device: &Device,
    fields: &mut [Field],
    (memory, free): (MemoryBudget, u64),
) -> (usize, SlotChoice) {
    let step = match &device.kind {
        DeviceKind::Cpu { threads, .. } => *threads,
        DeviceKind::Cuda { .. } => cuda::BATCH,
        DeviceKind::Sim { .. } => return (SLOTS_PER_THREAD, unmeasured("a stand-in for a GPU")),
    };
    let usual = match &device.kind {
        DeviceKind::Cuda { .. } => cuda::BATCH,
        _ => SLOTS_PER_THREAD * step,
    };
    let Some(subject) = largest(assembly, fields) else {
        return (usual, unmeasured("no network is called"));
    };
    let field = &mut fields[subject.field];
    let Room { rows: most, .. } =
        Room::new((memory, free), field.tape_bytes_per_row(), assembly.calls_kept(), step);
    let key = Key::new(subject.identity, device);
    let sizes: Vec<usize> = sizes(step).into_iter().filter(|rows| *rows <= most).collect();
    let (rates, earlier) = measured(&key, &sizes, user_cache::folder().as_deref(), || {
        sweep(&sizes, |rows| seconds(field.as_mut(), subject.cond, rows))
    });
    match pick(&rates, step, most) {
        Some(slots) => (slots, SlotChoice::Measured { rates, earlier, room: most }),
        None => (usual.min(most), unmeasured("a call takes too long to be timed, or too much memory")),
    }
}

/// The network with the largest tape.
fn largest(assembly: &Assembly, fields: &[Field]) -> Option<Subject> {
    assembly.subjects().into_iter().max_by_key(|subject| fields[subject.field].tape_bytes_per_row())
}

/// How fast a CPU's threads are as those of one worker, and each as a worker of its own; none for a device of one thread,
/// and where that cannot be measured or would take the choice between tape and recompute another way.
pub fn layouts(assembly: &Assembly, device: &Device, memory: Option<MemoryBudget>) -> Option<Layouts> {
    let DeviceKind::Cpu { threads: count @ 2.., .. } = device.kind else { return None };
    let apart = device::split(device);
    let mut fields = assembly.fields(device).ok()?;
    let subject = largest(assembly, &fields)?;
    let tape = fields[subject.field].tape_bytes_per_row();
    let room = |workers: usize, step| {
        let free = device::free_memory() / 2 / workers as u64;
        Room::new((memory.unwrap_or(MemoryBudget::Bytes(free)), free), tape, assembly.calls_kept(), step)
    };
    let (together_room, apart_room) = (room(1, count), room(count, 1));
    if together_room.is_kept != apart_room.is_kept || !apart_room.is_there {
        return None;
    }
    let within = |sizes: Vec<usize>, room: Room| -> Vec<usize> {
        sizes.into_iter().filter(|rows| *rows <= room.rows).collect()
    };
    let (sizes_together, sizes_apart) = (within(sizes(count), together_room), within(sizes(1), apart_room));
    // Both at once: what else the machine does may have changed since the slots were measured.
    let mut both = || {
        let field = &mut fields[subject.field];
        let time = || sweep(&sizes_together, |rows| seconds(field.as_mut(), subject.cond, rows));
        let rates = super::thread_pool(device).ok()?.install(time);
        let together = best(&rates, count, together_room.rows)?;
        let rates = side_by_side(assembly, &apart, &subject, &sizes_apart)?;
        Some(vec![(1, together), (count, best(&rates, 1, apart_room.rows)?)])
    };
    let key = Key { of: "workers".to_owned(), ..Key::new(subject.identity.clone(), device) };
    let asked = [sizes_together.clone(), sizes_apart.clone()].concat();
    let folder = user_cache::folder();
    let (rates, _) = measured(&key, &asked, folder.as_deref(), || both().unwrap_or_default());
    let rate = |workers| rates.iter().find(|(of, _)| *of == workers).map(|(_, rate)| *rate);
    Some(Layouts { workers: count, together: rate(1)?, apart: rate(count)? })
}

/// Rates of all these devices together, at work at the same time, by rows in each one's calls.
fn side_by_side(
    assembly: &Assembly,
    devices: &[Device],
    subject: &Subject,
    sizes: &[usize],
) -> Option<Rates> {
    let ready = |device| Some((super::thread_pool(device).ok()?, assembly.fields(device).ok()?));
    let workers: Vec<_> = devices.iter().map(ready).collect::<Option<_>>()?;
    let begin = Barrier::new(workers.len());
    let rates: Vec<Rates> = std::thread::scope(|scope| {
        let time = |(pool, mut fields): (rayon::ThreadPool, Vec<Field>)| {
            let begin = &begin;
            scope.spawn(move || {
                begin.wait();
                let field = &mut fields[subject.field];
                pool.install(|| sweep(sizes, |rows| seconds(field.as_mut(), subject.cond, rows)))
            })
        };
        let threads: Vec<_> = workers.into_iter().map(time).collect();
        threads.into_iter().map(|thread| thread.join().expect("a call that panics is caught")).collect()
    });
    Some(sum(&rates))
}

/// The sums of rates, of the sizes that all have.
fn sum(rates: &[Rates]) -> Rates {
    let common = rates.iter().map(Vec::len).min().unwrap_or(0);
    (0..common).map(|i| (rates[0][i].0, rates.iter().map(|rates| rates[i].1).sum())).collect()
}

fn unmeasured(why: &str) -> SlotChoice {
    SlotChoice::Unmeasured(why.to_owned())
}

/// Rows that there is memory for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Room {
    /// At least one.
    rows: usize,
    /// Whether it is for the tapes of whole solves, else for that of one call, which is then made again.
    is_kept: bool,
    /// Whether there is room for one row at all.
    is_there: bool,
}

impl Room {
    /// Room for whole solves of `calls` calls where `step` rows have it.
    fn new((memory, free): (MemoryBudget, u64), tape: usize, calls: u32, step: usize) -> Self {
        let bytes = if let MemoryBudget::Bytes(budget) = memory { budget } else { free };
        let room = |calls: u32| (bytes / (u64::from(calls.max(1)) * tape.max(1) as u64)) as usize;
        let whole = room(calls);
        let is_kept = whole >= step && memory != MemoryBudget::Recompute || memory == MemoryBudget::Tape;
        let rows = if is_kept { whole } else { room(1) };
        Self { rows: rows.max(1), is_kept, is_there: rows > 0 }
    }
}

/// The sizes of calls that are timed, ascending: one row, and multiples of what the device takes at a time.
fn sizes(step: usize) -> Vec<usize> {
    let most = MOST_ROWS.max(2 * step);
    let mut sizes: Vec<usize> = [1, step, 2 * step, 4 * step, 8 * step].into();
    sizes.retain(|rows| *rows <= most);
    sizes.dedup();
    sizes
}

/// The fewest rows that are as fast as any within `most`; none where calls of `step` rows were not timed. They are `step` at
/// least where there is memory for so many, even if the threads share one row as fast: what methods do on the host beside
/// the calls goes on side by side for different samples only.
fn pick(rates: &[(usize, f64)], step: usize, most: usize) -> Option<usize> {
    let best = best(rates, step, most)?;
    let allowed = rates.iter().filter(|(rows, _)| (step.min(most)..=most).contains(rows));
    allowed.filter(|(_, rate)| *rate >= (1.0 - TOLERANCE) * best).map(|(rows, _)| *rows).min()
}

/// The best rate within `most` rows, and of `step` at least where there is memory for so many.
fn best(rates: &[(usize, f64)], step: usize, most: usize) -> Option<f64> {
    let allowed = rates.iter().filter(|(rows, _)| (step.min(most)..=most).contains(rows));
    allowed.map(|(_, rate)| *rate).max_by(f64::total_cmp)
}

/// Rates of calls of these sizes, the smaller first, as far as time and memory go, of the first in any case; `seconds` makes
/// one call.
fn sweep(sizes: &[usize], mut seconds: impl FnMut(usize) -> Option<f64>) -> Rates {
    let (mut rates, mut left) = (Rates::new(), ALL_SECONDS);
    for &rows in sizes {
        let expected = rates.last().map_or(0.0, |(_, rate)| rows as f64 / rate);
        if 2.0 * expected > left {
            break;
        }
        // The first makes the buffers.
        let Some(first) = seconds(rows) else { break };
        left -= first;
        let (mut least, mut spent) = (f64::INFINITY, 0.0);
        while spent < EACH_SECONDS && spent < left {
            let Some(again) = seconds(rows) else { return rates };
            // Whatever else the machine does makes a call slower.
            least = least.min(again);
            spent += again;
        }
        left -= spent;
        // There was no time for another: buffers and all, that is what a call takes.
        let least = least.min(if spent > 0.0 { f64::INFINITY } else { first });
        rates.push((rows, rows as f64 / least.max(1e-9)));
    }
    rates
}

/// Seconds of a call of so many rows and its pull-back; none where it fails, which is then told to the samples that need it.
fn seconds(field: &mut dyn VelocityField<f32>, cond: Cond, rows: usize) -> Option<f64> {
    let x: Vec<f32> = (0..rows * field.dim()).map(|i| libm::sinf(i as f32)).collect();
    let (t, cond, mut out, mut gradient) = (vec![0.5; rows], vec![cond; rows], x.clone(), x.clone());
    let clock = Instant::now();
    let call = || -> Result<(), crate::flow::FieldError> {
        let tape = field.velocity_taped(Rows { t: &t, x: &x, cond: &cond }, &mut out)?;
        field.pull_back(tape, &x, &mut gradient)
    };
    catch_unwind(AssertUnwindSafe(call)).ok()?.ok()?;
    Some(clock.elapsed().as_secs_f64())
}

/// What the rates depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Key {
    version: u32,
    dflow: String,
    numerics: u32,
    /// Identity of the model: weights, network, path.
    network: String,
    instruction_set: String,
    device: String,
    threads: usize,
    /// Rates of `rows` in a call, or of `workers` that the threads are shared out among.
    of: String,
}

impl Key {
    fn new(network: String, device: &Device) -> Self {
        let (device, threads) = match &device.kind {
            DeviceKind::Cpu { threads, .. } => (device::cpu_model(), *threads),
            DeviceKind::Cuda { visible, .. } | DeviceKind::Sim { visible } => {
                (format!("GPU {visible} of {}", device::host_name()), 0)
            }
        };
        Self {
            version: VERSION,
            dflow: env!("CARGO_PKG_VERSION").to_owned(),
            numerics: NUMERICS,
            network,
            instruction_set: kernel::instruction_set().to_owned(),
            device,
            threads,
            of: "rows".to_owned(),
        }
    }

    fn file_name(&self) -> String {
        let key = serde_json::to_vec(self).unwrap_or_default();
        format!("throughput-{}.json", &blake3::hash(&key).to_hex()[..32])
    }
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
    fn serves(&self, asked: &[usize]) -> bool {
        let had_memory = asked.iter().all(|rows| self.asked.contains(rows));
        had_memory && (!self.was_busy || device::load_per_core() > BUSY)
    }
}

/// The rates of a key, and whether they are of an earlier run: those in the folder, if it had memory for the sizes that are
/// asked for, else those that `measure` gives, which are kept where that is possible.
fn measured(
    key: &Key,
    asked: &[usize],
    folder: Option<&Path>,
    measure: impl FnOnce() -> Rates,
) -> (Rates, bool) {
    let file = folder.unwrap_or(Path::new("")).join(key.file_name());
    // Held meanwhile: two workers of one machine would disturb each other.
    let mut known = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(rates) = known.get(&file) {
        return (rates.clone(), false);
    }
    if folder.is_some() {
        match read(&file, key) {
            Ok(Some(kept)) if kept.serves(asked) => return (kept.rows_per_second, true),
            Ok(_) => {}
            Err(why) => tracing::warn!("{}: {why}; the throughput is measured again", file.display()),
        }
    }
    let was_busy = device::load_per_core() > BUSY;
    let rates = measure();
    known.insert(file.clone(), rates.clone());
    if folder.is_some() {
        let (key, asked) = (key.clone(), asked.to_vec());
        let kept = Kept { key, asked, rows_per_second: rates.clone(), was_busy };
        let bytes = serde_json::to_vec_pretty(&kept).map_err(io::Error::other);
        if let Err(error) = bytes.and_then(|bytes| atomic::write_bytes(&file, &bytes)) {
            tracing::debug!("the throughput could not be kept in {}: {error}", file.display());
        }
    }
    (rates, false)
}

/// What a file of the cache has for a key; none: there is no file.
fn read(file: &Path, key: &Key) -> Result<Option<Kept>, String> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let is_rate = |(rows, rate): &(usize, f64)| *rows > 0 && rate.is_finite() && *rate > 0.0;
    let rates = &kept.rows_per_second;
    if kept.key != *key || !rates.iter().all(is_rate) {
        return Err("it does not hold what its name says".to_owned());
    }
    Ok(Some(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(network: &str) -> Key {
        let kind = DeviceKind::Cpu { threads: 2, cores: Vec::new() };
        Key::new(network.to_owned(), &Device { name: "cpu:0".to_owned(), kind })
    }

    #[test]
    fn sizes_are_one_row_and_multiples_of_the_threads() {
        assert_eq!(sizes(1), [1, 2, 4, 8]);
        assert_eq!(sizes(2), [1, 2, 4, 8, 16]);
        assert_eq!(sizes(16), [1, 16, 32, 64]);
        assert_eq!(sizes(96), [1, 96, 192]);
    }

    #[test]
    fn the_fewest_rows_are_taken_that_are_as_fast_as_any() {
        let rates = [(1, 50.0), (2, 97.5), (4, 100.0), (8, 90.0)];
        assert_eq!(pick(&rates, 2, 8), Some(2));
        assert_eq!(
            pick(&[(1, 50.0), (2, 96.0), (4, 100.0)], 2, 8),
            Some(4),
            "4 % are more than the tolerance"
        );
        assert_eq!(pick(&[(1, 100.0), (2, 99.0), (4, 99.0)], 2, 8), Some(2), "a row for each thread");
        // Memory.
        assert_eq!(pick(&[(1, 50.0), (2, 60.0), (4, 100.0)], 2, 3), Some(2));
        assert_eq!(pick(&rates, 2, 1), Some(1));
        // One row alone says nothing of batches.
        assert_eq!(pick(&rates[..1], 2, 8), None);
        assert_eq!(pick(&[], 1, 8), None);
    }

    #[test]
    fn memory_bounds_whole_solves_where_their_tapes_fit_and_calls_elsewhere() {
        let room = |memory, free, step| {
            let Room { rows, is_kept, .. } = Room::new((memory, free), 10, 6, step);
            (rows, is_kept)
        };
        assert_eq!(room(MemoryBudget::Bytes(600), 0, 2), (10, true));
        assert_eq!(room(MemoryBudget::Bytes(120), 0, 2), (2, true));
        // Two rows do not fit: calls are repeated, with one tape each.
        assert_eq!(room(MemoryBudget::Bytes(119), 0, 2), (11, false));
        assert_eq!(room(MemoryBudget::Bytes(5), 0, 2), (1, false));
        assert!(!Room::new((MemoryBudget::Bytes(5), 0), 10, 6, 2).is_there);
        assert!(Room::new((MemoryBudget::Bytes(10), 0), 10, 6, 2).is_there);
        assert_eq!(room(MemoryBudget::Tape, 60, 2), (1, true));
        assert_eq!(room(MemoryBudget::Recompute, 600, 2), (60, false));
        // A closed form has no tape.
        assert_eq!(Room::new((MemoryBudget::Bytes(7), 0), 0, 0, 2).rows, 7);
    }

    #[test]
    fn workers_at_the_same_time_add_up_where_all_were_timed() {
        let rates = [vec![(1, 10.0), (2, 15.0), (4, 20.0)], vec![(1, 11.0), (2, 13.0)]];
        assert_eq!(sum(&rates), [(1, 21.0), (2, 28.0)]);
        assert_eq!(sum(&[vec![(1, 10.0)], Rates::new()]), Rates::new());
        assert_eq!(best(&sum(&rates), 1, 1), Some(21.0));
        assert_eq!(best(&[(1, 9.0), (2, 8.0)], 2, 4), Some(8.0), "a row for each thread");
        assert_eq!(best(&[], 1, 4), None);
    }

    #[test]
    fn a_sweep_ends_where_time_or_memory_do() {
        let linear = |per_row: f64| move |rows: usize| Some(rows as f64 * per_row);
        let rows = |rates: Rates| rates.into_iter().map(|(rows, _)| rows).collect::<Vec<_>>();
        assert_eq!(rows(sweep(&[1, 2, 4, 8, 16], linear(0.001))), [1, 2, 4, 8, 16]);
        assert_eq!(rows(sweep(&[1, 2, 4, 8, 16], linear(0.3))), [1, 2]);
        assert_eq!(sweep(&[1, 2, 4], linear(4.0)), [(1, 0.25)]);
        let narrow = |rows: usize| (rows <= 4).then_some(0.01);
        assert_eq!(rows(sweep(&[1, 2, 4, 8, 16], narrow)), [1, 2, 4]);
        // The fastest of several calls counts.
        let mut calls = 0;
        let rates = sweep(&[2], |_| {
            calls += 1;
            Some(if calls == 3 { 0.02 } else { 0.1 })
        });
        assert_eq!(rates, [(2, 100.0)]);
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
        assert_eq!(measured(&key, &[1, 2], Some(&folder), || rates.clone()), (rates.clone(), false));
        assert_eq!(measured(&key, &[1, 2], Some(&folder), || unreachable!()), (rates.clone(), false));
        // As another process finds it.
        let found = read(&folder.join(key.file_name()), &key).unwrap().unwrap();
        assert_eq!(found, Kept { was_busy: found.was_busy, ..kept(&key, &rates) });
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        assert_ne!(key.file_name(), Key { of: "workers".to_owned(), ..key }.file_name());
    }

    #[test]
    fn a_file_of_an_earlier_run_is_used_and_a_broken_one_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (key, other) = (key("earlier"), key("other"));
        let file = folder.path().join(key.file_name());
        let write = |kept: &Kept| std::fs::write(&file, serde_json::to_vec(kept).unwrap()).unwrap();
        write(&kept(&key, &[(1, 2.5)]));
        assert_eq!(measured(&key, &[1, 2], Some(folder.path()), || unreachable!()), (vec![(1, 2.5)], true));
        for broken in [
            &|| std::fs::write(&file, "{\"key\": 1").unwrap() as (),
            &|| write(&kept(&other, &[(1, 2.5)])),
            &|| write(&kept(&key, &[(1, -1.0)])),
        ] as [&dyn Fn(); 3]
        {
            broken();
            assert!(read(&file, &key).is_err());
        }
        assert_eq!(measured(&key, &[1, 2], Some(folder.path()), || vec![(1, 7.0)]), (vec![(1, 7.0)], false));
        assert_eq!(read(&file, &key).unwrap().unwrap().rows_per_second, [(1, 7.0)]);
    }

    #[test]
    fn what_little_memory_left_out_is_measured_when_there_is_more() {
        let little = Kept { asked: vec![1], ..kept(&key("little"), &[(1, 2.0)]) };
        assert!(little.serves(&[1]) && !little.serves(&[1, 2]));
        let much = Kept { asked: vec![1, 2, 4], ..little };
        // What there was no time for then would take too long now.
        assert!(much.serves(&[1, 2, 4]) && much.serves(&[1]));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        std::fs::write(&file, "").unwrap();
        for (name, folder) in [("no folder", None), ("a file in its place", Some(&*file))] {
            assert_eq!(measured(&key(name), &[1], folder, || vec![(1, 2.0)]), (vec![(1, 2.0)], false));
            assert_eq!(measured(&key(name), &[1], folder, || unreachable!()).0, [(1, 2.0)]);
        }
    }
}
