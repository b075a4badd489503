//! How good a flow model is on held-out images: its flow-matching loss beside that of the best linear field.

use crate::flow::{Cond, FieldError, Rows, VelocityField};
use crate::path::Path;
use crate::random::{Purpose, Stream};

/// Rows of one network call.
const BATCH: usize = 16;

/// An image with what a conditional model is told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// Sample id: keys its draws.
    pub id: String,
    /// The image x₁.
    pub image: Vec<f32>,
    /// Its condition.
    pub cond: Cond,
}

/// Mean squared velocity error per number of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlowMatchingLoss {
    /// Mean over all images and draws.
    pub mean: f64,
    /// Standard error of the mean over images.
    pub standard_error: f64,
    /// Images.
    pub images: usize,
}

/// E ‖u_t(x_t) − (α'x₁ + σ'x₀)‖² / d with x_t = αx₁ + σx₀, over held-out images, t uniform in [0, 1] and x₀ normal.
///
/// `draws` pairs (t, x₀) an image, from the stream (seed, dataset, id, held-out loss): the same for every model. The
/// times of one image are stratified, one in every `draws`-th of [0, 1].
///
/// # Errors
/// If the field cannot be evaluated.
pub fn flow_matching_loss(
    field: &mut dyn VelocityField<f32>,
    path: &Path,
    (seed, dataset): (u64, &str),
    images: &[HeldOut],
    draws: usize,
) -> Result<FlowMatchingLoss, FieldError> {
    let mut losses = Vec::with_capacity(images.len());
    for batch in images.chunks(BATCH) {
        let mut sums = vec![0.0; batch.len()];
        let mut streams: Vec<_> =
            batch.iter().map(|image| Stream::new(seed, dataset, &image.id, Purpose::HeldOutLoss)).collect();
        for draw in 0..draws {
            let points = batch.iter().zip(&mut streams).map(|(image, stream)| {
                let t = (draw as f64 + stream.uniform()) / draws as f64;
                Point::new(path, t, &image.image, stream)
            });
            add_errors(field, batch, &points.collect::<Vec<_>>(), &mut sums)?;
        }
        losses.extend(sums.into_iter().map(|sum| sum / draws as f64));
    }
    Ok(FlowMatchingLoss::of(&losses))
}

impl FlowMatchingLoss {
    fn of(losses: &[f64]) -> Self {
        let n = losses.len() as f64;
        let mean = losses.iter().sum::<f64>() / n;
        let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Self { mean, standard_error: (variance / n).sqrt(), images: losses.len() }
    }
}

/// A point of the path and the velocity there, given its ends.
struct Point {
    t: f64,
    x: Vec<f32>,
    velocity: Vec<f32>,
}

impl Point {
    fn new(path: &Path, t: f64, image: &[f32], stream: &mut Stream) -> Self {
        let at = path.at(t);
        let mut point =
            Self { t, x: Vec::with_capacity(image.len()), velocity: Vec::with_capacity(image.len()) };
        for &x1 in image {
            let (x1, x0) = (f64::from(x1), stream.normal());
            point.x.push((at.alpha * x1 + at.sigma * x0) as f32);
            point.velocity.push((at.d_alpha * x1 + at.d_sigma * x0) as f32);
        }
        point
    }
}

/// Adds each row's mean squared error to its sum.
fn add_errors(
    field: &mut dyn VelocityField<f32>,
    batch: &[HeldOut],
    points: &[Point],
    sums: &mut [f64],
) -> Result<(), FieldError> {
    let t: Vec<f64> = points.iter().map(|point| point.t).collect();
    let cond: Vec<Cond> = batch.iter().map(|image| image.cond).collect();
    let x: Vec<f32> = points.iter().flat_map(|point| &point.x).copied().collect();
    let mut u = vec![0.0; x.len()];
    field.velocity(Rows { t: &t, x: &x, cond: &cond }, &mut u)?;
    for ((sum, point), u) in sums.iter_mut().zip(points).zip(u.chunks_exact(field.dim())) {
        let error: f64 = u.iter().zip(&point.velocity).map(|(u, v)| f64::from(u - v).powi(2)).sum();
        *sum += error / u.len() as f64;
    }
    Ok(())
}

/// The flow-matching loss of the best linear field on the Cond-OT path, for data whose covariance has the eigenvalues
/// `variances`: (π/2)·mean √λᵢ.
///
/// In each eigendirection the velocity given x_t has the variance λ/((1 − t)² + t²λ), whose mean over t is (π/2)√λ.
/// A network must be clearly below it to have learnt more than the covariance.
pub fn best_linear_loss(variances: &[f64]) -> f64 {
    let roots = variances.iter().map(|variance| variance.max(0.0).sqrt());
    std::f64::consts::FRAC_PI_2 * roots.sum::<f64>() / variances.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::GaussianField;

    fn gaussian_images(variances: &[f64], n: usize) -> Vec<HeldOut> {
        let mut stream = Stream::new(1, "images", "", Purpose::Image);
        let mut image = || variances.iter().map(|v| (v.sqrt() * stream.normal()) as f32).collect();
        (0..n).map(|i| HeldOut { id: i.to_string(), image: image(), cond: Cond::None }).collect()
    }

    #[test]
    fn a_gaussians_own_field_has_the_best_linear_loss() {
        let variances = [0.01, 0.25, 1.0, 4.0];
        let mut field = GaussianField::diagonal(Path::CondOt, vec![0.0; 4], variances.to_vec()).unwrap();
        let images = gaussian_images(&variances, 4000);
        let loss = flow_matching_loss(&mut field, &Path::CondOt, (0, "check"), &images, 4).unwrap();
        // The field is the best of all, so the loss is the closed form, within four standard errors.
        assert!((loss.mean - best_linear_loss(&variances)).abs() < 4.0 * loss.standard_error, "{loss:?}");
        assert!(loss.standard_error < 0.02 * loss.mean, "{loss:?}");
    }

    #[test]
    fn draws_belong_to_images_whatever_the_batch() {
        let variances = [0.5; 3];
        let mut field = GaussianField::diagonal(Path::CondOt, vec![0.0; 3], vec![1.0; 3]).unwrap();
        let images = gaussian_images(&variances, 40);
        let mut loss = |images: &[HeldOut]| {
            flow_matching_loss(&mut field, &Path::CondOt, (0, "check"), images, 2).unwrap().mean
        };
        let each: f64 = images.iter().map(|image| loss(std::slice::from_ref(image))).sum();
        // Equal but for the order of one sum.
        assert!((loss(&images) - each / 40.0).abs() < 1e-12);
    }
}
