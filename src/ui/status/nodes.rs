//! Processes, their devices and what they solve.

use std::time::Duration;

use super::heading;
use super::line::{Line, Look};
use crate::status::{NodeState, NodeStatus};
use crate::store::TelemetryRow;
use crate::store::nodes::{DeviceState, Node, NodeDevice};
use crate::ui::text;

/// Devices up to which each has lines of its own.
const DETAILED: usize = 16;
/// Column at which a device's state stands.
const INDENT: usize = 10;
/// Ended processes that are shown: the newest with something to tell.
const ENDED: usize = 3;

/// Lines that the processes would like to have.
pub(super) fn wanted(nodes: &[NodeStatus]) -> usize {
    if nodes.is_empty() {
        return 0;
    }
    let shown = worth_showing(nodes);
    2 + if is_detailed(nodes) { detailed_lines(&shown) } else { shown.len() }
}

/// However many have come to their end: devices of those that work count.
fn is_detailed(nodes: &[NodeStatus]) -> bool {
    let working = nodes.iter().filter(|node| node.state == NodeState::Alive);
    working.map(|node| node.node.devices.len()).sum::<usize>() <= DETAILED
}

/// All that work or fell silent, in their order, and the newest of those that ended before their work was done. The
/// others are counted in the title.
fn worth_showing(nodes: &[NodeStatus]) -> Vec<&NodeStatus> {
    let has_ended = |node: &&NodeStatus| node.state == NodeState::Ended;
    let (mut ended, mut shown): (Vec<&NodeStatus>, Vec<_>) = nodes.iter().partition(has_ended);
    let is_broken = |device: &NodeDevice| device.state == DeviceState::Broken;
    ended.retain(|node| node.node.stopping.is_some() || node.node.devices.iter().any(is_broken));
    ended.sort_by(|a, b| a.age_seconds.total_cmp(&b.age_seconds));
    shown.extend(ended.into_iter().take(ENDED));
    shown
}

/// A line for each process, and one or two for each device of those that work.
fn detailed_lines(nodes: &[&NodeStatus]) -> usize {
    nodes.iter().map(|node| details(node).len()).sum()
}

/// The processes in at most `room` lines.
pub(super) fn lines(nodes: &[NodeStatus], room: Option<usize>) -> Vec<Line> {
    if nodes.is_empty() {
        return Vec::new();
    }
    let heading = [Line::default(), title(nodes)].into_iter();
    let room = room.map_or(usize::MAX, |room| room.saturating_sub(2));
    let shown = worth_showing(nodes);
    let (working, others) = shown.split_at(shown.partition_point(|node| node.state == NodeState::Alive));
    let least = usize::from(!others.is_empty());
    if is_detailed(nodes) && detailed_lines(working).saturating_add(least) <= room {
        let lines: Vec<Line> = working.iter().copied().flat_map(details).collect();
        let room = room - lines.len();
        return heading.chain(lines).chain(bounded(others, room, &details)).collect();
    }
    heading.chain(bounded(&shown, room, &|node| vec![short(node)])).collect()
}

/// As many of the processes as there is room for, and how many more there are.
fn bounded(nodes: &[&NodeStatus], room: usize, show: &dyn Fn(&NodeStatus) -> Vec<Line>) -> Vec<Line> {
    let each = nodes.iter().take(room.saturating_add(1)).map(|node| show(node));
    // Lines behind each process; one stays free for the rest.
    let (mut lines, mut shown) = (Vec::new(), 0);
    for more in each {
        let is_last = shown + 1 == nodes.len();
        if lines.len() + more.len() + usize::from(!is_last) > room {
            break;
        }
        lines.extend(more);
        shown += 1;
    }
    if shown < nodes.len() && room > 0 {
        lines.push(Line::default().with(Look::Dim, format!("… and {} more", nodes.len() - shown)));
    }
    lines
}

fn title(nodes: &[NodeStatus]) -> Line {
    let count = |state| nodes.iter().filter(|node| node.state == state).count();
    let states = [(NodeState::Alive, "working"), (NodeState::Silent, "silent"), (NodeState::Ended, "ended")];
    let parts = states.map(|(state, word)| (count(state), word));
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    heading(format!("processes: {}", parts.join(", ")))
}

/// Host, place in the submission, state and figures of a process.
fn process(status: &NodeStatus) -> Line {
    let Node { host, pid, chunk, slurm, .. } = &status.node;
    let job = slurm.as_ref().map(|slurm| match (&slurm.array, &slurm.task) {
        (Some(array), Some(task)) => format!(" job {array}_{task}"),
        _ => format!(" job {}", slurm.job),
    });
    let chunk = chunk.map(|chunk| format!(" chunk {chunk}"));
    let head = format!("{host}{}{}", job.unwrap_or_else(|| format!(" pid {pid}")), chunk.unwrap_or_default());
    let line = Line::text(head);
    let age = text::duration(Duration::from_secs_f64(status.age_seconds));
    match (status.state, &status.node.stopping) {
        (NodeState::Silent, _) => line.with(Look::Bad, format!("  silent for {age}")),
        (NodeState::Ended, None) => line.with(Look::Dim, format!("  ended {age} ago")),
        (NodeState::Ended, Some(reason)) => line.with(Look::Dim, format!("  stopped {age} ago: {reason}")),
        (NodeState::Alive, Some(reason)) => line.with(Look::Bad, format!("  stopping: {reason}")),
        (NodeState::Alive, None) => line,
    }
}

