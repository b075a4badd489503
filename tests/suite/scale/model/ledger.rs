//! What has become durable, whoever wrote it, and where the devices' time went.

use dflow::plan::Unit;

/// Rows and checkpoints of a run by their units, as a file system would show them.
pub struct Ledger {
    samples: usize,
    /// Rows of each unit: more than one is a duplicate.
    rows: Vec<u8>,
    /// Device-seconds of each running solve that a checkpoint holds.
    saved: Vec<f64>,
    /// Sums over all devices.
    pub tally: Tally,
}

/// Device-seconds, and counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Work done, in seconds of a device of speed 1 with full slots.
    pub work: f64,
    /// With at least one sample.
    pub busy: f64,
    /// Ready and without a sample while samples of the task had not begun.
    pub starved: f64,
    /// Work of solves that were killed and no checkpoint held.
    pub lost: f64,
    /// Solves that were continued from a checkpoint.
    pub resumed: u64,
    /// Samples that became failed rows, because two workers died while they solved them.
    pub failed: u64,
    /// Times that a task started.
    pub starts: u64,
}

impl Ledger {
    /// Nothing is durable yet of `cells` × `samples`.
    pub fn new(cells: usize, samples: usize) -> Self {
        let units = cells * samples;
        Self { samples, rows: vec![0; units], saved: vec![0.0; units], tally: Tally::default() }
    }

    /// Whether a unit has a durable row.
    pub fn is_done(&self, unit: Unit) -> bool {
        self.rows[self.place(unit)] > 0
    }

    /// A row has become durable.
    pub fn finish(&mut self, unit: Unit) {
        let place = self.place(unit);
        self.rows[place] += 1;
    }

    /// A checkpoint has become durable: the newest counts.
    pub fn save(&mut self, unit: Unit, done: f64) {
        let place = self.place(unit);
        self.saved[place] = done;
    }

    /// Device-seconds of a solve that need not be done again.
    pub fn saved(&self, unit: Unit) -> f64 {
        self.saved[self.place(unit)]
    }

    /// Units with a row.
    pub fn done(&self) -> usize {
        self.rows.iter().filter(|rows| **rows > 0).count()
    }

    /// Rows beyond the first of each unit.
    pub fn duplicates(&self) -> usize {
        self.rows.iter().map(|rows| usize::from(rows.saturating_sub(1))).sum()
    }

    fn place(&self, unit: Unit) -> usize {
        unit.cell * self.samples + unit.sample
    }
}
