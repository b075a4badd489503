//! 3×3 convolution by Winograd's minimal filtering F(4×4, 3×3): a quarter of the multiplications.
//!
//! A tile of 4×4 outputs comes from 6×6 inputs. Inputs and weights are taken to 36 points (Lavin and Gray, arXiv 1509.09308;
//! points 0, ±1, ±2 and ∞ on each axis), where the convolution is a matrix product over channels, of many tiles at once.
//! Every number is one chain of operations in an order that the layer's shape gives, whatever the team.
//!
//! The transforms cost digits: 1e-6 to 5e-6 norm-wise for 32 to 512 channels, where the direct kernel is at 2e-7 to 1.2e-6.

use super::simd::Simd;
use super::team::Shared;
use super::tile::{RowSteps, Spot, Tile, blocks, sweep};
use super::{Add, Aligned, InstructionSet, Plane, PlaneMut, Shape, Team, dispatch};

/// Outputs on a side of a tile.
const OUT: usize = 4;

/// Inputs on a side of a tile.
const IN: usize = 6;

/// Points of the transform.
const POINTS: usize = IN * IN;

/// Tiles that are taken through the transforms together: products large enough, buffers small enough.
const TILES: usize = 64;

/// From three weights of a row to six points.
const WEIGHTS: [[f64; 3]; IN] = [
    [0.25, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// Weights of a 3×3 convolution at all points, packed for one instruction set: `[point][block][input channel][lane]`.
#[derive(Debug, Clone)]
pub(crate) struct WinogradFilter {
    set: InstructionSet,
    inputs: usize,
    outputs: usize,
    packed: Aligned,
}

impl WinogradFilter {
    /// Bytes of the packed weights of one direction.
    pub(crate) const fn bytes(outputs: usize, inputs: usize) -> usize {
        4 * POINTS * inputs * outputs
    }

    /// Whether this kernel computes such a layer: whole tiles, and whole vectors of channels.
    pub(crate) fn fits(
        set: InstructionSet,
        outputs: usize,
        inputs: usize,
        (height, width): (usize, usize),
    ) -> bool {
        let is_whole = |n: usize, of: usize| n > 0 && n.is_multiple_of(of);
        is_whole(inputs, set.lanes())
            && is_whole(outputs, set.lanes())
            && is_whole(height, OUT)
            && is_whole(width, OUT)
    }

    /// Packs `weights` of shape `[outputs, inputs, 3, 3]`.
    pub(crate) fn pack(set: InstructionSet, outputs: usize, inputs: usize, weights: &[f32]) -> Self {
        Self::pack_by(set, outputs, inputs, |o, i, tap| weights[(o * inputs + i) * 9 + tap])
    }

    /// Packs the filter of the pull-back: taps flipped, inputs and outputs exchanged.
    pub(crate) fn pack_transposed(
        set: InstructionSet,
        outputs: usize,
        inputs: usize,
        weights: &[f32],
    ) -> Self {
        Self::pack_by(set, inputs, outputs, |o, i, tap| weights[(i * inputs + o) * 9 + 8 - tap])
    }

    fn pack_by(
        set: InstructionSet,
        outputs: usize,
        inputs: usize,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let mut packed = Aligned::zeros(POINTS * inputs * outputs);
        let lanes = set.lanes();
        for block in blocks(outputs / lanes) {
            let width = block.vectors * lanes;
            for input in 0..inputs {
                for lane in 0..width {
                    let output = block.first * lanes + lane;
                    let points = at_points(|tap| f64::from(weight(output, input, tap)));
                    for (point, value) in points.iter().enumerate() {
                        packed[point * inputs * outputs
                            + block.first * lanes * inputs
                            + input * width
                            + lane] = *value;
                    }
                }
            }
        }
        Self { set, inputs, outputs, packed }
    }
}

/// G·g·Gᵀ of one 3×3 kernel.
fn at_points(weight: impl Fn(usize) -> f64) -> [f32; POINTS] {
    let mut half = [[0.0; 3]; IN];
    for (row, factors) in half.iter_mut().zip(WEIGHTS) {
        for (column, sum) in row.iter_mut().enumerate() {
            *sum = (0..3).map(|tap| factors[tap] * weight(3 * tap + column)).sum();
        }
    }
    std::array::from_fn(|point| {
        let (row, factors) = (half[point / IN], WEIGHTS[point % IN]);
        (0..3).map(|tap| row[tap] * factors[tap]).sum::<f64>() as f32
    })
}

/// Geometry of one call.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Tiles in a row of tiles, rows of tiles, and those of a chunk.
    columns: usize,
    rows: usize,
    chunk: usize,
    /// Numbers between two points of the transformed input, and of the products: a line more than they hold, so that the
    /// points of a tile do not compete for the same places of the cache.
    input_stride: usize,
    output_stride: usize,
}

impl Layout {
    fn new(inputs: usize, outputs: usize, shape: Shape) -> Self {
        let (columns, rows) = (shape.width / OUT, shape.height / OUT);
        let chunk = (TILES / columns).clamp(1, rows);
        let stride = |channels: usize| chunk * columns * channels + 16;
        Self { columns, rows, chunk, input_stride: stride(inputs), output_stride: stride(outputs) }
    }

    fn scratch_len(&self) -> usize {
        POINTS * (self.input_stride + self.output_stride)
    }
}

/// Scratch numbers of a convolution of `inputs` to `outputs` channels on an input of this shape.
pub(crate) fn winograd_scratch_len(inputs: usize, outputs: usize, shape: Shape) -> usize {
    Layout::new(inputs, outputs, shape).scratch_len()
}

/// Operands of one convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WinogradCall<'a> {
    /// The packed weights.
    pub filter: &'a WinogradFilter,
    /// One number per output channel, or empty.
    pub bias: &'a [f32],
    /// The input, with a border.
    pub x: Plane<'a>,
    /// What is added.
    pub add: Add<'a>,
}

