//! Convolutions of any window: taps on both axes, stride and zero padding, such as 11×11 with stride 4 or 1×7.
//!
//! The micro-kernel of `tile` reads a row of taps as one contiguous run, so that a general window needs no unfolded
//! copy of its input: only padding is copied in. Every output is one chain of additions in the order (row of taps, tap,
//! input channel), whatever the team.

use super::team::Shared;
use super::tile::{Block, RowSteps, Spot, Tile, blocks, sweep};
use super::{Aligned, InstructionSet, Team};

/// Geometry of a convolution; `[rows, columns]` throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Taps, at least 1.
    pub taps: [usize; 2],
    /// Step between neighbouring outputs on both axes, at least 1.
    pub stride: usize,
    /// Zeros on each side, less than `taps`.
    pub padding: [usize; 2],
}

impl Window {
    /// A square window.
    pub(crate) const fn square(taps: usize, stride: usize, padding: usize) -> Self {
        Self { taps: [taps; 2], stride, padding: [padding; 2] }
    }

    /// Rows and columns of the result for an input of `sides`; `None` where not even one window fits.
    pub(crate) fn output(self, sides: [usize; 2]) -> Option<[usize; 2]> {
        let along = |axis: usize| {
            let free = (sides[axis] + 2 * self.padding[axis]).checked_sub(self.taps[axis])?;
            Some(free / self.stride + 1)
        };
        Some([along(0)?, along(1)?])
    }

    /// The window of the pull-back of a convolution with stride 1.
    pub(crate) fn transposed(self) -> Self {
        let padding = [0, 1].map(|axis| self.taps[axis] - 1 - self.padding[axis]);
        Self { taps: self.taps, stride: 1, padding }
    }

    /// Taps of the whole window.
    pub(crate) const fn len(self) -> usize {
        self.taps[0] * self.taps[1]
    }
}

/// A convolution's weights and bias, packed for one instruction set: `[block][tap row][tap][input channel][lane]`.
#[derive(Debug, Clone)]
pub(crate) struct WindowFilter {
    set: InstructionSet,
    window: Window,
    inputs: usize,
    outputs: usize,
    packed: Aligned,
    /// Padded with zeros to whole vectors.
    bias: Aligned,
}

impl WindowFilter {
    /// Packs `weight(output, input, tap)`, taps in row-major order; `bias` is empty or has one number per output.
    pub(crate) fn pack(
        set: InstructionSet,
        window: Window,
        [outputs, inputs]: [usize; 2],
        bias: &[f32],
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let lanes = set.lanes();
        let width = outputs.next_multiple_of(lanes);
        let mut packed = Aligned::zeros(width * window.len() * inputs);
        let mut slots = packed.iter_mut();
        for block in blocks(width / lanes) {
            for (tap, input) in (0..window.len()).flat_map(|tap| (0..inputs).map(move |input| (tap, input))) {
                for output in block.first * lanes..(block.first + block.vectors) * lanes {
                    let slot = slots.next().expect("the buffer has every lane of every block");
                    *slot = if output < outputs { weight(output, input, tap) } else { 0.0 };
                }
            }
        }
        let mut padded = Aligned::zeros(width);
        padded[..bias.len()].copy_from_slice(bias);
        Self { set, window, inputs, outputs, packed, bias: padded }
    }

    /// The geometry.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// Input channels.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Output channels.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Instruction set that it is packed for.
    pub(crate) fn set(&self) -> InstructionSet {
        self.set
    }

    /// The weight of one tap.
    pub(crate) fn weight(&self, output: usize, input: usize, tap: usize) -> f32 {
        let lanes = self.set.lanes();
        let vector = output / lanes;
        let block = blocks(self.outputs.div_ceil(lanes))
            .find(|block| vector < block.first + block.vectors)
            .expect("the output exists");
        let depth = self.window.len() * self.inputs;
        let row = (tap * self.inputs + input) * block.vectors * lanes;
        self.packed[block.first * lanes * depth + row + output - block.first * lanes]
    }

