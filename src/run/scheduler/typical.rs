//! What a sample takes, by those of its cell that are done.

use std::collections::BTreeMap;

use super::seat::Held;
use crate::plan::Unit;

/// Nothing that runs is taken for nearer to its end than this part of a typical sample: some take longer than others.
const LEAST_LEFT: f64 = 0.1;

/// Finished samples of each cell, and the sum of their evaluations: what others of the cell may take.
#[derive(Default)]
pub(super) struct Typical(BTreeMap<usize, (u32, f64)>);

impl Typical {
    pub(super) fn add(&mut self, cell: usize, evals: u32) {
        let (samples, sum) = self.0.entry(cell).or_default();
        *samples += 1;
        *sum += f64::from(evals);
    }

    /// The part of a sample that is still to be done: 1 where nothing is known.
    pub(super) fn left(&self, unit: Unit, held: Held) -> f64 {
        let Held::Started { evals: Some(evals) } = held else { return 1.0 };
        let Some((samples, sum)) = self.0.get(&unit.cell).filter(|(_, sum)| *sum > 0.0) else { return 1.0 };
        (1.0 - f64::from(evals) * f64::from(*samples) / sum).max(LEAST_LEFT)
    }
}
