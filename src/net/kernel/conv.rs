//! Direct convolution (3×3 and 1×1) and linear layers.
//!
//! The pull-back to the input of a stride-1 convolution is the same kernel with weights flipped and transposed, packed
//! once like the weights themselves.

use super::team::Shared;
use super::tile::{Block, RowSteps, Spot, Tile, blocks, sweep};
use super::{Aligned, InstructionSet, Plane, PlaneMut, Shape, Team};

/// Size of a square kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// 1×1: a linear map of channels.
    Point,
    /// 3×3 with one pixel of zero padding.
    Three,
}

impl Kernel {
    /// Taps on a side.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Point => 1,
            Self::Three => 3,
        }
    }

    /// Zero padding on a side.
    pub(crate) const fn padding(self) -> usize {
        self.size() / 2
    }
}

/// Convolution weights packed for one instruction set: `[block][tap row][tap][input channel][lane of the block]`.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    set: InstructionSet,
    kernel: Kernel,
    inputs: usize,
    outputs: usize,
    packed: Aligned,
}

impl Filter {
    /// Packs `weights` of shape `[outputs, inputs, k, k]`.
    pub(crate) fn pack(
        set: InstructionSet,
        kernel: Kernel,
        outputs: usize,
        inputs: usize,
        weights: &[f32],
    ) -> Self {
        let taps = kernel.size() * kernel.size();
        Self::pack_by(set, kernel, outputs, inputs, |o, i, tap| weights[(o * inputs + i) * taps + tap])
    }

    /// Packs the filter of the pull-back: taps flipped, inputs and outputs exchanged.
    pub(crate) fn pack_transposed(
        set: InstructionSet,
        kernel: Kernel,
        outputs: usize,
        inputs: usize,
        weights: &[f32],
    ) -> Self {
        let taps = kernel.size() * kernel.size();
        Self::pack_by(set, kernel, inputs, outputs, |o, i, tap| {
            weights[(i * inputs + o) * taps + taps - 1 - tap]
        })
    }

    fn pack_by(
        set: InstructionSet,
        kernel: Kernel,
        outputs: usize,
        inputs: usize,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let taps = kernel.size() * kernel.size();
        let mut packed = Aligned::zeros(Self::packed_len(set, kernel, outputs, inputs));
        let mut slots = packed.iter_mut();
        for block in blocks(outputs.div_ceil(set.lanes())) {
            let first = block.first * set.lanes();
            for tap in 0..taps {
                for input in 0..inputs {
                    for output in first..first + block.vectors * set.lanes() {
                        let slot = slots.next().expect("packed_len counts every lane of every block");
                        *slot = if output < outputs { weight(output, input, tap) } else { 0.0 };
                    }
                }
            }
        }
        Self { set, kernel, inputs, outputs, packed }
    }

    /// The weights as they were given to [`Self::pack`], `[outputs, inputs, k, k]`.
    pub(crate) fn unpack(&self) -> Vec<f32> {
        let (lanes, taps) = (self.set.lanes(), self.kernel.size() * self.kernel.size());
        let mut weights = vec![0.0; self.outputs * self.inputs * taps];
        let mut slots = self.packed.iter();
        for block in blocks(self.outputs.div_ceil(lanes)) {
            for (tap, input) in (0..taps).flat_map(|tap| (0..self.inputs).map(move |input| (tap, input))) {
                for output in block.first * lanes..(block.first + block.vectors) * lanes {
                    let weight = slots.next().expect("packed_len counts every lane of every block");
                    if output < self.outputs {
                        weights[(output * self.inputs + input) * taps + tap] = *weight;
                    }
                }
            }
        }
        weights
    }

    fn packed_len(set: InstructionSet, kernel: Kernel, outputs: usize, inputs: usize) -> usize {
        outputs.div_ceil(set.lanes()) * set.lanes() * kernel.size() * kernel.size() * inputs
    }

    /// The instruction set that it is packed for.
    pub(crate) fn set(&self) -> InstructionSet {
        self.set
    }

    /// Input channels.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Output channels.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }
}

/// What is added to a convolution besides the bias.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Add<'a> {
    /// Nothing.
    Nothing,
    /// Another value of the output's dimensions.
    Value(Plane<'a>),
}

