//! Kernel distance (KID): the squared maximum mean discrepancy under the kernel k(x, y) = (x·y/d + 1)³ (Bińkowski et al.,
//! arXiv 1801.01401, eq. 4: the unbiased estimate), as torch-fidelity 0.3 and TorchMetrics 1.9 have it.
//!
//! As there: 100 subsets of 1,000 samples of each set, drawn without replacement, and mean and standard deviation over
//! them. Where a set is smaller, all samples of both sets make one subset. Inner products are f32, as in those packages;
//! kernel values are summed in f64.

use std::sync::OnceLock;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use super::{FeatureSet, SetError};
use crate::random::{Purpose, Stream};

/// Subsets of large sets.
const SUBSETS: usize = 100;
/// Samples of each set in a subset.
const SUBSET_SIZE: usize = 1000;
/// Columns of a kernel matrix at a time.
const PANEL: usize = 128;

/// A kernel distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kid {
    /// Mean over the subsets, in kernel units; unbiased, hence below 0 as often as above for sets of one kind.
    pub mean: f64,
    /// Standard deviation over the subsets (divided by their number), if there are several.
    pub std: Option<f64>,
    /// Subsets.
    pub subsets: usize,
    /// Samples of the set.
    pub n: usize,
    /// Samples of the reference.
    pub reference_n: usize,
}

/// The reference side: sums over its own pairs are computed once for all sets.
#[derive(Debug)]
pub struct KidReference {
    features: FeatureSet,
    seed: u64,
    /// Mean kernel value of distinct pairs: in every subset, and in the whole set.
    of_subsets: OnceLock<Vec<f64>>,
    of_all: OnceLock<f64>,
}

impl KidReference {
    /// Of a set of samples; `seed` keys the draws of subsets.
    ///
    /// # Errors
    /// Fewer than 2 samples.
    pub fn new(features: FeatureSet, seed: u64) -> Result<Self, SetError> {
        match features.len() {
            n @ 0..2 => Err(SetError::TooFew { n }),
            _ => Ok(Self { features, seed, of_subsets: OnceLock::new(), of_all: OnceLock::new() }),
        }
    }

    /// The distance of a set.
    ///
    /// # Errors
    /// Other dimensions than the reference's; fewer than 2 samples.
    pub fn distance(&self, features: &FeatureSet) -> Result<Kid, SetError> {
        let (n, reference_n) = (features.len(), self.features.len());
        if features.dims() != self.features.dims() {
            return Err(SetError::Dims { expected: self.features.dims(), found: features.dims() });
        }
        if n < 2 {
            return Err(SetError::TooFew { n });
        }
        if n.min(reference_n) < SUBSET_SIZE {
            return Ok(Kid { mean: self.of_whole(features), std: None, subsets: 1, n, reference_n });
        }
        let values = self.of_drawn(features);
        let mean = values.iter().sum::<f64>() / SUBSETS as f64;
        let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / SUBSETS as f64;
        Ok(Kid { mean, std: Some(variance.sqrt()), subsets: SUBSETS, n, reference_n })
    }

    /// The estimate from all samples.
    pub(super) fn of_whole(&self, features: &FeatureSet) -> f64 {
        let reference = Rows::all(&self.features);
        let own = self.of_all.get_or_init(|| reference.within());
        let set = Rows::all(features);
        set.within() + own - 2.0 * set.across(&reference)
    }

    /// The estimates from subsets.
    fn of_drawn(&self, features: &FeatureSet) -> Vec<f64> {
        let reference = |subset: usize| Rows::drawn(&self.features, self.seed, "reference", subset);
        let subsets = || (0..SUBSETS).into_par_iter();
        let own =
            self.of_subsets.get_or_init(|| subsets().map(|subset| reference(subset).within()).collect());
        let estimate = |subset: usize| {
            let set = Rows::drawn(features, self.seed, "set", subset);
            set.within() + own[subset] - 2.0 * set.across(&reference(subset))
        };
        subsets().map(estimate).collect()
    }
}

/// Rows of features, gathered.
struct Rows {
    dims: usize,
    data: Vec<f32>,
}

impl Rows {
    fn all(features: &FeatureSet) -> Self {
        Self { dims: features.dims(), data: features.data().to_vec() }
    }

    /// [`SUBSET_SIZE`] different rows: the start of a Fisher–Yates shuffle.
    fn drawn(features: &FeatureSet, seed: u64, side: &str, subset: usize) -> Self {
        let mut stream = Stream::new(seed, "kid", &format!("{side} {subset}"), Purpose::Bootstrap);
        let mut order: Vec<usize> = (0..features.len()).collect();
        for i in 0..SUBSET_SIZE {
            order.swap(i, i + below(&mut stream, features.len() - i));
        }
        let rows = order[..SUBSET_SIZE].iter().flat_map(|&i| features.row(i));
        Self { dims: features.dims(), data: rows.copied().collect() }
    }

    fn len(&self) -> usize {
        self.data.len() / self.dims.max(1)
    }

    fn matrix(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(&self.data, self.len(), self.dims)
    }

    /// Mean kernel value of two different rows.
    fn within(&self) -> f64 {
        let n = self.len();
        let sum: f64 = panels(n)
            .map(|(from, count)| {
                // Rows above the panel's first are the mirror image of what another panel has.
                let lower = self.matrix().subrows(from, n - from);
                kernel_sum(lower, self.matrix().subrows(from, count), |i, j| i > j)
            })
            .sum();
        2.0 * sum / (n as f64 * (n - 1) as f64)
    }

    /// Mean kernel value of a row of this and one of the other.
    fn across(&self, other: &Self) -> f64 {
        let sum: f64 = panels(other.len())
            .map(|(from, count)| kernel_sum(self.matrix(), other.matrix().subrows(from, count), |_, _| true))
            .sum();
        sum / (self.len() as f64 * other.len() as f64)
    }
}

/// Starts and widths.
fn panels(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(PANEL).map(move |from| (from, PANEL.min(n - from)))
}

/// Sum of k over the pairs of rows that are `wanted` by their positions.
fn kernel_sum(left: MatRef<'_, f32>, right: MatRef<'_, f32>, wanted: impl Fn(usize, usize) -> bool) -> f64 {
    let mut products = Mat::<f32>::zeros(left.nrows(), right.nrows());
    matmul(products.as_mut(), Accum::Replace, left, right.transpose(), 1.0, Par::Seq);
    let scale = 1.0 / left.ncols() as f64;
    let kernel = |product: f32| {
        let base = f64::from(product) * scale + 1.0;
        base * base * base
    };
    let column = |j: usize| {
        let entries = products.col(j).iter().enumerate().filter(|(i, _)| wanted(*i, j));
        entries.map(|(_, product)| kernel(*product)).sum::<f64>()
    };
    (0..products.ncols()).map(column).sum()
}

/// A number below `n`, all (but for a bias of n/2⁶⁴) equally likely.
pub(super) fn below(stream: &mut Stream, n: usize) -> usize {
    ((u128::from(stream.bits()) * n as u128) >> 64) as usize
}
