//! What is done to x₀ between outer steps.

use super::problem::Points;
use crate::spec::method::StandardDeviation;

/// Shifts and scales every column over the atoms to mean 0 and standard deviation 1 (D-Flow, App. B.3).
///
/// With a single atom, or in a column that is constant or not finite, there is no deviation to divide by: such a column
/// is left as it is (one atom) or only shifted. Sums are f64.
pub(super) fn per_feature(state: &mut [f32], points: Points, std: StandardDeviation) {
    let Points { count, columns } = points;
    if count < 2 {
        return;
    }
    let n = count as f64;
    let divisor = match std {
        StandardDeviation::Unbiased => n - 1.0,
        StandardDeviation::Biased => n,
    };
    for column in 0..columns {
        let values = || (0..count).map(|row| row * columns + column);
        let mean = values().map(|i| f64::from(state[i])).sum::<f64>() / n;
        let squares: f64 =
            values().map(|i| (f64::from(state[i]) - mean) * (f64::from(state[i]) - mean)).sum();
        let deviation = (squares / divisor).sqrt();
        let scale = if deviation > 0.0 && deviation.is_finite() { deviation.recip() } else { 1.0 };
        for i in values() {
            state[i] = ((f64::from(state[i]) - mean) * scale) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: Points = Points { count: 4, columns: 2 };

    #[test]
    fn columns_have_mean_zero_and_deviation_one() {
        // Column 0: 1, 2, 3, 6 has mean 3 and squares 4 + 1 + 0 + 9 = 14.
        for (std, deviation) in [
            (StandardDeviation::Unbiased, (14.0_f64 / 3.0).sqrt()),
            (StandardDeviation::Biased, (14.0_f64 / 4.0).sqrt()),
        ] {
            let mut state = [1.0, 7.0, 2.0, 7.0, 3.0, 7.0, 6.0, 7.0];
            per_feature(&mut state, POINTS, std);
            for (value, centred) in state.iter().step_by(2).zip([-2.0, -1.0, 0.0, 3.0]) {
                assert!((f64::from(*value) - centred / deviation).abs() < 1e-6);
            }
            assert!(state.iter().skip(1).step_by(2).all(|v| *v == 0.0), "a constant column is only shifted");
        }
    }

    #[test]
    fn one_atom_is_left_alone() {
        let mut state = [3.0, 4.0];
        per_feature(&mut state, Points { count: 1, columns: 2 }, StandardDeviation::Unbiased);
        assert_eq!(state, [3.0, 4.0]);
    }
}
