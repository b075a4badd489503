//! Cutting what is left to do into chunks, one array task each.
//!
//! Guided self-scheduling: samples go longest expected first, and a chunk is never longer than the target, nor than a
//! share of what is still to be handed out. So the first chunks are of the target duration and the last ones short, and
//! tasks that run side by side end together although nobody hands out work while they run.

use serde::{Deserialize, Serialize};

use crate::plan::Unit;

/// While a share of what remains goes into the next chunk, this many chunks remain for every task that runs at once.
const SHARES: f64 = 2.0;
/// No chunk is made shorter than this many seconds for balance alone: a task starts the program, loads weights and, after
/// a requeue, waits for the scheduler.
const LEAST_SECONDS: f64 = 120.0;
/// Nor shorter than this part of the target.
const LEAST_SHARE: f64 = 1.0 / 8.0;

/// Above so many chunks the target grows: Slurm keeps 10,000 jobs by default, and every task lists the files of all.
const MOST: f64 = 5000.0;

/// What chunks are cut for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizing {
    /// Seconds that a chunk should take, unless that made too many; above 0.
    pub target: f64,
    /// Workers of one task: devices that solve at the same time; at least 1.
    pub workers: usize,
    /// Tasks that run at once, known or assumed; at least 1.
    pub at_once: usize,
}

/// Samples of one cell that follow each other: `count` from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "[usize; 3]", into = "[usize; 3]")]
pub struct Stretch {
    /// Index of the cell.
    pub cell: usize,
    /// Index of the first sample.
    pub first: usize,
    /// Number of samples; at least 1.
    pub count: usize,
}

impl From<[usize; 3]> for Stretch {
    fn from([cell, first, count]: [usize; 3]) -> Self {
        Self { cell, first, count }
    }
}

impl From<Stretch> for [usize; 3] {
    fn from(Stretch { cell, first, count }: Stretch) -> Self {
        [cell, first, count]
    }
}

impl Stretch {
    /// Its units, by the indices of the cells and samples that it counts in.
    pub fn units(self) -> impl Iterator<Item = Unit> {
        (0..self.count).map(move |i| Unit { cell: self.cell, sample: self.first + i })
    }
}

/// One array task's samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Expected seconds of one device for all of it.
    pub seconds: f64,
    /// The samples, longest expected first.
    pub units: Vec<Stretch>,
    /// Names of files in `checkpoints/` that held some of its solves when it was submitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<String>,
}

impl Chunk {
    fn push(&mut self, unit: Unit, seconds: f64) {
        self.seconds += seconds;
        match self.units.last_mut() {
            Some(last) if last.cell == unit.cell && last.first + last.count == unit.sample => last.count += 1,
            _ => self.units.push(Stretch { cell: unit.cell, first: unit.sample, count: 1 }),
        }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.units.iter().map(|stretch| stretch.count).sum()
    }

    /// Whether it holds none; a chunk that was cut never does.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }
}

/// Cuts `units` into chunks, the longest samples first; `seconds[cell]` is what one sample of the cell is expected to
/// take on one device. Every unit is in exactly one chunk. Where the target would make more than some thousands of
/// chunks, they are longer.
pub fn cut(units: &[Unit], seconds: &[f64], sizing: Sizing) -> Vec<Chunk> {
    let mut queue = units.to_vec();
    queue.sort_by(|a, b| seconds[b.cell].total_cmp(&seconds[a.cell]).then_with(|| a.cmp(b)));
    let mut left: f64 = queue.iter().map(|unit| seconds[unit.cell]).sum();
    let sizing = Sizing { target: sizing.target.max(left / sizing.workers as f64 / MOST), ..sizing };
    let mut chunks = Vec::new();
    let (mut chunk, mut in_chunk) = (Chunk::default(), 0);
    let mut size = sizing.capacity(left);
    for unit in queue {
        let next = seconds[unit.cell];
        // A chunk ends nearest to its size, and has as many samples for every worker: else some are idle while the
        // others solve one more, and a chunk is only a few samples long.
        let is_even = in_chunk > 0 && in_chunk % sizing.workers == 0;
        if is_even && chunk.seconds + next * sizing.workers as f64 / 2.0 > size {
            left -= chunk.seconds;
            size = sizing.capacity(left);
            chunks.push(std::mem::take(&mut chunk));
            in_chunk = 0;
        }
        chunk.push(unit, next);
        in_chunk += 1;
    }
    chunks.extend((!chunk.is_empty()).then_some(chunk));
    chunks
}

