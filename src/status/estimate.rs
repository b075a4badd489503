//! Throughput, and time to completion.

use super::CellState;
use super::progress::Progress;
use super::snapshot::NodeStatus;
use crate::store::nodes::Held;

/// Samples per second, none before anything is known of it: `seen` to come in, else what the slots that are taken bring
/// by the times of durable rows, else what the processes that live say that they finished lately. Those have often begun
/// a minute ago, and finished nothing yet.
pub(super) fn throughput(progress: &Progress, nodes: &[NodeStatus], seen: Option<f64>) -> Option<f64> {
    if !nodes.iter().any(|node| node.state.is_alive()) {
        return None;
    }
    seen.or_else(|| by_slots(progress, nodes)).or_else(|| told(nodes))
}

/// A slot brings one row in the mean time of its cell; none if that of any is not known.
fn by_slots(progress: &Progress, nodes: &[NodeStatus]) -> Option<f64> {
    let rate = |held: &Held| {
        let is_its = |cell: &&CellState| (&cell.task, &cell.method) == (&held.task, &held.method);
        let seconds = progress.cells.iter().find(is_its)?.seconds_per_sample?;
        (seconds > 0.0).then(|| 1.0 / seconds)
    };
    let sum: f64 = held(nodes).map(rate).sum::<Option<f64>>()?;
    (sum > 0.0).then_some(sum)
}

fn told(nodes: &[NodeStatus]) -> Option<f64> {
    let rates = nodes.iter().filter(|node| node.state.is_alive()).map(|node| node.node.lately);
    let rates = rates.filter(|rate| rate.samples > 0 && rate.seconds > 0.0);
    let sum: f64 = rates.map(|rate| rate.samples as f64 / rate.seconds).sum();
    (sum > 0.0).then_some(sum)
}

/// What is being solved by processes that live.
fn held(nodes: &[NodeStatus]) -> impl Iterator<Item = &Held> {
    let alive = nodes.iter().filter(|node| node.state.is_alive());
    alive.flat_map(|node| &node.node.devices).flat_map(|device| &device.samples)
}

/// Seconds until every row is there, if it goes on like this; none if nobody solves, or where nothing is known of what the
/// samples of a cell will take.
///
/// Cells differ in what their samples take, and are solved one after the other: so what is left of each is counted with
/// its own time in a slot, and shared by the slots that are taken now. With every slot free the throughput has to do.
pub(super) fn time_left(progress: &Progress, nodes: &[NodeStatus], throughput: Option<f64>) -> Option<f64> {
    let open = progress.cells.iter().filter(|cell| cell.left() > 0);
    let left: usize = open.clone().map(CellState::left).sum();
    if left == 0 || !nodes.iter().any(|node| node.state.is_alive()) {
        return None;
    }
    let work = open.map(|cell| Some(cell.left() as f64 * seconds(cell, nodes)?)).sum::<Option<f64>>()?;
    match held(nodes).count() {
        0 => throughput.map(|rate| left as f64 / rate),
        taken => Some(work / taken as f64),
    }
}

