//! Times and pictures of made-up logs.

use super::*;

fn line_of(pid: u32, time: f64, event: &str, device: &str, row: &str) -> String {
    format!(
        r#"{{"time":{time},"event":"{event}","device":"{device}","row":"{row}","host":"n1","pid":{pid}}}"#
    )
}

fn line(time: f64, event: &str, device: &str, row: &str) -> String {
    line_of(7, time, event, device, row)
}

/// Two devices: `a` works all the time, `b` waits from 3 to 5 while `a` still gets a sample.
fn log() -> Vec<String> {
    let events = [
        (0.0, "worker_ready", "a", ""),
        (0.0, "worker_ready", "b", ""),
        (0.0, "started", "a", "t/d-flow/0"),
        (0.0, "started", "a", "t/d-flow/1"),
        (0.0, "started", "b", "t/pinv/2"),
        (3.0, "finished", "b", "t/pinv/2"),
        (4.0, "finished", "a", "t/d-flow/0"),
        (5.0, "started", "a", "t/d-flow/3"),
        (6.0, "finished", "a", "t/d-flow/1"),
        (9.0, "suspended", "a", "t/d-flow/3"),
    ];
    events.map(|(time, event, device, row)| line(time, event, device, row)).to_vec()
}

fn timeline(logs: &[&[String]]) -> Timeline {
    let mut timeline = Timeline::default();
    for lines in logs {
        timeline.read(lines.join("\n").as_bytes()).unwrap();
    }
    timeline
}

/// Processes, solves, unfinished ones, busy and idle seconds of every device.
fn figures(timeline: &Timeline) -> Vec<Vec<f64>> {
    let number = |cell: &Cell| if let Cell::Number(value, _) = cell { *value } else { f64::NAN };
    timeline.draw("small").numbers.rows.iter().map(|row| row[2..].iter().map(number).collect()).collect()
}

fn spans(timeline: &Timeline) -> Vec<[f64; 2]> {
    timeline.solves().map(|solve| solve.span).collect()
}

#[test]
fn busy_and_idle_times_are_those_of_the_log() {
    let expected = [[1.0, 3.0, 0.0, 9.0, 0.0], [1.0, 1.0, 0.0, 3.0, 2.0]];
    assert_eq!(figures(&timeline(&[&log()])), expected);
}

#[test]
fn solves_at_the_same_time_have_lanes_of_their_own() {
    let timeline = timeline(&[&log()]);
    let tracks = timeline.tracks();
    let lanes = lanes(tracks[0].solves(), |solve| Bar { span: solve.span, kind: 0, thin: !solve.ended });
    let spans: Vec<Vec<[f64; 2]>> =
        lanes.iter().map(|lane| lane.iter().map(|bar| bar.span).collect()).collect();
    assert_eq!(spans, [vec![[0.0, 4.0], [5.0, 9.0]], vec![[0.0, 6.0]]]);
}

#[test]
fn what_was_open_when_a_log_ends_goes_on_until_its_last_event() {
    // Killed, or read while it runs, after 6 s: sample 3 is being solved since 5 s.
    let cut = timeline(&[&log()[..9]]);
    assert_eq!(figures(&cut), [[1.0, 3.0, 1.0, 6.0, 0.0], [1.0, 1.0, 0.0, 3.0, 2.0]]);
    let unfinished: Vec<_> = cut.solves().filter(|solve| !solve.ended).collect();
    assert_eq!((unfinished.len(), unfinished[0].span), (1, [5.0, 6.0]));
    // After 3 s both samples of `a` are: it was never idle.
    let early = timeline(&[&log()[..6]]);
    assert_eq!(figures(&early), [[1.0, 2.0, 2.0, 3.0, 0.0], [1.0, 1.0, 0.0, 3.0, 0.0]]);

    let notes = |timeline: &Timeline| timeline.draw("small").figure.notes.join(" ");
    assert!(notes(&cut).contains("thin bar was not finished"));
    assert!(!notes(&timeline(&[&log()])).contains("thin bar"), "the whole log has no such bar");
    let svg = |timeline: &Timeline| timeline.draw("small").figure.svg().unwrap();
    let thin = "height=\"3.00\"";
    assert!(svg(&cut).contains(thin) && !svg(&timeline(&[&log()])).contains(thin));
}

fn heartbeat(pid: u32, [started_ms, written_ms]: [u64; 2]) -> Node {
    Node { host: "n1".to_owned(), pid, started_ms, written_ms, ..Node::default() }
}

