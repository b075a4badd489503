//! A coordinate update: every atom moves along the directions to the others, by weights that an MLP gives each edge.

use super::buffers::{Blocks, OpBuffers, carve, carve_mut, edges, room};
use super::edge::{Call, EdgeMlp, Gradients, kept};
use super::geometry::{triples, triples_mut};
use super::message::Scale;
use crate::net::kernel::{Receivers, head_forward, head_pull_back};

/// A coordinate update (`gcl_equiv` of the public code): x_i += scale · Σ_j r_ij φ_ij.
#[derive(Debug)]
pub(super) struct Coordinates {
    pub mlp: EdgeMlp,
    /// From the activation of an edge to its weight, without bias.
    pub head: Vec<f32>,
    /// φ is this times the tanh of the head's number, or the number itself.
    pub range: Option<f32>,
    pub scale: Scale,
}

/// Parts of the tape: projections, pre-activations, tanh of the head's numbers (or these).
const fn parts(atoms: usize, width: usize) -> [usize; 3] {
    let [projected, z] = kept(atoms, width);
    [projected, z, edges(atoms)]
}

impl Coordinates {
    /// Numbers of tape.
    pub(super) fn tape_len(&self, atoms: usize) -> usize {
        room(&parts(atoms, self.mlp.width()))
    }

    /// Moves `x`; `directions` are those of the edges.
    pub(super) fn forward(
        &self,
        call: Call<'_>,
        buffers: &OpBuffers,
        (h, directions): (&[f32], &[f32]),
        tape: &mut [f32],
        x: &mut [f32],
    ) {
        let blocks = Blocks::new(call.atoms);
        let [projected, z, weights] = carve_mut(tape, parts(call.atoms, self.mlp.width()));
        let extras = blocks
            .edge_rows_mut(weights, 1)
            .zip(blocks.edge_rows(directions, 3))
            .zip(blocks.atom_rows_mut(x, 3));
        let scale = self.scale.of(call.atoms);
        self.mlp.forward(call, buffers, h, [projected, z], extras, |receivers, z, ((weights, r), x)| {
            head_forward(self.mlp.set(), &self.head, z, weights);
            if self.range.is_some() {
                weights.iter_mut().for_each(|weight| *weight = libm::tanhf(*weight));
            }
            let range = self.range.unwrap_or(1.0);
            let edges = weights.chunks_exact(receivers.senders());
            let directions = triples(r).chunks_exact(receivers.senders());
            for ((x, weights), r) in triples_mut(x).iter_mut().zip(edges).zip(directions) {
                let mut sum = [0.0_f32; 3];
                for (weight, r) in weights.iter().zip(r) {
                    sum.iter_mut().zip(r).for_each(|(sum, r)| *sum += r * (weight * range));
                }
                x.iter_mut().zip(sum).for_each(|(x, sum)| *x += sum * scale);
            }
        });
    }

    /// Adds to the gradients, and writes the cotangent of the directions; `to_x` is that of the moved positions, which
    /// is also that of the positions before as far as they are the sum's first term.
    pub(super) fn pull_back(
        &self,
        call: Call<'_>,
        buffers: &mut OpBuffers,
        tape: &[f32],
        (directions, to_x): (&[f32], &[f32]),
        gradients: Gradients<'_>,
        to_directions: &mut [f32],
    ) {
        let blocks = Blocks::new(call.atoms);
        let [projected, z, weights] = carve(tape, parts(call.atoms, self.mlp.width()));
        let extras = blocks
            .edge_rows(weights, 1)
            .zip(blocks.edge_rows(directions, 3).zip(blocks.edge_rows_mut(to_directions, 3)));
        let scale = self.scale.of(call.atoms);
        let to_z = |receivers: Receivers,
                    z: &[f32],
                    (weights, (r, to_r)): (&[f32], (&[f32], &mut [f32])),
                    numbers: &mut [f32],
                    out: &mut [f32]| {
            let edges =
                receivers.pairs().zip(weights).zip(triples(r)).zip(triples_mut(to_r)).zip(&mut *numbers);
            for (((((i, _), weight), r), to_r), number) in edges {
                let to_x = triples(to_x)[i].map(|g| g * scale);
                *to_r = to_x.map(|g| g * (weight * self.range.unwrap_or(1.0)));
                let to_weight = r[0] * to_x[0] + r[1] * to_x[1] + r[2] * to_x[2];
                *number = match self.range {
                    Some(range) => to_weight * range * (1.0 - weight * weight),
                    None => to_weight,
                };
            }
            head_pull_back(self.mlp.set(), &self.head, z, numbers, out);
        };
        self.mlp.pull_back(call, buffers, [projected, z], gradients, extras, to_z);
    }
}