    /// `filter ∗ x + bias`: `x` is `[rows, columns, inputs]`, the result `[rows, columns, outputs]` of
    /// [`Window::output`].
    ///
    /// # Panics
    /// If `x` has another length, or no window fits into it.
    pub(crate) fn convolve(&self, x: &[f32], sides: [usize; 2], team: Team) -> Vec<f32> {
        assert_eq!(x.len(), sides[0] * sides[1] * self.inputs, "numbers of the input");
        let output = self.window.output(sides).expect("the caller has made sure that the window fits");
        if self.window.padding != [0, 0] {
            let padded = pad(x, sides, self.inputs, self.window.padding);
            let sides = [0, 1].map(|axis| sides[axis] + 2 * self.window.padding[axis]);
            self.sweep(&padded, sides, output, team)
        } else if self.window.len() == 1 && self.window.stride == 1 && team.threads() == 1 {
            // No neighbours: one long row makes the widest tiles.
            self.sweep(x, [1, output[0] * output[1]], [1, output[0] * output[1]], team)
        } else {
            self.sweep(x, sides, output, team)
        }
    }

    /// The convolution of an input with its padding.
    fn sweep(&self, x: &[f32], sides: [usize; 2], output: [usize; 2], team: Team) -> Vec<f32> {
        let mut out = vec![0.0; output[0] * output[1] * self.outputs];
        let vectors = self.outputs.div_ceil(self.set.lanes());
        // Enough tasks to balance the team, each a run of rows of one block of channels.
        let columns = blocks(vectors).count();
        let bands =
            if team.threads() == 1 { 1 } else { (4 * team.threads()).div_ceil(columns).min(output[0]) };
        let target = Shared(out.as_mut_ptr());
        team.run(columns * bands, |task| {
            let block = blocks(vectors).nth(task / bands).expect("columns counts the blocks");
            let rows = Team::range(output[0], bands, task % bands);
            // SAFETY: `convolve` checked the lengths, every window lies inside the padded input by `Window::output`,
            // the set was detected when the filter was packed, and each task writes its own rows and channels.
            unsafe { self.block(x, sides[1], output[1], target, block, rows) }
        });
        out
    }

    /// Some rows of one block of channels.
    ///
    /// # Safety
    /// `x` and `out` hold all windows and outputs of the rows, and no other task writes these rows and channels.
    unsafe fn block(
        &self,
        x: &[f32],
        columns: usize,
        out_columns: usize,
        out: Shared,
        block: Block,
        rows: std::ops::Range<usize>,
    ) {
        let Window { taps, stride, .. } = self.window;
        let channel = block.first * self.set.lanes();
        let tile = Tile {
            weights: self.packed[channel * self.window.len() * self.inputs..].as_ptr(),
            bias: self.bias[channel..].as_ptr(),
            runs: taps[0],
            run_len: taps[1] * self.inputs,
            run_stride: columns * self.inputs,
            x_step: stride * self.inputs,
            out_step: self.outputs,
            lanes: (self.outputs - channel).min(block.vectors * self.set.lanes()),
            accumulate: false,
        };
        let steps = RowSteps { x: stride * columns * self.inputs, out: out_columns * self.outputs, add: 0 };
        let at = Spot {
            x: x[rows.start * steps.x..].as_ptr(),
            // SAFETY: inside the output.
            out: unsafe { out.get().add(rows.start * steps.out + channel) },
            add: std::ptr::null(),
        };
        // SAFETY: as the caller promises.
        unsafe { sweep(self.set, &tile, block.vectors, at, steps, (rows.len(), out_columns)) }
    }
}

