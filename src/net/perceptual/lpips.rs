//! LPIPS: the distance of two images in the layers of a classifier (Zhang et al. 2018, arXiv 1801.03924).
//!
//! In every layer the features of a pixel are divided by their norm over the channels; the squared differences are
//! weighted per channel (the heads, version 0.1), averaged over the pixels, and the layers added up. Images are shifted
//! and scaled to the statistics of the trunk's training first. Features are f32, everything behind them f64.
//! After the `lpips` package 0.1.4 and torchmetrics 1.9.0, which differ in [`Normalization`].

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::net::kernel::{InstructionSet, Team};
use crate::net::weights::Weights;

use super::chain::{Chain, Trace};
use super::layer::{self, build};
use super::value::{Value, clamped};
use super::{LpipsReadOut, PerceptualError, Trunk};

const CHANNELS: usize = 3;
const SHIFT: [f32; CHANNELS] = [-0.030, -0.088, -0.188];
pub(super) const SCALE: [f32; CHANNELS] = [0.458, 0.448, 0.450];
/// No trunk needs more; only a bound for the search.
const MAX_LEAST: usize = 256;

/// How the features f of a pixel are brought to length 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// f/√(Σf² + 10⁻⁸): torchmetrics since October 2023, so the paper.
    #[default]
    Torchmetrics,
    /// f/(√(Σf²) + 10⁻¹⁰): the `lpips` package.
    PerceptualSimilarity,
}

impl Normalization {
    /// The divisor of a pixel's features.
    pub(super) fn divisor(self, features: &[f32]) -> f64 {
        let squares: f64 = features.iter().map(|f| f64::from(*f).powi(2)).sum();
        match self {
            Self::Torchmetrics => (squares + 1e-8).sqrt(),
            Self::PerceptualSimilarity => squares.sqrt() + 1e-10,
        }
    }

    /// (divisor · its derivative in the squared norm · 2): 1 where the divisor is the norm of what it divides, give or
    /// take ε. 0 for features that are all zero, where the norm has no derivative.
    pub(super) fn slope(self, divisor: f64) -> f64 {
        match self {
            Self::Torchmetrics => 1.0,
            Self::PerceptualSimilarity if divisor <= 1e-10 => 0.0,
            Self::PerceptualSimilarity => divisor / (divisor - 1e-10),
        }
    }
}

/// The distance of two images.
#[derive(Debug, Clone, PartialEq)]
pub struct LpipsScore {
    /// The sum of the layers; 0 for equal images.
    pub total: f64,
    /// The terms of the layers, each at least 0.
    pub layers: Vec<f64>,
}

/// The LPIPS distance through one trunk: 0 for equal images, larger for images that look less alike. Clones share the
/// weights.
#[derive(Debug, Clone)]
pub struct Lpips {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    trunk: Trunk,
    slices: Vec<Chain>,
    /// Weights of the channels, by layer.
    heads: Vec<Vec<f32>>,
    normalization: Normalization,
    /// The smallest side of an image.
    least: usize,
}

