//! GroupNorm with everything that follows it in a residual block: scale and shift by the embedding, and SiLU.
//!
//! y = act(x̂·γ·(1 + scale) + β·(1 + scale) + shift), x̂ = (x − mean)/√(var + ε) over the pixels and channels of a group.
//! Per channel this is y = act(a·x + b), so one pass computes it from two vectors of coefficients.

use super::simd::{Simd, sigmoid};
use super::team::Shared;
use super::{InstructionSet, Plane, PlaneMut, Shape, Team, dispatch};

/// Parameters of one normalisation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormCall<'a> {
    /// Instruction set.
    pub set: InstructionSet,
    /// Groups; they divide the channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// γ per channel.
    pub gamma: &'a [f32],
    /// β per channel.
    pub beta: &'a [f32],
    /// Scale and shift per channel, from the embedding.
    pub film: Option<(&'a [f32], &'a [f32])>,
    /// Whether SiLU follows.
    pub silu: bool,
    /// The input.
    pub x: Plane<'a>,
    /// Threads.
    pub team: Team,
}

/// Scratch numbers that forward and pull-back need for `channels`.
pub(crate) const fn norm_scratch_len(channels: usize) -> usize {
    5 * channels
}

impl NormCall<'_> {
    fn channels(&self) -> usize {
        self.x.shape.channels
    }

    /// γ·(1 + scale) and β·(1 + scale) + shift of one channel.
    fn affine(&self, channel: usize) -> (f32, f32) {
        let (gamma, beta) = (self.gamma[channel], self.beta[channel]);
        match self.film {
            None => (gamma, beta),
            Some((scale, shift)) => {
                let scale = 1.0 + scale[channel];
                (gamma * scale, beta * scale + shift[channel])
            }
        }
    }

    /// Fills a and b of y = act(a·x + b).
    fn coefficients(&self, moments: &[f32], a: &mut [f32], b: &mut [f32]) {
        let size = self.channels() / self.groups;
        for channel in 0..self.channels() {
            let (mean, rstd) = (moments[2 * (channel / size)], moments[2 * (channel / size) + 1]);
            let (gain, offset) = self.affine(channel);
            a[channel] = gain * rstd;
            b[channel] = offset - mean * (gain * rstd);
        }
    }

    /// Runs `body` over blocks of whole vectors of channels.
    fn over_channels(&self, body: impl Fn(std::ops::Range<usize>) + Sync + Send) {
        let vectors = self.channels() / self.set.lanes();
        let parts = if self.team.threads() == 1 { 1 } else { vectors.min(2 * self.team.threads()) };
        self.team.run(parts, |i| {
            let range = Team::range(vectors, parts, i);
            body(range.start * self.set.lanes()..range.end * self.set.lanes());
        });
    }

    /// Runs `body` over bands of rows.
    fn over_rows(&self, body: impl Fn(std::ops::Range<usize>) + Sync + Send) {
        let height = self.x.shape.height;
        let parts = if self.team.threads() == 1 { 1 } else { height.min(2 * self.team.threads()) };
        self.team.run(parts, |i| body(Team::range(height, parts, i)));
    }
}

/// Writes the normalised, modulated, activated `x`, and mean and 1/√(var + ε) of every group into `moments`.
pub(crate) fn norm_forward(
    call: &NormCall<'_>,
    scratch: &mut [f32],
    moments: &mut [f32],
    out: &mut PlaneMut<'_>,
) {
    let channels = call.channels();
    check(call, out.shape, out.data);
    let (means, rest) = scratch.split_at_mut(channels);
    let (squares, _) = rest.split_at_mut(channels);
    let targets = [Shared(means.as_mut_ptr()), Shared(squares.as_mut_ptr())];
    // SAFETY: each task writes its own channels of the two scratch vectors.
    call.over_channels(|range| unsafe { channel_moments(call.set, call.x, range, targets) });
    group_moments(call, means, squares, moments);
    call.coefficients(moments, means, squares);
    let (a, b) = (&*means, &*squares);
    let target = (Shared(out.data.as_mut_ptr()), out.shape);
    // SAFETY: each task writes its own rows of `out`.
    call.over_rows(|rows| unsafe { apply(call.set, call, a, b, target, rows) });
}

