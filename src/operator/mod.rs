//! Degradation operators: y = H x + σ_y n, with H, Hᵀ and the pseudo-inverse H†.
//!
//! [`Degradation::new`] validates a spec against an image shape and prepares what all samples share (the SVD of the
//! separable operators, in f64); [`Degradation::for_sample`] adds what is drawn per sample (the random mask).
//! Images are `[channels, height, width]` in row-major order with values in [−1, 1]; every channel is degraded
//! alike. A measurement is the vector of observed entries only, also in channel-major order.
//!
//! Sources: the settings of Pokle et al. 2023 (arXiv 2310.04432) as D-Flow uses them; bicubic filter and separable
//! SVD as in DDRM (32b6b3c); boundary rules as in DPS (reflect), DDRM (zero) and PnP-Flow (circular).
//! All sums run in one fixed order in f64, so that results are the same on every machine.

mod axis;
mod mask;
mod matrix;
mod separable;
mod svd;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::random::Stream;
use crate::spec::init::Lift;
use crate::spec::operator::{OperatorSpec, PinvCutoff};

use mask::Mask;
use separable::Separable;

/// Shape of an image: `[channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Colour channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// A shape from its three sides.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    /// height · width.
    pub const fn pixels(self) -> usize {
        self.height * self.width
    }

    /// channels · height · width: the dimension of the image as a vector.
    pub const fn dim(self) -> usize {
        self.channels * self.pixels()
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.channels, self.height, self.width)
    }
}

/// Why an operator cannot be built or used. Each text names the key of the pipeline file.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum OperatorError {
    /// The image has no pixel.
    #[error("operator: the image shape {shape} is empty; every side must be at least 1")]
    EmptyImage {
        /// The shape given.
        shape: Shape,
    },
    /// The hole is empty, larger than the image, or all of it.
    #[error(
        "center_mask.size: a hole of {size}×{size} pixels must fit into the {height}×{width} image and leave some of \
         it; choose a size from 1 to {largest}"
    )]
    HoleSize {
        /// Side of the hole.
        size: u32,
        /// Rows of the image.
        height: usize,
        /// Columns of the image.
        width: usize,
        /// The largest side that is accepted.
        largest: usize,
    },
    /// The probability is outside of (0, 1).
    #[error("random_mask.keep: {keep} is no probability in (0, 1); for no mask use `identity: {{}}`")]
    Keep {
        /// The value given.
        keep: f64,
    },
    /// The factor is below 2 or does not divide the image.
    #[error(
        "bicubic.factor: {factor} must be at least 2 and divide height and width of the {height}×{width} image; \
         choose a common divisor"
    )]
    Factor {
        /// The value given.
        factor: u32,
        /// Rows of the image.
        height: usize,
        /// Columns of the image.
        width: usize,
    },
    /// The kernel has no centre, or too many taps.
    #[error("gaussian_blur.size: {size} must be an odd number of taps from 1 to {MAX_BLUR_TAPS}, such as 61")]
    BlurSize {
        /// The value given.
        size: u32,
    },
    /// The standard deviation is not positive and finite.
    #[error(
        "gaussian_blur.sigma: {sigma} must be a positive number of pixels; for no blur use `identity: {{}}`"
    )]
    BlurSigma {
        /// The value given.
        sigma: f64,
    },
    /// The cut-off is negative, not finite, or above every singular value.
    #[error(
        "pinv_cutoff: {cutoff} must be at least 0 and below the largest singular value {largest:.4}, or H† would be \
         zero; choose a smaller one"
    )]
    Cutoff {
        /// The value given.
        cutoff: f64,
        /// The largest singular value that the cut-off is compared with.
        largest: f64,
    },
    /// `lift: measurement` for an operator whose measurement is not image-shaped.
    #[error(
        "init.blend.lift: `measurement` needs a measurement of the image's shape (blur, identity); use `auto`, `pinv` \
         or `adjoint` for this operator"
    )]
    NotLiftable,
}

/// The most taps a blur kernel may have per axis.
pub const MAX_BLUR_TAPS: u32 = 4095;

/// A degradation prepared for one image shape: everything that its samples share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Degradation {
    shape: Shape,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    RandomMask { keep: f64 },
    Fixed(Linear),
}

