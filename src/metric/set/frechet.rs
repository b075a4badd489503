//! Fréchet distance of two Gaussians: ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr √(Σ₁Σ₂) (Heusel et al., arXiv 1706.08500, eq. 6).
//!
//! tr √(Σ₁Σ₂) is computed without a matrix root of a non-symmetric product. With Σ₂ = F Fᵀ of the reference it is the sum of
//! √eig(FᵀΣ₁F), a symmetric matrix; with Σ₁ = XᵀX/(n−1) of the centred rows X it is also the sum of the singular values
//! of X F/√(n−1), which is smaller where a set has fewer samples than dimensions, and then never forms Σ₁.
//! pytorch-fid 0.3 and TorchMetrics 1.9 compute the same number by `scipy.linalg.sqrtm` and by the eigenvalues of Σ₁Σ₂.

use faer::MatRef;

use super::linalg::{add_lower_product, eigenvalues, nuclear_norm, product};
use super::moments::{Moments, centred, mean};
use super::{FeatureSet, Gaussian, Reference, SetError};
use faer::Mat;

/// A Fréchet distance, and what it was measured on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frechet {
    /// The distance, ≥ 0 (squared 2-Wasserstein distance of the two Gaussians), in squared units of the features.
    pub value: f64,
    /// Samples of the set.
    pub n: usize,
    /// Samples of the reference; unknown for statistics of other programs.
    pub reference_n: Option<usize>,
    /// Features per sample.
    pub dims: usize,
}

impl Frechet {
    /// Whether a set is too small for its covariance to have full rank (n ≤ dims): the value is then mostly the bias of
    /// the estimate, and says nothing beside one of another n.
    pub fn is_meaningless(&self) -> bool {
        self.n <= self.dims || self.reference_n.is_some_and(|n| n <= self.dims)
    }
}

/// The distance of a set from a reference.
///
/// # Errors
/// Other dimensions than the reference's; fewer than 2 samples.
pub fn frechet(reference: &Reference, features: &FeatureSet) -> Result<Frechet, SetError> {
    let (n, dims) = (features.len(), features.dims());
    if dims != reference.dims() {
        return Err(SetError::Dims { expected: reference.dims(), found: dims });
    }
    if n < 2 {
        return Err(SetError::TooFew { n });
    }
    let value = if n > dims && reference.factor().ncols() >= dims {
        by_covariance(reference, &Moments::of(features).finish()?)?
    } else {
        by_rows(reference, features)?
    };
    Ok(Frechet { value, n, reference_n: reference.n(), dims })
}

/// By the eigenvalues of FᵀΣF.
pub(super) fn by_covariance(reference: &Reference, set: &Gaussian) -> Result<f64, SetError> {
    let factor = reference.factor();
    let half = product(set.covariance.as_ref(), factor);
    let mut symmetric = Mat::zeros(factor.ncols(), factor.ncols());
    add_lower_product(symmetric.as_mut(), factor.transpose(), half.as_ref());
    drop(half);
    // Rounding leaves zero eigenvalues slightly negative.
    let root_trace = eigenvalues(symmetric.as_ref())?.iter().map(|value| value.max(0.0).sqrt()).sum();
    let trace = (0..set.mean.len()).map(|i| set.covariance[(i, i)]).sum();
    Ok(distance(reference, &set.mean, trace, root_trace))
}

/// By the singular values of X F.
pub(super) fn by_rows(reference: &Reference, features: &FeatureSet) -> Result<f64, SetError> {
    let (n, dims) = (features.len(), features.dims());
    let mean = mean(features.data(), dims);
    let rows = centred(features.data(), &mean);
    let trace = rows.iter().map(|x| x * x).sum::<f64>() / (n - 1) as f64;
    let cross = product(MatRef::from_row_major_slice(&rows, n, dims), reference.factor());
    drop(rows);
    let root_trace = nuclear_norm(cross.as_ref())? / ((n - 1) as f64).sqrt();
    Ok(distance(reference, &mean, trace, root_trace))
}

/// Not below 0, where rounding may leave the distance of equal sets.
fn distance(reference: &Reference, mean: &[f64], trace: f64, root_trace: f64) -> f64 {
    let shift: f64 = reference.mean().iter().zip(mean).map(|(a, b)| (a - b) * (a - b)).sum();
    (shift + trace + reference.trace() - 2.0 * root_trace).max(0.0)
}
