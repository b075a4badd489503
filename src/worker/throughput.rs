//! How many samples a device solves at a time, and by how many workers a CPU's cores, from how fast calls of so many rows are.
//!
//! A network's calls are timed once per machine (a few seconds at the most), with their pull-backs, and the rates kept in
//! the user's cache folder. Only speed depends on the result: a row's numbers do not depend on the rows beside it.

mod kept;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::time::Instant;

use self::kept::{Key, Measured, Rates, measured};
use super::assembly::{Assembly, Subject};
use super::cuda;
use super::device::{self, Device, DeviceKind};
use super::engine::{Field, MemoryBudget};
use super::protocol::{Layouts, SlotChoice, Work};
use crate::flow::{Cond, Rows, VelocityField};
use crate::user_cache;

/// Slots per thread of a CPU worker whose methods call no network: what they do goes on side by side.
const SLOTS_PER_THREAD: usize = 4;

/// A call of more rows than this, and than two for each thread, is not timed.
const MOST_ROWS: usize = 64;

/// Rates that differ by less than this count as equal.
const TOLERANCE: f64 = 0.03;

/// Seconds that all calls may take together; the one that ends them may take longer.
const ALL_SECONDS: f64 = 3.0;

/// Seconds of calls of one size.
const EACH_SECONDS: f64 = 0.25;

/// The slots of a worker that was not told how many, and why so many; `announce` is called if that takes seconds.
pub(super) fn choose(
    assembly: &Assembly,
    device: &Device,
    fields: &mut [Field],
    (memory, free): (MemoryBudget, u64),
    work: &Work,
    announce: impl FnOnce(),
) -> (usize, SlotChoice) {
    let step = match &device.kind {
        DeviceKind::Cpu { threads, .. } => *threads,
        DeviceKind::Cuda { .. } => cuda::BATCH,
        DeviceKind::Sim { .. } => return (SLOTS_PER_THREAD, unmeasured("a stand-in for a GPU")),
    };
    let Some(subject) = largest(assembly, fields, work) else {
        return (SLOTS_PER_THREAD * step, unmeasured("no network is called"));
    };
    let field = &mut fields[subject.field];
    let calls_kept = assembly.calls_kept(work);
    let Room { rows: most, .. } = Room::new((memory, free), field.tape_bytes_per_row(), calls_kept, step);
    if work.units <= step.min(most) {
        return (work.units, unmeasured("as many as there are samples left"));
    }
    let key = Key::new(subject.identity, device, calls_kept > 0);
    let sizes: Vec<usize> = sizes(step).into_iter().filter(|rows| *rows <= most).collect();
    let Measured { rates, was_busy, earlier } =
        measured(&key, &sizes, user_cache::folder().as_deref(), || {
            announce();
            sweep(&sizes, Statistic::Fastest, |rows| {
                seconds(field.as_mut(), subject.cond, rows, key.has_pull_backs)
            })
        });
    match pick(&rates, step, most) {
        Some(slots) => {
            let has_pull_backs = key.has_pull_backs;
            (slots, SlotChoice::Measured { rates, has_pull_backs, earlier, was_busy, room: most })
        }
        // More than one row for each thread brings little where calls are long.
        None => (step.min(most), unmeasured("a call takes too long to be timed, or too much memory")),
    }
}

/// The network with the largest tape.
fn largest(assembly: &Assembly, fields: &[Field], work: &Work) -> Option<Subject> {
    assembly.subjects(work).into_iter().max_by_key(|subject| fields[subject.field].tape_bytes_per_row())
}

