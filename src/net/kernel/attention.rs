//! Self-attention of one sample over all its pixels: softmax(QᵀK/√d)·V per head, and its pull-back to q, k and v.
//!
//! Queries are taken in blocks of [`QUERIES`], so that no more of the T × T weights exists at once; the pull-back
//! computes them again from q and k, so that nothing but the op's input is kept. Heads are independent tasks.

use super::matmul::{Matrix, packed_len, product};
use super::simd::{Portable, Simd, exp};
use super::team::Shared;
use super::{InstructionSet, Plane, PlaneMut, Team, dispatch};

/// Queries per block.
const QUERIES: usize = 64;

/// Order of the 3C channels that the qkv convolution makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadOrder {
    /// q, k and v of the first head, then of the second … (public ADM checkpoints).
    Legacy,
    /// q of all heads, then k, then v (`use_new_attention_order`).
    Grouped,
}

/// An attention op: `heads` heads of `dim` channels each over `tokens` pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub set: InstructionSet,
    pub heads: usize,
    pub dim: usize,
    pub tokens: usize,
    pub order: HeadOrder,
}

impl Attention {
    fn queries(&self) -> usize {
        QUERIES.min(self.tokens)
    }

    /// First channel of q, k and v of one head.
    fn channels(&self, head: usize) -> [usize; 3] {
        let (step, part) = match self.order {
            HeadOrder::Legacy => (3 * self.dim, self.dim),
            HeadOrder::Grouped => (self.dim, self.heads * self.dim),
        };
        [0, 1, 2].map(|i| head * step + i * part)
    }

    fn packed(&self, k: usize, n: usize) -> usize {
        packed_len(self.set, k, n)
    }

    /// Scratch numbers of one head in the forward pass: packed Kᵀ and V, scaled queries, weights.
    fn forward_head_len(&self) -> usize {
        self.packed(self.dim, self.tokens)
            + self.packed(self.tokens, self.dim)
            + self.queries() * (self.dim + self.tokens)
    }

    /// Scratch numbers of one head in the pull-back.
    fn pull_back_head_len(&self) -> usize {
        let (t, d, q) = (self.tokens, self.dim, self.queries());
        2 * self.packed(d, t) + self.packed(t, d) + 2 * self.packed(q, d) + q * d + 4 * q * t
    }

    /// Scratch numbers that both passes need.
    pub(crate) fn scratch_len(&self) -> usize {
        self.heads * self.forward_head_len().max(self.pull_back_head_len())
    }

