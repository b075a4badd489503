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

/// Seconds until every row is there, if it goes on like this; none if nobody solves.
///
/// Cells differ in what their samples take, and are solved one after the other: so what is left of each is counted with
/// its own mean time in a slot (of a cell without rows, the largest of the others), and shared by the slots that are
/// taken now. Before the first row, or with every slot free, the throughput has to do.
pub(super) fn time_left(progress: &Progress, nodes: &[NodeStatus], throughput: Option<f64>) -> Option<f64> {
    let left: usize = progress.cells.iter().map(super::CellState::left).sum();
    if left == 0 || !nodes.iter().any(|node| node.state.is_alive()) {
        return None;
    }
    let alive = nodes.iter().filter(|node| node.state.is_alive());
    let devices = alive.flat_map(|node| &node.node.devices);
    let taken: usize = devices.map(|device| device.samples.len()).sum();
    let largest = progress.cells.iter().filter_map(|cell| cell.seconds_per_sample).reduce(f64::max);
    match largest {
        Some(largest) if taken > 0 => {
            let cells = progress.cells.iter();
            let work = cells.map(|cell| cell.left() as f64 * cell.seconds_per_sample.unwrap_or(largest));
            Some(work.sum::<f64>() / taken as f64)
        }
        _ => throughput.map(|rate| left as f64 / rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{CellState, NodeState};
    use crate::store::nodes::{Held, Node, NodeDevice, Rate};

    fn node(state: NodeState, samples: u64, taken: usize) -> NodeStatus {
        let device = NodeDevice { samples: vec![Held::default(); taken], ..NodeDevice::default() };
        let lately = Rate { samples, seconds: 10.0 };
        NodeStatus {
            state,
            age_seconds: 0.0,
            node: Node { lately, devices: vec![device], ..Node::default() },
        }
    }

    fn progress(cells: &[(usize, Option<f64>)]) -> Progress {
        let cell = |&(left, seconds_per_sample)| CellState {
            planned: left,
            seconds_per_sample,
            ..CellState::default()
        };
        Progress { cells: cells.iter().map(cell).collect(), ..Progress::default() }
    }

    #[test]
    fn only_processes_that_live_count_for_the_throughput() {
        let nodes =
            [node(NodeState::Alive, 5, 1), node(NodeState::Alive, 20, 1), node(NodeState::Silent, 99, 1)];
        assert_eq!(throughput(&nodes), Some(2.5));
        assert_eq!(throughput(&[node(NodeState::Alive, 0, 1), node(NodeState::Ended, 9, 0)]), None);
    }

    #[test]
    fn what_is_left_of_each_cell_counts_with_its_own_time() {
        let alive = [node(NodeState::Alive, 10, 4)];
        let cells = progress(&[(10, Some(2.0)), (0, Some(1000.0)), (5, Some(20.0))]);
        assert_eq!(time_left(&cells, &alive, Some(1.0)), Some(30.0));
        let unknown = progress(&[(10, Some(2.0)), (5, None)]);
        assert_eq!(time_left(&unknown, &alive, Some(1.0)), Some(7.5));
        assert_eq!(time_left(&progress(&[(10, None)]), &alive, Some(2.0)), Some(5.0));
        assert_eq!(time_left(&cells, &[node(NodeState::Alive, 10, 0)], Some(1.0)), Some(15.0));
    }

    #[test]
    fn nothing_is_left_or_nobody_solves() {
        assert_eq!(time_left(&progress(&[(0, Some(1.0))]), &[node(NodeState::Alive, 1, 1)], Some(1.0)), None);
        assert_eq!(time_left(&progress(&[(3, Some(1.0))]), &[node(NodeState::Silent, 1, 1)], None), None);
    }
}