/// Operands of one convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvCall<'a> {
    /// The packed weights.
    pub filter: &'a Filter,
    /// One number per output channel, padded with zeros to whole vectors of any instruction set, or empty.
    pub bias: &'a [f32],
    /// The input, with a border for 3×3.
    pub x: Plane<'a>,
    /// Step between the inputs of neighbouring outputs.
    pub stride: usize,
    /// What is added.
    pub add: Add<'a>,
}

/// `out (+)= filter ∗ x + bias + add`.
pub(crate) fn conv(call: ConvCall<'_>, out: &mut PlaneMut<'_>, team: Team) {
    let ConvCall { filter, x, stride, .. } = call;
    let pad = filter.kernel.padding();
    assert_eq!(x.shape.channels, filter.inputs, "input channels");
    assert_eq!(out.shape.channels, filter.outputs, "output channels");
    assert!(x.shape.border >= pad, "the input has its zero border");
    assert_eq!(out.shape.height, x.shape.height.div_ceil(stride), "rows");
    assert_eq!(out.shape.width, x.shape.width.div_ceil(stride), "pixels in a row");
    assert_eq!(x.data.len(), x.shape.len());
    assert_eq!(out.data.len(), out.shape.len());
    let vectors = filter.outputs.div_ceil(filter.set.lanes());
    assert!(call.bias.is_empty() || call.bias.len() >= vectors * filter.set.lanes(), "bias is padded");
    if let Add::Value(add) = call.add {
        assert_eq!((add.shape.pixels(), add.shape.channels), (out.shape.pixels(), out.shape.channels));
        assert_eq!(add.data.len(), add.shape.len());
    }
    // Enough tasks to balance the team, each a run of rows of one block of channels.
    let (height, columns) = (out.shape.height, blocks(vectors).count());
    let bands = if team.threads() == 1 { 1 } else { (4 * team.threads()).div_ceil(columns).min(height) };
    let target = Target { data: Shared(out.data.as_mut_ptr()), shape: out.shape, accumulate: out.accumulate };
    team.run(columns * bands, |task| {
        let block = blocks(vectors).nth(task / bands).expect("columns counts the blocks");
        let rows = Team::range(height, bands, task % bands);
        // SAFETY: the shapes were checked above, the set was detected when the filter was packed, and each task
        // writes its own rows and channels.
        unsafe { conv_block(&call, target, block, rows) }
    });
}

/// The output, for tasks that write disjoint parts of it.
#[derive(Clone, Copy)]
struct Target {
    data: Shared,
    shape: Shape,
    accumulate: bool,
}

/// Some rows of one block of channels.
///
/// # Safety
/// `conv` has checked all shapes, and no other task writes these rows and channels.
unsafe fn conv_block(call: &ConvCall<'_>, out: Target, block: Block, rows: std::ops::Range<usize>) {
    let filter = call.filter;
    let (size, input) = (filter.kernel.size(), call.x.shape);
    let channel = block.first * filter.set.lanes();
    let shift = input.border - filter.kernel.padding();
    let tile = Tile {
        weights: filter.packed[channel * size * size * filter.inputs..].as_ptr(),
        bias: if call.bias.is_empty() { std::ptr::null() } else { call.bias[channel..].as_ptr() },
        runs: size,
        run_len: size * filter.inputs,
        run_stride: input.row_stride(),
        x_step: call.stride * filter.inputs,
        out_step: out.shape.channels,
        lanes: (filter.outputs - channel).min(block.vectors * filter.set.lanes()),
        accumulate: out.accumulate,
    };
    let (add, add_step) = match call.add {
        Add::Nothing => (std::ptr::null(), 0),
        Add::Value(add) => {
            (add.data[add.shape.row_start(rows.start) + channel..].as_ptr(), add.shape.row_stride())
        }
    };
    let x = (rows.start * call.stride + shift) * input.row_stride() + shift * input.channels;
    let at = Spot {
        x: call.x.data[x..].as_ptr(),
        // SAFETY: inside the output, as `conv` checked.
        out: unsafe { out.data.get().add(out.shape.row_start(rows.start) + channel) },
        add,
    };
    let steps = RowSteps { x: call.stride * input.row_stride(), out: out.shape.row_stride(), add: add_step };
    // SAFETY: every pointer stays inside the buffers whose lengths `conv` checked.
    unsafe { sweep(filter.set, &tile, block.vectors, at, steps, (rows.len(), out.shape.width)) }
}