/// Seconds of a sample of a cell: measured, else expected, but no less than those that are being solved have taken yet.
fn seconds(cell: &CellState, nodes: &[NodeStatus]) -> Option<f64> {
    let is_its = |held: &&Held| (&cell.task, &cell.method) == (&held.task, &held.method);
    let so_far = || held(nodes).filter(is_its).map(|held| held.seconds).fold(0.0, f64::max);
    cell.seconds_per_sample.or_else(|| cell.expected_seconds.map(|expected| expected.max(so_far())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::NodeState;
    use crate::store::nodes::{Node, NodeDevice, Rate};

    /// A process that holds so many samples of the cell `t0/m`, each for 50 s, and says that it finished some in 10 s.
    fn node(state: NodeState, samples: u64, taken: usize) -> NodeStatus {
        let held = Held { task: "t0".to_owned(), method: "m".to_owned(), seconds: 50.0, ..Held::default() };
        let device = NodeDevice { samples: vec![held; taken], ..NodeDevice::default() };
        let lately = Rate { samples, seconds: 10.0 };
        NodeStatus {
            state,
            age_seconds: 0.0,
            node: Node { lately, devices: vec![device], ..Node::default() },
        }
    }

    /// Cells `t0/m`, `t1/m` … with rows left and seconds per sample.
    fn progress(cells: &[(usize, Option<f64>)]) -> Progress {
        let cell = |(i, &(left, seconds_per_sample)): (usize, &(usize, Option<f64>))| CellState {
            task: format!("t{i}"),
            method: "m".to_owned(),
            planned: left,
            seconds_per_sample,
            ..CellState::default()
        };
        Progress { cells: cells.iter().enumerate().map(cell).collect(), ..Progress::default() }
    }

    #[test]
    fn processes_that_finished_nothing_yet_count_by_their_slots() {
        // Ten tasks of a chunk each; only one has been there for long enough to have finished anything.
        let mut nodes = vec![node(NodeState::Alive, 0, 4); 9];
        nodes.push(node(NodeState::Alive, 1, 4));
        nodes.push(node(NodeState::Silent, 99, 4));
        assert_eq!(throughput(&progress(&[(500, Some(16.0))]), &nodes, None), Some(2.5));
        assert_eq!(
            throughput(&progress(&[(500, Some(16.0))]), &nodes, Some(1.5)),
            Some(1.5),
            "what was seen"
        );
    }

    #[test]
    fn without_rows_of_their_cells_what_processes_say_has_to_do() {
        let nodes =
            [node(NodeState::Alive, 5, 1), node(NodeState::Alive, 20, 1), node(NodeState::Silent, 99, 1)];
        let unknown = progress(&[(500, None), (0, Some(1.0))]);
        assert_eq!(throughput(&unknown, &nodes, None), Some(2.5));
        let nodes = [node(NodeState::Alive, 0, 1), node(NodeState::Ended, 9, 0)];
        assert_eq!(throughput(&unknown, &nodes, None), None);
        assert_eq!(throughput(&unknown, &[node(NodeState::Ended, 9, 0)], Some(1.0)), None, "nobody solves");
    }

    #[test]
    fn what_is_left_of_each_cell_counts_with_its_own_time() {
        let alive = [node(NodeState::Alive, 10, 4)];
        let cells = progress(&[(10, Some(2.0)), (0, Some(1000.0)), (5, Some(20.0))]);
        assert_eq!(time_left(&cells, &alive, Some(1.0)), Some(30.0));
        assert_eq!(time_left(&cells, &alive, None), Some(30.0), "no rate is needed");
        assert_eq!(time_left(&cells, &[node(NodeState::Alive, 10, 0)], Some(1.0)), Some(15.0));
    }

    #[test]
    fn of_a_cell_without_rows_the_plan_tells_or_nothing_is_told() {
        let alive = [node(NodeState::Alive, 10, 4)];
        let quick_and_unknown = progress(&[(10, None), (1, Some(0.01)), (0, Some(0.01))]);
        assert_eq!(time_left(&quick_and_unknown, &alive, Some(1.0)), None);
        let with = |expected| {
            let mut cells = quick_and_unknown.clone();
            cells.cells[1].seconds_per_sample = Some(40.0);
            cells.cells[0].expected_seconds = Some(expected);
            time_left(&cells, &alive, Some(1.0))
        };
        assert_eq!(with(200.0), Some(510.0));
        assert_eq!(with(3.0), Some(135.0), "those that are being solved have taken 50 s already");
    }

    #[test]
    fn nothing_is_left_or_nobody_solves() {
        assert_eq!(time_left(&progress(&[(0, Some(1.0))]), &[node(NodeState::Alive, 1, 1)], Some(1.0)), None);
        assert_eq!(time_left(&progress(&[(3, Some(1.0))]), &[node(NodeState::Silent, 1, 1)], None), None);
    }
}
