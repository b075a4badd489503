//! The EGNN dynamics of EDM for one molecule: forward, and pull-back to positions and features.

use super::buffers::{Workspace, carve, edges, room};
use super::coord::Coordinates;
use super::edge::{Call, Gradients};
use super::geometry;
use super::linear::{Linear, Write};
use super::message::Messages;
use crate::molecule::SPACE;
use crate::net::kernel::Team;

/// A block: message layers, then one coordinate update.
#[derive(Debug)]
pub(super) struct Block {
    pub messages: Vec<Messages>,
    pub coordinates: Coordinates,
}

/// The network, as a map of one molecule's atoms.
#[derive(Debug)]
pub(super) struct Dynamics {
    /// Channels, padded to whole vectors.
    pub width: usize,
    /// Columns of an atom beside its position.
    pub features: usize,
    /// Whether the time is a further input.
    pub condition_time: bool,
    /// c of the directions.
    pub norm_constant: f32,
    pub embedding: Linear,
    pub blocks: Vec<Block>,
    pub embedding_out: Linear,
}

/// One molecule of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Atoms: rows of the state that are read.
    pub atoms: usize,
    /// Time as the network takes it.
    pub t: f64,
}

impl Dynamics {
    /// Columns of a state's row.
    pub(super) const fn columns(&self) -> usize {
        SPACE + self.features
    }

    /// Inputs of an atom.
    pub(super) const fn inputs(&self) -> usize {
        self.features + self.condition_time as usize
    }

    /// Numbers that the tape of `atoms` atoms takes.
    pub(super) fn tape_len(&self, atoms: usize) -> usize {
        self.blocks.iter().map(|block| block.tape_len(atoms)).sum()
    }

    /// Buffers for up to `atoms` atoms.
    pub(super) fn workspace(&self, atoms: usize) -> Workspace {
        let block = self.blocks.iter().map(|block| block.tape_len(atoms)).max().unwrap_or(0);
        Workspace::new(atoms, self.width, self.inputs(), block)
    }

    /// Writes the output of one molecule, zeros after its atoms; `tape` has [`Self::tape_len`] numbers.
    pub(super) fn forward(
        &self,
        sample: Sample,
        state: &[f32],
        workspace: &mut Workspace,
        tape: Option<&mut [f32]>,
        out: &mut [f32],
        team: Team,
    ) {
        let n = sample.atoms;
        let rows = || state.chunks_exact(self.columns()).take(n);
        for (node, row) in workspace.node.chunks_exact_mut(self.inputs()).zip(rows()) {
            node[..self.features].copy_from_slice(&row[SPACE..]);
            node[self.features..].fill(sample.t as f32);
        }
        for (x, row) in workspace.x.chunks_exact_mut(SPACE).zip(rows()) {
            x.copy_from_slice(&row[..SPACE]);
        }
        let node = &mut workspace.node[..n * self.inputs()];
        self.embedding.forward(node, &mut workspace.h[..n * self.width], Write::Over, team);
        geometry::distances(&workspace.x[..SPACE * n], &mut workspace.distances[1]);
        if let Some(mut rest) = tape {
            for block in &self.blocks {
                let (part, after) = std::mem::take(&mut rest).split_at_mut(block.tape_len(n));
                rest = after;
                block.forward(sample, self.norm_constant, workspace, part, team);
            }
        } else {
            let mut part = std::mem::take(&mut workspace.tape);
            for block in &self.blocks {
                block.forward(sample, self.norm_constant, workspace, &mut part, team);
            }
            workspace.tape = part;
        }
        let node = &mut workspace.node[..n * self.inputs()];
        self.embedding_out.forward(&workspace.h[..n * self.width], node, Write::Over, team);
        for (((out, row), x), node) in out
            .chunks_exact_mut(self.columns())
            .zip(rows())
            .zip(workspace.x.chunks_exact(SPACE))
            .zip(node.chunks_exact(self.inputs()))
        {
            (0..SPACE).for_each(|k| out[k] = x[k] - row[k]);
            out[SPACE..].copy_from_slice(&node[..self.features]);
        }
        let (real, padding) = out.split_at_mut(n * self.columns());
        centre(real, self.columns());
        padding.fill(0.0);
    }

