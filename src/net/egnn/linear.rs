//! A linear layer on rows, with its pull-back.

use crate::net::kernel::{Add, ConvCall, Filter, InstructionSet, Kernel, Plane, PlaneMut, Shape, Team, conv};

/// Whether a result replaces what is there or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// `out = …`
    Over,
    /// `out += …`
    Onto,
}

/// out = W·x + b for rows x; the weights are packed for both directions.
#[derive(Debug)]
pub(super) struct Linear {
    forward: Filter,
    backward: Filter,
    bias: Vec<f32>,
}

impl Linear {
    /// From weights by (output, input), and a bias by output.
    pub(super) fn new(
        set: InstructionSet,
        (outputs, inputs): (usize, usize),
        weight: impl Fn(usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
    ) -> Self {
        let weights: Vec<f32> = (0..outputs * inputs).map(|at| weight(at / inputs, at % inputs)).collect();
        let padded = outputs.next_multiple_of(set.lanes());
        Self {
            forward: Filter::pack(set, Kernel::Point, outputs, inputs, &weights),
            backward: Filter::pack_transposed(set, Kernel::Point, outputs, inputs, &weights),
            bias: (0..padded).map(|at| if at < outputs { bias(at) } else { 0.0 }).collect(),
        }
    }

    /// `out (+)= W·x + b`: `x` has rows of as many numbers as the layer has inputs, `out` of outputs.
    pub(super) fn forward(&self, x: &[f32], out: &mut [f32], write: Write, team: Team) {
        product(&self.forward, &self.bias, x, out, write, team);
    }

    /// `out (+)= Wᵀ·cotangent`, row by row.
    pub(super) fn pull_back(&self, cotangent: &[f32], out: &mut [f32], write: Write, team: Team) {
        product(&self.backward, &[], cotangent, out, write, team);
    }
}

/// Rows are the pixels of one line, so that a tile of the kernel takes several of them.
fn product(filter: &Filter, bias: &[f32], x: &[f32], out: &mut [f32], write: Write, team: Team) {
    let rows = x.len() / filter.inputs();
    if rows == 0 {
        return;
    }
    let x = Plane::new(x, Shape::new(filter.inputs(), 1, rows));
    let mut out = PlaneMut::new(out, Shape::new(filter.outputs(), 1, rows));
    out.accumulate = write == Write::Onto;
    conv(ConvCall { filter, bias, x, stride: 1, add: Add::Nothing }, &mut out, team);
}
