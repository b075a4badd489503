//! Memory of one molecule's evaluation: what is kept for the pull-back, and what is used and forgotten.

use crate::net::kernel::{Aligned, Receivers};
use crate::net::pool::Pool;

/// Numbers to which every part of a buffer is rounded up, so that each starts on a cache line.
const LINE: usize = 16;
/// Edges that a block has at least, where the molecule has as many: their activations stay in the cache.
const BLOCK: usize = 64;

/// Numbers that parts of these lengths take together.
pub(super) fn room(parts: &[usize]) -> usize {
    parts.iter().map(|len| len.next_multiple_of(LINE)).sum()
}

/// Parts of a buffer of [`room`].
pub(super) fn carve<const N: usize>(buffer: &[f32], parts: [usize; N]) -> [&[f32]; N] {
    let mut rest = buffer;
    parts.map(|len| {
        let (part, after) = rest.split_at(len.next_multiple_of(LINE));
        rest = after;
        &part[..len]
    })
}

/// As [`carve`].
pub(super) fn carve_mut<const N: usize>(buffer: &mut [f32], parts: [usize; N]) -> [&mut [f32]; N] {
    let mut rest = buffer;
    parts.map(|len| {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LINE));
        rest = after;
        &mut part[..len]
    })
}

/// Edges of a molecule: ordered pairs of different atoms.
pub(super) const fn edges(atoms: usize) -> usize {
    atoms * atoms.saturating_sub(1)
}

/// How the receivers of a molecule are split into blocks: by the number of atoms alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    atoms: usize,
    /// Receivers of every block but the last, which may have fewer.
    each: usize,
}

impl Blocks {
    pub(super) fn new(atoms: usize) -> Self {
        let most = BLOCK.div_ceil(atoms.saturating_sub(1).max(1));
        Self { atoms, each: atoms.div_ceil(atoms.div_ceil(most).max(1)).max(1) }
    }

    /// Number of blocks.
    pub(super) fn len(self) -> usize {
        self.atoms.div_ceil(self.each)
    }

    /// The blocks in order.
    pub(super) fn iter(self) -> impl Iterator<Item = Receivers> {
        let Self { atoms, each } = self;
        (0..atoms).step_by(each).map(move |first| Receivers { first, count: each.min(atoms - first), atoms })
    }

    /// `numbers` of every edge, split by blocks.
    pub(super) fn edge_rows(self, rows: &[f32], numbers: usize) -> impl Iterator<Item = &[f32]> {
        rows.chunks((self.edges() * numbers).max(1))
    }

    /// As [`Self::edge_rows`].
    pub(super) fn edge_rows_mut(self, rows: &mut [f32], numbers: usize) -> impl Iterator<Item = &mut [f32]> {
        rows.chunks_mut((self.edges() * numbers).max(1))
    }

    /// `numbers` of every atom, split by the blocks that receive.
    pub(super) fn atom_rows(self, rows: &[f32], numbers: usize) -> impl Iterator<Item = &[f32]> {
        rows.chunks(self.each * numbers)
    }

    /// As [`Self::atom_rows`].
    pub(super) fn atom_rows_mut(self, rows: &mut [f32], numbers: usize) -> impl Iterator<Item = &mut [f32]> {
        rows.chunks_mut(self.each * numbers)
    }

    /// Edges of every block but the last.
    fn edges(self) -> usize {
        self.each * self.atoms.saturating_sub(1)
    }
}

/// Scratch of one block of edges.
#[derive(Debug)]
pub(super) struct BlockScratch {
    /// A row of channels for every edge.
    pub first: Aligned,
    /// The same again.
    pub second: Aligned,
    /// A number for every edge.
    pub numbers: Aligned,
}

/// What message layers and coordinate updates use and forget.
#[derive(Debug)]
pub(super) struct OpBuffers {
    /// Sums of messages, a row of channels for every atom.
    pub sums: Aligned,
    /// Hidden activations of a node MLP.
    pub hidden: Aligned,
    /// Cotangents of projections: two rows of channels for every atom.
    pub projected: Aligned,
    /// Cotangents of the senders' projections, a row for every block and atom.
    pub senders: Aligned,
    /// Of the blocks that are worked on.
    pub blocks: Pool<BlockScratch>,
    /// Edges and channels that block scratch has room for.
    block_size: (usize, usize),
}

impl OpBuffers {
    /// Scratch for any block.
    pub(super) fn block(&self) -> BlockScratch {
        let (edges, width) = self.block_size;
        BlockScratch {
            first: Aligned::zeros(edges * width),
            second: Aligned::zeros(edges * width),
            numbers: Aligned::zeros(edges),
        }
    }
}

/// Everything that one evaluation uses besides its tape.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Most atoms.
    atoms: usize,
    /// Features of the atoms.
    pub h: Aligned,
    /// Squared distances now, and of the input.
    pub distances: [Aligned; 2],
    /// Directions.
    pub directions: Aligned,
    /// Cotangents of `distances`.
    pub to_distances: [Aligned; 2],
    /// Cotangent of `directions`.
    pub to_directions: Aligned,
    /// Inputs or outputs of the atoms, or their cotangents.
    pub node: Aligned,
    /// Positions after a block, or their cotangent.
    pub x: Aligned,
    /// For the ops.
    pub ops: OpBuffers,
    /// The tape of an evaluation that needs none, or the tape of a pull-back that was given none.
    pub tape: Aligned,
}

impl Workspace {
    /// For molecules of at most `atoms` atoms of `width` channels and at most `inputs` inputs; `tape` numbers of tape.
    pub(super) fn new(atoms: usize, width: usize, inputs: usize, tape: usize) -> Self {
        let (rows, edges) = (atoms * width, edges(atoms));
        let most = (1..=atoms).map(|n| Blocks::new(n).edges()).max().unwrap_or(0);
        let senders = (1..=atoms).map(|n| Blocks::new(n).len() * n * width).max().unwrap_or(0);
        Self {
            atoms,
            h: Aligned::zeros(rows),
            distances: [Aligned::zeros(edges), Aligned::zeros(edges)],
            directions: Aligned::zeros(3 * edges),
            to_distances: [Aligned::zeros(edges), Aligned::zeros(edges)],
            to_directions: Aligned::zeros(3 * edges),
            node: Aligned::zeros(atoms * inputs),
            x: Aligned::zeros(3 * atoms),
            ops: OpBuffers {
                sums: Aligned::zeros(rows),
                hidden: Aligned::zeros(rows),
                projected: Aligned::zeros(2 * rows),
                senders: Aligned::zeros(senders),
                blocks: Pool::default(),
                block_size: (most, width),
            },
            tape: Aligned::zeros(tape),
        }
    }

    /// Most atoms that there is room for.
    pub(super) const fn atoms(&self) -> usize {
        self.atoms
    }
}
