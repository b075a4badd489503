//! A running solve as it is stored in a checkpoint.

use std::collections::VecDeque;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Cost, Slot};
use crate::flow::Grid;
use crate::method::{Ask, Solve};
use crate::optim::Pair;
use crate::store::Key;
use crate::store::checkpoint::{Running, Stored};

/// The state of a solve, which goes on from its pending ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredSolve {
    pub(super) solve: Solve,
    pub(super) ask: Ask,
    /// Start and grid of the last solve, which a pending pull-back belongs to.
    pub(super) last: Option<(Vec<f32>, Grid)>,
    /// Seconds in a slot, over earlier attempts.
    pub(super) seconds: f64,
    pub(super) cost: Cost,
}

impl StoredSolve {
    /// The state that was stored; `None` if its bytes are of another version.
    pub fn decode(stored: &Stored) -> Option<Self> {
        let mut state: Self = postcard::from_bytes(&stored.core).ok()?;
        let pairs = stored.items.iter().map(|item| postcard::from_bytes(item).ok());
        let pairs: VecDeque<Pair<f32>> = pairs.collect::<Option<_>>()?;
        match state.solve.memory() {
            Some((_, memory)) => *memory = pairs,
            None if pairs.is_empty() => {}
            None => return None,
        }
        Some(state)
    }
}

/// A slot whose optimiser's pairs are taken out while it is stored: they are most of its bytes, and written once.
pub struct Frozen<'a> {
    slot: &'a mut Slot,
    key: Key,
    /// Pairs ever stored, and the last of them.
    stored: u64,
    pairs: VecDeque<Pair<f32>>,
}

impl<'a> Frozen<'a> {
    /// Takes the pairs out; they are back when this is dropped.
    pub fn new(slot: &'a mut Slot, key: Key) -> Self {
        let memory = slot.state.solve.memory();
        let (stored, pairs) =
            memory.map_or((0, VecDeque::new()), |(stored, pairs)| (stored, std::mem::take(pairs)));
        slot.state.seconds = slot.seconds();
        slot.opened = std::time::Instant::now();
        Self { slot, key, stored, pairs }
    }

    fn first(&self) -> u64 {
        self.stored - self.pairs.len() as u64
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Some((_, memory)) = self.slot.state.solve.memory() {
            *memory = std::mem::take(&mut self.pairs);
        }
    }
}

impl Running for Frozen<'_> {
    fn key(&self) -> Key {
        self.key.clone()
    }

    fn core(&self) -> Vec<u8> {
        postcard::to_allocvec(&self.slot.state).expect("plain data in memory has a form")
    }

    fn items(&self) -> Range<u64> {
        self.first()..self.stored
    }

    fn item(&self, number: u64) -> Vec<u8> {
        let pair = &self.pairs[(number - self.first()) as usize];
        postcard::to_allocvec(pair).expect("plain data in memory has a form")
    }
}
