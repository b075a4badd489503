//! How many threads one op may use.

use rayon::prelude::*;

/// The threads that evaluate one sample: one where samples run side by side, the whole rayon pool else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Team {
    threads: usize,
}

impl Team {
    /// One thread.
    pub(crate) const SOLO: Self = Self { threads: 1 };

    /// All threads of the current rayon pool.
    pub(crate) fn pool() -> Self {
        Self { threads: rayon::current_num_threads() }
    }

    /// Threads of the team.
    pub(crate) fn threads(self) -> usize {
        self.threads
    }

    /// Runs `task(0) … task(tasks − 1)`, in any order and on any thread of the team.
    pub(crate) fn run(self, tasks: usize, task: impl Fn(usize) + Sync + Send) {
        if self.threads == 1 || tasks <= 1 {
            (0..tasks).for_each(task);
        } else {
            (0..tasks).into_par_iter().with_max_len(1).for_each(task);
        }
    }

    /// Runs `body` for every item, in any order and on any thread of the team.
    pub(crate) fn each<T: Send>(self, items: impl Iterator<Item = T>, body: impl Fn(T) + Sync + Send) {
        if self.threads == 1 {
            items.for_each(body);
        } else {
            // The only allocation of an op, and none where samples run side by side.
            items.collect::<Vec<T>>().into_par_iter().with_max_len(1).for_each(body);
        }
    }

    /// Splits `len` into at most `parts` ranges of nearly equal length; returns range `i`.
    pub(crate) fn range(len: usize, parts: usize, i: usize) -> std::ops::Range<usize> {
        len * i / parts..len * (i + 1) / parts
    }
}

/// A pointer that several threads write disjoint parts through.
#[derive(Clone, Copy)]
pub(super) struct Shared(pub(super) *mut f32);

// SAFETY: every user states which disjoint part each task writes.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The pointer (a method, so that closures capture the whole `Shared`).
    pub(super) fn get(self) -> *mut f32 {
        self.0
    }
}