/// `out (+)= filter ∗ x + bias + add`.
pub(crate) fn winograd(call: WinogradCall<'_>, scratch: &mut [f32], out: &mut PlaneMut<'_>, team: Team) {
    let WinogradCall { filter, x, .. } = call;
    let (inputs, outputs, lanes) = (filter.inputs, filter.outputs, filter.set.lanes());
    assert_eq!((x.shape.channels, out.shape.channels), (inputs, outputs), "channels");
    assert_eq!((x.shape.height, x.shape.width), (out.shape.height, out.shape.width), "pixels");
    assert!(x.shape.border >= 1, "the input has its zero border");
    assert!(WinogradFilter::fits(filter.set, outputs, inputs, (x.shape.height, x.shape.width)));
    assert_eq!((x.data.len(), out.data.len()), (x.shape.len(), out.shape.len()));
    assert!(call.bias.is_empty() || call.bias.len() >= outputs, "bias of every channel");
    if let Add::Value(add) = call.add {
        assert_eq!(
            (add.shape.height, add.shape.width, add.shape.channels),
            (out.shape.height, out.shape.width, outputs)
        );
        assert_eq!(add.data.len(), add.shape.len());
    }
    let layout = Layout::new(inputs, outputs, x.shape);
    let (points, products) = scratch[..layout.scratch_len()].split_at_mut(POINTS * layout.input_stride);
    let (points, products) = (Shared(points.as_mut_ptr()), Shared(products.as_mut_ptr()));
    let target = Target { data: Shared(out.data.as_mut_ptr()), shape: out.shape, accumulate: out.accumulate };
    for first in (0..layout.rows).step_by(layout.chunk) {
        let rows = first..(first + layout.chunk).min(layout.rows);
        let tiles = rows.len() * layout.columns;
        over_parts(team, rows.clone(), inputs / lanes, |row, vectors| {
            let channels = vectors.start * lanes..vectors.end * lanes;
            // SAFETY: the shapes were checked above, and each task writes its own tiles and channels.
            unsafe { input_points(filter.set, x, row, channels, points, (row - first, layout)) }
        });
        team.run(POINTS, |point| {
            // SAFETY: all tiles of the chunk were written above, and each task writes its own point.
            unsafe { product(filter, point, tiles, points, products, layout) }
        });
        over_parts(team, rows, outputs / lanes, |row, vectors| {
            let channels = vectors.start * lanes..vectors.end * lanes;
            // SAFETY: as for the input; what is read was written above.
            unsafe { output_tiles(filter.set, &call, products, row, channels, target, (row - first, layout)) }
        });
    }
}

