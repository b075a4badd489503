//! EquiFM's output convention: what its network gives is the derivative in noise level, with a factor for the features.
//!
//! EquiFM (arXiv 2312.07168) flows from noise (τ = 1) to data (τ = 0) along a hybrid path: optimal transport for the
//! positions, variance preserving with β from 0.1 to 20 for the features. Its sampler integrates dx/dτ = network for
//! the positions and dh/dτ = M(τ)·network for the features. In flow time t = 1 − τ the velocity is minus that.

use crate::flow::{Cond, FieldError, RawNetwork, Rows, Tape};
use crate::molecule::{Representation, SPACE};

/// β at τ = 0 and its growth in τ.
const BETA: [f64; 2] = [0.1, 19.9];
/// Keeps M finite at τ = 0 in the public code.
const EPSILON: f64 = 1e-5;

/// M(τ) = −β(τ)/2 / (1 − e^{−B(τ)} + 1e-5) with β = 0.1 + 19.9 τ and B = 0.1 τ + 9.95 τ², the integral of β.
fn feature_factor(tau: f64) -> f64 {
    let beta = BETA[0] + BETA[1] * tau;
    let integral = tau * (BETA[0] + 0.5 * BETA[1] * tau);
    // 1 − e^{−B} without cancellation near τ = 0.
    -0.5 * beta / (EPSILON - libm::expm1(-integral))
}

/// A network with EquiFM's output as a network of velocities; it is told the noise level τ.
#[derive(Debug, Clone)]
pub struct EquiFmVelocity<N> {
    network: N,
    columns: usize,
}

/// The network's tape and the times of the call.
struct Taped {
    inner: Tape,
    times: Vec<f64>,
}

impl<N> EquiFmVelocity<N> {
    /// `network` acts on states of this representation.
    pub const fn new(network: N, representation: &Representation) -> Self {
        Self { network, columns: representation.columns() }
    }

    /// Multiplies positions by −1 and features by −M(τ), row by row.
    fn scale(&self, times: &[f64], numbers: &mut [f32]) {
        let dim = numbers.len() / times.len().max(1);
        for (tau, row) in times.iter().zip(numbers.chunks_exact_mut(dim.max(1))) {
            let factor = -feature_factor(*tau) as f32;
            for atom in row.chunks_exact_mut(self.columns) {
                let (position, features) = atom.split_at_mut(SPACE);
                position.iter_mut().for_each(|x| *x = -*x);
                features.iter_mut().for_each(|h| *h *= factor);
            }
        }
    }
}

impl<N: RawNetwork<f32>> RawNetwork<f32> for EquiFmVelocity<N> {
    fn dim(&self) -> usize {
        self.network.dim()
    }

    fn forward(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<(), FieldError> {
        self.network.forward(rows, out)?;
        self.scale(rows.t, out);
        Ok(())
    }

    fn forward_taped(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<Tape, FieldError> {
        let inner = self.network.forward_taped(rows, out)?;
        self.scale(rows.t, out);
        Ok(Box::new(Taped { inner, times: rows.t.to_vec() }))
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[f32], out: &mut [f32]) -> Result<(), FieldError> {
        let Taped { inner, times } = *tape
            .downcast()
            .map_err(|_| FieldError::Other("the tape belongs to another field".to_owned()))?;
        let mut scaled = cotangent.to_vec();
        self.scale(&times, &mut scaled);
        self.network.pull_back(inner, &scaled, out)
    }

    fn extent(&self, cond: &Cond) -> usize {
        self.network.extent(cond)
    }

    fn tape_bytes_per_row(&self) -> usize {
        self.network.tape_bytes_per_row() + size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// out = 2·x.
    struct Double;

    impl RawNetwork<f32> for Double {
        fn dim(&self) -> usize {
            Representation::QM9.dim()
        }

        fn forward(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<(), FieldError> {
            out.iter_mut().zip(rows.x).for_each(|(out, x)| *out = 2.0 * x);
            Ok(())
        }

        fn forward_taped(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<Tape, FieldError> {
            self.forward(rows, out)?;
            Ok(Box::new(()))
        }

        fn pull_back(&mut self, _: Tape, cotangent: &[f32], out: &mut [f32]) -> Result<(), FieldError> {
            out.iter_mut().zip(cotangent).for_each(|(out, g)| *out = 2.0 * g);
            Ok(())
        }

        fn tape_bytes_per_row(&self) -> usize {
            0
        }
    }

    #[test]
    fn the_factor_is_the_published_one() {
        // −0.5·b/(1 − exp(−B) + 1e-5) of the public sampler, in f64.
        for (tau, expected) in [(0.0, -5000.0), (0.5, -5.456344863520517), (1.0, -10.00033186850391)] {
            let factor = feature_factor(tau);
            // The cancellation in 1 − exp(−B), and roundings.
            assert!((factor / expected - 1.0_f64).abs() < 1e-13, "{tau}: {factor}");
        }
    }

    #[test]
    fn columns_are_scaled_forward_and_back() {
        let mut network = EquiFmVelocity::new(Double, &Representation::QM9);
        let dim = network.dim();
        let (x, cond) = (vec![1.0; 2 * dim], [Cond::Atoms(29); 2]);
        let (mut out, mut gradient) = (vec![0.0; 2 * dim], vec![0.0; 2 * dim]);
        let tape = network.forward_taped(Rows { t: &[0.5, 1.0], x: &x, cond: &cond }, &mut out).unwrap();
        network.pull_back(tape, &x, &mut gradient).unwrap();
        assert_eq!(out, gradient);
        for (row, tau) in out.chunks_exact(dim).zip([0.5, 1.0]) {
            for (i, value) in row.iter().enumerate() {
                let expected = if i % 9 < 3 { -2.0 } else { 2.0 * -feature_factor(tau) as f32 };
                assert_eq!(*value, expected);
            }
        }
    }
}
