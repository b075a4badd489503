//! The limited memory of L-BFGS: the last (s, y) pairs and the two-loop recursion over them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::bands::Bands;
use super::vector::{add_scaled, add_scaled_dot, dot, negated, scale};
use crate::real::Real;

/// yᵀs must exceed this for a pair to be kept (torch's constant).
const LEAST_CURVATURE: f64 = 1e-10;

/// One step and its change of gradient; it never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "T: Real")]
pub struct Pair<T> {
    s: Vec<T>,
    y: Vec<T>,
    /// 1 / yᵀs.
    rho: f64,
}

/// The last pairs, oldest first; a pair never changes once it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "T: Real")]
pub(super) struct Memory<T> {
    capacity: usize,
    pairs: VecDeque<Pair<T>>,
    /// Pairs ever stored: the number of the newest.
    stored: u64,
    /// Scale of the initial inverse Hessian, yᵀs / yᵀy of the newest pair.
    initial_scale: f64,
    /// The initial inverse Hessian by bands, if it may be that, and whether it is at present.
    bands: Option<Bands>,
    uses_bands: bool,
}

impl<T: Real> Memory<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let (pairs, stored, initial_scale) = (VecDeque::new(), 0, 1.0);
        Self { capacity, pairs, stored, initial_scale, bands: None, uses_bands: false }
    }

    /// Learns the initial inverse Hessian by bands; it is the scalar until it is [used](Self::use_bands).
    pub(super) fn learn_bands(&mut self, bands: Bands) {
        self.bands = Some(bands);
    }

    /// Whether directions start from the inverse Hessian by bands, where it is learnt.
    pub(super) fn use_bands(&mut self, are_used: bool) {
        self.uses_bands = are_used;
    }

    /// q ← H₀q.
    fn apply_initial(&self, q: &mut [T]) {
        let is_applied = self.uses_bands && self.bands.as_ref().is_some_and(|bands| bands.apply(q));
        if !is_applied {
            scale(q, self.initial_scale);
        }
    }

    /// Stores the pair (s, y) if its curvature is positive enough, dropping the oldest of a full memory.
    pub(super) fn push(&mut self, s: Vec<T>, y: Vec<T>) {
        let curvature = dot(&y, &s);
        if curvature <= LEAST_CURVATURE || curvature.is_nan() {
            return;
        }
        if self.pairs.len() == self.capacity {
            self.pairs.pop_front();
        }
        self.initial_scale = curvature / dot(&y, &y);
        if let Some(bands) = &mut self.bands {
            bands.learn(&s, &y, curvature);
        }
        if self.capacity > 0 {
            self.pairs.push_back(Pair { s, y, rho: 1.0 / curvature });
        }
        self.stored += 1;
    }

    /// −H·g by the two-loop recursion (Nocedal & Wright, Algorithm 7.4).
    pub(super) fn direction(&self, gradient: &[T]) -> Vec<T> {
        let (mut q, pairs) = (negated(gradient), &self.pairs);
        let (Some(oldest), Some(newest)) = (pairs.front(), pairs.back()) else {
            self.apply_initial(&mut q);
            return q;
        };
        // Memory is what this costs: what a pass adds to q is at once multiplied with the next pair, and the pair after it is
        // on its way.
        let pass = |q: &mut Vec<T>, a: f64, add: &[T], next: Option<&[T]>, ahead: [&[T]; 2]| {
            if let Some(next) = next {
                return add_scaled_dot(q, a, add, next, ahead);
            }
            add_scaled(q, a, add);
            0.0
        };
        let s = |i: Option<usize>| i.and_then(|i| pairs.get(i)).map(|pair| &*pair.s);
        let y = |i: Option<usize>| i.and_then(|i| pairs.get(i)).map(|pair| &*pair.y);
        let mut weights = vec![0.0; pairs.len()];
        let mut product = dot(&newest.s, &q);
        for (i, pair) in pairs.iter().enumerate().rev() {
            weights[i] = product * pair.rho;
            let (older, oldest) = (i.checked_sub(1), i.checked_sub(2));
            let ahead = [y(older).unwrap_or_default(), s(oldest).unwrap_or_default()];
            product = pass(&mut q, -weights[i], &pair.y, s(older), ahead);
        }
        self.apply_initial(&mut q);
        product = dot(&oldest.y, &q);
        for (i, pair) in pairs.iter().enumerate() {
            let weight = weights[i] - product * pair.rho;
            let ahead = [s(Some(i + 1)).unwrap_or_default(), y(Some(i + 2)).unwrap_or_default()];
            product = pass(&mut q, weight, &pair.s, y(Some(i + 1)), ahead);
        }
        q
    }

    /// Pairs ever stored.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// The pairs, oldest first; the memory is without them until they are put back.
    pub(super) fn pairs_mut(&mut self) -> &mut VecDeque<Pair<T>> {
        &mut self.pairs
    }
}