/// Runs `body` for rows of tiles and ranges of `vectors`, enough of them to balance the team.
fn over_parts(
    team: Team,
    rows: std::ops::Range<usize>,
    vectors: usize,
    body: impl Fn(usize, std::ops::Range<usize>) + Sync + Send,
) {
    let parts = if team.threads() == 1 { 1 } else { (2 * team.threads()).div_ceil(rows.len()).min(vectors) };
    team.run(rows.len() * parts, |task| {
        body(rows.start + task / parts, Team::range(vectors, parts, task % parts));
    });
}

/// The matrix product at one point: all tiles of a chunk by all output channels.
///
/// # Safety
/// `points` holds `tiles` tiles of every point, and `products` has room for them, this point written by no one else.
unsafe fn product(
    filter: &WinogradFilter,
    point: usize,
    tiles: usize,
    points: Shared,
    products: Shared,
    layout: Layout,
) {
    let (inputs, outputs, lanes) = (filter.inputs, filter.outputs, filter.set.lanes());
    for block in blocks(outputs / lanes) {
        let channel = block.first * lanes;
        let tile = Tile {
            weights: filter.packed[point * inputs * outputs + channel * inputs..].as_ptr(),
            bias: std::ptr::null(),
            runs: 1,
            run_len: inputs,
            run_stride: 0,
            x_step: inputs,
            out_step: outputs,
            lanes: block.vectors * lanes,
            accumulate: false,
        };
        // SAFETY: inside the buffers, by the contract.
        unsafe {
            let x = points.get().add(point * layout.input_stride).cast_const();
            let out = products.get().add(point * layout.output_stride + channel);
            let at = Spot { x, out, add: std::ptr::null() };
            sweep(filter.set, &tile, block.vectors, at, RowSteps::default(), (1, tiles));
        }
    }
}

