//! The MLP on edges up to the pre-activation of its second layer.
//!
//! The first layer acts on (h_i, h_j, d_ij, d⁰_ij): its products with h_i and h_j are made once per atom, so that an
//! edge costs one product per layer of the MLP and direction.

use super::buffers::{Blocks, OpBuffers, edges};
use super::linear::{Linear, Write};
use crate::net::kernel::{FirstGradients, FirstLayer, InstructionSet, Receivers, Team};

/// What an op knows of the molecule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// Atoms.
    pub atoms: usize,
    /// Squared distances now, and of the input, of every edge.
    pub distances: [&'a [f32]; 2],
    /// Threads.
    pub team: Team,
}

/// Numbers that [`EdgeMlp`] keeps of `atoms` atoms: projections, pre-activations.
pub(super) const fn kept(atoms: usize, width: usize) -> [usize; 2] {
    [2 * atoms * width, edges(atoms) * width]
}

/// Where the pull-back of an op goes; all are added to.
#[derive(Debug)]
pub(super) struct Gradients<'a> {
    /// To the features of the atoms.
    pub h: &'a mut [f32],
    /// To the distances.
    pub distances: [&'a mut [f32]; 2],
}

/// The MLP on edges.
#[derive(Debug)]
pub(super) struct EdgeMlp {
    set: InstructionSet,
    width: usize,
    /// h to (p, q) of an atom as receiver and as sender; the bias is in p.
    pub project: Linear,
    /// What d and d⁰ are multiplied with.
    pub slopes: [Vec<f32>; 2],
    /// From silu(p_i + q_j + …) to the pre-activation z.
    pub second: Linear,
}

impl EdgeMlp {
    pub(super) fn new(
        (set, width): (InstructionSet, usize),
        project: Linear,
        slopes: [Vec<f32>; 2],
        second: Linear,
    ) -> Self {
        Self { set, width, project, slopes, second }
    }

    pub(super) const fn set(&self) -> InstructionSet {
        self.set
    }

    pub(super) const fn width(&self) -> usize {
        self.width
    }

    /// Fills `projected` and the pre-activations `z`; calls `then` for every block with its z and its own of `extras`.
    pub(super) fn forward<T: Send>(
        &self,
        call: Call<'_>,
        buffers: &OpBuffers,
        h: &[f32],
        [projected, z]: [&mut [f32]; 2],
        extras: impl Iterator<Item = T>,
        then: impl Fn(Receivers, &[f32], T) + Sync + Send,
    ) {
        if call.atoms < 2 {
            return;
        }
        self.project.forward(h, projected, Write::Over, call.team);
        let (blocks, projected) = (Blocks::new(call.atoms), &*projected);
        let [near, far] = call.distances.map(|d| blocks.edge_rows(d, 1));
        let rows = blocks.edge_rows_mut(z, self.width).zip(near.zip(far));
        let work = blocks.iter().zip(rows).zip(extras);
        call.team.each(work, |((receivers, (z, (near, far))), extra)| {
            buffers.blocks.with(
                || buffers.block(),
                |scratch| {
                    let active = &mut scratch.first[..z.len()];
                    self.first(receivers, projected, [near, far]).forward(active);
                    self.second.forward(active, z, Write::Over, Team::SOLO);
                },
            );
            then(receivers, z, extra);
        });
    }

    /// Pulls back to features and distances. `cotangent` writes that of a block's z, given z, the block's own of `extras`,
    /// a scratch number for every edge, and the rows to write.
    pub(super) fn pull_back<T: Send>(
        &self,
        call: Call<'_>,
        buffers: &mut OpBuffers,
        [projected, z]: [&[f32]; 2],
        gradients: Gradients<'_>,
        extras: impl Iterator<Item = T>,
        cotangent: impl Fn(Receivers, &[f32], T, &mut [f32], &mut [f32]) + Sync + Send,
    ) {
        if call.atoms < 2 {
            return;
        }
        let (blocks, width) = (Blocks::new(call.atoms), self.width);
        let mut to_projected = std::mem::take(&mut buffers.projected);
        let mut to_senders = std::mem::take(&mut buffers.senders);
        let (to_projected_rows, to_senders_rows) = (
            &mut to_projected[..2 * call.atoms * width],
            &mut to_senders[..blocks.len() * call.atoms * width],
        );
        let [near, far] = call.distances.map(|d| blocks.edge_rows(d, 1));
        let [to_near, to_far] = gradients.distances.map(|d| blocks.edge_rows_mut(d, 1));
        let rows = blocks.edge_rows(z, width).zip(near.zip(far)).zip(to_near.zip(to_far));
        let targets = blocks
            .atom_rows_mut(to_projected_rows, 2 * width)
            .zip(to_senders_rows.chunks_exact_mut(call.atoms * width));
        let work = blocks.iter().zip(rows).zip(targets).zip(extras);
        let buffers_ref = &*buffers;
        call.team.each(work, |(((receivers, rows), (to_receivers, to_senders)), extra)| {
            let ((z, (near, far)), (to_near, to_far)) = rows;
            buffers_ref.blocks.with(
                || buffers_ref.block(),
                |scratch| {
                    let (to_z, to_active) = (&mut scratch.first[..z.len()], &mut scratch.second[..z.len()]);
                    cotangent(receivers, z, extra, &mut scratch.numbers[..near.len()], to_z);
                    self.second.pull_back(to_z, to_active, Write::Over, Team::SOLO);
                    let gradients = FirstGradients {
                        receivers: to_receivers,
                        senders: to_senders,
                        distances: [to_near, to_far],
                    };
                    self.first(receivers, projected, [near, far]).pull_back(to_active, gradients);
                },
            );
        });
        // Blocks in order, whoever worked on them.
        for block in to_senders_rows.chunks_exact(call.atoms * width) {
            for (sum, part) in to_projected_rows.chunks_exact_mut(2 * width).zip(block.chunks_exact(width)) {
                sum[width..].iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
        self.project.pull_back(to_projected_rows, gradients.h, Write::Onto, call.team);
        buffers.projected = to_projected;
        buffers.senders = to_senders;
    }

    fn first<'a>(
        &'a self,
        receivers: Receivers,
        projected: &'a [f32],
        distances: [&'a [f32]; 2],
    ) -> FirstLayer<'a> {
        let slopes = [self.slopes[0].as_slice(), self.slopes[1].as_slice()];
        FirstLayer { set: self.set, width: self.width, receivers, projected, distances, slopes }
    }
}
