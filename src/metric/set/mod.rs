//! Metrics of a set of samples against a reference set: Fréchet distance (FID), kernel distance (KID) and a bootstrap.
//!
//! All of them compare features: one row of `dims` numbers per sample, made by a network. With the weights of the
//! public InceptionV3 the Fréchet distance is FID; with any other network it is a Fréchet distance of that network and
//! must be named so.
//!
//! ```text
//! FeatureSet ─ Reference::from_features ─► Reference (once)     ─┐
//! FeatureSet (per cell) ─────────────────────────────────────────┴─► frechet ─► Frechet { value, n, … }
//! ```
//!
//! Sums are f64. Every product is split over its outputs and every decomposition runs on one thread, so that the bits
//! do not depend on the number of threads; several cells may be measured at once.

mod bootstrap;
mod frechet;
mod kid;
mod linalg;
mod moments;
mod reference;

pub use bootstrap::{Interval, bootstrap};
pub use frechet::{Frechet, frechet};
pub use kid::{Kid, KidReference};
pub use moments::{Gaussian, Moments};
pub use reference::Reference;

/// Features of a set of samples: finite, one row per sample.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSet {
    ids: Vec<String>,
    dims: usize,
    data: Vec<f32>,
}

impl FeatureSet {
    /// A set of `ids.len()` rows of `dims` numbers, row-major in `data`.
    ///
    /// # Errors
    /// Sizes that do not fit each other; a NaN or infinite number, with its sample.
    pub fn new(ids: Vec<String>, dims: usize, data: Vec<f32>) -> Result<Self, SetError> {
        if ids.len().checked_mul(dims) != Some(data.len()) {
            return Err(SetError::Size { samples: ids.len(), dims, numbers: data.len() });
        }
        if let Some(at) = data.iter().position(|x| !x.is_finite()) {
            let sample = ids[at / dims].clone();
            return Err(SetError::NotFinite { sample, index: at % dims, value: data[at] });
        }
        Ok(Self { ids, dims, data })
    }

    /// Sample ids, in the order of the rows.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Numbers per sample.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Samples.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// All numbers, row-major `[len, dims]`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The rows, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        // `max`: without dimensions there is no data, and no row to be had.
        self.data.chunks_exact(self.dims.max(1))
    }

    /// The numbers of one sample.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.dims..(i + 1) * self.dims]
    }

    /// The rows `indices`, in that order; rows may repeat.
    fn select(&self, indices: &[usize]) -> Self {
        let ids = indices.iter().map(|&i| self.ids[i].clone()).collect();
        let data = indices.iter().flat_map(|&i| self.row(i)).copied().collect();
        Self { ids, dims: self.dims, data }
    }
}

/// Why a metric of a set could not be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SetError {
    /// Numbers that do not make whole rows.
    #[error("{samples} samples of {dims} features are {} numbers, but there are {numbers}", samples * dims)]
    Size {
        /// Rows.
        samples: usize,
        /// Numbers per row.
        dims: usize,
        /// Numbers that were given.
        numbers: usize,
    },
    /// A feature that is no number.
    #[error(
        "feature {index} of sample {sample} is {value}: look at its reconstruction, or remove the file of features and the folder of the same name, and make them again (`dflow score`)"
    )]
    NotFinite {
        /// The sample.
        sample: String,
        /// Position of the feature.
        index: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A set that has no covariance.
    #[error("a set of {n} samples has no covariance: at least 2 are needed")]
    TooFew {
        /// Samples.
        n: usize,
    },
    /// Sets of different networks.
    #[error(
        "features of {found} dimensions cannot be compared with a reference of {expected}: both must come from one network"
    )]
    Dims {
        /// Of the reference.
        expected: usize,
        /// Of the set.
        found: usize,
    },
    /// Statistics that no set of samples has.
    #[error("these are no mean and covariance: {0}")]
    Statistics(String),
    /// A bootstrap of too little.
    #[error("a bootstrap of {0} resamples has no spread: at least 2 are needed, 100 or more are usual")]
    Resamples(usize),
    /// An eigenvalue iteration did not end.
    #[error("the eigenvalues of a {0} × {0} matrix could not be found")]
    NoConvergence(usize),
}

#[cfg(test)]
mod tests;
