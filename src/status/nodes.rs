//! Heartbeats over time: which processes live, whatever their clocks say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::store::nodes::{Node, SILENT_AFTER_MS};

/// Follows the heartbeats of a run while it is watched.
#[derive(Debug, Default)]
pub struct NodeWatch {
    /// By attempt: the newest `written_ms` that was seen, when it was seen first, and whether it was seen to change.
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    written_ms: u64,
    at: Instant,
    has_changed: bool,
}

impl NodeWatch {
    /// Time since the heartbeat of a process: by its own clock at first, by ours once it was seen to change or did not
    /// change for long. A file that is older than what was seen before (a stale copy) is no news.
    pub fn age(&mut self, node: &Node, now_ms: u64, now: Instant) -> Duration {
        let new = Seen { written_ms: node.written_ms, at: now, has_changed: false };
        let seen = self.seen.entry(node.attempt.clone()).or_insert(new);
        if node.written_ms > seen.written_ms {
            *seen = Seen { has_changed: true, ..new };
        }
        let unchanged = now.saturating_duration_since(seen.at);
        let told = Duration::from_millis(node.age_ms(now_ms));
        // A clock that is ahead never tells an age.
        if seen.has_changed { unchanged } else { told.max(unchanged) }
    }

    /// Whether an age is that of a process that fell silent.
    pub fn is_silent(age: Duration) -> bool {
        age > Duration::from_millis(SILENT_AFTER_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(written_ms: u64) -> Node {
        Node { attempt: "a".to_owned(), written_ms, ..Node::default() }
    }

    #[test]
    fn at_first_the_nodes_clock_counts_then_ours() {
        let (mut watch, begin) = (NodeWatch::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        // Two minutes behind our clock.
        assert_eq!(watch.age(&node(0), 120_000, at(0)), seconds(120));
        assert_eq!(watch.age(&node(5_000), 125_000, at(5)), seconds(0), "it lives: its heartbeat changed");
        assert_eq!(watch.age(&node(5_000), 135_000, at(15)), seconds(10));
        assert_eq!(watch.age(&node(0), 136_000, at(16)), seconds(11), "a stale copy is no news");
        assert!(NodeWatch::is_silent(watch.age(&node(5_000), 0, at(66))));
    }

    #[test]
    fn a_clock_that_is_ahead_hides_no_silence() {
        let (mut watch, begin) = (NodeWatch::default(), Instant::now());
        assert_eq!(watch.age(&node(1_000_000), 0, begin), Duration::ZERO);
        let later = begin + Duration::from_secs(61);
        assert!(NodeWatch::is_silent(watch.age(&node(1_000_000), 61_000, later)));
    }
}