/// The other operand has the input's pixels and channels, and all its numbers: the kernels below rely on it.
fn check(call: &NormCall<'_>, other: Shape, numbers: &[f32]) {
    let shape = call.x.shape;
    assert_eq!(shape.channels % call.set.lanes(), 0, "channels are whole vectors");
    assert_eq!(shape.channels % call.groups, 0, "groups divide the channels");
    assert_eq!((shape.height, shape.width, shape.channels), (other.height, other.width, other.channels));
    assert_eq!((call.x.data.len(), numbers.len()), (shape.len(), other.len()));
    assert!(call.gamma.len() == shape.channels && call.beta.len() == shape.channels);
    assert!(call.film.is_none_or(|(a, b)| a.len() == shape.channels && b.len() == shape.channels));
}

/// Pools the moments of the channels of each group (Chan's formula), in f64.
fn group_moments(call: &NormCall<'_>, means: &[f32], squares: &[f32], moments: &mut [f32]) {
    let size = call.channels() / call.groups;
    let pixels = call.x.shape.pixels() as f64;
    for (group, moment) in moments.chunks_exact_mut(2).enumerate() {
        let range = group * size..(group + 1) * size;
        let mean = means[range.clone()].iter().map(|&m| f64::from(m)).sum::<f64>() / size as f64;
        let within = squares[range.clone()].iter().map(|&s| f64::from(s)).sum::<f64>();
        let between = means[range].iter().map(|&m| (f64::from(m) - mean).powi(2)).sum::<f64>();
        let variance = (within / pixels + between) / size as f64;
        moment[0] = mean as f32;
        moment[1] = (1.0 / (variance + f64::from(call.epsilon)).sqrt()) as f32;
    }
}

