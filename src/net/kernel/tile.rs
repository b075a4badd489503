//! The micro-kernel under convolutions, linear layers and matrix products.
//!
//! Lanes are output channels. A tile is P pixels of one row × V vectors of channels, held in registers; each step
//! multiplies V vectors of packed weights with P broadcast input numbers. Every output is one chain of additions in
//! the order (row of taps, tap, input channel), whatever the tile: results do not depend on how work is split.

use super::simd::Simd;
use super::{InstructionSet, dispatch};

/// Neighbouring output channels that one tile computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// First vector of channels.
    pub first: usize,
    /// Vectors of channels, 1 to 3.
    pub vectors: usize,
}

/// Splits `vectors` into threes, with twos for the rest (a one only for a single vector).
pub(super) fn blocks(vectors: usize) -> impl Iterator<Item = Block> + Clone {
    let threes = match (vectors % 3, vectors) {
        (1, 1) => 0,
        (1, _) => vectors / 3 - 1,
        _ => vectors / 3,
    };
    let count = if vectors == 1 { 1 } else { threes + (vectors - 3 * threes) / 2 };
    (0..count).map(move |i| match i.checked_sub(threes) {
        None => Block { first: 3 * i, vectors: 3 },
        Some(j) => Block { first: 3 * threes + 2 * j, vectors: 2.min(vectors) },
    })
}

/// What all tiles of one block share.
pub(super) struct Tile {
    pub weights: *const f32,
    pub bias: *const f32,
    /// Contiguous runs of inputs: one per row of taps.
    pub runs: usize,
    /// Numbers in a run: taps of the row × input channels.
    pub run_len: usize,
    /// Numbers between two runs.
    pub run_stride: usize,
    /// Numbers between the inputs of neighbouring outputs.
    pub x_step: usize,
    /// Numbers between neighbouring outputs.
    pub out_step: usize,
    /// Output channels that exist (the last block may be cut).
    pub lanes: usize,
    pub accumulate: bool,
}

/// Where a tile reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub x: *const f32,
    pub out: *mut f32,
    pub add: *const f32,
}

impl Spot {
    /// Moves on by so many numbers of the input, the output and what is added. After the last pixel or row that may be
    /// outside of the buffers, where nothing is read or written.
    #[inline(always)]
    fn advance(&mut self, steps: RowSteps) {
        self.x = self.x.wrapping_add(steps.x);
        self.out = self.out.wrapping_add(steps.out);
        if !self.add.is_null() {
            self.add = self.add.wrapping_add(steps.add);
        }
    }
}

/// Numbers between neighbouring rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowSteps {
    pub x: usize,
    pub out: usize,
    pub add: usize,
}

/// `rows × pixels` outputs of one block of channels, from `at` on.
///
/// # Safety
/// The CPU must have `set`. For every pixel of the `size` rows, reached by `steps` and the steps of `tile`: `runs` runs of
/// `run_len` inputs must be readable, `lanes` outputs writable by this call alone, and `lanes` numbers of `add` readable
/// unless it is null. `weights` holds `runs · run_len` rows of `vectors` whole vectors; so does `bias` one, unless null.
pub(super) unsafe fn sweep(
    set: InstructionSet,
    tile: &Tile,
    vectors: usize,
    at: Spot,
    steps: RowSteps,
    size: (usize, usize),
) {
    unsafe { sweep_dispatch(set, tile, vectors, at, steps, size) }
}

dispatch!(fn sweep_dispatch(
    tile: &Tile, vectors: usize, at: Spot, steps: RowSteps, size: (usize, usize)) = sweep_on);

/// # Safety
/// As [`sweep`], on a CPU that has `S`.
#[inline(always)]
unsafe fn sweep_on<S: Simd>(tile: &Tile, vectors: usize, at: Spot, steps: RowSteps, size: (usize, usize)) {
    let mut at = at;
    for _ in 0..size.0 {
        unsafe {
            match vectors {
                1 => row::<S, 1>(tile, at, size.1),
                2 => row::<S, 2>(tile, at, size.1),
                _ => row::<S, 3>(tile, at, size.1),
            }
        }
        at.advance(steps);
    }
}