/// `x` of `[rows, columns, channels]` inside a border of zeros.
fn pad(x: &[f32], [rows, columns]: [usize; 2], channels: usize, padding: [usize; 2]) -> Vec<f32> {
    let row_len = (columns + 2 * padding[1]) * channels;
    let mut padded = vec![0.0; (rows + 2 * padding[0]) * row_len];
    let inner = padding[1] * channels;
    let targets = padded.chunks_exact_mut(row_len).skip(padding[0]);
    for (to, from) in targets.zip(x.chunks_exact(columns * channels)) {
        to[inner..inner + from.len()].copy_from_slice(from);
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::{distance, pool, state};

    const WINDOWS: [Window; 6] = [
        Window::square(1, 1, 0),
        Window::square(3, 1, 1),
        Window::square(11, 4, 2),
        Window::square(3, 2, 0),
        Window { taps: [1, 7], stride: 1, padding: [0, 3] },
        Window { taps: [7, 1], stride: 1, padding: [3, 0] },
    ];

    /// The sum as written in a textbook, in f64.
    fn textbook(
        window: Window,
        [outputs, inputs]: [usize; 2],
        w: &[f32],
        b: &[f32],
        x: &[f32],
        sides: [usize; 2],
    ) -> Vec<f32> {
        let [rows, columns] = window.output(sides).unwrap();
        let mut out = Vec::new();
        for (y, z, o) in
            (0..rows).flat_map(|y| (0..columns).flat_map(move |z| (0..outputs).map(move |o| (y, z, o))))
        {
            let mut sum = f64::from(b[o]);
            for (i, tap) in (0..inputs).flat_map(|i| (0..window.len()).map(move |tap| (i, tap))) {
                let row = (y * window.stride + tap / window.taps[1]).wrapping_sub(window.padding[0]);
                let column = (z * window.stride + tap % window.taps[1]).wrapping_sub(window.padding[1]);
                if row < sides[0] && column < sides[1] {
                    let weight = w[(o * inputs + i) * window.len() + tap];
                    sum += f64::from(weight) * f64::from(x[(row * sides[1] + column) * inputs + i]);
                }
            }
            out.push(sum as f32);
        }
        out
    }

    #[test]
    fn every_window_is_the_textbook_sum_on_every_instruction_set_and_team() {
        let (channels, sides) = ([37, 5], [13, 17]);
        for window in WINDOWS {
            let w = state("window.w", channels[0] * channels[1] * window.len());
            let (b, x) =
                (state("window.b", channels[0]), state("window.x", sides[0] * sides[1] * channels[1]));
            let expected = textbook(window, channels, &w, &b, &x, sides);
            for set in InstructionSet::ALL.into_iter().filter(|set| set.is_supported()) {
                let at = |o: usize, i: usize, tap: usize| w[(o * channels[1] + i) * window.len() + tap];
                let filter = WindowFilter::pack(set, window, channels, &b, at);
                let solo = filter.convolve(&x, sides, Team::SOLO);
                // Sums of at most 605 products in f32.
                assert!(distance(&solo, &expected) < 1e-6, "{window:?} {}", set.name());
                let team = pool(3).install(|| filter.convolve(&x, sides, Team::pool()));
                assert_eq!(solo, team, "{window:?} {}", set.name());
            }
        }
    }

    #[test]
    fn packed_weights_can_be_read_back() {
        let (window, channels) = (Window::square(3, 1, 1), [70, 3]);
        let w = state("window.back", channels[0] * channels[1] * window.len());
        let at = |o: usize, i: usize, tap: usize| w[(o * channels[1] + i) * window.len() + tap];
        let filter = WindowFilter::pack(InstructionSet::Portable, window, channels, &[], at);
        let all = (0..70).flat_map(|o| (0..3).flat_map(move |i| (0..9).map(move |tap| (o, i, tap))));
        assert!(all.into_iter().all(|(o, i, tap)| filter.weight(o, i, tap) == at(o, i, tap)));
    }

    #[test]
    fn a_window_larger_than_the_padded_input_has_no_output() {
        assert_eq!(Window::square(11, 4, 2).output([6, 40]), None);
        assert_eq!(Window::square(11, 4, 2).output([7, 11]), Some([1, 2]));
    }
}
