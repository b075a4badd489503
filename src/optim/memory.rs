//! The limited memory of L-BFGS: the last (s, y) pairs and the two-loop recursion over them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::vector::{add_scaled, dot, negated, scale};
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
}

impl<T: Real> Memory<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, pairs: VecDeque::new(), stored: 0, initial_scale: 1.0 }
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
        if self.capacity > 0 {
            self.pairs.push_back(Pair { s, y, rho: 1.0 / curvature });
        }
        self.stored += 1;
    }

    /// −H·g by the two-loop recursion (Nocedal & Wright, Algorithm 7.4).
    pub(super) fn direction(&self, gradient: &[T]) -> Vec<T> {
        let mut q = negated(gradient);
        let mut weights = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let weight = dot(&pair.s, &q) * pair.rho;
            add_scaled(&mut q, -weight, &pair.y);
            weights.push(weight);
        }
        scale(&mut q, self.initial_scale);
        for (pair, weight) in self.pairs.iter().zip(weights.into_iter().rev()) {
            let correction = dot(&pair.y, &q) * pair.rho;
            add_scaled(&mut q, weight - correction, &pair.s);
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
