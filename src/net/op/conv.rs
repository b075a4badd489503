//! Convolution with bias, optionally with a bias from the embedding and with a second value added to the result.

use candle_core::{Device, Tensor};

use super::{Call, DeviceOp, Op, copy};
use crate::net::device;
use crate::net::kernel::{
    Add, ConvCall, Filter, InstructionSet, Kernel, Plane, PlaneMut, Shape, WinogradCall, WinogradFilter,
    conv, winograd, winograd_scratch_len,
};

/// Tiles of 4×4 pixels from which Winograd's convolution is faster than the direct one, on every instruction set: with fewer,
/// its larger weights are read for too few products (AVX-512: 0.35 of the time with 16 tiles, 0.8 to 1.0 with 4; whole
/// networks by instruction set: benches/NOTES.md, 1).
const WINOGRAD_TILES: usize = 16;

/// Most bytes of one layer's weights at Winograd's points, both directions together: four times the plain ones.
const WINOGRAD_BYTES: usize = 40 << 20;

/// y = W ∗ x + b (+ conditioning) (+ residual): 1×1 or 3×3, stride 1 or 2 (3×3 only), padding 1 for 3×3.
///
/// Inputs: x, and the residual if there is one. Weights are packed once for each direction, for the kernel that is faster.
#[derive(Debug)]
pub(crate) struct Conv {
    kernel: Kernel,
    stride: usize,
    forward: Filter,
    backward: Filter,
    /// The same two at Winograd's points, where that is faster.
    points: Option<[WinogradFilter; 2]>,
    bias: Vec<f32>,
    conditioning: Option<std::ops::Range<usize>>,
}

impl Conv {
    /// A stride-1 convolution; `weights` are `[outputs, inputs, k, k]`.
    pub(crate) fn new(
        set: InstructionSet,
        kernel: Kernel,
        (outputs, inputs): (usize, usize),
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        let mut bias = bias.to_vec();
        bias.resize(outputs.next_multiple_of(set.lanes()), 0.0);
        Self {
            kernel,
            stride: 1,
            forward: Filter::pack(set, kernel, outputs, inputs, weights),
            backward: Filter::pack_transposed(set, kernel, outputs, inputs, weights),
            points: None,
            bias,
            conditioning: None,
        }
    }

    /// The same with stride 2 (even height and width).
    pub(crate) fn strided(self) -> Self {
        Self { stride: 2, points: None, ..self }
    }

    /// The same for inputs of this shape, by the kernel that is the fastest for them.
    pub(crate) fn tuned(self, shape: Shape) -> Self {
        let (outputs, inputs) = (self.forward.outputs(), self.forward.inputs());
        let is_small = 2 * WinogradFilter::bytes(outputs, inputs) <= WINOGRAD_BYTES;
        if is_small && shape.pixels() >= 16 * WINOGRAD_TILES { self.by_winograd(shape) } else { self }
    }

    /// The same by Winograd's convolution, where it computes such a layer.
    pub(super) fn by_winograd(self, shape: Shape) -> Self {
        let (set, outputs, inputs) = (self.forward.set(), self.forward.outputs(), self.forward.inputs());
        let fits = WinogradFilter::fits(set, outputs, inputs, (shape.height, shape.width));
        if self.kernel != Kernel::Three || self.stride != 1 || !fits {
            return self;
        }
        let weights = self.forward.unpack();
        let points = [
            WinogradFilter::pack(set, outputs, inputs, &weights),
            WinogradFilter::pack_transposed(set, outputs, inputs, &weights),
        ];
        Self { points: Some(points), ..self }
    }

    /// The same with these numbers of the conditioning added to the bias.
    pub(crate) fn with_conditioning(self, range: std::ops::Range<usize>) -> Self {
        Self { conditioning: Some(range), ..self }
    }

    /// Numbers of the scratch that the bias with its conditioning takes, whole lines.
    fn bias_len(&self) -> usize {
        self.bias.len().next_multiple_of(16)
    }

