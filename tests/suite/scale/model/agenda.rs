//! What is going to happen, in the order of virtual time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Events in order of their time; those of one time in the order in which they were put there.
pub struct Agenda<E> {
    entries: BinaryHeap<Entry<E>>,
    count: u64,
}

struct Entry<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> Agenda<E> {
    /// An empty agenda.
    pub fn new() -> Self {
        Self { entries: BinaryHeap::new(), count: 0 }
    }

    /// Puts an event there.
    pub fn put(&mut self, at: Duration, event: E) {
        self.entries.push(Entry { at, number: self.count, event });
        self.count += 1;
    }

    /// Takes the next event, and its time.
    pub fn next(&mut self) -> Option<(Duration, E)> {
        self.entries.pop().map(|entry| (entry.at, entry.event))
    }
}

impl<E> Ord for Entry<E> {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E> Eq for Entry<E> {}
