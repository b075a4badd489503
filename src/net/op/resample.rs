//! Resolution changes by 2: nearest-neighbour up, mean of 2×2 pixels down.

use candle_core::Device;

use super::{Call, DeviceOp, Op};
use crate::net::device;
use crate::net::kernel::{Plane, PlaneMut, Shape};

/// Every pixel becomes 2×2 equal pixels.
#[derive(Debug)]
pub(crate) struct Up2;

/// Every 2×2 pixels become their mean (even height and width).
#[derive(Debug)]
pub(crate) struct Down2;

/// `out (+)= factor · (sum of the 2×2 pixels of x)`.
fn pool(x: Plane<'_>, factor: f32, out: &mut PlaneMut<'_>) {
    let (channels, accumulate) = (x.shape.channels, out.accumulate);
    for y in 0..out.shape.height {
        let rows = [x.row(2 * y), x.row(2 * y + 1)].map(|row| row.chunks_exact(2 * channels));
        let [upper, lower] = rows;
        for ((to, upper), lower) in out.row_mut(y).chunks_exact_mut(channels).zip(upper).zip(lower) {
            let (a, b) = upper.split_at(channels);
            let (c, d) = lower.split_at(channels);
            for i in 0..channels {
                let sum = factor * ((a[i] + b[i]) + (c[i] + d[i]));
                to[i] = if accumulate { to[i] + sum } else { sum };
            }
        }
    }
}

/// `out (+)= factor · x`, every pixel written to 2×2 pixels.
fn spread(x: Plane<'_>, factor: f32, out: &mut PlaneMut<'_>) {
    let (channels, accumulate) = (x.shape.channels, out.accumulate);
    for y in 0..out.shape.height {
        let pixels = x.row(y / 2).chunks_exact(channels);
        for (pair, from) in out.row_mut(y).chunks_exact_mut(2 * channels).zip(pixels) {
            for to in pair.chunks_exact_mut(channels) {
                for (to, from) in to.iter_mut().zip(from) {
                    let value = factor * from;
                    *to = if accumulate { *to + value } else { value };
                }
            }
        }
    }
}

impl Op for Up2 {
    fn output(&self, inputs: &[Shape]) -> Shape {
        Shape::new(inputs[0].channels, 2 * inputs[0].height, 2 * inputs[0].width)
    }

    fn forward(&self, _call: Call<'_>, inputs: &[Plane<'_>], _saved: &mut [f32], mut out: PlaneMut<'_>) {
        spread(inputs[0], 1.0, &mut out);
    }

    fn pull_back(
        &self,
        _call: Call<'_>,
        _inputs: &[Plane<'_>],
        _saved: &[f32],
        cotangent: Plane<'_>,
        gradients: &mut [PlaneMut<'_>],
    ) {
        pool(cotangent, 1.0, &mut gradients[0]);
    }

    fn on(&self, _device: &Device) -> candle_core::Result<Box<dyn DeviceOp>> {
        Ok(Box::new(device::Up2))
    }
}

impl Op for Down2 {
    fn output(&self, inputs: &[Shape]) -> Shape {
        Shape::new(inputs[0].channels, inputs[0].height / 2, inputs[0].width / 2)
    }

    fn forward(&self, _call: Call<'_>, inputs: &[Plane<'_>], _saved: &mut [f32], mut out: PlaneMut<'_>) {
        pool(inputs[0], 0.25, &mut out);
    }

    fn pull_back(
        &self,
        _call: Call<'_>,
        _inputs: &[Plane<'_>],
        _saved: &[f32],
        cotangent: Plane<'_>,
        gradients: &mut [PlaneMut<'_>],
    ) {
        spread(cotangent, 0.25, &mut gradients[0]);
    }

    fn on(&self, _device: &Device) -> candle_core::Result<Box<dyn DeviceOp>> {
        Ok(Box::new(device::Down2))
    }
}