    /// The filter's pull-back for stride 2: the cotangent spread out with zeros between, then stride 1.
    fn pull_back_strided(&self, call: Call<'_>, cotangent: Plane<'_>, out: &mut PlaneMut<'_>) {
        let shape = Shape { channels: cotangent.shape.channels, border: 1, ..out.shape };
        let mut spread = PlaneMut::new(call.scratch, shape);
        spread.data.fill(0.0);
        let channels = shape.channels;
        for y in 0..cotangent.shape.height {
            let row = spread.row_mut(2 * y);
            for (to, from) in row.chunks_exact_mut(2 * channels).zip(cotangent.row(y).chunks_exact(channels))
            {
                to[..channels].copy_from_slice(from);
            }
        }
        let x = Plane::new(spread.data, shape);
        conv(ConvCall { filter: &self.backward, bias: &[], x, stride: 1, add: Add::Nothing }, out, call.team);
    }
}

impl Op for Conv {
    fn output(&self, inputs: &[Shape]) -> Shape {
        let x = inputs[0];
        Shape::new(self.forward.outputs(), x.height / self.stride, x.width / self.stride)
    }

    fn input_border(&self) -> usize {
        self.kernel.padding()
    }

    fn cotangent_border(&self) -> usize {
        if self.stride == 1 { self.kernel.padding() } else { 0 }
    }

    fn scratch_len(&self, inputs: &[Shape]) -> usize {
        let (to, from) = (self.forward.outputs(), self.forward.inputs());
        let spread = if self.stride == 1 { 0 } else { Shape { channels: to, border: 1, ..inputs[0] }.len() };
        let points = |from, to| winograd_scratch_len(from, to, inputs[0]);
        let points = self.points.as_ref().map_or(0, |_| points(from, to).max(points(to, from)));
        spread.max(self.bias_len() + points)
    }

    fn forward(&self, call: Call<'_>, inputs: &[Plane<'_>], _saved: &mut [f32], mut out: PlaneMut<'_>) {
        let (sum, scratch) = call.scratch.split_at_mut(self.bias_len());
        let bias = match &self.conditioning {
            None => &self.bias[..],
            Some(range) => {
                let sum = &mut sum[..self.bias.len()];
                sum.copy_from_slice(&self.bias);
                sum.iter_mut().zip(&call.conditioning[range.clone()]).for_each(|(s, c)| *s += c);
                &*sum
            }
        };
        let (x, add) = (inputs[0], inputs.get(1).map_or(Add::Nothing, |residual| Add::Value(*residual)));
        if let Some([filter, _]) = &self.points {
            return winograd(WinogradCall { filter, bias, x, add }, scratch, &mut out, call.team);
        }
        let conv_call = ConvCall { filter: &self.forward, bias, x, stride: self.stride, add };
        conv(conv_call, &mut out, call.team);
    }

    fn pull_back(
        &self,
        call: Call<'_>,
        _inputs: &[Plane<'_>],
        _saved: &[f32],
        cotangent: Plane<'_>,
        gradients: &mut [PlaneMut<'_>],
    ) {
        if let [_, residual] = gradients {
            copy(cotangent, residual);
        }
        if self.stride == 2 {
            return self.pull_back_strided(call, cotangent, &mut gradients[0]);
        }
        let (x, add) = (cotangent, Add::Nothing);
        if let Some([_, filter]) = &self.points {
            let winograd_call = WinogradCall { filter, bias: &[], x, add };
            return winograd(winograd_call, call.scratch, &mut gradients[0], call.team);
        }
        let conv_call = ConvCall { filter: &self.backward, bias: &[], x, stride: 1, add };
        conv(conv_call, &mut gradients[0], call.team);
    }

    fn on(&self, device: &Device) -> candle_core::Result<Box<dyn DeviceOp>> {
        let (outputs, inputs) = (self.forward.outputs(), self.forward.inputs());
        let size = self.kernel.size();
        Ok(Box::new(device::Conv {
            forward: Tensor::from_vec(self.forward.unpack(), (outputs, inputs, size, size), device)?,
            backward: Tensor::from_vec(self.backward.unpack(), (inputs, outputs, size, size), device)?,
            bias: Tensor::from_slice(&self.bias[..outputs], (1, outputs, 1, 1), device)?,
            padding: self.kernel.padding(),
            stride: self.stride,
            conditioning: self.conditioning.clone(),
        }))
    }
}
