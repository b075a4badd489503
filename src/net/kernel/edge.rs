//! Element-wise parts of graph networks over the edges of one molecule, and the SiLU of rows.
//!
//! Atoms are rows of `width` channels, whole vectors of any instruction set. A block of edges holds, for each of some
//! neighbouring receivers i, the edges (i, j) for all senders j ≠ i in ascending order. Sums over the senders of a
//! receiver are added up in that order.

use super::simd::{Simd, sigmoid, sum};
use super::{InstructionSet, dispatch};

/// The receivers of a block of edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receivers {
    /// First receiver.
    pub first: usize,
    /// Receivers.
    pub count: usize,
    /// Atoms of the molecule.
    pub atoms: usize,
}

impl Receivers {
    /// Edges of the block.
    pub(crate) const fn edges(self) -> usize {
        self.count * self.senders()
    }

    /// Senders of each receiver.
    pub(crate) const fn senders(self) -> usize {
        self.atoms.saturating_sub(1)
    }

    /// Receiver (in the molecule) and sender of every edge, in order.
    pub(crate) fn pairs(self) -> impl Iterator<Item = (usize, usize)> {
        let receivers = self.first..self.first + self.count;
        receivers.flat_map(move |i| (0..self.atoms).filter(move |j| *j != i).map(move |j| (i, j)))
    }
}

/// The first layer of an edge MLP on a block: z_ij = p_i + q_j + d_ij·w + d⁰_ij·w⁰.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FirstLayer<'a> {
    /// Instruction set.
    pub set: InstructionSet,
    /// Channels.
    pub width: usize,
    /// The block.
    pub receivers: Receivers,
    /// p and q of every atom: `atoms × 2·width`.
    pub projected: &'a [f32],
    /// d and d⁰ of every edge of the block.
    pub distances: [&'a [f32]; 2],
    /// w and w⁰.
    pub slopes: [&'a [f32]; 2],
}

/// Where the pull-back of a [`FirstLayer`] goes.
#[derive(Debug)]
pub(crate) struct FirstGradients<'a> {
    /// To p of the block's receivers, overwritten: rows of `2·width`, of which the first half is written.
    pub receivers: &'a mut [f32],
    /// To q of every atom, overwritten: `atoms × width`.
    pub senders: &'a mut [f32],
    /// To d and d⁰ of the block's edges, added.
    pub distances: [&'a mut [f32]; 2],
}

impl FirstLayer<'_> {
    fn check(&self, rows: &[f32]) {
        let Self { set, width, receivers, projected, distances, slopes } = self;
        assert_eq!(width % set.lanes(), 0, "whole vectors of channels");
        assert!(receivers.first + receivers.count <= receivers.atoms, "receivers are atoms");
        assert_eq!(rows.len(), receivers.edges() * width, "a row for every edge");
        assert!(projected.len() >= receivers.atoms * 2 * width, "p and q of every atom");
        assert!(distances.iter().all(|d| d.len() >= receivers.edges()), "distances of every edge");
        assert!(slopes.iter().all(|w| w.len() >= *width), "a slope for every channel");
    }

    /// `out = silu(z)`, a row for every edge.
    pub(crate) fn forward(&self, out: &mut [f32]) {
        self.check(out);
        // SAFETY: `check` has passed, and the set was detected when the network was built.
        unsafe { first_forward(self.set, self, out) }
    }

    /// Pulls the cotangent `rows` of silu(z) back; z is computed again.
    pub(crate) fn pull_back(&self, rows: &[f32], gradients: FirstGradients<'_>) {
        self.check(rows);
        let Receivers { count, atoms, .. } = self.receivers;
        assert!(gradients.receivers.len() >= count * 2 * self.width, "rows of the receivers");
        assert!(gradients.senders.len() >= atoms * self.width, "rows of the senders");
        assert!(gradients.distances.iter().all(|d| d.len() >= self.receivers.edges()), "every edge");
        // SAFETY: as above, and the gradients have room.
        unsafe { first_pull_back(self.set, self, rows, gradients) }
    }

    /// d and d⁰ of one edge, in every lane.
    ///
    /// # Safety
    /// [`Self::check`] has passed; the CPU has `S`; the block has an edge `e`.
    #[inline(always)]
    unsafe fn distances_of<S: Simd>(&self, e: usize) -> [S::V; 2] {
        unsafe {
            let [near, far] = self.distances;
            [S::splat(*near.get_unchecked(e)), S::splat(*far.get_unchecked(e))]
        }
    }

    /// z of one edge at channel `c`.
    ///
    /// # Safety
    /// [`Self::check`] has passed; the CPU has `S`; `c` is the first channel of a vector.
    #[inline(always)]
    unsafe fn z<S: Simd>(&self, (i, j): (usize, usize), d: [S::V; 2], c: usize) -> S::V {
        unsafe {
            let p = S::load(self.projected.as_ptr().add(i * 2 * self.width + c));
            let q = S::load(self.projected.as_ptr().add((2 * j + 1) * self.width + c));
            let near = S::fma(d[0], S::load(self.slopes[0].as_ptr().add(c)), S::add(p, q));
            S::fma(d[1], S::load(self.slopes[1].as_ptr().add(c)), near)
        }
    }
}