impl Degradation {
    /// Validates `spec` for images of `shape` and prepares its factors.
    pub fn new(spec: &OperatorSpec, shape: Shape) -> Result<Self, OperatorError> {
        if shape.dim() == 0 {
            return Err(OperatorError::EmptyImage { shape });
        }
        let kind = match spec {
            OperatorSpec::CenterMask(mask) => {
                Kind::Fixed(Linear::Mask(Arc::new(Mask::center(mask.size, shape)?)))
            }
            OperatorSpec::RandomMask(mask) => Kind::RandomMask { keep: mask::probability(mask.keep)? },
            OperatorSpec::Bicubic(bicubic) => {
                let axes = axis::bicubic(bicubic, shape)?;
                Kind::Fixed(Linear::Separable(Arc::new(Separable::new(axes, bicubic.pinv_cutoff, shape)?)))
            }
            OperatorSpec::GaussianBlur(blur) => {
                let axes = axis::gaussian_blur(blur, shape)?;
                Kind::Fixed(Linear::Separable(Arc::new(Separable::new(axes, blur.pinv_cutoff, shape)?)))
            }
            OperatorSpec::Identity(_) => Kind::Fixed(Linear::Identity),
        };
        Ok(Self { shape, kind })
    }

    /// Shape of the images.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Shape of the measurement, if it is image-shaped (not for masks).
    pub fn measurement_shape(&self) -> Option<Shape> {
        match &self.kind {
            Kind::RandomMask { .. } => None,
            Kind::Fixed(linear) => linear.measurement_shape(self.shape),
        }
    }

    /// Whether `lift` can be used with this operator, before any sample is touched.
    pub fn check_lift(&self, lift: Lift) -> Result<(), OperatorError> {
        match lift {
            Lift::Measurement if self.measurement_shape() != Some(self.shape) => {
                Err(OperatorError::NotLiftable)
            }
            _ => Ok(()),
        }
    }

    /// The operator of one sample. Only a random mask draws: one uniform per pixel from `stream`, which must be the
    /// sample's [`Purpose::Mask`](crate::random::Purpose::Mask) stream.
    pub fn for_sample(&self, stream: &mut Stream) -> Operator {
        let linear = match &self.kind {
            Kind::RandomMask { keep } => Linear::Mask(Arc::new(Mask::random(*keep, self.shape, stream))),
            Kind::Fixed(linear) => linear.clone(),
        };
        Operator { shape: self.shape, linear }
    }
}

/// The linear map H of one sample.
#[derive(Debug, Clone)]
pub struct Operator {
    shape: Shape,
    linear: Linear,
}

#[derive(Debug, Clone)]
enum Linear {
    Mask(Arc<Mask>),
    Separable(Arc<Separable>),
    Identity,
}

impl Linear {
    fn measurement_shape(&self, image: Shape) -> Option<Shape> {
        match self {
            Self::Mask(_) => None,
            Self::Separable(map) => Some(map.measurement_shape()),
            Self::Identity => Some(image),
        }
    }
}

impl Operator {
    /// Shape of the image x.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Shape of the measurement, if it is image-shaped (not for masks).
    pub fn measurement_shape(&self) -> Option<Shape> {
        self.linear.measurement_shape(self.shape)
    }

    /// Number of observed entries: the dimension of y, all channels.
    pub fn measurement_dim(&self) -> usize {
        match &self.linear {
            Linear::Mask(mask) => self.shape.channels * mask.observed_pixels(),
            Linear::Separable(map) => map.measurement_shape().dim(),
            Linear::Identity => self.shape.dim(),
        }
    }

    /// Pixels that are not observed at all (`height·width`, row-major), if H is a mask.
    pub fn hole(&self) -> Option<&[bool]> {
        match &self.linear {
            Linear::Mask(mask) => Some(mask.hole()),
            Linear::Separable(_) | Linear::Identity => None,
        }
    }

    /// H x.
    ///
    /// # Panics
    /// Here and below: if the argument has another length than the image, respectively the measurement.
    pub fn apply(&self, x: &[f32]) -> Vec<f32> {
        self.check_image(x);
        match &self.linear {
            Linear::Mask(mask) => mask.gather(x),
            Linear::Separable(map) => map.apply(x),
            Linear::Identity => x.to_vec(),
        }
    }

    /// Hᵀ y.
    pub fn adjoint(&self, y: &[f32]) -> Vec<f32> {
        self.check_measurement(y);
        match &self.linear {
            Linear::Mask(mask) => mask.scatter(y, |_| 0.0),
            Linear::Separable(map) => map.adjoint(y),
            Linear::Identity => y.to_vec(),
        }
    }