fn done(finished: u64, failed: u64) -> String {
    if failed > 0 { format!("{finished} done, {failed} failed") } else { format!("{finished} done") }
}

/// A process in one line.
fn short(status: &NodeStatus) -> Line {
    let node = &status.node;
    let busy = node.devices.iter().filter(|device| device.state == DeviceState::Busy).count();
    let broken = node.devices.iter().filter(|device| device.state == DeviceState::Broken).count();
    let line = process(status);
    if status.state != NodeState::Alive {
        return line;
    }
    let line = line.with(Look::Plain, format!("  {busy} of {} busy", node.devices.len()));
    let line = if broken > 0 { line.with(Look::Bad, format!(", {broken} broken")) } else { line };
    let power: f64 = node.devices.iter().filter_map(|device| device.reading.as_ref()?.power).sum();
    let power = if power > 0.0 { format!(", {power:.0} W") } else { String::new() };
    line.with(Look::Plain, format!("{power}, {}", done(node.finished, node.failed)))
}

/// A process and its devices. Of one that does not work, only what is wrong.
fn details(status: &NodeStatus) -> Vec<Line> {
    let mut lines = vec![process(status)];
    for device in &status.node.devices {
        let is_wrong = matches!(device.state, DeviceState::Broken | DeviceState::Restarting);
        if status.state == NodeState::Alive || is_wrong {
            lines.extend(device_lines(device));
        }
    }
    lines
}

/// State and figures; below, what is wrong, and what it solves.
fn device_lines(device: &NodeDevice) -> Vec<Line> {
    let (word, look) = state(device.state);
    let mut parts = Vec::new();
    if device.slots > 0 {
        parts.push(format!("{}/{}", device.samples.len(), device.slots));
    }
    parts.push(format!("{} done", device.finished));
    parts.extend(device.reading.as_ref().map(reading).filter(|text| !text.is_empty()));
    let line = Line::text(format!("  {}", device.name)).padded_to(INDENT).with(look, word);
    let line = line.padded_to(INDENT + 6).with(Look::Plain, format!("  {}", parts.join("  ")));
    let trouble = device.reason.clone().or_else(|| trouble(device.reading.as_ref()?));
    let trouble = trouble.map(|text| Line::text(" ".repeat(INDENT)).with(Look::Bad, text));
    std::iter::once(line).chain(trouble).chain(solving(device)).collect()
}

const fn state(state: DeviceState) -> (&'static str, Look) {
    match state {
        DeviceState::Starting => ("starting", Look::Dim),
        DeviceState::Busy => ("busy", Look::Good),
        DeviceState::Idle => ("idle", Look::Dim),
        DeviceState::Restarting => ("restarting", Look::Bad),
        DeviceState::Ended => ("ended", Look::Dim),
        DeviceState::Broken => ("broken", Look::Bad),
        DeviceState::Unknown => ("?", Look::Dim),
    }
}

/// Of the samples that a device solves, the one that has come farthest.
fn solving(device: &NodeDevice) -> Option<Line> {
    let first = device.samples.iter().max_by_key(|sample| sample.evals)?;
    let psnr = first.psnr.map_or_else(String::new, |psnr| format!(", {psnr:.1} dB"));
    let others = device.samples.len() - 1;
    let others = if others > 0 { format!(" (+{others})") } else { String::new() };
    let name = format!("{}/{}/{}", first.task, first.method, first.sample);
    let text = format!("{name}: {} evals{psnr}{others}", first.evals);
    Some(Line::text(" ".repeat(INDENT)).with(Look::Dim, text))
}

/// `GPU 97 %  41/80 GB  312/700 W  64 °C`, or what the process uses.
pub fn reading(row: &TelemetryRow) -> String {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let mut parts = Vec::new();
    parts.extend(row.gpu_utilization.map(|percent| format!("GPU {percent} %")));
    match (row.memory_used, row.memory_total) {
        (Some(used), Some(total)) => parts.push(format!("{:.0}/{:.0} GB", gb(used), gb(total))),
        (Some(used), None) => parts.push(format!("{:.1} GB", gb(used))),
        _ => {}
    }
    match (row.power, row.power_limit) {
        (Some(power), Some(limit)) => parts.push(format!("{power:.0}/{limit:.0} W")),
        (Some(power), None) => parts.push(format!("{power:.0} W")),
        _ => {}
    }
    parts.extend(row.temperature.map(|degrees| format!("{degrees} °C")));
    if parts.is_empty() {
        parts.extend(row.cpu_cores.map(|cores| format!("{cores:.1} cores")));
        parts.extend(row.resident_memory.map(text::bytes));
    }
    parts.join("  ")
}

/// What a user of the device should know of it.
fn trouble(row: &TelemetryRow) -> Option<String> {
    let errors = row.ecc_uncorrected.filter(|errors| *errors > 0);
    let errors = errors.map(|errors| text::count(errors as usize, "ECC error"));
    let slow =
        row.throttle.as_deref().unwrap_or_default().split('+').filter(|name| name.contains("slowdown"));
    let all: Vec<String> = errors.into_iter().chain(slow.map(str::to_owned)).collect();
    (!all.is_empty()).then(|| all.join(", "))
}
