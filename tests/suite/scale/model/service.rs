//! How long a solve takes: evaluations as measured, seconds of one evaluation as published.

use dflow::plan::Unit;

/// D-Flow on one task of Table 1.
struct Measured {
    /// Evaluations of 16 solves, sorted: rows of `make table1 PROFILE=cifar10 LIMIT=16`, method `d-flow`. They are
    /// reproducible, other than the seconds of a shared machine.
    evals: [u16; 16],
    /// Minutes of one image on one V100 at 128×128 (arXiv 2402.14017, Appendix B.1; `reports/paper/run_times.csv`).
    minutes: f64,
}

const TABLE1: [Measured; 6] = [
    // inpainting-center
    Measured {
        evals: [166, 192, 204, 205, 226, 226, 227, 245, 245, 245, 246, 247, 247, 248, 263, 285],
        minutes: 10.0,
    },
    // super-resolution-x2
    Measured {
        evals: [249, 287, 306, 309, 316, 327, 330, 348, 349, 349, 351, 367, 368, 368, 376, 394],
        minutes: 12.5,
    },
    // gaussian-deblur: every solve ends at its cap
    Measured { evals: [600; 16], minutes: 15.5 },
    // inpainting-center-noisy
    Measured { evals: [64, 83, 84, 84, 84, 85, 85, 86, 86, 104, 104, 105, 105, 105, 105, 106], minutes: 4.0 },
    // super-resolution-x2-noisy
    Measured { evals: [45, 45, 46, 46, 63, 64, 65, 65, 65, 65, 65, 66, 66, 66, 66, 66], minutes: 2.5 },
    // gaussian-deblur-noisy
    Measured { evals: [65, 65, 65, 84, 84, 85, 85, 85, 85, 85, 85, 85, 85, 85, 85, 106], minutes: 3.5 },
];

/// Tasks of Table 1, each one cell.
pub const CELLS: usize = TABLE1.len();

/// Times of solves on a device of speed 1 whose slots are full.
#[derive(Clone, Copy)]
pub struct Service {
    /// Of the draws.
    pub seed: u64,
    /// How many times faster than a V100 a device is.
    pub speed: f64,
}

impl Service {
    /// Seconds of one evaluation of a cell.
    pub fn seconds_per_eval(&self, cell: usize) -> f64 {
        TABLE1[cell].minutes * 60.0 / mean_evals(cell) / self.speed
    }

    /// Seconds that a sample of a cell is expected to take: the mean of what was measured.
    pub fn expected(&self, cell: usize) -> f64 {
        TABLE1[cell].minutes * 60.0 / self.speed
    }

    /// Evaluations of a solve: drawn between the measured quantiles.
    pub fn evals(&self, unit: Unit) -> u32 {
        let evals = &TABLE1[unit.cell].evals;
        let place = uniform(&[self.seed, unit.cell as u64, unit.sample as u64]) * (evals.len() - 1) as f64;
        let (low, part) = (place as usize, place.fract());
        let between = f64::from(evals[low]) * (1.0 - part) + f64::from(evals[low + 1]) * part;
        between.round() as u32
    }

    /// Seconds of a solve.
    pub fn seconds(&self, unit: Unit) -> f64 {
        f64::from(self.evals(unit)) * self.seconds_per_eval(unit.cell)
    }
}

fn mean_evals(cell: usize) -> f64 {
    let evals = &TABLE1[cell].evals;
    evals.iter().map(|evals| f64::from(*evals)).sum::<f64>() / evals.len() as f64
}

/// A number in [0, 1) that depends on `key` alone (SplitMix64, Steele et al. 2014).
pub fn uniform(key: &[u64]) -> f64 {
    let mixed = key.iter().fold(0x243f_6a88_85a3_08d3, |state, word| mix(state ^ mix(*word)));
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

fn mix(word: u64) -> u64 {
    let z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An exponential draw of the given mean.
pub fn exponential(mean: f64, key: &[u64]) -> f64 {
    -mean * (1.0 - uniform(key)).ln()
}
