//! Networks that metrics see images through: features for Fréchet and kernel distances, and LPIPS.
//!
//! [`load_features`] and [`load_lpips`] read a model file and its weights. A [`FeatureNet`] maps one image to a vector;
//! [`Lpips`] compares two images, and is a differentiable read-out of one against a fixed other ([`LpipsReadOut`]).
//! An image is `[channels, height, width]` in row-major order, values in [−1, 1]; what lies outside is clamped first.
//! A network evaluates one image on one thread: run images side by side. Results are bit-identical whatever runs beside.
//!
//! `layer` describes a network, `chain` evaluates one (each step with its pull-back), `inception`, `stack` and
//! `trunk` are the networks.

mod chain;
mod conv;
mod error;
mod inception;
mod layer;
mod lpips;
mod pool;
mod read_out;
mod resize;
mod stack;
#[cfg(test)]
mod testing;
mod trunk;
mod value;

pub use super::model::{
    FeaturesFile, LoadedFeatures, LoadedLpips, LpipsFile, feature_names, load_features, load_lpips,
};
pub use error::PerceptualError;
pub use inception::{Inception, InceptionConfig, Scaling};
pub use lpips::{Lpips, LpipsScore, Normalization};
pub use read_out::LpipsReadOut;
pub use resize::Resize;
pub use stack::{ConvStack, ConvStackConfig};
pub use trunk::Trunk;

/// A network whose features of images are compared as sets, such as by the Fréchet distance.
pub trait FeatureNet: Send + Sync + std::fmt::Debug {
    /// Numbers in a feature vector.
    fn dims(&self) -> usize;

    /// Features of one image of `sides` `[channels, height, width]`, values in [−1, 1] (clamped first).
    ///
    /// # Errors
    /// [`PerceptualError::Sides`], [`PerceptualError::Length`], [`PerceptualError::TooSmall`] and
    /// [`PerceptualError::NotFinite`].
    fn features(&self, image: &[f32], sides: [usize; 3]) -> Result<Vec<f32>, PerceptualError>;
}

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod tests;