    /// H† y, with the spec's cut-off: the smallest x with the smallest residual within the kept singular values.
    pub fn pinv(&self, y: &[f32]) -> Vec<f32> {
        self.check_measurement(y);
        match &self.linear {
            Linear::Mask(mask) => mask.scatter(y, |_| 0.0),
            Linear::Separable(map) => map.pinv(y),
            Linear::Identity => y.to_vec(),
        }
    }

    /// Hᵀ(r²HHᵀ + σ²I)⁻¹ y: the pull-back of a residual whose covariance is r²HHᵀ + σ²I (`r2` > 0, `sigma2` ≥ 0).
    ///
    /// By the singular values s it is V diag(s/(r²s² + σ²)) Uᵀ y with s = 0 ↦ 0. Without noise that is H†y/r², with the
    /// spec's cut-off; with noise nothing needs to be cut off, and all modes count.
    pub fn regularised_inverse(&self, y: &[f32], r2: f64, sigma2: f64) -> Vec<f32> {
        self.check_measurement(y);
        let scaled = |image: Vec<f32>, gain: f64| -> Vec<f32> {
            image.into_iter().map(|v| (gain * f64::from(v)) as f32).collect()
        };
        match &self.linear {
            Linear::Separable(map) if sigma2 > 0.0 => map.regularised_inverse(y, r2, sigma2),
            Linear::Separable(map) => scaled(map.pinv(y), 1.0 / r2),
            Linear::Mask(_) | Linear::Identity => scaled(self.adjoint(y), 1.0 / (r2 + sigma2)),
        }
    }

    /// As [`Self::pinv`], but a mask's hole holds the mean of its channel's observed entries instead of zeros.
    pub fn mean_fill(&self, y: &[f32]) -> Vec<f32> {
        match &self.linear {
            Linear::Mask(mask) => {
                self.check_measurement(y);
                mask.scatter(y, mean)
            }
            Linear::Separable(_) | Linear::Identity => self.pinv(y),
        }
    }

    /// H†H x: the orthogonal projection onto the span of the kept right singular vectors. It is symmetric, so it is
    /// its own adjoint.
    pub fn range_projection(&self, x: &[f32]) -> Vec<f32> {
        self.check_image(x);
        match &self.linear {
            Linear::Mask(mask) => mask.scatter(&mask.gather(x), |_| 0.0),
            Linear::Separable(map) => map.range_projection(x),
            Linear::Identity => x.to_vec(),
        }
    }

    /// The image-shaped form of a measurement that a backward solve starts from.
    ///
    /// `auto` is y itself where H keeps the image's shape (blur, identity) and H†y elsewhere.
    pub fn lift(&self, y: &[f32], lift: Lift) -> Result<Vec<f32>, OperatorError> {
        let image_shaped = self.measurement_shape() == Some(self.shape);
        match lift {
            Lift::Measurement if !image_shaped => Err(OperatorError::NotLiftable),
            Lift::Adjoint => Ok(self.adjoint(y)),
            Lift::Auto | Lift::Measurement if image_shaped => {
                self.check_measurement(y);
                Ok(y.to_vec())
            }
            Lift::Auto | Lift::Measurement | Lift::Pinv => Ok(self.pinv(y)),
        }
    }

    fn check_image(&self, x: &[f32]) {
        assert_eq!(x.len(), self.shape.dim(), "an image of shape {} is needed", self.shape);
    }

    fn check_measurement(&self, y: &[f32]) {
        assert_eq!(y.len(), self.measurement_dim(), "a measurement of every observed entry is needed");
    }
}

/// y = H x + σ n with n ~ N(0, I) of y's dimension; `sigma` is on the scale of x ([−1, 1]). y is not clipped.
///
/// `stream` must be the sample's [`Purpose::MeasurementNoise`](crate::random::Purpose::MeasurementNoise) stream;
/// nothing is drawn for σ = 0.
pub fn measure(operator: &Operator, x: &[f32], sigma: f64, stream: &mut Stream) -> Vec<f32> {
    let mut y = operator.apply(x);
    if sigma > 0.0 {
        for entry in &mut y {
            *entry = (f64::from(*entry) + sigma * stream.normal()) as f32;
        }
    }
    y
}

fn mean(values: &[f32]) -> f32 {
    (values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64) as f32
}

/// The cut-off's value and whether it compares products; [`PinvCutoff::None`] is a cut at zero.
const fn cutoff_value(cutoff: PinvCutoff) -> f64 {
    match cutoff {
        PinvCutoff::None => 0.0,
        PinvCutoff::PerAxis(value) | PinvCutoff::Product(value) => value,
    }
}

#[cfg(test)]
mod tests;
