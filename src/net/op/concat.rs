//! Concatenation of channels.

use candle_core::Device;

use super::{Call, DeviceOp, Op, write_row};
use crate::net::device;
use crate::net::kernel::{Plane, PlaneMut, Shape};

/// The channels of the first input, then those of the second.
#[derive(Debug)]
pub(crate) struct Concat {
    /// Channels of the first input.
    pub first: usize,
    /// Channels of the second.
    pub second: usize,
}

impl Op for Concat {
    fn output(&self, inputs: &[Shape]) -> Shape {
        Shape { channels: self.first + self.second, border: 0, ..inputs[0] }
    }

    fn forward(&self, _call: Call<'_>, inputs: &[Plane<'_>], _saved: &mut [f32], mut out: PlaneMut<'_>) {
        let Self { first, second } = *self;
        for y in 0..out.shape.height {
            let sources = inputs[0].row(y).chunks_exact(first).zip(inputs[1].row(y).chunks_exact(second));
            for (pixel, (a, b)) in out.row_mut(y).chunks_exact_mut(first + second).zip(sources) {
                pixel[..first].copy_from_slice(a);
                pixel[first..].copy_from_slice(b);
            }
        }
    }

    fn pull_back(
        &self,
        _call: Call<'_>,
        _inputs: &[Plane<'_>],
        _saved: &[f32],
        cotangent: Plane<'_>,
        gradients: &mut [PlaneMut<'_>],
    ) {
        let total = cotangent.shape.channels;
        let mut first = 0;
        for gradient in gradients {
            let (channels, accumulate) = (gradient.shape.channels, gradient.accumulate);
            for y in 0..cotangent.shape.height {
                let pixels = cotangent.row(y).chunks_exact(total);
                for (to, from) in gradient.row_mut(y).chunks_exact_mut(channels).zip(pixels) {
                    write_row(&from[first..first + channels], to, accumulate);
                }
            }
            first += channels;
        }
    }

    fn on(&self, _device: &Device) -> candle_core::Result<Box<dyn DeviceOp>> {
        Ok(Box::new(device::Concat { first: self.first, second: self.second }))
    }
}