    /// Writes the pull-back of one molecule's cotangent to its state, zeros after its atoms.
    pub(super) fn pull_back(
        &self,
        atoms: usize,
        cotangent: &[f32],
        workspace: &mut Workspace,
        tape: &[f32],
        out: &mut [f32],
        team: Team,
    ) {
        let n = atoms;
        let (real, padding) = out.split_at_mut(n * self.columns());
        padding.fill(0.0);
        // The outputs are those of centred positions: the projection is its own transpose.
        real.copy_from_slice(&cotangent[..n * self.columns()]);
        centre(real, self.columns());
        let rows = || real.chunks_exact(self.columns());
        for (node, row) in workspace.node.chunks_exact_mut(self.inputs()).zip(rows()) {
            node[..self.features].copy_from_slice(&row[SPACE..]);
            node[self.features..].fill(0.0);
        }
        for (x, row) in workspace.x.chunks_exact_mut(SPACE).zip(rows()) {
            x.copy_from_slice(&row[..SPACE]);
        }
        let node = &mut workspace.node[..n * self.inputs()];
        self.embedding_out.pull_back(node, &mut workspace.h[..n * self.width], Write::Over, team);
        let [_, first] = &mut workspace.distances;
        let [first_x] = carve(tape, [SPACE * n]);
        geometry::distances(first_x, first);
        workspace.to_distances[1][..edges(n)].fill(0.0);
        let mut rest = tape;
        for block in self.blocks.iter().rev() {
            let (before, part) = rest.split_at(rest.len() - block.tape_len(n));
            rest = before;
            block.pull_back(n, self.norm_constant, workspace, part, team);
        }
        let to_x = &mut workspace.x[..SPACE * n];
        geometry::pull_back_distances(first_x, &workspace.to_distances[1], to_x);
        let node = &mut workspace.node[..n * self.inputs()];
        self.embedding.pull_back(&workspace.h[..n * self.width], node, Write::Over, team);
        for ((out, to_x), node) in real
            .chunks_exact_mut(self.columns())
            .zip(to_x.chunks_exact(SPACE))
            .zip(node.chunks_exact(self.inputs()))
        {
            (0..SPACE).for_each(|k| out[k] = to_x[k] - out[k]);
            out[SPACE..].copy_from_slice(&node[..self.features]);
        }
    }
}

impl Block {
    /// Numbers of tape: the positions at the start, and those of the layers.
    fn tape_len(&self, atoms: usize) -> usize {
        let messages: usize = self.messages.iter().map(|messages| messages.tape_len(atoms)).sum();
        room(&[SPACE * atoms]) + messages + self.coordinates.tape_len(atoms)
    }

    /// Updates the workspace's h and x.
    fn forward(
        &self,
        sample: Sample,
        constant: f32,
        workspace: &mut Workspace,
        tape: &mut [f32],
        team: Team,
    ) {
        let (n, e) = (sample.atoms, edges(sample.atoms));
        let [first, mut rest] = split_mut(tape, room(&[SPACE * n]));
        let x = &mut workspace.x[..SPACE * n];
        first[..SPACE * n].copy_from_slice(x);
        let [near, far] = &mut workspace.distances;
        geometry::directions(x, constant, near, &mut workspace.directions);
        let call = Call { atoms: n, distances: [&near[..e], &far[..e]], team };
        let width = self.coordinates.mlp.width();
        let h = &mut workspace.h[..n * width];
        for messages in &self.messages {
            let [part, after] = split_mut(rest, messages.tape_len(n));
            rest = after;
            messages.forward(call, &mut workspace.ops, h, part);
        }
        self.coordinates.forward(call, &workspace.ops, (h, &workspace.directions[..SPACE * e]), rest, x);
    }

    /// Updates the workspace's h and x as cotangents.
    fn pull_back(&self, n: usize, constant: f32, workspace: &mut Workspace, tape: &[f32], team: Team) {
        let e = edges(n);
        let (first, mut rest) = tape.split_at(room(&[SPACE * n]));
        let x = &first[..SPACE * n];
        let [near, far] = &mut workspace.distances;
        geometry::directions(x, constant, near, &mut workspace.directions);
        let call = Call { atoms: n, distances: [&near[..e], &far[..e]], team };
        let [to_near, to_far] = &mut workspace.to_distances;
        let (to_near, to_far) = (&mut to_near[..e], &mut to_far[..e]);
        to_near.fill(0.0);
        let h = &mut workspace.h[..n * self.coordinates.mlp.width()];
        let to_directions = &mut workspace.to_directions[..SPACE * e];
        let to_x = &mut workspace.x[..SPACE * n];
        let (before, part) = rest.split_at(rest.len() - self.coordinates.tape_len(n));
        rest = before;
        self.coordinates.pull_back(
            call,
            &mut workspace.ops,
            part,
            (&workspace.directions[..SPACE * e], to_x),
            Gradients { h, distances: [to_near, to_far] },
            to_directions,
        );
        for messages in self.messages.iter().rev() {
            let (before, part) = rest.split_at(rest.len() - messages.tape_len(n));
            rest = before;
            messages.pull_back(call, &mut workspace.ops, part, Gradients { h, distances: [to_near, to_far] });
        }
        geometry::pull_back_directions(x, constant, (to_near, to_directions), to_x);
    }
}

fn split_mut(buffer: &mut [f32], at: usize) -> [&mut [f32]; 2] {
    let (first, second) = buffer.split_at_mut(at);
    [first, second]
}

/// Subtracts the mean position of rows.
fn centre(rows: &mut [f32], columns: usize) {
    let count = (rows.len() / columns) as f64;
    for k in 0..SPACE {
        let mean = rows.chunks_exact(columns).map(|row| f64::from(row[k])).sum::<f64>() / count;
        rows.chunks_exact_mut(columns).for_each(|row| row[k] = (f64::from(row[k]) - mean) as f32);
    }
}
