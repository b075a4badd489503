//! What rows are compared by: their keys, and hashes of what is reproducible in them.

use std::collections::{BTreeMap, BTreeSet};

use super::Comparison;
use crate::store::error::StoreError;
use crate::store::fs::Fs;
use crate::store::index::{Index, Place, Places};
use crate::store::names::Interner;
use crate::store::record::{Key, Record, Status};
use crate::store::table::to_records;

/// A row, as far as a comparison goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    /// Places of cell hash and sample id in the alphabetical order of both sides.
    key: (u32, u32),
    /// Its place on its own side.
    position: u32,
    status: Status,
    reproducible: bool,
    digest: [u8; 16],
}

impl Summary {
    pub(super) fn of(row: Record, key: (u32, u32), position: u32) -> Self {
        let (status, reproducible) = (row.status, row.reproducible);
        Self { key, position, status, reproducible, digest: row.reproducible_digest() }
    }

    pub(super) fn key(&self) -> (u32, u32) {
        self.key
    }

    /// Whether the two can be compared: a time limit ends a solve anywhere.
    fn is_comparable(&self, other: &Self) -> bool {
        let ok = self.status == Status::Ok && other.status == Status::Ok;
        !ok || self.reproducible && other.reproducible
    }
}

/// Two sides, row by row. Rows are named by their positions, and lists are in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) same: usize,
    pub(super) differing: usize,
    pub(super) not_comparable: usize,
    pub(super) only_left: Vec<u32>,
    pub(super) only_right: Vec<u32>,
    /// The first pairs that differ: each has a difference or more to be listed.
    pub(super) different: Vec<(u32, u32)>,
}

/// Joins two sides, each in the order of its keys.
pub(super) fn join(left: &[Summary], right: &[Summary]) -> Joined {
    let mut joined = Joined::default();
    let mut rights = right.iter().peekable();
    for left in left {
        while let Some(right) = rights.next_if(|right| right.key < left.key) {
            joined.only_right.push(right.position);
        }
        match rights.next_if(|right| right.key == left.key) {
            Some(right) => joined.pair(left, right),
            None => joined.only_left.push(left.position),
        }
    }
    joined.only_right.extend(rights.map(|right| right.position));
    joined
}

impl Joined {
    fn pair(&mut self, left: &Summary, right: &Summary) {
        if !left.is_comparable(right) {
            self.not_comparable += 1;
        } else if left.digest == right.digest {
            self.same += 1;
        } else {
            self.differing += 1;
            if self.different.len() < Comparison::LIMIT {
                self.different.push((left.position, right.position));
            }
        }
    }
}

/// For the numbers of either side the places of their texts in the alphabetical order of both.
pub(super) fn common_ranks(left: &Interner, right: &Interner) -> [Vec<u32>; 2] {
    let mut all = Interner::default();
    let numbers = [left, right].map(|own| own.texts().map(|text| all.number(text)).collect::<Vec<u32>>());
    let ranks = all.ranks();
    numbers.map(|numbers| numbers.into_iter().map(|number| ranks[number as usize]).collect())
}

/// The rows of one run that count, where they lie.
#[derive(Debug)]
pub(super) struct Side<'a> {
    fs: &'a dyn Fs,
    index: &'a Index,
    places: Places,
}

impl<'a> Side<'a> {
    pub(super) fn new(fs: &'a dyn Fs, index: &'a Index) -> Self {
        Self { fs, index, places: index.places_to_read() }
    }

    /// The key at a position.
    pub(super) fn key(&self, position: u32) -> Key {
        self.index.names().key(self.places.keys[position as usize])
    }

    /// Every row, in the order of the keys; `cells` and `samples` are the places of its names in that order.
    pub(super) fn summaries(&self, cells: &[u32], samples: &[u32]) -> Result<Vec<Summary>, StoreError> {
        let keys = &self.places.keys;
        let summary = |row, position: u32| {
            let (cell, sample) = keys[position as usize];
            Summary::of(row, (cells[cell as usize], samples[sample as usize]), position)
        };
        let mut found: Vec<Option<Summary>> = vec![None; keys.len()];
        // Of several tries within one attempt only the whole rows tell which one counts.
        let mut disputed = BTreeSet::new();
        self.visit(&self.places.of_sources, |position, row| {
            let new = summary(row, position);
            if found[position as usize].get_or_insert(new) != &new {
                disputed.insert(position);
            }
        })?;
        for (position, row) in self.rows(&disputed)? {
            found[position as usize] = Some(summary(row, position));
        }
        let mut found: Vec<Summary> = found.into_iter().flatten().collect();
        found.sort_unstable_by_key(Summary::key);
        Ok(found)
    }

    /// The whole rows at some positions.
    pub(super) fn rows(&self, positions: &BTreeSet<u32>) -> Result<BTreeMap<u32, Record>, StoreError> {
        let wanted = |place: &&Place| positions.contains(&place.position);
        let places: Vec<Vec<Place>> =
            self.places.of_sources.iter().map(|of| of.iter().filter(wanted).copied().collect()).collect();
        let mut rows = BTreeMap::<u32, Record>::new();
        self.visit(&places, |position, row| {
            if rows.get(&position).is_none_or(|best| row.precedence(best).is_lt()) {
                rows.insert(position, row);
            }
        })?;
        Ok(rows)
    }

    fn visit(&self, places: &[Vec<Place>], mut take: impl FnMut(u32, Record)) -> Result<(), StoreError> {
        self.index.visit(self.fs, places, |source, batch, start, places| {
            let mut rows = to_records(&batch).map_err(StoreError::damaged(&source.path))?;
            for place in places {
                take(place.position, std::mem::take(&mut rows[(place.row - start) as usize]));
            }
            Ok(())
        })
    }
}
