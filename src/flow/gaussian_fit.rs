//! A Gaussian prior fitted to training images, cached between runs.
//!
//! The statistics are exact: pixels are rounded to multiples of 2⁻¹⁵ (a byte step is 2⁻⁷), so that sums of products are
//! integers below 2⁵³, and f64 adds them without rounding in any order: they do not depend on threads, blocks or the
//! machine. The eigenvectors, which do depend on the instruction set in their last bits, are computed on one thread.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path as FilePath;

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, Par};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::basis::Basis;
use super::gaussian::{Eigen, GaussianError, GaussianField};
use crate::atomic;
use crate::path::Path;
use crate::user_cache;

/// N(m, S) of a set of images in the eigenbasis of S.
#[derive(Debug, Clone)]
pub struct GaussianFit {
    mean: Vec<f64>,
    variances: Vec<f64>,
    basis: Basis<f32>,
}

/// Why a Gaussian could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum GaussianFitError {
    /// There is nothing to fit to.
    #[error("a Gaussian cannot be fitted to fewer than 2 training images, found {0}")]
    TooFew(usize),
    /// Dense covariances grow with the square of the image.
    #[error(
        "a Gaussian over {dim} numbers needs a covariance of {dim} × {dim}: images up to {MAX_DIM} numbers (64 × 64 RGB) can be fitted"
    )]
    TooLarge {
        /// Numbers in an image.
        dim: usize,
    },
    /// An image could not be read.
    #[error("training image {index}: {reason}")]
    Image {
        /// Position in the training set.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// The decomposition failed.
    #[error(transparent)]
    Gaussian(#[from] GaussianError),
}

/// Largest image that can be fitted, in numbers: for 64 × 64 RGB each of the four matrices at hand takes 1.2 GB.
const MAX_DIM: usize = 3 * 64 * 64;
/// Pixels are rounded to multiples of its inverse.
const FIXED_POINT: f64 = 32768.0;
/// Images of one block of the covariance sum.
const BLOCK: usize = 512;
/// Enters the identity and the cache file's name; raise it when the fit changes.
const VERSION: &str = "dflow gaussian fit v2";

impl GaussianFit {
    /// Fits to `images` of `dim` numbers in [−1, 1].
    ///
    /// # Errors
    /// An image that cannot be read, has another size or a value outside [−1, 1]; fewer than two images.
    pub fn new<E: Display>(
        dim: usize,
        images: impl IntoIterator<Item = Result<Vec<f32>, E>>,
    ) -> Result<Self, GaussianFitError> {
        if dim > MAX_DIM {
            return Err(GaussianFitError::TooLarge { dim });
        }
        let (mut mean, covariance) = Moments::sum(dim, images)?.mean_and_covariance();
        let Eigen { values, vectors } = Eigen::new(dim, &covariance)?;
        drop(covariance);
        let shape = GaussianError::Shape { what: "basis", dim, need: dim * dim, got: vectors.len() };
        let rounded = vectors.iter().map(|v| *v as f32).collect();
        Basis::new(dim, vectors).ok_or(shape)?.enter(&mut mean);
        let basis = Basis::new(dim, rounded).ok_or(shape)?;
        Ok(Self { mean, variances: values, basis })
    }

    /// Identity (hex) of the fit to the images of a manifest, without fitting: the same images give the same fit.
    ///
    /// # Errors
    /// When images of `dim` numbers are too large to fit.
    pub fn identity(manifest: &str, dim: usize) -> Result<String, GaussianFitError> {
        if dim > MAX_DIM {
            return Err(GaussianFitError::TooLarge { dim });
        }
        Ok(blake3::hash(format!("{VERSION}\n{dim}\n{manifest}").as_bytes()).to_hex().to_string())
    }

    /// As [`Self::new`], kept in the user's cache folder (`$XDG_CACHE_HOME/dflow` or `~/.cache/dflow`) under its
    /// identity. A cache that cannot be read or written costs time, not the run.
    pub fn cached<E: Display>(
        manifest: &str,
        dim: usize,
        images: impl IntoIterator<Item = Result<Vec<f32>, E>>,
    ) -> Result<Self, GaussianFitError> {
        let Some(folder) = user_cache::folder() else { return Self::new(dim, images) };
        Self::cached_in(&folder, manifest, dim, images)
    }

    fn cached_in<E: Display>(
        folder: &FilePath,
        manifest: &str,
        dim: usize,
        images: impl IntoIterator<Item = Result<Vec<f32>, E>>,
    ) -> Result<Self, GaussianFitError> {
        let file = folder.join(Self::file_name(manifest, dim)?);
        if let Some(fit) = fs::read(&file).ok().and_then(|bytes| Self::decode(&bytes, dim)) {
            return Ok(fit);
        }
        tracing::info!(dim, "fitting a Gaussian to the training images (once; kept in {})", folder.display());
        let fit = Self::new(dim, images)?;
        if let Err(error) = fit.store(&file) {
            tracing::warn!("the fitted Gaussian could not be kept in {}: {error}", file.display());
        }
        Ok(fit)
    }

    /// Whether [`Self::cached`] will find the fit rather than make it.
    pub fn is_cached(manifest: &str, dim: usize) -> bool {
        let name = Self::file_name(manifest, dim).ok();
        user_cache::folder().zip(name).is_some_and(|(folder, name)| folder.join(name).exists())
    }

    fn file_name(manifest: &str, dim: usize) -> Result<String, GaussianFitError> {
        Ok(format!("gaussian-{}.safetensors", &Self::identity(manifest, dim)?[..32]))
    }

    /// The velocity field of the fitted Gaussian on `path`.
    pub fn field(&self, path: Path) -> Result<GaussianField<f32>, GaussianError> {
        let (mean, variances) = (self.mean.clone(), self.variances.clone());
        GaussianField::in_eigenbasis(path, mean, variances, self.basis.clone())
    }

    /// Eigenvalues of the covariance, ascending.
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }

    /// Writes the cache file whole or not at all.
    fn store(&self, file: &FilePath) -> io::Result<()> {
        atomic::write_bytes(file, &self.encode()?)
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let (mean, variances) = (f64_bytes(&self.mean), f64_bytes(&self.variances));
        let vectors: Vec<u8> = self.basis.vectors().iter().flat_map(|v| v.to_le_bytes()).collect();
        let dim = self.mean.len();
        let tensors = [
            ("mean", Dtype::F64, vec![dim], &mean),
            ("variances", Dtype::F64, vec![dim], &variances),
            ("vectors", Dtype::F32, vec![dim, dim], &vectors),
        ];
        let views = tensors
            .into_iter()
            .map(|(name, dtype, shape, bytes)| TensorView::new(dtype, shape, bytes).map(|view| (name, view)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::other)?;
        let metadata = [("content".to_owned(), content_hash([&mean, &variances, &vectors]))];
        safetensors::serialize(views, Some(metadata.into())).map_err(io::Error::other)
    }

    /// `None` if the file is not a whole fit of `dim` numbers: it is then made again.
    fn decode(bytes: &[u8], dim: usize) -> Option<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
        let metadata = header.metadata().as_ref()?;
        let file = SafeTensors::deserialize(bytes).ok()?;
        let [mean, variances, vectors] = ["mean", "variances", "vectors"].map(|name| file.tensor(name).ok());
        let (mean, variances, vectors) = (mean?.data(), variances?.data(), vectors?.data());
        if metadata.get("content") != Some(&content_hash([mean, variances, vectors])) || mean.len() != 8 * dim
        {
            return None;
        }
        let vectors = vectors.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Some(Self {
            mean: f64_values(mean),
            variances: f64_values(variances),
            basis: Basis::new(dim, vectors)?,
        })
    }
}