#[test]
fn a_process_that_lives_is_busy_until_its_last_heartbeat() {
    // One of its number lived before it, and one came after it was killed.
    let beats = [[0, 90_000], [99_900, 161_000], [200_000, 300_000]].map(|life| heartbeat(7, life));
    let beats = [&beats[..], &[heartbeat(8, [99_900, 400_000])]].concat();
    let mut timeline = Timeline::with_heartbeats(&beats);
    let lines = [line(100.0, "begin", "", ""), line(101.0, "started", "a", "t/m/0")];
    timeline.read(lines.join("\n").as_bytes()).unwrap();
    assert_eq!(spans(&timeline), [[101.0, 161.0]]);
    assert_eq!(figures(&timeline)[0][..4], [1.0, 1.0, 1.0, 60.0]);
    // What came to its end stays as it is, and so does what was open when nothing was heard of its process since.
    let mut ended = Timeline::with_heartbeats(&beats[..2]);
    let lines = [&lines[..], &[line(103.0, "finished", "a", "t/m/0"), line(170.0, "started", "a", "t/m/1")]];
    ended.read(lines.concat().join("\n").as_bytes()).unwrap();
    assert_eq!(spans(&ended), [[101.0, 103.0], [170.0, 170.0]]);
}

#[test]
fn a_process_that_was_killed_leaves_nothing_to_another_of_its_number() {
    let first = [line(0.0, "begin", "", ""), line(1.0, "started", "a", "t/m/0"), line(3.0, "other", "", "")];
    let second = [
        line(10.0, "begin", "", ""),
        line(11.0, "started", "a", "t/m/0"),
        line(15.0, "finished", "a", "t/m/0"),
    ];
    let both: Vec<String> = first.iter().chain(&second).cloned().collect();
    for logs in [&[&both[..]][..], &[&first, &second]] {
        let timeline = timeline(logs);
        assert_eq!(spans(&timeline), [[1.0, 3.0], [11.0, 15.0]]);
        assert_eq!(figures(&timeline)[0][..4], [2.0, 2.0, 1.0, 6.0], "one lane for both");
    }
}

#[test]
fn tasks_that_share_a_host_have_lanes_of_their_own() {
    let task = |pid: u32, from: f64| {
        let events = [(0.0, "worker_ready", ""), (0.0, "started", "t/m/0"), (4.0, "finished", "t/m/0")];
        events.map(|(time, event, row)| line_of(pid, from + time, event, "cuda:0", row))
    };
    let (one, beside, after) = (task(1, 0.0), task(2, 2.0), task(3, 5.0));
    let timeline = timeline(&[&one, &beside, &after]);
    assert_eq!(figures(&timeline), [[2.0, 2.0, 0.0, 8.0, 0.0], [1.0, 1.0, 0.0, 4.0, 0.0]]);
}

#[test]
fn a_torn_line_and_a_lost_worker_leave_the_rest() {
    let torn = "{\"time\": 3, \"ev".to_owned();
    let lines = [line(1.0, "started", "b", "t/m/0"), line(2.0, "worker_broken", "b", ""), torn];
    let timeline = timeline(&[&lines]);
    assert_eq!(spans(&timeline), [[1.0, 2.0]]);
    assert!(timeline.solves().all(|solve| !solve.ended));
    assert!(Timeline::default().is_empty() && !timeline.is_empty());
}

#[test]
fn the_picture_names_devices_and_methods() {
    let svg = timeline(&[&log()]).draw("small").figure.svg().unwrap();
    for part in ["n1 a", "n1 b", "d-flow", "pinv", "seconds"] {
        assert!(svg.contains(part), "{part}");
    }
}

#[test]
fn a_process_that_was_killed_and_left_no_heartbeat_was_busy_until_its_last_line() {
    let lines = [
        line(100.0, "begin", "", ""),
        line(101.0, "worker_ready", "a", ""),
        line(101.0, "started", "a", "t/m/0"),
        line(101.0, "started", "a", "t/m/1"),
        line(140.0, "progress", "a", "t/m/1"),
    ];
    let killed = timeline(&[&lines]);
    assert_eq!(spans(&killed), [[101.0, 140.0]; 2]);
    assert_eq!(figures(&killed), [[1.0, 2.0, 2.0, 39.0, 0.0]]);
}

#[test]
fn a_device_that_never_came_up_is_idle_until_the_last_sample_was_taken() {
    let begin = r#"{"time":10,"event":"begin","devices":["a","b"],"host":"n1","pid":7}"#.to_owned();
    let lines = [
        begin,
        line(15.0, "worker_ready", "a", ""),
        line(15.0, "started", "a", "t/m/0"),
        line(20.0, "worker_broken", "b", ""),
        line(25.0, "finished", "a", "t/m/0"),
        line(26.0, "started", "a", "t/m/1"),
        line(40.0, "finished", "a", "t/m/1"),
    ];
    let timeline = timeline(&[&lines]);
    assert_eq!(figures(&timeline), [[1.0, 2.0, 0.0, 24.0, 1.0], [1.0, 0.0, 0.0, 0.0, 16.0]]);
    assert!(timeline.draw("small").figure.svg().unwrap().contains("n1 b"));
}
