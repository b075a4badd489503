//! Mean and covariance of a stream of feature rows.
//!
//! Rows are taken in blocks of [`BLOCK`]; each is centred by its own mean before its products are summed, and blocks are
//! joined by Chan's update (Chan, Golub, LeVeque 1979), so that features far from zero lose no digits, as they
//! do in Σffᵀ − nμμᵀ. Moments of parts are joined by the same update: additive, hence mergeable.

use faer::{Mat, MatRef};

use super::linalg::{add_lower_product, mirror_lower};
use super::{FeatureSet, SetError};

/// Rows whose products are summed at once: 8 MB for 2,048 dimensions.
const BLOCK: usize = 512;

/// Running mean and centred second moments of f32 feature rows, in f64.
///
/// The bits depend on the order of the calls, not on threads: add rows and merge parts in the order of their keys.
#[derive(Debug, Clone)]
pub struct Moments {
    n: usize,
    mean: Vec<f64>,
    /// Σ(f − μ)(f − μ)ᵀ, lower triangle.
    scatter: Mat<f64>,
    /// Rows that are in none of the above yet.
    pending: Vec<f32>,
}

impl Moments {
    /// Of no rows of `dims` numbers.
    pub fn new(dims: usize) -> Self {
        Self { n: 0, mean: vec![0.0; dims], scatter: Mat::zeros(dims, dims), pending: Vec::new() }
    }

    /// Of all rows of a set.
    pub fn of(features: &FeatureSet) -> Self {
        let mut moments = Self::new(features.dims());
        if features.dims() > 0 {
            features.data().chunks(BLOCK * features.dims()).for_each(|rows| moments.add_block(rows));
        }
        moments
    }

    /// Numbers per row.
    pub fn dims(&self) -> usize {
        self.mean.len()
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.n + self.pending.len() / self.dims().max(1)
    }

    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds one row.
    ///
    /// # Errors
    /// A row of another length; a NaN or infinite number. The moments are then as before.
    pub fn add(&mut self, row: &[f32]) -> Result<(), SetError> {
        if row.len() != self.dims() {
            return Err(SetError::Dims { expected: self.dims(), found: row.len() });
        }
        if let Some(index) = row.iter().position(|x| !x.is_finite()) {
            let sample = format!("number {}", self.len());
            return Err(SetError::NotFinite { sample, index, value: row[index] });
        }
        self.pending.extend(row);
        if self.pending.len() == BLOCK * self.dims() {
            self.flush();
        }
        Ok(())
    }

    /// Adds what another part has counted.
    ///
    /// # Errors
    /// Moments of rows of another length.
    pub fn merge(&mut self, other: &Self) -> Result<(), SetError> {
        if other.dims() != self.dims() {
            return Err(SetError::Dims { expected: self.dims(), found: other.dims() });
        }
        self.flush();
        let mut other = other.clone();
        other.flush();
        if other.n > 0 {
            let difference = self.join(other.n, &other.mean);
            self.scatter += &other.scatter;
            self.add_columns(&difference, 1);
        }
        Ok(())
    }

    /// Mean and unbiased covariance.
    ///
    /// # Errors
    /// Fewer than 2 rows.
    pub fn finish(mut self) -> Result<Gaussian, SetError> {
        self.flush();
        if self.n < 2 {
            return Err(SetError::TooFew { n: self.n });
        }
        let mut covariance = self.scatter;
        covariance *= faer::Scale(1.0 / (self.n - 1) as f64);
        mirror_lower(&mut covariance);
        Ok(Gaussian { n: Some(self.n), mean: self.mean, covariance })
    }

    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.pending);
        if !rows.is_empty() {
            self.add_block(&rows);
        }
    }

    fn add_block(&mut self, rows: &[f32]) {
        let dims = self.dims();
        let n = rows.len() / dims;
        let mean = mean(rows, dims);
        let mut columns = centred(rows, &mean);
        columns.extend(self.join(n, &mean));
        self.add_columns(&columns, n + 1);
    }

    /// Takes `n` rows of another mean into count and mean. What the difference of the means adds to the scatter is the
    /// product of the returned vector with itself: δ √(n₁n₂/(n₁+n₂)).
    fn join(&mut self, n: usize, mean: &[f64]) -> Vec<f64> {
        let (before, added) = (self.n as f64, n as f64);
        let total = before + added;
        let weight = (before * added / total).sqrt();
        let joined = self.mean.iter_mut().zip(mean).map(|(mine, other)| {
            let difference = other - *mine;
            *mine += difference * (added / total);
            difference * weight
        });
        let joined = joined.collect();
        self.n += n;
        joined
    }

    /// Adds the products of `count` columns with themselves.
    fn add_columns(&mut self, columns: &[f64], count: usize) {
        let columns = MatRef::from_column_major_slice(columns, self.mean.len(), count);
        add_lower_product(self.scatter.as_mut(), columns, columns.transpose());
    }
}

/// Mean of `rows` of `dims` numbers.
pub(super) fn mean(rows: &[f32], dims: usize) -> Vec<f64> {
    let mut mean = vec![0.0; dims];
    for row in rows.chunks_exact(dims) {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let n = (rows.len() / dims) as f64;
    mean.iter_mut().for_each(|sum| *sum /= n);
    mean
}

/// The rows without their mean.
pub(super) fn centred(rows: &[f32], mean: &[f64]) -> Vec<f64> {
    let centre = |row: &[f32]| row.iter().zip(mean).map(|(x, mean)| f64::from(*x) - mean).collect::<Vec<_>>();
    rows.chunks_exact(mean.len()).flat_map(centre).collect()
}

/// Mean and unbiased covariance (divided by n − 1) of a set.
#[derive(Debug, Clone)]
pub struct Gaussian {
    /// Samples; unknown for statistics of other programs.
    pub n: Option<usize>,
    /// μ, `dims` numbers.
    pub mean: Vec<f64>,
    /// Σ, `dims × dims`, both triangles.
    pub covariance: Mat<f64>,
}