fn f64_bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn f64_values(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
}

fn content_hash(parts: [&[u8]; 3]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

/// Exact sums over images, in units of 2⁻¹⁵ and 2⁻³⁰.
struct Moments {
    count: usize,
    sums: Vec<f64>,
    /// Σ xxᵀ, lower triangle.
    products: Mat<f64>,
}

impl Moments {
    fn sum<E: Display>(
        dim: usize,
        images: impl IntoIterator<Item = Result<Vec<f32>, E>>,
    ) -> Result<Self, GaussianFitError> {
        let mut moments = Self { count: 0, sums: vec![0.0; dim], products: Mat::zeros(dim, dim) };
        // Columns are images.
        let mut block = Mat::<f64>::zeros(dim, BLOCK);
        for image in images {
            let index = moments.count;
            let bad = |reason| GaussianFitError::Image { index, reason };
            let image = image.map_err(|error| bad(error.to_string()))?;
            check_image(dim, &image).map_err(bad)?;
            for (i, (pixel, sum)) in image.iter().zip(&mut moments.sums).enumerate() {
                let integer = (f64::from(*pixel) * FIXED_POINT).round();
                block[(i, index % BLOCK)] = integer;
                *sum += integer;
            }
            moments.count += 1;
            if moments.count.is_multiple_of(BLOCK) {
                moments.add(&block, BLOCK);
            }
        }
        moments.add(&block, moments.count % BLOCK);
        if moments.count < 2 { Err(GaussianFitError::TooFew(moments.count)) } else { Ok(moments) }
    }

    /// Adds the products of the first `images` columns.
    fn add(&mut self, block: &Mat<f64>, images: usize) {
        let block = block.subcols(0, images);
        triangular::matmul(
            self.products.as_mut(),
            BlockStructure::TriangularLower,
            Accum::Add,
            block,
            BlockStructure::Rectangular,
            block.transpose(),
            BlockStructure::Rectangular,
            1.0,
            Par::rayon(0),
        );
    }

    /// m and S (row-major, its lower triangle filled), the maximum-likelihood estimates.
    fn mean_and_covariance(&self) -> (Vec<f64>, Vec<f64>) {
        let (dim, n) = (self.sums.len(), self.count as f64);
        let mean = self.sums.iter().map(|sum| sum / (n * FIXED_POINT)).collect();
        let mut covariance = vec![0.0; dim * dim];
        for (i, row) in covariance.chunks_exact_mut(dim).enumerate() {
            for (j, entry) in row.iter_mut().enumerate().take(i + 1) {
                let centred = self.products[(i, j)] - self.sums[i] * (self.sums[j] / n);
                *entry = centred / (n * FIXED_POINT * FIXED_POINT);
            }
        }
        (mean, covariance)
    }
}

fn check_image(dim: usize, image: &[f32]) -> Result<(), String> {
    if image.len() != dim {
        return Err(format!("has {} numbers, the others {dim}", image.len()));
    }
    match image.iter().find(|pixel| !(-1.0..=1.0).contains(*pixel)) {
        Some(pixel) => Err(format!("has the value {pixel} outside [-1, 1]")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::flow::{Cond, Rows, VelocityField};

    const DIM: usize = 5;

    /// Correlated bytes as pixels.
    fn images(n: usize) -> Vec<Vec<f32>> {
        let byte = |k: usize, i: usize| ((k * 37 + i * i * 11 + (k * i) % 13 * 9) % 256) as f32;
        (0..n).map(|k| (0..DIM).map(|i| byte(k, i) / 127.5 - 1.0).collect()).collect()
    }

    fn fallible(images: Vec<Vec<f32>>) -> impl Iterator<Item = Result<Vec<f32>, Infallible>> {
        images.into_iter().map(Ok)
    }

    /// Mean and covariance in the pixels' coordinates, as the field has them at t = 1 − small and t = 0.
    fn direct(images: &[Vec<f32>]) -> (Vec<f64>, Vec<f64>) {
        let n = images.len() as f64;
        let mean: Vec<f64> =
            (0..DIM).map(|i| images.iter().map(|x| f64::from(x[i])).sum::<f64>() / n).collect();
        let entry = |i: usize, j: usize| {
            images.iter().map(|x| (f64::from(x[i]) - mean[i]) * (f64::from(x[j]) - mean[j])).sum::<f64>() / n
        };
        let covariance = (0..DIM * DIM).map(|k| entry(k / DIM, k % DIM)).collect();
        (mean, covariance)
    }

    #[test]
    fn field_is_that_of_the_sample_mean_and_covariance() {
        let images = images(700);
        let (mean, covariance) = direct(&images);
        let fit = GaussianFit::new(DIM, fallible(images)).expect("fits");
        let mut fitted = fit.field(Path::CondOt).expect("valid");
        let mut dense = GaussianField::<f32>::dense(Path::CondOt, &mean, &covariance).expect("valid");
        let x = [0.3, -0.8, 1.2, 0.0, -0.1];
        let rows = Rows { t: &[0.6], x: &x, cond: &[Cond::None] };
        let (mut a, mut b) = ([0.0f32; DIM], [0.0f32; DIM]);
        fitted.velocity(rows, &mut a).expect("closed form");
        dense.velocity(rows, &mut b).expect("closed form");
        // Pixels rounded to 2⁻¹⁵, velocities in f32.
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4), "{a:?} {b:?}");
    }

    #[test]
    fn the_order_of_the_images_changes_no_bit() {
        let fit = |images| {
            let fit = GaussianFit::new(DIM, fallible(images)).expect("fits");
            (fit.mean.clone(), fit.variances.clone(), fit.basis.vectors().to_vec())
        };
        let mut reversed = images(700);
        reversed.reverse();
        assert_eq!(fit(images(700)), fit(reversed));
        assert_ne!(fit(images(700)), fit(images(699)));
    }

    #[test]
    fn the_identity_is_that_of_the_manifest() {
        let identity = |manifest, dim| GaussianFit::identity(manifest, dim).expect("small enough");
        assert_eq!(identity("m", 5), identity("m", 5));
        assert!(identity("m", 5) != identity("n", 5) && identity("m", 5) != identity("m", 6));
        let too_large = GaussianFit::identity("m", MAX_DIM + 1);
        assert!(matches!(too_large, Err(GaussianFitError::TooLarge { .. })));
    }

    #[test]
    fn cache_returns_the_fit_and_a_damaged_one_is_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let fit =
            |data| GaussianFit::cached_in(folder.path(), "manifest", DIM, fallible(data)).expect("fits");
        let first = fit(images(60));
        // No images are read the second time.
        let second = fit(Vec::new());
        assert_eq!((&first.mean, first.variances()), (&second.mean, second.variances()));
        assert_eq!(first.basis.vectors(), second.basis.vectors());
        let file =
            fs::read_dir(folder.path()).expect("lists").next().expect("one file").expect("readable").path();
        let mut bytes = fs::read(&file).expect("reads");
        *bytes.last_mut().expect("not empty") ^= 1;
        fs::write(&file, bytes).expect("writes");
        assert_eq!(fit(images(60)).mean, first.mean);
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 1, "no temporary file stays");
    }

    #[test]
    fn unusable_images_are_named() {
        let error =
            |images: Vec<Vec<f32>>| GaussianFit::new(DIM, fallible(images)).expect_err("refused").to_string();
        assert!(error(images(1)).contains("fewer than 2"));
        assert!(error(vec![vec![0.0; DIM], vec![0.0; 3]]).contains("training image 1: has 3 numbers"));
        assert!(error(vec![vec![f32::NAN; DIM]]).contains("NaN outside [-1, 1]"));
        let unreadable = [Ok(vec![0.0; DIM]), Err("truncated JPEG")];
        let error = GaussianFit::new(DIM, unreadable).expect_err("refused").to_string();
        assert!(error.contains("training image 1: truncated JPEG"));
        assert!(matches!(
            GaussianFit::new(MAX_DIM + 1, fallible(Vec::new())),
            Err(GaussianFitError::TooLarge { .. })
        ));
    }
}