dispatch!(fn input_points(
    x: Plane<'_>, row: usize, channels: std::ops::Range<usize>, points: Shared, place: (usize, Layout)) = input_points_on);

/// Bᵀ·d·B of the tiles of one row, for some channels.
///
/// # Safety
/// `winograd` has checked all shapes, on a CPU that has `S`, and no other task writes these tiles and channels.
#[inline(always)]
unsafe fn input_points_on<S: Simd>(
    x: Plane<'_>,
    row: usize,
    channels: std::ops::Range<usize>,
    points: Shared,
    (chunk_row, layout): (usize, Layout),
) {
    let shape = x.shape;
    // The first pixel of the tile, one up and one to the left.
    let start = shape.row_start(OUT * row) - shape.row_stride() - shape.channels;
    for column in 0..layout.columns {
        for channel in channels.clone().step_by(S::LANES) {
            unsafe {
                let d = x.data.as_ptr().add(start + OUT * column * shape.channels + channel);
                let out = points.get().add((chunk_row * layout.columns + column) * shape.channels + channel);
                let mut half = [[S::splat(0.0); IN]; IN];
                for j in 0..IN {
                    let d = d.add(j * shape.channels);
                    let load = |i: usize| S::load(d.add(i * shape.row_stride()));
                    let t = points_of::<S>([load(0), load(1), load(2), load(3), load(4), load(5)]);
                    for i in 0..IN {
                        half[i][j] = t[i];
                    }
                }
                for i in 0..IN {
                    let t = points_of::<S>(half[i]);
                    for j in 0..IN {
                        S::store(out.add((IN * i + j) * layout.input_stride), t[j]);
                    }
                }
            }
        }
    }
}

/// Bᵀ·d along one axis.
#[inline(always)]
unsafe fn points_of<S: Simd>(d: [S::V; IN]) -> [S::V; IN] {
    unsafe {
        let (four, minus_four, minus_five) = (S::splat(4.0), S::splat(-4.0), S::splat(-5.0));
        let a = S::fma(minus_four, d[2], d[4]);
        let b = S::fma(minus_four, d[1], d[3]);
        let c = S::sub(d[4], d[2]);
        let e = S::sub(d[3], d[1]);
        let e = S::add(e, e);
        [
            S::fma(four, d[0], S::fma(minus_five, d[2], d[4])),
            S::add(a, b),
            S::sub(a, b),
            S::add(c, e),
            S::sub(c, e),
            S::fma(four, d[1], S::fma(minus_five, d[3], d[5])),
        ]
    }
}

/// The output, for tasks that write disjoint parts of it.
#[derive(Clone, Copy)]
struct Target {
    data: Shared,
    shape: Shape,
    accumulate: bool,
}

dispatch!(fn output_tiles(
    call: &WinogradCall<'_>, products: Shared, row: usize, channels: std::ops::Range<usize>, out: Target,
    place: (usize, Layout)) = output_tiles_on);

/// Aᵀ·m·A of the tiles of one row, for some channels, and what is added.
///
/// # Safety
/// As [`input_points_on`].
#[inline(always)]
unsafe fn output_tiles_on<S: Simd>(
    call: &WinogradCall<'_>,
    products: Shared,
    row: usize,
    channels: std::ops::Range<usize>,
    out: Target,
    (chunk_row, layout): (usize, Layout),
) {
    let count = out.shape.channels;
    let (add, add_stride) = match call.add {
        Add::Nothing => (std::ptr::null(), 0),
        Add::Value(add) => (add.data[add.shape.row_start(OUT * row)..].as_ptr(), add.shape.row_stride()),
    };
    for column in 0..layout.columns {
        for channel in channels.clone().step_by(S::LANES) {
            unsafe {
                let m = products.get().add((chunk_row * layout.columns + column) * count + channel);
                let mut half = [[S::splat(0.0); IN]; OUT];
                for j in 0..IN {
                    let load = |i: usize| S::load(m.add((IN * i + j) * layout.output_stride));
                    let t = outputs_of::<S>([load(0), load(1), load(2), load(3), load(4), load(5)]);
                    for i in 0..OUT {
                        half[i][j] = t[i];
                    }
                }
                let bias = if call.bias.is_empty() {
                    S::splat(0.0)
                } else {
                    S::load(call.bias.as_ptr().add(channel))
                };
                let place = OUT * column * count + channel;
                for i in 0..OUT {
                    let t = outputs_of::<S>(half[i]);
                    let at = out.data.get().add(out.shape.row_start(OUT * row + i) + place);
                    for j in 0..OUT {
                        let mut y = S::add(t[j], bias);
                        if !add.is_null() {
                            y = S::add(y, S::load(add.add(i * add_stride + place + j * count)));
                        }
                        if out.accumulate {
                            y = S::add(y, S::load(at.add(j * count)));
                        }
                        S::store(at.add(j * count), y);
                    }
                }
            }
        }
    }
}

/// Aᵀ·m along one axis.
#[inline(always)]
unsafe fn outputs_of<S: Simd>(m: [S::V; IN]) -> [S::V; OUT] {
    unsafe {
        let (s, d) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (p, q) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], s), p),
            S::fma(S::splat(2.0), q, d),
            S::fma(S::splat(4.0), p, s),
            S::add(S::fma(S::splat(8.0), q, d), m[5]),
        ]
    }
}
