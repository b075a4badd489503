//! Paired comparison of two methods on the samples that both solved, with bootstrap intervals.

use std::collections::BTreeMap;

use super::aggregate::{Group, capped};
use super::table::Cell;
use crate::metric::Metric;
use crate::random::{Purpose, Stream};

/// Differences `a − b` of a metric over the samples that both cells have.
pub fn differences(metric: &Metric, a: &Group<'_>, b: &Group<'_>) -> Vec<f64> {
    let other: BTreeMap<&str, f64> =
        b.ok.iter().filter_map(|record| Some((record.sample_id.as_str(), capped(metric, record)?))).collect();
    let difference = |record: &&crate::store::Record| {
        Some(capped(metric, record)? - other.get(record.sample_id.as_str())?)
    };
    a.ok.iter().filter_map(difference).collect()
}

/// Mean difference with its 95 % percentile bootstrap interval; from two pairs on.
///
/// 2,000 resamples, fewer above 2,000 pairs, where the interval no longer depends on their number. The stream is keyed
/// by `label`, so that the same rows give the same interval.
pub fn interval(differences: &[f64], digits: usize, label: &str) -> Cell {
    let n = differences.len();
    if n < 2 {
        return Cell::Missing;
    }
    let mut stream = Stream::new(0, "bootstrap", label, Purpose::Bootstrap);
    let mut draw = || differences[((stream.uniform() * n as f64) as usize).min(n - 1)];
    let resamples = (4_000_000 / n).clamp(400, 2000);
    let mut means: Vec<f64> =
        (0..resamples).map(|_| (0..n).map(|_| draw()).sum::<f64>() / n as f64).collect();
    means.sort_by(f64::total_cmp);
    let quantile = |q: f64| means[(q * (resamples - 1) as f64).round() as usize];
    let value = differences.iter().sum::<f64>() / n as f64;
    Cell::Interval { value, low: quantile(0.025), high: quantile(0.975), digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_normal_sample_is_the_normal_one() {
        let mut stream = Stream::new(1, "paired", "x", Purpose::Init);
        let sample: Vec<f64> = (0..400).map(|_| 0.3 + stream.normal()).collect();
        let Cell::Interval { value, low, high, .. } = interval(&sample, 2, "x") else {
            panic!("an interval")
        };
        let half = 1.96 / 20.0;
        // 15 %: sampling error of s (4 %) and of the percentiles of 2,000 resamples (5 %).
        assert!(((high - low) / (2.0 * half) - 1.0).abs() < 0.15, "{low} {high}");
        assert!(low < value && value < high);
    }

    #[test]
    fn the_interval_depends_on_rows_and_label_only() {
        let sample = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(interval(&sample, 2, "a"), interval(&sample, 2, "a"));
        assert_eq!(interval(&sample[..1], 2, "a"), Cell::Missing);
    }
}