    /// q, k and v of one head inside a qkv value.
    fn split<'a>(&self, qkv: Plane<'a>, head: usize) -> [Matrix<'a>; 3] {
        let step = qkv.shape.channels;
        self.channels(head).map(|c| Matrix::new(&qkv.data[c..], self.tokens, self.dim, step))
    }

    fn check(&self, qkv: Plane<'_>, scratch: &[f32]) {
        assert_eq!(qkv.shape.border, 0, "attention reads values without border");
        assert_eq!(qkv.shape.pixels(), self.tokens);
        assert_eq!(qkv.shape.channels, 3 * self.heads * self.dim);
        assert_eq!(qkv.data.len(), qkv.shape.len());
        assert!(scratch.len() >= self.scratch_len());
    }

    /// `out = attention(qkv)`.
    pub(crate) fn forward(&self, qkv: Plane<'_>, scratch: &mut [f32], out: &mut PlaneMut<'_>, team: Team) {
        self.check(qkv, scratch);
        assert_eq!((out.shape.pixels(), out.shape.channels), (self.tokens, self.heads * self.dim));
        assert!(!out.accumulate && out.shape.border == 0);
        assert_eq!(out.data.len(), out.shape.len());
        let step = out.shape.channels;
        let target = Shared(out.data.as_mut_ptr());
        let heads = Heads::new(scratch, self.forward_head_len());
        team.run(self.heads, |head| {
            // SAFETY: a task uses the scratch of its head only, and writes its head's channels only.
            unsafe {
                let out = (target.get().add(head * self.dim), step);
                self.forward_head(self.split(qkv, head), heads.of(head), out);
            }
        });
    }

    /// # Safety
    /// `out` (pointer, numbers between rows) has room for `tokens` rows of `dim` numbers, which no one else uses.
    unsafe fn forward_head(&self, [q, k, v]: [Matrix<'_>; 3], scratch: &mut [f32], out: (*mut f32, usize)) {
        let (t, d) = (self.tokens, self.dim);
        let [keys, values, scaled, weights] =
            carve(scratch, [self.packed(d, t), self.packed(t, d), self.queries() * d, self.queries() * t]);
        k.transposed().pack(self.set, keys);
        v.pack(self.set, values);
        for start in (0..t).step_by(QUERIES) {
            let rows = start..t.min(start + QUERIES);
            let count = rows.len();
            self.weights(q.rows(rows), keys, scaled, weights);
            let weights = Matrix::new(weights, count, t, t);
            // SAFETY: see this function's contract.
            unsafe { product(self.set, weights, values, d, (out.0.add(start * out.1), out.1), false) }
        }
    }

    /// softmax(q·Kᵀ/√d) of a block of queries; leaves q/√d in `scaled`.
    fn weights(&self, q: Matrix<'_>, keys: &[f32], scaled: &mut [f32], weights: &mut [f32]) {
        let (t, d) = (self.tokens, self.dim);
        let scale = 1.0 / (d as f32).sqrt();
        for (row, scaled) in scaled.chunks_exact_mut(d).take(q.rows).enumerate() {
            for (s, x) in scaled.iter_mut().zip(&q.data[row * q.row_step..]) {
                *s = x * scale;
            }
        }
        // SAFETY: `weights` has room for `QUERIES` rows of `t` numbers.
        unsafe {
            product(self.set, Matrix::new(scaled, q.rows, d, d), keys, t, (weights.as_mut_ptr(), t), false);
        }
        for row in weights.chunks_exact_mut(t).take(q.rows) {
            // SAFETY: the set is this CPU's; the kernel stays inside the slice.
            unsafe { softmax(self.set, row) }
        }
    }

    /// `out (+)=` the pull-back of `cotangent` to `qkv`.
    pub(crate) fn pull_back(
        &self,
        qkv: Plane<'_>,
        cotangent: Plane<'_>,
        scratch: &mut [f32],
        out: &mut PlaneMut<'_>,
        team: Team,
    ) {
        self.check(qkv, scratch);
        assert_eq!((cotangent.shape.pixels(), cotangent.shape.border), (self.tokens, 0));
        assert_eq!((out.shape.pixels(), out.shape.channels), (self.tokens, qkv.shape.channels));
        assert_eq!(cotangent.data.len(), cotangent.shape.len());
        assert_eq!((out.shape.border, out.data.len()), (0, out.shape.len()));
        if !out.accumulate {
            out.data.fill(0.0);
        }
        let target = Shared(out.data.as_mut_ptr());
        let heads = Heads::new(scratch, self.pull_back_head_len());
        team.run(self.heads, |head| {
            let step = cotangent.shape.channels;
            let g = Matrix::new(&cotangent.data[head * self.dim..], self.tokens, self.dim, step);
            // SAFETY: as in `forward`.
            unsafe {
                let out = self.channels(head).map(|c| target.get().add(c));
                self.pull_back_head(self.split(qkv, head), g, heads.of(head), out);
            }
        });
    }

    /// With weights P and their cotangent dP = g·Vᵀ: dS = P∘(dP − rowsum(P∘dP)), dV = Pᵀg, dQ = dS·K/√d, dK = dSᵀ·Q/√d.
    ///
    /// # Safety
    /// `out` points to q, k and v of this head in the gradient, which no one else uses.
    unsafe fn pull_back_head(
        &self,
        [q, k, v]: [Matrix<'_>; 3],
        g: Matrix<'_>,
        scratch: &mut [f32],
        [q_out, k_out, v_out]: [*mut f32; 3],
    ) {
        let (set, t, d, n) = (self.set, self.tokens, self.dim, self.queries());
        let step = 3 * self.heads * d;
        let [keys, values, key_rows, queries, cotangents, scaled, p, ds, transposed, scores] = carve(
            scratch,
            [
                self.packed(d, t),
                self.packed(d, t),
                self.packed(t, d),
                self.packed(n, d),
                self.packed(n, d),
                n * d,
                n * t,
                n * t,
                n * t,
                n * t,
            ],
        );
        // dq, dk and dv are added to: a product of `rows × columns` into rows `step` apart.
        let add = |a: &[f32], rows: usize, columns: usize, b: &[f32], out: *mut f32| {
            // SAFETY: see this function's contract.
            unsafe { product(set, Matrix::new(a, rows, columns, columns), b, d, (out, step), true) }
        };
        k.transposed().pack(set, keys);
        v.transposed().pack(set, values);
        k.pack(set, key_rows);
        for start in (0..t).step_by(QUERIES) {
            let rows = start..t.min(start + QUERIES);
            let count = rows.len();
            self.weights(q.rows(rows.clone()), keys, scaled, p);
            let g = g.rows(rows);
            // SAFETY: `ds` has room for `QUERIES` rows of `t` numbers.
            unsafe { product(set, g, values, t, (ds.as_mut_ptr(), t), false) }
            g.pack(set, cotangents);
            Matrix::new(scaled, count, d, d).pack(set, queries);
            transpose(&p[..count * t], t, transposed);
            add(transposed, t, count, cotangents, v_out);
            softmax_pull_back(&p[..count * t], ds, t, scores);
            transpose(&scores[..count * t], t, transposed);
            add(transposed, t, count, queries, k_out);
            // The factor 1/√d that `scaled` brings to dK is still missing in dQ.
            let scale = 1.0 / (d as f32).sqrt();
            scores[..count * t].iter_mut().for_each(|s| *s *= scale);
            add(scores, count, t, key_rows, unsafe { q_out.add(start * step) });
        }
    }
}

/// dS = P∘(dP − rowsum(P∘dP)), row by row.
fn softmax_pull_back(p: &[f32], dp: &[f32], t: usize, out: &mut [f32]) {
    for ((p, dp), out) in p.chunks_exact(t).zip(dp.chunks_exact(t)).zip(out.chunks_exact_mut(t)) {
        let mut lanes = [0.0_f32; 16];
        for (p, dp) in p.chunks(16).zip(dp.chunks(16)) {
            for ((lane, p), dp) in lanes.iter_mut().zip(p).zip(dp) {
                *lane += p * dp;
            }
        }
        let total: f32 = lanes.iter().sum();
        for ((o, p), dp) in out.iter_mut().zip(p).zip(dp) {
            *o = p * (dp - total);
        }
    }
}

/// Writes the transposed of a matrix with rows of `t` numbers.
fn transpose(rows: &[f32], t: usize, out: &mut [f32]) {
    let count = rows.len() / t;
    for (i, row) in rows.chunks_exact(t).enumerate() {
        for (j, x) in row.iter().enumerate() {
            out[j * count + i] = *x;
        }
    }
}

dispatch!(fn softmax(row: &mut [f32]) = softmax_on);

/// Softmax of a row in place; the sum is taken lane by lane, then over the lanes in order.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
unsafe fn softmax_on<S: Simd>(row: &mut [f32]) {
    let whole = row.len() / S::LANES * S::LANES;
    let mut lanes = [f32::NEG_INFINITY; 16];
    unsafe {
        let mut peaks = S::splat(f32::NEG_INFINITY);
        for i in (0..whole).step_by(S::LANES) {
            peaks = S::max(S::load(row.as_ptr().add(i)), peaks);
        }
        S::store(lanes.as_mut_ptr(), peaks);
    }
    let rest = row[whole..].iter();
    let peak = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
    let mut lanes = [0.0_f32; 16];
    unsafe {
        let shift = S::splat(peak);
        let mut sum = S::splat(0.0);
        for i in (0..whole).step_by(S::LANES) {
            let at = row.as_mut_ptr().add(i);
            let e = exp::<S>(S::sub(S::load(at), shift));
            S::store(at, e);
            sum = S::add(sum, e);
        }
        S::store(lanes.as_mut_ptr(), sum);
    }
    let mut total: f32 = lanes.iter().sum();
    for x in &mut row[whole..] {
        // Not the platform's `exp`: numbers must not depend on the C library.
        // SAFETY: every CPU has it.
        *x = unsafe { exp::<Portable>([*x - peak; Portable::LANES])[0] };
        total += *x;
    }
    let scale = 1.0 / total;
    row.iter_mut().for_each(|x| *x *= scale);
}

/// Splits scratch into consecutive parts.
fn carve<const N: usize>(mut scratch: &mut [f32], lens: [usize; N]) -> [&mut [f32]; N] {
    lens.map(|len| {
        let (part, rest) = std::mem::take(&mut scratch).split_at_mut(len);
        scratch = rest;
        part
    })
}

/// Scratch of equal length for every head.
#[derive(Clone, Copy)]
struct Heads {
    start: Shared,
    len: usize,
}

impl Heads {
    fn new(scratch: &mut [f32], len: usize) -> Self {
        Self { start: Shared(scratch.as_mut_ptr()), len }
    }

    /// The scratch of one head.
    ///
    /// # Safety
    /// The buffer holds `(head + 1) · len` numbers, and no other task uses this head's.
    unsafe fn of<'a>(self, head: usize) -> &'a mut [f32] {
        unsafe { std::slice::from_raw_parts_mut(self.start.get().add(head * self.len), self.len) }
    }
}