dispatch!(fn first_forward(call: &FirstLayer<'_>, out: &mut [f32]) = first_forward_on);

/// # Safety
/// [`FirstLayer::check`] has passed for `out`; the CPU has `S`.
#[inline(always)]
unsafe fn first_forward_on<S: Simd>(call: &FirstLayer<'_>, out: &mut [f32]) {
    for (e, pair) in call.receivers.pairs().enumerate() {
        unsafe {
            let d = call.distances_of::<S>(e);
            let out = out.as_mut_ptr().add(e * call.width);
            for c in (0..call.width).step_by(S::LANES) {
                let z = call.z::<S>(pair, d, c);
                S::store(out.add(c), S::mul(z, sigmoid::<S>(z)));
            }
        }
    }
}

dispatch!(fn first_pull_back(
    call: &FirstLayer<'_>, rows: &[f32], gradients: FirstGradients<'_>) = first_pull_back_on);

/// # Safety
/// [`FirstLayer::check`] has passed for `rows`, and the gradients have the lengths they state; the CPU has `S`.
#[inline(always)]
unsafe fn first_pull_back_on<S: Simd>(call: &FirstLayer<'_>, rows: &[f32], gradients: FirstGradients<'_>) {
    let FirstGradients { receivers, senders, distances: [near, far] } = gradients;
    let width = call.width;
    senders[..call.receivers.atoms * width].fill(0.0);
    receivers[..call.receivers.count * 2 * width].fill(0.0);
    for (e, pair) in call.receivers.pairs().enumerate() {
        unsafe {
            let d = call.distances_of::<S>(e);
            let row = rows.as_ptr().add(e * width);
            let to_receiver = receivers.as_mut_ptr().add((pair.0 - call.receivers.first) * 2 * width);
            let to_sender = senders.as_mut_ptr().add(pair.1 * width);
            let (mut dot, mut dot_far) = (S::splat(0.0), S::splat(0.0));
            for c in (0..width).step_by(S::LANES) {
                let g = S::mul(S::load(row.add(c)), slope::<S>(call.z::<S>(pair, d, c)));
                S::store(to_receiver.add(c), S::add(S::load(to_receiver.add(c)), g));
                S::store(to_sender.add(c), S::add(S::load(to_sender.add(c)), g));
                dot = S::fma(g, S::load(call.slopes[0].as_ptr().add(c)), dot);
                dot_far = S::fma(g, S::load(call.slopes[1].as_ptr().add(c)), dot_far);
            }
            *near.get_unchecked_mut(e) += sum::<S>(dot);
            *far.get_unchecked_mut(e) += sum::<S>(dot_far);
        }
    }
}

/// silu′(z) = σ + z·σ·(1 − σ).
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
unsafe fn slope<S: Simd>(z: S::V) -> S::V {
    unsafe {
        let s = sigmoid::<S>(z);
        S::fma(S::mul(z, s), S::sub(S::splat(1.0), s), s)
    }
}

/// Messages m = silu(z) of a block, their gate σ(m·w + b), and the gated sum over the senders of each receiver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GatedSum<'a> {
    /// Instruction set.
    pub set: InstructionSet,
    /// Channels.
    pub width: usize,
    /// The block.
    pub receivers: Receivers,
    /// w and b of the gate; without them every gate is 1.
    pub gate: Option<(&'a [f32], f32)>,
    /// Factor of the sums.
    pub scale: f32,
}

impl GatedSum<'_> {
    fn check(&self, z: &[f32], gates: &[f32], sums: &[f32]) {
        assert_eq!(self.width % self.set.lanes(), 0, "whole vectors of channels");
        assert_eq!(z.len(), self.receivers.edges() * self.width, "a row for every edge");
        assert_eq!(gates.len(), self.receivers.edges(), "a gate for every edge");
        assert_eq!(sums.len(), self.receivers.count * self.width, "a sum for every receiver");
        assert!(self.gate.is_none_or(|(w, _)| w.len() >= self.width), "a weight for every channel");
        assert!(self.width <= MAX_WIDTH, "a row of channels fits its buffer");
    }

    /// Writes the gates, and `scale · Σ_j gate_ij · silu(z_ij)` to `sums`.
    pub(crate) fn forward(&self, z: &[f32], gates: &mut [f32], sums: &mut [f32]) {
        self.check(z, gates, sums);
        // SAFETY: the lengths were checked, and the set was detected when the network was built.
        unsafe { gated_forward(self.set, self, z, gates, sums) }
    }

    /// `out` = the pull-back of the cotangent of the sums to z; `gates` are those of the forward pass.
    pub(crate) fn pull_back(&self, z: &[f32], gates: &[f32], cotangent: &[f32], out: &mut [f32]) {
        self.check(z, gates, cotangent);
        assert_eq!(out.len(), z.len());
        // SAFETY: as above.
        unsafe { gated_pull_back(self.set, self, z, gates, cotangent, out) }
    }
}

dispatch!(fn gated_forward(
    call: &GatedSum<'_>, z: &[f32], gates: &mut [f32], sums: &mut [f32]) = gated_forward_on);

/// # Safety
/// [`GatedSum::check`] has passed; the CPU has `S`.
#[inline(always)]
unsafe fn gated_forward_on<S: Simd>(call: &GatedSum<'_>, z: &[f32], gates: &mut [f32], sums: &mut [f32]) {
    let (width, senders) = (call.width, call.receivers.senders());
    sums.fill(0.0);
    let mut message = [0.0_f32; MAX_WIDTH];
    for (e, gate) in gates.iter_mut().enumerate() {
        unsafe {
            let z = z.as_ptr().add(e * width);
            let sums = sums.as_mut_ptr().add(e / senders * width);
            *gate = 1.0;
            if let Some((w, bias)) = call.gate {
                let mut dot = S::splat(0.0);
                for c in (0..width).step_by(S::LANES) {
                    let z = S::load(z.add(c));
                    let m = S::mul(z, sigmoid::<S>(z));
                    dot = S::fma(m, S::load(w.as_ptr().add(c)), dot);
                    S::store(message.as_mut_ptr().add(c), m);
                }
                *gate = sigmoid_of::<S>(sum::<S>(dot) + bias);
                let factor = S::splat(*gate);
                for c in (0..width).step_by(S::LANES) {
                    let m = S::load(message.as_ptr().add(c));
                    S::store(sums.add(c), S::fma(factor, m, S::load(sums.add(c))));
                }
            } else {
                for c in (0..width).step_by(S::LANES) {
                    let z = S::load(z.add(c));
                    S::store(sums.add(c), S::fma(z, sigmoid::<S>(z), S::load(sums.add(c))));
                }
            }
        }
    }
    sums.iter_mut().for_each(|sum| *sum *= call.scale);
}

/// Most channels: a row fits on the stack.
pub(crate) const MAX_WIDTH: usize = 1024;

/// σ(x) of one number, by the same operations as the vectors'.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
unsafe fn sigmoid_of<S: Simd>(x: f32) -> f32 {
    let mut lanes = [0.0; 16];
    unsafe { S::store(lanes.as_mut_ptr(), sigmoid::<S>(S::splat(x))) }
    lanes[0]
}

dispatch!(fn gated_pull_back(
    call: &GatedSum<'_>, z: &[f32], gates: &[f32], cotangent: &[f32], out: &mut [f32]) = gated_pull_back_on);

/// With c = scale · cotangent: dm = gate·c + gate·(1 − gate)·(m·c)·w, dz = dm · silu′(z).
///
/// # Safety
/// [`GatedSum::check`] has passed, and `out` is as long as `z`; the CPU has `S`.
#[inline(always)]
unsafe fn gated_pull_back_on<S: Simd>(
    call: &GatedSum<'_>,
    z: &[f32],
    gates: &[f32],
    cotangent: &[f32],
    out: &mut [f32],
) {
    let (width, senders) = (call.width, call.receivers.senders());
    for (e, &gate) in gates.iter().enumerate() {
        unsafe {
            let z = z.as_ptr().add(e * width);
            let out = out.as_mut_ptr().add(e * width);
            let cotangent = cotangent.as_ptr().add(e / senders * width);
            let mut dot = S::splat(0.0);
            for c in (0..width).step_by(S::LANES) {
                let z = S::load(z.add(c));
                let s = sigmoid::<S>(z);
                let m = S::mul(z, s);
                dot = S::fma(m, S::load(cotangent.add(c)), dot);
                S::store(out.add(c), S::fma(m, S::sub(S::splat(1.0), s), s));
            }
            let factor = S::splat(gate * call.scale);
            let (weights, to_gate) = match call.gate {
                Some((w, _)) => (w.as_ptr(), gate * (1.0 - gate) * call.scale * sum::<S>(dot)),
                None => (cotangent, 0.0),
            };
            let to_gate = S::splat(to_gate);
            for c in (0..width).step_by(S::LANES) {
                let dm = S::mul(factor, S::load(cotangent.add(c)));
                let dm = S::fma(to_gate, S::load(weights.add(c)), dm);
                S::store(out.add(c), S::mul(dm, S::load(out.add(c))));
            }
        }
    }
}

/// `out[e] = silu(z[e]) · w`, a number for every row of `z`.
pub(crate) fn head_forward(set: InstructionSet, w: &[f32], z: &[f32], out: &mut [f32]) {
    assert_eq!(w.len() % set.lanes(), 0, "whole vectors of channels");
    assert_eq!(z.len(), out.len() * w.len(), "a row for every number");
    // SAFETY: the lengths were checked, and the set was detected when the network was built.
    unsafe { head_forward_dispatch(set, w, z, out) }
}

dispatch!(fn head_forward_dispatch(w: &[f32], z: &[f32], out: &mut [f32]) = head_forward_on);

/// # Safety
/// As [`head_forward`] checks; the CPU has `S`.
#[inline(always)]
unsafe fn head_forward_on<S: Simd>(w: &[f32], z: &[f32], out: &mut [f32]) {
    for (row, out) in out.iter_mut().enumerate() {
        unsafe {
            let z = z.as_ptr().add(row * w.len());
            let mut dot = S::splat(0.0);
            for c in (0..w.len()).step_by(S::LANES) {
                let z = S::load(z.add(c));
                let m = S::mul(z, sigmoid::<S>(z));
                dot = S::fma(m, S::load(w.as_ptr().add(c)), dot);
            }
            *out = sum::<S>(dot);
        }
    }
}

/// `out` = the pull-back of a cotangent, a number for every row, through [`head_forward`] to z.
pub(crate) fn head_pull_back(set: InstructionSet, w: &[f32], z: &[f32], cotangent: &[f32], out: &mut [f32]) {
    assert_eq!(w.len() % set.lanes(), 0, "whole vectors of channels");
    assert_eq!(z.len(), cotangent.len() * w.len(), "a row for every number");
    assert_eq!(out.len(), z.len());
    // SAFETY: as above.
    unsafe { head_pull_back_dispatch(set, w, z, cotangent, out) }
}

dispatch!(fn head_pull_back_dispatch(
    w: &[f32], z: &[f32], cotangent: &[f32], out: &mut [f32]) = head_pull_back_on);

/// # Safety
/// As [`head_pull_back`] checks; the CPU has `S`.
#[inline(always)]
unsafe fn head_pull_back_on<S: Simd>(w: &[f32], z: &[f32], cotangent: &[f32], out: &mut [f32]) {
    for (row, &cotangent) in cotangent.iter().enumerate() {
        unsafe {
            let at = row * w.len();
            let g = S::splat(cotangent);
            for c in (0..w.len()).step_by(S::LANES) {
                let slope = slope::<S>(S::load(z.as_ptr().add(at + c)));
                let dm = S::mul(g, S::load(w.as_ptr().add(c)));
                S::store(out.as_mut_ptr().add(at + c), S::mul(dm, slope));
            }
        }
    }
}

/// `out = silu(z)`.
pub(crate) fn silu_forward(set: InstructionSet, z: &[f32], out: &mut [f32]) {
    assert_eq!((z.len(), z.len() % set.lanes()), (out.len(), 0), "whole vectors");
    // SAFETY: the lengths were checked, and the set was detected when the network was built.
    unsafe { silu_forward_dispatch(set, z, out) }
}

dispatch!(fn silu_forward_dispatch(z: &[f32], out: &mut [f32]) = silu_forward_on);

/// # Safety
/// As [`silu_forward`] checks; the CPU has `S`.
#[inline(always)]
unsafe fn silu_forward_on<S: Simd>(z: &[f32], out: &mut [f32]) {
    for c in (0..z.len()).step_by(S::LANES) {
        unsafe {
            let z = S::load(z.as_ptr().add(c));
            S::store(out.as_mut_ptr().add(c), S::mul(z, sigmoid::<S>(z)));
        }
    }
}

/// `gradient *= silu′(z)`.
pub(crate) fn silu_pull_back(set: InstructionSet, z: &[f32], gradient: &mut [f32]) {
    assert_eq!((z.len(), z.len() % set.lanes()), (gradient.len(), 0), "whole vectors");
    // SAFETY: as above.
    unsafe { silu_pull_back_dispatch(set, z, gradient) }
}

dispatch!(fn silu_pull_back_dispatch(z: &[f32], gradient: &mut [f32]) = silu_pull_back_on);

/// # Safety
/// As [`silu_pull_back`] checks; the CPU has `S`.
#[inline(always)]
unsafe fn silu_pull_back_on<S: Simd>(z: &[f32], gradient: &mut [f32]) {
    for c in (0..z.len()).step_by(S::LANES) {
        unsafe {
            let g = gradient.as_mut_ptr().add(c);
            S::store(g, S::mul(S::load(g), slope::<S>(S::load(z.as_ptr().add(c)))));
        }
    }
}
