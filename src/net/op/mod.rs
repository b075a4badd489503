//! Ops: what networks are made of. Each computes one value and pulls a cotangent of it back to its inputs.
//!
//! Both directions are required, so an op without a pull-back cannot enter a network. Weights are frozen: there is no
//! gradient for them. An op acts on one sample.

mod attention;
mod concat;
mod conv;
mod norm;
mod resample;

pub(crate) use attention::SelfAttention;
pub(crate) use concat::Concat;
pub(crate) use conv::Conv;
pub(crate) use norm::NormAct;
pub(crate) use resample::{Down2, Up2};

use candle_core::Device;

use super::device::DeviceOp;
use super::kernel::{Plane, PlaneMut, Shape, Team};

/// Most inputs that an op has.
pub(crate) const MAX_INPUTS: usize = 2;

/// What an op is given besides its values.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// What the sample's time and class became: see [`crate::net::embedding`].
    pub conditioning: &'a [f32],
    /// [`Op::scratch_len`] numbers, or more, of any content.
    pub scratch: &'a mut [f32],
    /// Threads.
    pub team: Team,
}

/// A differentiable map of planes to a plane.
pub(crate) trait Op: Send + Sync + std::fmt::Debug {
    /// Shape of the output (without border) for inputs of these shapes.
    fn output(&self, inputs: &[Shape]) -> Shape;

    /// Zero pixels that the op reads around its first input.
    fn input_border(&self) -> usize {
        0
    }

    /// Zero pixels that the pull-back reads around the cotangent.
    fn cotangent_border(&self) -> usize {
        0
    }

    /// Whether the pull-back reads the inputs.
    fn keeps_inputs(&self) -> bool {
        false
    }

    /// Numbers that the forward pass leaves for the pull-back besides the inputs.
    fn saved_len(&self) -> usize {
        0
    }

    /// Scratch numbers for inputs of these shapes.
    fn scratch_len(&self, _inputs: &[Shape]) -> usize {
        0
    }

    /// Writes the output.
    fn forward(&self, call: Call<'_>, inputs: &[Plane<'_>], saved: &mut [f32], out: PlaneMut<'_>);

    /// Writes (or adds, see [`PlaneMut::accumulate`]) the pull-back of `cotangent` to every input.
    ///
    /// `inputs` have data only if [`Self::keeps_inputs`].
    fn pull_back(
        &self,
        call: Call<'_>,
        inputs: &[Plane<'_>],
        saved: &[f32],
        cotangent: Plane<'_>,
        gradients: &mut [PlaneMut<'_>],
    );

    /// The same op on a device.
    fn on(&self, device: &Device) -> candle_core::Result<Box<dyn DeviceOp>>;
}

/// `out (+)= x`, pixel by pixel; the border is left alone.
fn copy(x: Plane<'_>, out: &mut PlaneMut<'_>) {
    for y in 0..x.shape.height {
        let accumulate = out.accumulate;
        write_row(x.row(y), out.row_mut(y), accumulate);
    }
}

/// `out (+)= x`.
fn write_row(x: &[f32], out: &mut [f32], accumulate: bool) {
    if accumulate {
        out.iter_mut().zip(x).for_each(|(o, x)| *o += x);
    } else {
        out.copy_from_slice(x);
    }
}

#[cfg(test)]
mod tests;