impl Sizing {
    /// Device-seconds of the next chunk when `left` are to be handed out.
    fn capacity(self, left: f64) -> f64 {
        let least = (self.target * LEAST_SHARE).max(LEAST_SECONDS).min(self.target);
        let share = left / (SHARES * self.at_once as f64);
        share.clamp(least * self.workers as f64, self.target * self.workers as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn units(counts: &[usize]) -> Vec<Unit> {
        let of = |(cell, count): (usize, &usize)| (0..*count).map(move |sample| Unit { cell, sample });
        counts.iter().enumerate().flat_map(of).collect()
    }

    /// Seconds until the last task ends, when tasks start in order as others end, and a task shares its samples among its
    /// workers one by one.
    fn makespan(chunks: &[Chunk], seconds: &[f64], sizing: Sizing, start_up: f64) -> f64 {
        let mut free = vec![0.0_f64; sizing.at_once];
        for chunk in chunks {
            let first = free.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
            let mut workers = vec![0.0_f64; sizing.workers];
            for unit in chunk.units.iter().flat_map(|stretch| stretch.units()) {
                *workers.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap() += seconds[unit.cell];
            }
            *first += start_up + workers.into_iter().fold(0.0, f64::max);
        }
        free.into_iter().fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn every_unit_is_in_exactly_one_chunk(
            counts in prop::collection::vec(0_usize..300, 1..5),
            seconds in prop::collection::vec(0.0_f64..500.0, 5),
            (target, workers, at_once) in (1.0_f64..4000.0, 1_usize..9, 1_usize..40),
        ) {
            let units = units(&counts);
            let chunks = cut(&units, &seconds, Sizing { target, workers, at_once });
            let cut: Vec<Unit> =
                chunks.iter().flat_map(|chunk| chunk.units.iter().flat_map(|s| s.units())).collect();
            prop_assert_eq!(cut.len(), units.len());
            prop_assert_eq!(cut.into_iter().collect::<BTreeSet<_>>(), units.into_iter().collect::<BTreeSet<_>>());
            prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
            let last = chunks.len().saturating_sub(1);
            prop_assert!(chunks[..last].iter().all(|chunk| chunk.len().is_multiple_of(workers)));
        }

        #[test]
        fn no_chunk_is_longer_than_the_target_by_more_than_a_sample(
            counts in prop::collection::vec(0_usize..300, 1..5),
            seconds in prop::collection::vec(0.0_f64..500.0, 5),
            (target, at_once) in (1.0_f64..4000.0, 1_usize..40),
        ) {
            let chunks = cut(&units(&counts), &seconds, Sizing { target, workers: 1, at_once });
            prop_assert!(chunks.iter().all(|chunk| chunk.seconds <= target + 500.0));
        }
    }

    #[test]
    fn the_longest_go_first_and_the_chunks_shrink() {
        let seconds = [30.0, 90.0, 0.1];
        let sizing = Sizing { target: 1800.0, workers: 1, at_once: 8 };
        let chunks = cut(&units(&[2000, 2000, 2000]), &seconds, sizing);
        assert_eq!(chunks[0].units, [Stretch { cell: 1, first: 0, count: 20 }]);
        let lengths: Vec<f64> = chunks.iter().map(|chunk| chunk.seconds).collect();
        let before_last = &lengths[..lengths.len() - 1];
        assert!(before_last.windows(2).all(|pair| pair[1] <= pair[0] + 90.0), "{lengths:?}");
        assert!(*lengths.last().unwrap() <= 1800.0 / 8.0 + 90.0, "{lengths:?}");
    }

    #[test]
    fn tasks_that_run_side_by_side_end_together() {
        // 10,000 samples of six cells on 256 devices, 60 of them with four each; starting a task takes half a minute.
        let seconds = [400.0, 300.0, 250.0, 200.0, 100.0, 3.0];
        for (workers, at_once) in [(4, 64), (1, 256)] {
            let sizing = Sizing { target: 1800.0, workers, at_once };
            let chunks = cut(&units(&[10_000; 6]), &seconds, sizing);
            let bound = 10_000.0 * seconds.iter().sum::<f64>() / (workers * at_once) as f64;
            let length = makespan(&chunks, &seconds, sizing, 30.0);
            assert!(bound / length > 0.95, "{workers}: {length} against {bound}, {} chunks", chunks.len());
        }
    }

    #[test]
    fn a_run_of_any_size_is_some_thousands_of_chunks() {
        let sizing = Sizing { target: 1800.0, workers: 4, at_once: 256 };
        let chunks = cut(&units(&[170_000; 6]), &[600.0; 6], sizing);
        assert!((4000..8000).contains(&chunks.len()), "{} chunks", chunks.len());
        let few = cut(&units(&[1000; 6]), &[600.0; 6], sizing);
        assert!(few.iter().all(|chunk| chunk.seconds <= 4.0 * 1800.0), "as long as was asked for");
    }

    #[test]
    fn gaps_and_repeats_of_cells_stay_short_to_write() {
        let mut units = units(&[100]);
        units.retain(|unit| unit.sample != 40);
        let chunks = cut(&units, &[1.0], Sizing { target: 1000.0, workers: 1, at_once: 1 });
        let written = serde_json::to_string(&chunks).unwrap();
        assert_eq!(written, r#"[{"seconds":99.0,"units":[[0,0,40],[0,41,59]]}]"#);
        assert_eq!(serde_json::from_str::<Vec<Chunk>>(&written).unwrap(), chunks);
    }

    #[test]
    fn nothing_left_is_no_chunk() {
        assert!(cut(&[], &[1.0], Sizing { target: 10.0, workers: 1, at_once: 1 }).is_empty());
    }
}
