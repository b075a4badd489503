//! Self-attention over all pixels of a qkv value.

use candle_core::Device;

use super::{Call, DeviceOp, Op};
use crate::net::device;
use crate::net::kernel::{Attention, Plane, PlaneMut, Shape};

/// softmax(QᵀK/√d)·V per head; the input has 3C channels, the output C.
#[derive(Debug)]
pub(crate) struct SelfAttention(pub(crate) Attention);

impl Op for SelfAttention {
    fn output(&self, inputs: &[Shape]) -> Shape {
        Shape::new(inputs[0].channels / 3, inputs[0].height, inputs[0].width)
    }

    fn keeps_inputs(&self) -> bool {
        true
    }

    fn scratch_len(&self, _inputs: &[Shape]) -> usize {
        self.0.scratch_len()
    }

    fn forward(&self, call: Call<'_>, inputs: &[Plane<'_>], _saved: &mut [f32], mut out: PlaneMut<'_>) {
        self.0.forward(inputs[0], call.scratch, &mut out, call.team);
    }

    fn pull_back(
        &self,
        call: Call<'_>,
        inputs: &[Plane<'_>],
        _saved: &[f32],
        cotangent: Plane<'_>,
        gradients: &mut [PlaneMut<'_>],
    ) {
        self.0.pull_back(inputs[0], cotangent, call.scratch, &mut gradients[0], call.team);
    }

    fn on(&self, _device: &Device) -> candle_core::Result<Box<dyn DeviceOp>> {
        let Attention { heads, dim, order, .. } = self.0;
        Ok(Box::new(device::Attention { heads, dim, order }))
    }
}
