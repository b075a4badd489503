//! Buffers that calls leave for later ones, and the way in which rows of a batch are given to threads.

use std::sync::Mutex;

use rayon::prelude::*;

use super::kernel::Team;

/// Things that are expensive to make and free to use again.
#[derive(Debug)]
pub(super) struct Pool<T> {
    free: Mutex<Vec<T>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { free: Mutex::default() }
    }
}

impl<T> Pool<T> {
    /// One that was given back, or a new one.
    pub(super) fn take(&self, new: impl FnOnce() -> T) -> T {
        let pooled = self.free.lock().expect("no holder panics").pop();
        pooled.unwrap_or_else(new)
    }

    /// For a later [`Self::take`].
    pub(super) fn give(&self, used: impl IntoIterator<Item = T>) {
        self.free.lock().expect("no holder panics").extend(used);
    }

    /// Runs `body` with one.
    pub(super) fn with(&self, new: impl FnOnce() -> T, body: impl FnOnce(&mut T)) {
        let mut taken = self.take(new);
        body(&mut taken);
        self.give([taken]);
    }
}

/// Runs `body` for every item: side by side as long as there is one for every thread, the rest one after the other with
/// all threads on each.
pub(super) fn each<T: Send>(mut items: Vec<T>, body: impl Fn(T, Team) + Sync) {
    let team = Team::pool();
    let together = items.len() - items.len() % team.threads();
    // From inside the pool: a call from outside would change threads at every op.
    rayon::scope(|_| {
        items.par_drain(..together).with_max_len(1).for_each(|item| body(item, Team::SOLO));
        items.drain(..).for_each(|item| body(item, team));
    });
}