/// How fast a CPU's threads are as those of one worker, and each as a worker of its own; none for a device of one thread,
/// and where that cannot be measured or would take the choice between tape and recompute another way. `announce` is called
/// if that takes seconds.
pub fn layouts(
    assembly: &Assembly,
    device: &Device,
    memory: Option<MemoryBudget>,
    work: &Work,
    announce: impl FnOnce(),
) -> Option<Layouts> {
    let DeviceKind::Cpu { threads: count @ 2.., .. } = device.kind else { return None };
    let apart = device::split(device);
    let mut fields = assembly.fields(device).ok()?;
    let subject = largest(assembly, &fields, work)?;
    let (tape, calls_kept) = (fields[subject.field].tape_bytes_per_row(), assembly.calls_kept(work));
    let has_pull_backs = calls_kept > 0;
    let room = |workers: usize, step| {
        let free = device::free_memory() / 2 / workers as u64;
        Room::new((memory.unwrap_or(MemoryBudget::Bytes(free)), free), tape, calls_kept, step)
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
        let call = |rows| seconds(field.as_mut(), subject.cond, rows, has_pull_backs);
        let rates = super::thread_pool(device)
            .ok()?
            .install(|| sweep(&sizes_together, Statistic::Mean, call))
            .complete()?;
        // Calls that are too slow to be timed are that for the workers of one thread too.
        let Some(together) = best(&rates, count, together_room.rows) else { return Some(Rates::new()) };
        let rates = side_by_side(assembly, &apart, &subject, &sizes_apart, has_pull_backs)?;
        let apart = best(&rates, 1, apart_room.rows);
        Some(apart.map_or_else(Rates::new, |apart| vec![(1, together), (count, apart)]))
    };
    let key = Key::new(subject.identity.clone(), device, has_pull_backs).of_workers();
    let asked = [sizes_together.clone(), sizes_apart.clone()].concat();
    let Measured { rates, was_busy, earlier } =
        measured(&key, &asked, user_cache::folder().as_deref(), || {
            announce();
            both().map_or_else(Sweep::failed, |rates| Sweep { rates, has_failed: false })
        });
    let rate = |workers| rates.iter().find(|(of, _)| *of == workers).map(|(_, rate)| *rate);
    Some(Layouts {
        workers: count,
        together: rate(1)?,
        apart: rate(count)?,
        was_busy,
        earlier,
        has_pull_backs,
    })
}

/// Rates of all these devices together, at work at the same time, by rows in each one's calls.
fn side_by_side(
    assembly: &Assembly,
    devices: &[Device],
    subject: &Subject,
    sizes: &[usize],
    has_pull_backs: bool,
) -> Option<Rates> {
    let ready = |device| Some((super::thread_pool(device).ok()?, assembly.fields(device).ok()?));
    let workers: Vec<_> = devices.iter().map(ready).collect::<Option<_>>()?;
    let begin = Barrier::new(workers.len());
    let rates: Option<Vec<Rates>> = std::thread::scope(|scope| {
        let time = |(pool, mut fields): (rayon::ThreadPool, Vec<Field>)| {
            let begin = &begin;
            scope.spawn(move || {
                begin.wait();
                let field = &mut fields[subject.field];
                let call = |rows| seconds(field.as_mut(), subject.cond, rows, has_pull_backs);
                // Workers that take turns on a core each have calls that nothing disturbed: their fastest say nothing.
                pool.install(|| sweep(sizes, Statistic::Mean, call))
            })
        };
        let threads: Vec<_> = workers.into_iter().map(time).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("a call that panics is caught"));
        joined.map(Sweep::complete).collect()
    });
    Some(sum(&rates?))
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

/// Of the times of several calls.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Statistic {
    /// What else the machine does makes a call slower.
    Fastest,
    /// What is done in a time.
    Mean,
}

/// Rates of calls of several sizes.
#[derive(Debug, Clone, PartialEq)]
struct Sweep {
    rates: Rates,
    /// Whether a call failed: with more memory, or another neighbour on the GPU, it may not.
    has_failed: bool,
}

impl Sweep {
    fn failed() -> Self {
        Self { rates: Rates::new(), has_failed: true }
    }

    /// The rates, if no call failed.
    fn complete(self) -> Option<Rates> {
        (!self.has_failed).then_some(self.rates)
    }
}