impl Lpips {
    /// The metric of a trunk's weights (names after `features.`, such as `0.weight`) and its heads
    /// (`lin0.model.1.weight` and so on).
    ///
    /// # Errors
    /// Weights that do not fit, heads of another trunk or with a negative weight, or an unknown `DFLOW_CPU`.
    pub fn new(
        trunk: Trunk,
        normalization: Normalization,
        weights: &Weights,
        heads: &Weights,
    ) -> Result<Self, PerceptualError> {
        let (slices, set) = (trunk.slices(), InstructionSet::detect()?);
        weights.check(&slices.iter().flat_map(|slice| layer::tensors(slice)).collect::<Vec<_>>())?;
        let heads = check_heads(trunk, heads)?;
        let slices: Result<Vec<Chain>, _> = slices.iter().map(|slice| build(slice, weights, set)).collect();
        let mut inner = Inner { trunk, slices: slices?, heads, normalization, least: 0 };
        let least = (1..MAX_LEAST).find(|&side| inner.fits([side, side]));
        inner.least = least.expect("every trunk takes an image of 256 pixels");
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Its trunk.
    pub fn trunk(&self) -> Trunk {
        self.inner.trunk
    }

    /// The distance of two images of `sides` `[3, height, width]`, values in [−1, 1] (clamped first).
    ///
    /// # Errors
    /// [`PerceptualError::Sides`], [`PerceptualError::Length`], [`PerceptualError::TooSmall`] and
    /// [`PerceptualError::NotFinite`].
    pub fn distance(&self, a: &[f32], b: &[f32], sides: [usize; 3]) -> Result<LpipsScore, PerceptualError> {
        let reference = self.inner.layers_of(b, sides)?;
        let mut x = self.inner.input(a, sides)?;
        let mut layers = Vec::with_capacity(reference.len());
        for (slice, (chain, reference)) in self.inner.slices.iter().zip(&reference).enumerate() {
            x = chain.forward(&x, Team::SOLO);
            layers.push(self.inner.term(slice, &x, reference));
        }
        Ok(LpipsScore { total: layers.iter().sum(), layers })
    }

    /// The distance to a fixed image, as a differentiable read-out of one number.
    ///
    /// # Errors
    /// As [`Self::distance`].
    pub fn read_out(&self, reference: &[f32], sides: [usize; 3]) -> Result<LpipsReadOut, PerceptualError> {
        LpipsReadOut::new(self.clone(), reference, sides)
    }
}

/// The heads as weights of channels, layer by layer.
fn check_heads(trunk: Trunk, heads: &Weights) -> Result<Vec<Vec<f32>>, PerceptualError> {
    let name = |layer: usize| format!("lin{layer}.model.1.weight");
    let channels = |layer: usize| heads.get(&name(layer)).and_then(|head| head.shape.get(1)).copied();
    let found: Vec<usize> = (0..).map_while(channels).collect();
    let wanted = trunk.channels();
    // Heads of another trunk say so; anything else is told tensor by tensor.
    if !found.is_empty() && found != wanted && found.len() == heads.len() {
        let (path, wanted) = (heads.path().to_owned(), wanted.to_vec());
        return Err(PerceptualError::WrongHeads { path, found, trunk, wanted });
    }
    let tensors: Vec<_> =
        wanted.iter().enumerate().map(|(layer, &n)| (name(layer), vec![1, n, 1, 1])).collect();
    heads.check(&tensors)?;
    let values = |(tensor, _): &(String, Vec<usize>)| {
        let values = &heads.get(tensor).expect("the tensors have been checked").values;
        match values.iter().find(|value| **value < 0.0) {
            None => Ok(values.clone()),
            Some(&value) => {
                let (path, tensor) = (heads.path().to_owned(), tensor.clone());
                Err(PerceptualError::NegativeHead { path, tensor, value })
            }
        }
    };
    tensors.iter().map(values).collect()
}

impl Inner {
    /// Whether every layer of an image of `sides` has a pixel.
    fn fits(&self, sides: [usize; 2]) -> bool {
        self.slices.iter().try_fold(sides, |sides, slice| slice.output(sides)).is_some()
    }

    /// What the trunk sees of an image.
    pub(super) fn input(&self, image: &[f32], sides: [usize; 3]) -> Result<Value, PerceptualError> {
        let image = clamped(image, sides, CHANNELS)?;
        let [_, height, width] = sides;
        if !self.fits([height, width]) {
            let (network, least) = (self.trunk.name(), self.least);
            return Err(PerceptualError::TooSmall { height, width, network, least });
        }
        let mut x = Value::from_planes(&image, sides);
        for pixel in x.data.chunks_exact_mut(CHANNELS) {
            (0..CHANNELS).for_each(|c| pixel[c] = (pixel[c] - SHIFT[c]) / SCALE[c]);
        }
        Ok(x)
    }

