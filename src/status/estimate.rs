//! Throughput, and time to completion.

use super::progress::Progress;
use super::snapshot::NodeStatus;

/// Samples per second of the processes that live, by what they finished lately; none before the first.
pub(super) fn throughput(nodes: &[NodeStatus]) -> Option<f64> {
    let rates = nodes.iter().filter(|node| node.state.is_alive()).map(|node| node.node.lately);
    let rates = rates.filter(|rate| rate.samples > 0 && rate.seconds > 0.0);
    let sum: f64 = rates.map(|rate| rate.samples as f64 / rate.seconds).sum();
    (sum > 0.0).then_some(sum)
}

/// Seconds until every row is there, at this throughput. Cells that take longer per sample than those of late make it
/// too short, which the next estimates show.
pub(super) fn time_left(progress: &Progress, throughput: Option<f64>) -> Option<f64> {
    let left = progress.planned().saturating_sub(progress.done());
    if left == 0 {
        return None;
    }
    throughput.map(|rate| left as f64 / rate)
}
