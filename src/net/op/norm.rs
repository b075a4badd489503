//! GroupNorm with scale and shift from the embedding and SiLU, as one op.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::{Call, DeviceOp, Op};
use crate::net::device;
use crate::net::kernel::{
    InstructionSet, NormCall, Plane, PlaneMut, Shape, norm_forward, norm_pull_back, norm_scratch_len,
};

/// ε of every GroupNorm of the ADM networks.
const EPSILON: f32 = 1e-5;

/// y = act(GroupNorm(x)·(1 + scale) + shift).
#[derive(Debug)]
pub(crate) struct NormAct {
    set: InstructionSet,
    groups: usize,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    /// Where scale and then shift lie in the conditioning.
    film: Option<Range<usize>>,
    silu: bool,
}

impl NormAct {
    /// GroupNorm, followed by SiLU if asked for.
    pub(crate) fn new(
        set: InstructionSet,
        groups: usize,
        gamma: Vec<f32>,
        beta: Vec<f32>,
        silu: bool,
    ) -> Self {
        Self { set, groups, gamma, beta, film: None, silu }
    }

    /// The same, modulated by these numbers of the conditioning: scale per channel, then shift per channel.
    pub(crate) fn with_film(self, range: Range<usize>) -> Self {
        Self { film: Some(range), ..self }
    }

    fn call<'a>(
        &'a self,
        conditioning: &'a [f32],
        x: Plane<'a>,
        team: crate::net::kernel::Team,
    ) -> NormCall<'a> {
        NormCall {
            set: self.set,
            groups: self.groups,
            epsilon: EPSILON,
            gamma: &self.gamma,
            beta: &self.beta,
            film: self.film.clone().map(|range| conditioning[range].split_at(self.gamma.len())),
            silu: self.silu,
            x,
            team,
        }
    }
}

impl Op for NormAct {
    fn output(&self, inputs: &[Shape]) -> Shape {
        inputs[0].bordered(0)
    }

    fn keeps_inputs(&self) -> bool {
        true
    }

    fn saved_len(&self) -> usize {
        2 * self.groups
    }

    fn scratch_len(&self, _inputs: &[Shape]) -> usize {
        norm_scratch_len(self.gamma.len())
    }

    fn forward(&self, call: Call<'_>, inputs: &[Plane<'_>], saved: &mut [f32], mut out: PlaneMut<'_>) {
        norm_forward(&self.call(call.conditioning, inputs[0], call.team), call.scratch, saved, &mut out);
    }

    fn pull_back(
        &self,
        call: Call<'_>,
        inputs: &[Plane<'_>],
        saved: &[f32],
        cotangent: Plane<'_>,
        gradients: &mut [PlaneMut<'_>],
    ) {
        let norm = self.call(call.conditioning, inputs[0], call.team);
        norm_pull_back(&norm, call.scratch, saved, cotangent, &mut gradients[0]);
    }

    fn on(&self, device: &Device) -> candle_core::Result<Box<dyn DeviceOp>> {
        let channels = self.gamma.len();
        Ok(Box::new(device::NormAct {
            groups: self.groups,
            epsilon: f64::from(EPSILON),
            gamma: Tensor::from_slice(&self.gamma, (1, channels, 1, 1), device)?,
            beta: Tensor::from_slice(&self.beta, (1, channels, 1, 1), device)?,
            film: self.film.clone(),
            silu: self.silu,
        }))
    }
}
