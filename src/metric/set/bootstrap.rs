//! How far a Fréchet distance moves if other samples of the same kind are drawn.

use rayon::prelude::*;

use super::kid::below;
use super::{FeatureSet, Reference, SetError, frechet};
use crate::random::{Purpose, Stream};

/// Resamples at hand at once: each holds a copy of the features and three square matrices.
const AT_ONCE: usize = 4;

/// Spread of a Fréchet distance over resamples of the set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Resamples.
    pub resamples: usize,
    /// Mean over the resamples.
    pub mean: f64,
    /// Standard deviation over the resamples (divided by their number − 1): the standard error of the distance.
    pub standard_error: f64,
    /// 2.5 % quantile.
    pub low: f64,
    /// 97.5 % quantile.
    pub high: f64,
}

/// The percentile bootstrap of [`frechet`]: `resamples` sets of n samples drawn with replacement from the set, against
/// the reference as it is.
///
/// A resample has about 0.63 n different samples, and the distance of a smaller set is biased upwards: mean, low and
/// high lie above what the set itself gives, and may not hold it. The standard error has no such shift.
///
/// # Errors
/// As [`frechet`]; fewer than 2 resamples.
pub fn bootstrap(
    reference: &Reference,
    features: &FeatureSet,
    resamples: usize,
    seed: u64,
) -> Result<Interval, SetError> {
    if resamples < 2 {
        return Err(SetError::Resamples(resamples));
    }
    let value = |i: usize| frechet(reference, &resample(features, seed, i)).map(|distance| distance.value);
    let mut values = Vec::with_capacity(resamples);
    for start in (0..resamples).step_by(AT_ONCE) {
        let some = (start..resamples.min(start + AT_ONCE)).into_par_iter().map(value);
        values.extend(some.collect::<Result<Vec<f64>, _>>()?);
    }
    Ok(interval(values))
}

fn resample(features: &FeatureSet, seed: u64, i: usize) -> FeatureSet {
    let mut stream = Stream::new(seed, "frechet", &i.to_string(), Purpose::Bootstrap);
    let n = features.len();
    let rows: Vec<usize> = (0..n).map(|_| below(&mut stream, n)).collect();
    features.select(&rows)
}

/// Of at least two values.
fn interval(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    let quantile = |q: f64| values[(q * (n - 1) as f64).round() as usize];
    let standard_error = (squares / (n - 1) as f64).sqrt();
    Interval { resamples: n, mean, standard_error, low: quantile(0.025), high: quantile(0.975) }
}
