//! A message layer: gated messages along edges, their sums, and the update of the atoms.

use super::buffers::{Blocks, OpBuffers, carve, carve_mut, edges, room};
use super::config::Aggregation;
use super::edge::{Call, EdgeMlp, Gradients, kept};
use super::node::NodeMlp;
use crate::net::kernel::{GatedSum, Receivers};

/// Factor of sums over senders.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub aggregation: Aggregation,
    pub normalization_factor: f64,
}

impl Scale {
    /// Of plain sums.
    pub(super) const ONE: Self = Self { aggregation: Aggregation::Sum, normalization_factor: 1.0 };

    pub(super) fn of(self, atoms: usize) -> f32 {
        match self.aggregation {
            Aggregation::Sum => self.normalization_factor.recip() as f32,
            Aggregation::Mean => (atoms as f64).recip() as f32,
        }
    }
}

/// A message layer (`gcl` of the public code).
#[derive(Debug)]
pub(super) struct Messages {
    pub mlp: EdgeMlp,
    /// Weights and bias of the gate.
    pub gate: Option<(Vec<f32>, f32)>,
    pub node: NodeMlp,
    pub scale: Scale,
}

/// Parts of the tape: projections, pre-activations of edges, gates, pre-activations of atoms.
const fn parts(atoms: usize, width: usize) -> [usize; 4] {
    let [projected, z] = kept(atoms, width);
    [projected, z, edges(atoms), atoms * width]
}

impl Messages {
    /// Numbers of tape.
    pub(super) fn tape_len(&self, atoms: usize) -> usize {
        room(&parts(atoms, self.mlp.width()))
    }

    fn sum(&self, receivers: Receivers) -> GatedSum<'_> {
        GatedSum {
            set: self.mlp.set(),
            width: self.mlp.width(),
            receivers,
            gate: self.gate.as_ref().map(|(weights, bias)| (weights.as_slice(), *bias)),
            scale: self.scale.of(receivers.atoms),
        }
    }

    /// Updates `h`.
    pub(super) fn forward(&self, call: Call<'_>, buffers: &mut OpBuffers, h: &mut [f32], tape: &mut [f32]) {
        let (width, blocks) = (self.mlp.width(), Blocks::new(call.atoms));
        let [projected, z, gates, node] = carve_mut(tape, parts(call.atoms, width));
        let mut sums = std::mem::take(&mut buffers.sums);
        let rows = &mut sums[..call.atoms * width];
        if call.atoms < 2 {
            // No block writes them.
            rows.fill(0.0);
        }
        let extras = blocks.edge_rows_mut(gates, 1).zip(blocks.atom_rows_mut(rows, width));
        self.mlp.forward(call, buffers, h, [projected, z], extras, |receivers, z, (gates, sums)| {
            self.sum(receivers).forward(z, gates, sums);
        });
        let hidden = &mut buffers.hidden[..call.atoms * width];
        self.node.forward(h, rows, node, hidden, call.team);
        buffers.sums = sums;
    }

    /// Adds to the gradients; that to h comes with the cotangent of the updated h.
    pub(super) fn pull_back(
        &self,
        call: Call<'_>,
        buffers: &mut OpBuffers,
        tape: &[f32],
        gradients: Gradients<'_>,
    ) {
        let (width, blocks) = (self.mlp.width(), Blocks::new(call.atoms));
        let [projected, z, gates, node] = carve(tape, parts(call.atoms, width));
        let mut sums = std::mem::take(&mut buffers.sums);
        let rows = &mut sums[..call.atoms * width];
        let hidden = &mut buffers.hidden[..call.atoms * width];
        self.node.pull_back(gradients.h, rows, node, hidden, call.team);
        let extras = blocks.edge_rows(gates, 1).zip(blocks.atom_rows(rows, width));
        let to_z = |receivers, z: &[f32], (gates, cotangent), _: &mut [f32], out: &mut [f32]| {
            self.sum(receivers).pull_back(z, gates, cotangent, out);
        };
        self.mlp.pull_back(call, buffers, [projected, z], gradients, extras, to_z);
        buffers.sums = sums;
    }
}
