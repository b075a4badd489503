//! Matrix products of run-time operands, for attention: the right operand is packed first.

use super::InstructionSet;
use super::tile::{Block, RowSteps, Spot, Tile, blocks, sweep};

/// Numbers of a packed right operand of `k × n`.
pub(super) fn packed_len(set: InstructionSet, k: usize, n: usize) -> usize {
    k * n.next_multiple_of(set.lanes())
}

/// A matrix in a slice, with its steps between rows and between columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub row_step: usize,
    pub column_step: usize,
}

impl<'a> Matrix<'a> {
    /// Rows contiguous, `row_step` numbers apart.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize, row_step: usize) -> Self {
        Self { data, rows, columns, row_step, column_step: 1 }
    }

    /// The transposed view.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }

    /// Rows `range` of the matrix.
    pub(super) fn rows(self, range: std::ops::Range<usize>) -> Self {
        Self { data: &self.data[range.start * self.row_step..], rows: range.len(), ..self }
    }

    /// Packs it as a right operand: `[block of columns][row][lane]`.
    pub(super) fn pack(self, set: InstructionSet, packed: &mut [f32]) {
        let mut at = 0;
        for Block { first, vectors } in blocks(self.columns.div_ceil(set.lanes())) {
            let (first, width) = (first * set.lanes(), vectors * set.lanes());
            let filled = width.min(self.columns - first);
            let block = &mut packed[at..at + self.rows * width];
            for (row, lanes) in block.chunks_exact_mut(width).enumerate() {
                let source = &self.data[row * self.row_step + first * self.column_step..];
                if self.column_step == 1 {
                    lanes[..filled].copy_from_slice(&source[..filled]);
                } else {
                    for (lane, x) in lanes[..filled].iter_mut().zip(source.iter().step_by(self.column_step)) {
                        *lane = *x;
                    }
                }
                lanes[filled..].fill(0.0);
            }
            at += self.rows * width;
        }
    }
}

/// `out (+)= a · b`: `a` with contiguous rows, `b` packed with `n` columns.
///
/// # Safety
/// `out` (pointer, numbers between rows) has room for `a.rows` rows of `n` numbers; the CPU has `set`.
pub(super) unsafe fn product(
    set: InstructionSet,
    a: Matrix<'_>,
    packed: &[f32],
    n: usize,
    out: (*mut f32, usize),
    accumulate: bool,
) {
    let (out, out_step) = out;
    if a.rows == 0 {
        return;
    }
    assert_eq!(a.column_step, 1, "rows of the left operand are contiguous");
    assert!(a.data.len() >= (a.rows - 1) * a.row_step + a.columns, "left operand");
    assert!(packed.len() >= packed_len(set, a.columns, n), "right operand");
    for block in blocks(n.div_ceil(set.lanes())) {
        let first = block.first * set.lanes();
        let tile = Tile {
            weights: packed[first * a.columns..].as_ptr(),
            bias: std::ptr::null(),
            runs: 1,
            run_len: a.columns,
            run_stride: 0,
            x_step: a.row_step,
            out_step,
            lanes: (n - first).min(block.vectors * set.lanes()),
            accumulate,
        };
        let at = Spot { x: a.data.as_ptr(), out: unsafe { out.add(first) }, add: std::ptr::null() };
        // SAFETY: the lengths were checked above.
        unsafe { sweep(set, &tile, block.vectors, at, RowSteps::default(), (1, a.rows)) }
    }
}
