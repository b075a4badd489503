//! Convolution with bias and ReLU, and its pull-back.

use std::sync::OnceLock;

use crate::net::kernel::{InstructionSet, Team, Window, WindowFilter};

use super::value::Value;

/// max(0, W ∗ x + b).
#[derive(Debug)]
pub(super) struct Conv {
    forward: WindowFilter,
    /// Packed when a gradient is first asked for: most networks are only evaluated.
    backward: OnceLock<WindowFilter>,
}

impl Conv {
    /// `weights` are `[outputs, inputs, rows, columns]`, `bias` has one number per output.
    pub(super) fn new(
        set: InstructionSet,
        window: Window,
        channels: [usize; 2],
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        let at = |o: usize, i: usize, tap: usize| weights[(o * channels[1] + i) * window.len() + tap];
        Self { forward: WindowFilter::pack(set, window, channels, bias, at), backward: OnceLock::new() }
    }

    /// Sides of the result.
    pub(super) fn output(&self, sides: [usize; 2]) -> Option<[usize; 2]> {
        self.forward.window().output(sides)
    }

    /// The result.
    pub(super) fn forward(&self, x: &Value, team: Team) -> Value {
        let sides = self.output(x.sides).expect("the image's size has been checked");
        let mut data = self.forward.convolve(&x.data, x.sides, team);
        data.iter_mut().for_each(|y| *y = y.max(0.0));
        Value { sides, channels: self.forward.outputs(), data }
    }

    /// (∂y/∂x)ᵀ cotangent, for an input of `sides` and the result `y` that it gave.
    pub(super) fn pull_back(&self, sides: [usize; 2], y: &Value, mut cotangent: Value, team: Team) -> Value {
        let pairs = cotangent.data.iter_mut().zip(&y.data);
        pairs.for_each(|(g, y)| *g = if *y > 0.0 { *g } else { 0.0 });
        let backward = self.backward.get_or_init(|| self.pack_backward());
        let data = backward.convolve(&cotangent.data, cotangent.sides, team);
        let channels = self.forward.inputs();
        if self.forward.window().stride == 1 {
            Value { sides, channels, data }
        } else {
            self.fold(sides, cotangent.sides, &data)
        }
    }

    /// Stride 1: the convolution with taps flipped, inputs and outputs exchanged. Else the map of one output pixel to
    /// the window that it reads, which [`Self::fold`] adds up.
    fn pack_backward(&self) -> WindowFilter {
        let (forward, window) = (&self.forward, self.forward.window());
        let (inputs, outputs, taps) = (forward.inputs(), forward.outputs(), window.len());
        if window.stride == 1 {
            let weight = |i: usize, o: usize, tap: usize| forward.weight(o, i, taps - 1 - tap);
            return WindowFilter::pack(forward.set(), window.transposed(), [inputs, outputs], &[], weight);
        }
        let weight = |column: usize, o: usize, _| forward.weight(o, column % inputs, column / inputs);
        WindowFilter::pack(forward.set(), Window::square(1, 1, 0), [taps * inputs, outputs], &[], weight)
    }

    /// Adds windows `[pixel][tap row][tap][channel]` up where they were read, in the order of the pixels.
    fn fold(&self, sides: [usize; 2], outputs: [usize; 2], windows: &[f32]) -> Value {
        let Window { taps, stride, padding } = self.forward.window();
        let channels = self.forward.inputs();
        let padded = [0, 1].map(|axis| sides[axis] + 2 * padding[axis]);
        let mut sum = Value::zeros(padded, channels);
        let run = taps[1] * channels;
        for (pixel, window) in windows.chunks_exact(taps[0] * run).enumerate() {
            let (row, column) = (pixel / outputs[1] * stride, pixel % outputs[1] * stride);
            for (tap, from) in window.chunks_exact(run).enumerate() {
                let first = ((row + tap) * padded[1] + column) * channels;
                sum.data[first..first + run].iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        }
        sum.cropped(padding, sides)
    }
}
