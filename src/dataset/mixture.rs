//! Points of the plane drawn from a mixture of Gaussians: images of shape [2, 1, 1] whose exact flow is known.
//!
//! Equal keys (version, seed, split, index) give equal points on every machine. Values are those of the law, also where
//! they leave [−1, 1], to which image metrics clamp.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::manifest::{Entry, Manifest};
use super::{Dataset, DatasetError, Image, SampleError, Split};
use crate::random::{Purpose, Stream};

/// Channels, height, width of a point.
pub(super) const SHAPE: [usize; 3] = [2, 1, 1];

/// Enters every sample's hash: to be raised whenever any point changes.
const VERSION: u32 = 1;

/// A mixture and how many points of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixtureLayout {
    /// Seed of all points.
    pub seed: u64,
    /// Number of training points.
    pub train: u64,
    /// Number of test points.
    pub test: u64,
    /// The law.
    pub components: Vec<PlaneComponent>,
}

/// A Gaussian in the plane.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaneComponent {
    /// Weight > 0; only ratios matter.
    pub weight: f64,
    /// Mean.
    pub mean: [f64; 2],
    /// Symmetric positive definite covariance.
    pub covariance: [[f64; 2]; 2],
}

impl PlaneComponent {
    /// The lower triangle (l₁₁, l₂₁, l₂₂) of the covariance's Cholesky factor; `None` unless it is symmetric and positive
    /// definite.
    fn factor(&self) -> Option<[f64; 3]> {
        let [[a, b], [c, d]] = self.covariance;
        let first = a.sqrt();
        let below = b / first;
        let last = (d - below * below).sqrt();
        let is_factor =
            b == c && [first, below, last].iter().all(|v| v.is_finite()) && first > 0.0 && last > 0.0;
        is_factor.then_some([first, below, last])
    }
}

impl MixtureLayout {
    /// What is wrong with the law.
    ///
    /// # Errors
    /// No component, or one that is no Gaussian of the plane, by its place.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.components.is_empty() {
            return Err("layout: mixture: components: name at least one".to_owned());
        }
        for (i, component) in self.components.iter().enumerate() {
            let is_finite = component.mean.iter().all(|v| v.is_finite());
            let is_weight = component.weight.is_finite() && component.weight > 0.0;
            if !is_finite || !is_weight || component.factor().is_none() {
                return Err(format!(
                    "layout: mixture: components[{i}]: needs a weight above 0, a finite mean, and a symmetric positive \
                     definite covariance"
                ));
            }
        }
        Ok(())
    }

    /// The point of one sample.
    fn point(&self, split: Split, index: u64) -> [f32; 2] {
        let dataset = format!("mixture v{VERSION}");
        let mut stream = Stream::new(self.seed, &dataset, &sample_id(split, index), Purpose::Image);
        let total: f64 = self.components.iter().map(|component| component.weight).sum();
        let mut left = stream.uniform() * total;
        let below = |component: &&PlaneComponent| {
            left -= component.weight;
            left < 0.0
        };
        let last = self.components.last().expect("a checked law has components");
        let component = self.components.iter().find(below).unwrap_or(last);
        let [first, below, last] = component.factor().expect("a checked covariance has a factor");
        let (a, b) = (stream.normal(), stream.normal());
        let [x, y] = component.mean;
        [(x + first * a) as f32, (y + below * a + last * b) as f32]
    }
}

fn sample_id(split: Split, index: u64) -> String {
    format!("{split}/{index:06}")
}

/// The points of one split, drawn when asked for.
#[derive(Debug)]
pub struct MixturePoints {
    layout: MixtureLayout,
    split: Split,
    manifest: Manifest,
}

impl MixturePoints {
    /// The first `count` points of a split.
    ///
    /// # Errors
    /// If `count` is 0.
    pub fn new(name: &str, layout: &MixtureLayout, split: Split, count: u64) -> Result<Self, DatasetError> {
        let entries = (0..count).map(|index| {
            let [x, y] = layout.point(split, index);
            let bytes = [x.to_le_bytes(), y.to_le_bytes()].concat();
            Entry { label: None, content: blake3::hash(&bytes), id: sample_id(split, index) }
        });
        let manifest = Manifest::new(name, split, None, entries.collect())?;
        Ok(Self { layout: layout.clone(), split, manifest })
    }
}

impl Dataset for MixturePoints {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn shape(&self) -> [usize; 3] {
        SHAPE
    }

    fn image(&self, index: usize) -> Result<Image, SampleError> {
        self.manifest.entry(index)?;
        Ok(Image { data: self.layout.point(self.split, index as u64).to_vec(), shape: SHAPE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> MixtureLayout {
        let component = |weight, mean, covariance| PlaneComponent { weight, mean, covariance };
        let components = vec![
            component(1.0, [0.5, 0.0], [[0.04, 0.03], [0.03, 0.09]]),
            component(3.0, [-0.5, 0.2], [[0.01, 0.0], [0.0, 0.01]]),
        ];
        MixtureLayout { seed: 0, train: 10, test: 4000, components }
    }

    #[test]
    fn points_have_the_moments_of_their_law() {
        let points = MixturePoints::new("m", &layout(), Split::Test, 4000).unwrap();
        let all: Vec<Vec<f32>> = (0..4000).map(|i| points.image(i).unwrap().data).collect();
        let mean = |f: &dyn Fn(f64, f64) -> f64| {
            all.iter().map(|p| f(f64::from(p[0]), f64::from(p[1]))).sum::<f64>() / all.len() as f64
        };
        // Weights ¼ and ¾. Four standard errors of 4,000 points are below 0.03.
        assert!((mean(&|x, _| x) - -0.25).abs() < 0.03);
        assert!((mean(&|_, y| y) - 0.15).abs() < 0.03);
        // E xy = ¼(0.03 + 0) + ¾(−0.5 · 0.2).
        assert!((mean(&|x, y| x * y) - -0.0675).abs() < 0.02);
        assert!((mean(&|_, y| y * y) - (0.25 * 0.09 + 0.75 * 0.05)).abs() < 0.01);
    }

    #[test]
    fn points_are_those_of_their_key() {
        let point = |seed, split, index| MixtureLayout { seed, ..layout() }.point(split, index);
        let base = point(0, Split::Test, 3);
        assert_eq!(base, point(0, Split::Test, 3));
        for other in [point(1, Split::Test, 3), point(0, Split::Train, 3), point(0, Split::Test, 4)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn laws_that_are_none_are_refused_by_their_component() {
        let with = |change: &dyn Fn(&mut PlaneComponent)| {
            let mut layout = layout();
            change(&mut layout.components[1]);
            layout.check().unwrap_err()
        };
        for error in [
            with(&|c| c.weight = 0.0),
            with(&|c| c.mean[0] = f64::NAN),
            with(&|c| c.covariance = [[1.0, 2.0], [2.0, 1.0]]),
            with(&|c| c.covariance = [[1.0, 0.1], [0.2, 1.0]]),
            with(&|c| c.covariance = [[0.0, 0.0], [0.0, 1.0]]),
        ] {
            assert!(error.contains("components[1]"), "{error}");
        }
        assert!(MixtureLayout { components: Vec::new(), ..layout() }.check().is_err());
        assert_eq!(layout().check(), Ok(()));
    }
}