/// One row of outputs, in tiles as wide as the registers allow.
///
/// # Safety
/// As [`sweep`], for one row.
#[inline(always)]
unsafe fn row<S: Simd, const V: usize>(tile: &Tile, mut at: Spot, mut pixels: usize) {
    macro_rules! tiles {
        ($($width:literal),+) => {$(
            while pixels >= $width {
                unsafe { compute::<S, $width, V>(tile, at) }
                let (x, out) = ($width * tile.x_step, $width * tile.out_step);
                at.advance(RowSteps { x, out, add: out });
                pixels -= $width;
            }
        )+};
    }
    if S::LANES == 16 {
        tiles!(8, 4, 2, 1);
    } else {
        tiles!(4, 2, 1);
    }
}

/// Repeats a block for the constant `$i` = 0, 1, …, as far as it is below `$n`.
///
/// A loop would do but for the optimiser, which keeps arrays in memory that a loop indexes when it first sees them.
macro_rules! unroll {
    ($n:ident, |$i:ident| $body:expr) => {
        unroll!($n, |$i| $body; 0 1 2 3 4 5 6 7)
    };
    ($n:ident, |$i:ident| $body:expr; $($value:literal)+) => {$(
        if $value < $n {
            const $i: usize = $value;
            $body
        }
    )+};
}

/// The micro-kernel: P pixels × V vectors of channels.
///
/// # Safety
/// As [`sweep`], for P pixels of one row.
#[inline(always)]
unsafe fn compute<S: Simd, const P: usize, const V: usize>(tile: &Tile, at: Spot) {
    unsafe {
        let mut sum = [[S::splat(0.0); 8]; 8];
        let mut w = tile.weights;
        for run in 0..tile.runs {
            let x = at.x.add(run * tile.run_stride);
            for i in 0..tile.run_len {
                let mut weights = [S::splat(0.0); 8];
                unroll!(V, |VECTOR| weights[VECTOR] = S::load(w.add(VECTOR * S::LANES)));
                unroll!(P, |PIXEL| {
                    let input = S::splat(*x.add(PIXEL * tile.x_step + i));
                    unroll!(V, |VECTOR| {
                        sum[PIXEL][VECTOR] = S::fma(input, weights[VECTOR], sum[PIXEL][VECTOR]);
                    });
                });
                w = w.add(V * S::LANES);
            }
        }
        unroll!(P, |PIXEL| {
            unroll!(V, |VECTOR| {
                finish::<S>(tile, at, PIXEL * tile.out_step, VECTOR, sum[PIXEL][VECTOR]);
            });
        });
    }
}

/// Adds what is to be added and stores one vector, as far as its lanes exist.
///
/// # Safety
/// As [`sweep`], for the output at `pixel`.
#[inline(always)]
unsafe fn finish<S: Simd>(tile: &Tile, at: Spot, pixel: usize, v: usize, mut sum: S::V) {
    let first = v * S::LANES;
    unsafe {
        let out = at.out.add(pixel + first);
        if !tile.bias.is_null() {
            sum = S::add(sum, S::load(tile.bias.add(first)));
        }
        if tile.lanes >= first + S::LANES {
            if !at.add.is_null() {
                sum = S::add(sum, S::load(at.add.add(pixel + first)));
            }
            if tile.accumulate {
                sum = S::add(sum, S::load(out));
            }
            S::store(out, sum);
        } else if tile.lanes > first {
            let mut lanes = [0.0_f32; 16];
            S::store(lanes.as_mut_ptr(), sum);
            for (i, lane) in lanes.iter_mut().enumerate().take(tile.lanes - first) {
                if !at.add.is_null() {
                    *lane += *at.add.add(pixel + first + i);
                }
                if tile.accumulate {
                    *lane += *out.add(i);
                }
                *out.add(i) = *lane;
            }
        }
    }
}
