//! Which rows there are and how they ended, a byte each: a million of them are no reason to be careful.

use super::names::{Interner, Names};
use super::record::{Key, Status};
use crate::plan::CellHash;

/// Statuses by the numbers of cell and sample. Dense: runs are cells × samples, nearly all of them there in the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Grid {
    cells: Vec<Vec<Option<Status>>>,
    len: usize,
}

impl Grid {
    pub(super) fn get(&self, cell: u32, sample: u32) -> Option<Status> {
        *self.cells.get(cell as usize)?.get(sample as usize)?
    }

    /// Notes a row: ok if any row of its key is. Gives what was noted before.
    pub(super) fn add(&mut self, cell: u32, sample: u32, status: Status) -> Option<Status> {
        let (cell, sample) = (cell as usize, sample as usize);
        if self.cells.len() <= cell {
            self.cells.resize_with(cell + 1, Vec::new);
        }
        let row = &mut self.cells[cell];
        if row.len() <= sample {
            row.resize(sample + 1, None);
        }
        let before = row[sample];
        row[sample] = Some(before.map_or(status, |before| before.min(status)));
        self.len += usize::from(before.is_none());
        before
    }

    /// Keys that have a row.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// Status of every durable row: ok if any row of that key is.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    cells: Interner,
    samples: Interner,
    grid: Grid,
}

impl Rows {
    pub(super) fn new(names: Names, grid: Grid) -> Self {
        Self { cells: names.cells, samples: names.samples, grid }
    }

    /// Notes a durable row.
    pub fn insert(&mut self, (cell, sample): Key, status: Status) {
        self.grid.add(self.cells.number(&cell), self.samples.number(&sample), status);
    }

    /// How the row of a key ended, if it is durable.
    pub fn get(&self, (cell, sample): &Key) -> Option<Status> {
        self.grid.get(self.cells.find(cell)?, self.samples.find(sample)?)
    }

    /// Whether the row of a key is durable.
    pub fn contains_key(&self, key: &Key) -> bool {
        self.get(key).is_some()
    }

    /// The rows of one cell: for questions about many samples of it.
    pub fn cell(&self, hash: CellHash) -> CellRows<'_> {
        CellRows { rows: self, cell: self.cells.find(&hash.to_string()) }
    }

    /// Keys that have a row.
    pub fn len(&self) -> usize {
        self.grid.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The durable rows of one cell.
#[derive(Debug, Clone, Copy)]
pub struct CellRows<'a> {
    rows: &'a Rows,
    cell: Option<u32>,
}

impl CellRows<'_> {
    /// How the row of a sample ended, if it is durable.
    pub fn get(&self, sample: &str) -> Option<Status> {
        self.rows.grid.get(self.cell?, self.rows.samples.find(sample)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_ok_if_any_of_its_rows_is_and_counts_once() {
        let mut grid = Grid::default();
        for (cell, sample, status) in
            [(2, 5, Status::Failed), (2, 5, Status::Ok), (2, 5, Status::Failed), (0, 9, Status::Failed)]
        {
            grid.add(cell, sample, status);
        }
        assert_eq!((grid.get(2, 5), grid.get(0, 9), grid.len()), (Some(Status::Ok), Some(Status::Failed), 2));
        assert_eq!((grid.get(1, 5), grid.get(2, 4), grid.get(7, 70)), (None, None, None));
    }
}
