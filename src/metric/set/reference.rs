//! The reference side of the Fréchet distance: made once, compared with many sets.

use faer::{Mat, MatRef};

use super::linalg::factor;
use super::moments::{Gaussian, Moments, centred, mean};
use super::{FeatureSet, SetError};

/// Mean and a factor of the covariance of a reference set.
///
/// The factor F (`dims × rank`, Σ = F Fᵀ) takes the place of the symmetric root: tr √(Σ₁Σ₂) = Σ √eig(FᵀΣ₁F). Of fewer
/// samples than dimensions it is made of the centred samples themselves, and no `dims × dims` matrix is formed.
#[derive(Debug, Clone)]
pub struct Reference {
    n: Option<usize>,
    mean: Vec<f64>,
    factor: Mat<f64>,
}

impl Reference {
    /// Of a set of samples.
    ///
    /// # Errors
    /// Fewer than 2 samples.
    pub fn from_features(features: &FeatureSet) -> Result<Self, SetError> {
        let (n, dims) = (features.len(), features.dims());
        if n < 2 {
            return Err(SetError::TooFew { n });
        }
        if n > dims {
            return Self::from_gaussian(Moments::of(features).finish()?);
        }
        let mean = mean(features.data(), dims);
        let columns = centred(features.data(), &mean);
        let scale = faer::Scale(1.0 / ((n - 1) as f64).sqrt());
        let factor = MatRef::from_column_major_slice(&columns, dims, n) * scale;
        Ok(Self { n: Some(n), mean, factor })
    }

    /// Of a mean and covariance: takes seconds for 2,048 dimensions, for the factor.
    ///
    /// # Errors
    /// Sizes that do not fit, numbers that are not finite, a covariance with a negative eigenvalue.
    pub fn from_gaussian(gaussian: Gaussian) -> Result<Self, SetError> {
        let Gaussian { n, mean, covariance } = gaussian;
        let dims = mean.len();
        if covariance.shape() != (dims, dims) {
            let (rows, columns) = covariance.shape();
            let reason = format!("the mean has {dims} numbers, the covariance {rows} × {columns}");
            return Err(SetError::Statistics(reason));
        }
        let is_finite = |x: &f64| x.is_finite();
        if !mean.iter().all(is_finite) || !covariance.col_iter().all(|column| column.iter().all(is_finite)) {
            return Err(SetError::Statistics("a number is NaN or infinite".to_owned()));
        }
        Ok(Self { n, mean, factor: factor(covariance.as_ref())? })
    }

    /// Of stored parts: `mean` of `dims` numbers, `factor` (`dims × rank`, column-major).
    ///
    /// # Errors
    /// Sizes that do not fit, numbers that are not finite.
    pub fn from_parts(n: Option<usize>, mean: Vec<f64>, factor: &[f64]) -> Result<Self, SetError> {
        let dims = mean.len();
        if dims == 0 || !factor.len().is_multiple_of(dims) {
            let reason = format!("{} numbers of a factor for {dims} dimensions", factor.len());
            return Err(SetError::Statistics(reason));
        }
        if !mean.iter().chain(factor).all(|x| x.is_finite()) {
            return Err(SetError::Statistics("a number is NaN or infinite".to_owned()));
        }
        let factor = MatRef::from_column_major_slice(factor, dims, factor.len() / dims).to_owned();
        Ok(Self { n, mean, factor })
    }

    /// Samples of the reference set; unknown for statistics of other programs.
    pub fn n(&self) -> Option<usize> {
        self.n
    }

    /// Numbers per sample.
    pub fn dims(&self) -> usize {
        self.mean.len()
    }

    /// μ.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// F, `dims × rank`, with Σ = F Fᵀ.
    pub fn factor(&self) -> MatRef<'_, f64> {
        self.factor.as_ref()
    }

    /// tr Σ.
    pub fn trace(&self) -> f64 {
        self.factor.col_iter().map(|column| column.iter().map(|x| x * x).sum::<f64>()).sum()
    }
}