    /// The layers of an image.
    pub(super) fn layers_of(&self, image: &[f32], sides: [usize; 3]) -> Result<Vec<Value>, PerceptualError> {
        let mut layers: Vec<Value> = Vec::with_capacity(self.slices.len());
        let input = self.input(image, sides)?;
        for slice in &self.slices {
            layers.push(slice.forward(layers.last().unwrap_or(&input), Team::SOLO));
        }
        Ok(layers)
    }

    /// The traces of all slices of an input.
    pub(super) fn traces(&self, input: &Value, team: Team) -> Vec<Trace> {
        let mut traces: Vec<Trace> = Vec::with_capacity(self.slices.len());
        for slice in &self.slices {
            let x = traces.last().map_or(input, Trace::output);
            traces.push(slice.trace(x, team));
        }
        traces
    }

    /// Σ of the layers' distances for traced layers.
    pub(super) fn total(&self, traces: &[Trace], reference: &[Value]) -> f64 {
        let term = |(layer, (trace, reference)): (usize, (&Trace, &Value))| {
            self.term(layer, trace.output(), reference)
        };
        traces.iter().zip(reference).enumerate().map(term).sum()
    }

    /// The gradient of [`Self::total`] times `factor` in the input.
    pub(super) fn gradient(
        &self,
        input: &Value,
        traces: &[Trace],
        reference: &[Value],
        factor: f64,
        team: Team,
    ) -> Value {
        let mut cotangent: Option<Value> = None;
        for layer in (0..self.slices.len()).rev() {
            let mut own = self.term_gradient(layer, traces[layer].output(), &reference[layer], factor);
            if let Some(later) = &cotangent {
                own.add(later);
            }
            let x = layer.checked_sub(1).map_or(input, |before| traces[before].output());
            cotangent = Some(self.slices[layer].pull_back(x, &traces[layer], own, team));
        }
        cotangent.expect("a trunk has a layer")
    }

    /// The mean over pixels of Σ w (n(a) − n(b))².
    fn term(&self, layer: usize, a: &Value, b: &Value) -> f64 {
        let head = &self.heads[layer];
        let pixel = |(a, b): (&[f32], &[f32])| {
            let (by_a, by_b) = (self.normalization.divisor(a), self.normalization.divisor(b));
            let term = |((a, b), w): ((&f32, &f32), &f32)| {
                f64::from(*w) * (f64::from(*a) / by_a - f64::from(*b) / by_b).powi(2)
            };
            a.iter().zip(b).zip(head).map(term).sum::<f64>()
        };
        a.pixels().zip(b.pixels()).map(pixel).sum::<f64>() / (a.sides[0] * a.sides[1]) as f64
    }

    /// The gradient of [`Self::term`] times `factor` in `a`.
    fn term_gradient(&self, layer: usize, a: &Value, b: &Value, factor: f64) -> Value {
        let mut gradient = Value::zeros(a.sides, a.channels);
        let factor = 2.0 * factor / (a.sides[0] * a.sides[1]) as f64;
        let pixels = gradient.data.chunks_exact_mut(a.channels).zip(a.pixels().zip(b.pixels()));
        let mut unit = vec![0.0_f64; a.channels];
        for (out, (a, b)) in pixels {
            let (by_a, by_b) = (self.normalization.divisor(a), self.normalization.divisor(b));
            unit.iter_mut().zip(a).for_each(|(n, a)| *n = f64::from(*a) / by_a);
            // g = ∂term/∂n(a), then ∂n/∂a = (1 − slope·n nᵀ)/divisor.
            let g = |c: usize| factor * f64::from(self.heads[layer][c]) * (unit[c] - f64::from(b[c]) / by_b);
            let along = self.normalization.slope(by_a) * (0..unit.len()).map(|c| g(c) * unit[c]).sum::<f64>();
            out.iter_mut().enumerate().for_each(|(c, out)| *out = ((g(c) - along * unit[c]) / by_a) as f32);
        }
        gradient
    }
}