dispatch!(fn channel_moments(
    x: Plane<'_>, channels: std::ops::Range<usize>, out: [Shared; 2]) = channel_moments_on);

/// Mean and sum of squared deviations of every channel: two passes, f32 sums per row, added up in f64.
///
/// # Safety
/// The CPU has `S`; `channels` are whole vectors of `x`'s, and no one else uses these of `out`.
#[inline(always)]
unsafe fn channel_moments_on<S: Simd>(x: Plane<'_>, channels: std::ops::Range<usize>, out: [Shared; 2]) {
    let shape = x.shape;
    let pixels = shape.pixels() as f64;
    for channel in channels.step_by(S::LANES) {
        unsafe {
            let mut mean = column_sum::<S>(&x, channel, |v| v);
            mean.iter_mut().for_each(|m| *m /= pixels);
            let centre: [f32; 16] = std::array::from_fn(|i| mean[i] as f32);
            let centre_v = S::load(centre.as_ptr());
            let squares = column_sum::<S>(&x, channel, |v| {
                let d = S::sub(v, centre_v);
                S::mul(d, d)
            });
            for i in 0..S::LANES {
                *out[0].get().add(channel + i) = centre[i];
                *out[1].get().add(channel + i) = squares[i] as f32;
            }
        }
    }
}

/// Σ over pixels of f(x) for one vector of channels.
///
/// # Safety
/// The CPU has `S`, and `x` the whole vector from `channel` on.
#[inline(always)]
unsafe fn column_sum<S: Simd>(x: &Plane<'_>, channel: usize, f: impl Fn(S::V) -> S::V) -> [f64; 16] {
    let shape = x.shape;
    let mut total = [0.0_f64; 16];
    let mut lanes = [0.0_f32; 16];
    for y in 0..shape.height {
        unsafe {
            let row = x.data.as_ptr().add(shape.row_start(y) + channel);
            let mut sum = S::splat(0.0);
            for p in 0..shape.width {
                sum = S::add(sum, f(S::load(row.add(p * shape.channels))));
            }
            S::store(lanes.as_mut_ptr(), sum);
        }
        for (t, lane) in total.iter_mut().zip(lanes) {
            *t += f64::from(lane);
        }
    }
    total
}

dispatch!(fn apply(
    call: &NormCall<'_>, a: &[f32], b: &[f32], out: (Shared, Shape), rows: std::ops::Range<usize>) = apply_on);

/// y = act(a·x + b) on some rows.
///
/// # Safety
/// The CPU has `S`; [`check`] has passed for `out`, and no one else writes these rows of it.
#[inline(always)]
unsafe fn apply_on<S: Simd>(
    call: &NormCall<'_>,
    a: &[f32],
    b: &[f32],
    out: (Shared, Shape),
    rows: std::ops::Range<usize>,
) {
    let shape = call.x.shape;
    for y in rows {
        for p in 0..shape.width {
            unsafe {
                let x = call.x.data.as_ptr().add(shape.row_start(y) + p * shape.channels);
                let out = out.0.get().add(out.1.row_start(y) + p * shape.channels);
                for c in (0..shape.channels).step_by(S::LANES) {
                    let n = S::fma(S::load(x.add(c)), S::load(a.as_ptr().add(c)), S::load(b.as_ptr().add(c)));
                    let value = if call.silu { S::mul(n, sigmoid::<S>(n)) } else { n };
                    S::store(out.add(c), value);
                }
            }
        }
    }
}

/// `out (+)=` the pull-back of `cotangent` to `x`, from the `moments` that the forward pass kept.
///
/// With g = cotangent · act′(n) · gain: dx = rstd·(g − mean(g) − x̂·mean(g·x̂)), means over the group.
pub(crate) fn norm_pull_back(
    call: &NormCall<'_>,
    scratch: &mut [f32],
    moments: &[f32],
    cotangent: Plane<'_>,
    out: &mut PlaneMut<'_>,
) {
    let channels = call.channels();
    check(call, out.shape, out.data);
    check(call, cotangent.shape, cotangent.data);
    let mut parts = scratch.chunks_exact_mut(channels);
    let mut part = || parts.next().expect("norm_scratch_len counts the vectors");
    let (a, b, sums, products, means) = (part(), part(), part(), part(), part());
    call.coefficients(moments, a, b);
    for (group, means) in means.chunks_exact_mut(channels / call.groups).enumerate() {
        means.fill(moments[2 * group]);
    }
    let (a, b, means) = (&*a, &*b, &*means);
    let targets = [Shared(sums.as_mut_ptr()), Shared(products.as_mut_ptr())];
    // SAFETY: each task writes its own channels of the two scratch vectors.
    call.over_channels(|range| unsafe {
        gradient_sums(call.set, call, [a, b, means], cotangent, range, targets);
    });
    gradient_coefficients(call, moments, a, sums, products);
    let (slope, offset) = (&*products, &*sums);
    let target = (Shared(out.data.as_mut_ptr()), out.shape, out.accumulate);
    // SAFETY: each task writes its own rows of `out`.
    call.over_rows(|rows| unsafe {
        apply_gradient(call.set, call, [a, b, slope, offset], cotangent, target, rows);
    });
}

/// From Σ g′ and Σ g′·(x − mean) per channel (g′ = cotangent · act′) to the slope and offset of dx = a·g′ + slope·x + offset.
///
/// With ĝ = g′·gain and means over the group, dx = rstd·(ĝ − m₁ − x̂·m₂), m₁ = mean(ĝ), m₂ = mean(ĝ·x̂); a = gain·rstd.
fn gradient_coefficients(
    call: &NormCall<'_>,
    moments: &[f32],
    a: &[f32],
    sums: &mut [f32],
    products: &mut [f32],
) {
    let size = call.channels() / call.groups;
    let count = (call.x.shape.pixels() * size) as f64;
    for (group, moment) in moments.chunks_exact(2).enumerate() {
        let (mean, rstd) = (f64::from(moment[0]), f64::from(moment[1]));
        let range = group * size..(group + 1) * size;
        // rstd·m₁ and m₂: `a` holds one factor rstd.
        let (mut m1, mut m2) = (0.0, 0.0);
        for c in range.clone() {
            let gain = f64::from(a[c]);
            m1 += gain * f64::from(sums[c]);
            m2 += gain * f64::from(products[c]);
        }
        (m1, m2) = (m1 / count, m2 / count);
        let slope = -rstd * rstd * m2;
        sums[range.clone()].fill((-slope * mean - m1) as f32);
        products[range].fill(slope as f32);
    }
}

dispatch!(fn gradient_sums(
    call: &NormCall<'_>, coefficients: [&[f32]; 3], cotangent: Plane<'_>, channels: std::ops::Range<usize>,
    out: [Shared; 2]) = gradient_sums_on);

/// Σ g′ and Σ g′·(x − mean) of every channel; `coefficients` are a, b and the mean.
///
/// # Safety
/// The CPU has `S`; [`check`] has passed for `cotangent`; `channels` are whole vectors, and no one else uses these of `out`.
#[inline(always)]
unsafe fn gradient_sums_on<S: Simd>(
    call: &NormCall<'_>,
    coefficients: [&[f32]; 3],
    cotangent: Plane<'_>,
    channels: std::ops::Range<usize>,
    out: [Shared; 2],
) {
    let (xs, gs) = (call.x.shape, cotangent.shape);
    for c in channels.step_by(S::LANES) {
        let mut totals = [[0.0_f64; 16]; 2];
        let mut lanes = [[0.0_f32; 16]; 2];
        unsafe {
            let a = S::load(coefficients[0].as_ptr().add(c));
            let b = S::load(coefficients[1].as_ptr().add(c));
            let mean = S::load(coefficients[2].as_ptr().add(c));
            for y in 0..xs.height {
                let x = call.x.data.as_ptr().add(xs.row_start(y) + c);
                let g = cotangent.data.as_ptr().add(gs.row_start(y) + c);
                let (mut sum, mut product) = (S::splat(0.0), S::splat(0.0));
                for p in (0..xs.width).map(|p| p * xs.channels) {
                    let x = S::load(x.add(p));
                    let g = activated::<S>(call.silu, S::fma(x, a, b), S::load(g.add(p)));
                    sum = S::add(sum, g);
                    product = S::fma(g, S::sub(x, mean), product);
                }
                S::store(lanes[0].as_mut_ptr(), sum);
                S::store(lanes[1].as_mut_ptr(), product);
                for (total, lanes) in totals.iter_mut().zip(lanes) {
                    total.iter_mut().zip(lanes).for_each(|(t, lane)| *t += f64::from(lane));
                }
            }
            for i in 0..S::LANES {
                *out[0].get().add(c + i) = totals[0][i] as f32;
                *out[1].get().add(c + i) = totals[1][i] as f32;
            }
        }
    }
}

/// g · act′(n).
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
unsafe fn activated<S: Simd>(silu: bool, n: S::V, g: S::V) -> S::V {
    if !silu {
        return g;
    }
    unsafe {
        let s = sigmoid::<S>(n);
        // (n·σ(n))′ = σ·(1 + n·(1 − σ)) = σ + (n·σ)·(1 − σ)
        let slope = S::fma(S::mul(n, s), S::sub(S::splat(1.0), s), s);
        S::mul(g, slope)
    }
}

dispatch!(fn apply_gradient(
    call: &NormCall<'_>, coefficients: [&[f32]; 4], cotangent: Plane<'_>, out: (Shared, Shape, bool),
    rows: std::ops::Range<usize>) = apply_gradient_on);

/// dx = a·g′ + slope·x + offset on some rows; `coefficients` are a, b, slope and offset.
///
/// # Safety
/// The CPU has `S`; [`check`] has passed for `cotangent` and `out`, and no one else writes these rows of `out`.
#[inline(always)]
unsafe fn apply_gradient_on<S: Simd>(
    call: &NormCall<'_>,
    coefficients: [&[f32]; 4],
    cotangent: Plane<'_>,
    out: (Shared, Shape, bool),
    rows: std::ops::Range<usize>,
) {
    let shape = call.x.shape;
    let [a, b, slope, offset] = coefficients.map(<[f32]>::as_ptr);
    for y in rows {
        for p in 0..shape.width {
            unsafe {
                let x = call.x.data.as_ptr().add(shape.row_start(y) + p * shape.channels);
                let g = cotangent.data.as_ptr().add(cotangent.shape.row_start(y) + p * shape.channels);
                let out_pixel = out.0.get().add(out.1.row_start(y) + p * shape.channels);
                for c in (0..shape.channels).step_by(S::LANES) {
                    let (x, a) = (S::load(x.add(c)), S::load(a.add(c)));
                    let g = activated::<S>(call.silu, S::fma(x, a, S::load(b.add(c))), S::load(g.add(c)));
                    let mut dx = S::fma(x, S::load(slope.add(c)), S::load(offset.add(c)));
                    dx = S::fma(a, g, dx);
                    if out.2 {
                        dx = S::add(dx, S::load(out_pixel.add(c)));
                    }
                    S::store(out_pixel.add(c), dx);
                }
            }
        }
    }
}