/// Rates of calls of these sizes, the smaller first, as far as time goes, of the first in any case; `seconds` makes one call.
fn sweep(sizes: &[usize], statistic: Statistic, mut seconds: impl FnMut(usize) -> Option<f64>) -> Sweep {
    let (mut rates, mut left) = (Rates::new(), ALL_SECONDS);
    for &rows in sizes {
        let expected = rates.last().map_or(0.0, |(_, rate)| rows as f64 / rate);
        if 2.0 * expected > left {
            break;
        }
        // The first makes the buffers.
        let Some(first) = seconds(rows) else { return Sweep { rates, has_failed: true } };
        left -= first;
        let (mut least, mut spent, mut calls) = (f64::INFINITY, 0.0, 0.0);
        while spent < EACH_SECONDS && spent < left {
            let Some(again) = seconds(rows) else { return Sweep { rates, has_failed: true } };
            least = least.min(again);
            spent += again;
            calls += 1.0;
        }
        left -= spent;
        let call = match statistic {
            // There was no time for another: buffers and all, that is what a call takes.
            _ if calls == 0.0 => first,
            Statistic::Fastest => least,
            Statistic::Mean => spent / calls,
        };
        rates.push((rows, rows as f64 / call.max(1e-9)));
    }
    Sweep { rates, has_failed: false }
}

/// Seconds of a call of so many rows, and its pull-back if there are some; none where it fails, which is then told to the
/// samples that need it.
fn seconds(field: &mut dyn VelocityField<f32>, cond: Cond, rows: usize, has_pull_backs: bool) -> Option<f64> {
    let x: Vec<f32> = (0..rows * field.dim()).map(|i| libm::sinf(i as f32)).collect();
    let (t, cond, mut out, mut gradient) = (vec![0.5; rows], vec![cond; rows], x.clone(), x.clone());
    let clock = Instant::now();
    let call = || -> Result<(), crate::flow::FieldError> {
        if !has_pull_backs {
            return field.velocity(Rows { t: &t, x: &x, cond: &cond }, &mut out);
        }
        let tape = field.velocity_taped(Rows { t: &t, x: &x, cond: &cond }, &mut out)?;
        field.pull_back(tape, &x, &mut gradient)
    };
    catch_unwind(AssertUnwindSafe(call)).ok()?.ok()?;
    Some(clock.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let sizes = [1, 2, 4, 8, 16];
        let rows = |sweep: Sweep| -> (Vec<usize>, bool) {
            (sweep.rates.into_iter().map(|(rows, _)| rows).collect(), sweep.has_failed)
        };
        assert_eq!(rows(sweep(&sizes, Statistic::Fastest, linear(0.001))), (sizes.into(), false));
        assert_eq!(rows(sweep(&sizes, Statistic::Fastest, linear(0.3))), (vec![1, 2], false));
        assert_eq!(sweep(&[1, 2, 4], Statistic::Mean, linear(4.0)).complete(), Some(vec![(1, 0.25)]));
        let narrow = |rows: usize| (rows <= 4).then_some(0.01);
        let failed = sweep(&sizes, Statistic::Fastest, narrow);
        assert_eq!(failed.clone().complete(), None);
        assert_eq!(rows(failed), (vec![1, 2, 4], true));
    }

    #[test]
    fn the_fastest_call_counts_or_all_of_them() {
        let rates = |statistic| {
            let mut calls = 0;
            let sweep = sweep(&[2], statistic, |_| {
                calls += 1;
                Some(if calls == 3 { 0.05 } else { 0.1 })
            });
            sweep.rates[0].1
        };
        assert!((rates(Statistic::Fastest) - 40.0).abs() < 1e-9);
        // The first makes buffers; 0.1, 0.05 and 0.1 follow.
        assert!((rates(Statistic::Mean) - 24.0).abs() < 1e-9);
    }
}
