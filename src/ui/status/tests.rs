use std::time::Instant;

use super::*;
use crate::status::{CellState, FailedChunk, History, Now, Progress, Waiting};
use crate::store::TelemetryRow;
use crate::store::nodes::{DeviceState, Failure, Held, Node, NodeDevice, Rate, SlurmTask};

const NOW_MS: u64 = 1_795_350_667_000;
const PLAIN: Canvas = Canvas { width: 80, height: None, colour: false, is_cut: true };

fn cell(task: &str, method: &str, [ok, failed, planned]: [usize; 3]) -> CellState {
    CellState {
        task: task.to_owned(),
        method: method.to_owned(),
        ok,
        failed,
        planned,
        seconds_per_sample: Some(20.0),
        expected_seconds: None,
    }
}

fn gpu(name: &str, power: f64) -> NodeDevice {
    let reading = TelemetryRow {
        gpu_utilization: Some(97),
        memory_used: Some(41_200_000_000),
        memory_total: Some(85_000_000_000),
        power: Some(power),
        power_limit: Some(700.0),
        temperature: Some(64),
        ecc_uncorrected: Some(0),
        throttle: Some("sw_power_cap".to_owned()),
        ..TelemetryRow::default()
    };
    let held = |sample: &str, evals, psnr| Held {
        task: "inpainting-center".to_owned(),
        method: "d-flow".to_owned(),
        sample: sample.to_owned(),
        evals,
        psnr,
        seconds: 12.0,
    };
    NodeDevice {
        name: name.to_owned(),
        state: DeviceState::Busy,
        slots: 16,
        samples: vec![held("test/000006", 4, None), held("test/000007", 31, Some(28.43))],
        finished: 60,
        failed: 1,
        reading: Some(reading),
        ..NodeDevice::default()
    }
}

fn node(host: &str, seconds_ago: u64) -> Node {
    Node {
        dflow_node: 1,
        attempt: host.to_owned(),
        host: host.to_owned(),
        pid: 4711,
        written_ms: NOW_MS - 1000 * seconds_ago,
        given: 200,
        finished: 61,
        lately: Rate { samples: 60, seconds: 600.0 },
        ..Node::default()
    }
}

fn nodes() -> Vec<Node> {
    let slow = TelemetryRow {
        throttle: Some("sw_power_cap+hw_thermal_slowdown".to_owned()),
        ecc_uncorrected: Some(2),
        ..gpu("cuda:1", 0.0).reading.unwrap()
    };
    let broken = NodeDevice {
        name: "cuda:2".to_owned(),
        state: DeviceState::Broken,
        reason: Some(
            "CUDA error: an illegal memory access was encountered; the context is lost for good".to_owned(),
        ),
        ..NodeDevice::default()
    };
    let one = Node {
        slurm: Some(SlurmTask {
            job: "71".to_owned(),
            array: Some("70".to_owned()),
            task: Some("3".to_owned()),
            restarts: 0,
        }),
        chunk: Some(3),
        devices: vec![
            gpu("cuda:0", 312.4),
            NodeDevice { reading: Some(slow), failed: 0, ..gpu("cuda:1", 0.0) },
            broken,
        ],
        failures: vec![Failure {
            time_ms: NOW_MS - 60_000,
            row: "inpainting-center/d-flow/test/000003".to_owned(),
            device: "cuda:0".to_owned(),
            error: "the loss is not a number\nafter 12 evaluations".to_owned(),
        }],
        ..node("gpu01", 2)
    };
    let process =
        TelemetryRow { cpu_cores: Some(1.94), resident_memory: Some(812_000_000), ..TelemetryRow::default() };
    let cpu = NodeDevice {
        name: "cpu:0".to_owned(),
        state: DeviceState::Idle,
        slots: 8,
        reading: Some(process),
        ..NodeDevice::default()
    };
    let two = Node { devices: vec![cpu], ..node("cpu7", 4) };
    let ended = Node {
        ended_ms: Some(NOW_MS),
        stopping: Some("asked to terminate (TERM)".to_owned()),
        ..node("old", 90)
    };
    vec![one, two, Node { devices: vec![gpu("cuda:0", 1.0)], ..node("lost", 200) }, ended]
}

fn snapshot(cells: Vec<CellState>, nodes: Vec<Node>) -> Snapshot {
    let now = Now { ms: NOW_MS, instant: Instant::now() };
    Snapshot::new(
        "table1-cifar10",
        Progress { cells, failures: failed_rows() },
        nodes,
        &mut History::default(),
        now,
    )
}

/// A submission of 45 chunks, 30 of them done.
fn chunks(queue: Option<QueueCounts>) -> ChunkCounts {
    let submission = "20261122T203500.017Z-5f3a9c01".to_owned();
    ChunkCounts { submission, total: 45, done: 30, open: 15, queue, ..ChunkCounts::default() }
}

fn failed_rows() -> Vec<Failure> {
    let row = "inpainting-center/d-flow/test/000003".to_owned();
    vec![Failure { row, error: "the loss is not a number".to_owned(), ..Failure::default() }]
}

fn cells() -> Vec<CellState> {
    vec![
        cell("inpainting-center", "d-flow", [63, 1, 128]),
        cell("inpainting-center", "ot-ode", [128, 0, 128]),
        cell("super-resolution-x2-noisy", "d-flow", [0, 0, 128]),
    ]
}

#[test]
fn the_view_fits_80_columns() {
    let mut snapshot = snapshot(cells(), nodes());
    let queue = QueueCounts { queued: 12, running: 2, failed: 1, ..QueueCounts::default() };
    snapshot.chunks = Some(chunks(Some(queue)));
    let text = frame(&snapshot, PLAIN).join("\n");
    let expected = include_str!("golden.txt");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text == expected.trim_end_matches('\n'), "the view is\n{text}\nand was\n{expected}");
}

#[test]
fn no_view_is_wider_or_higher_than_its_terminal() {
    let many =
        (0..100).map(|i| Node { devices: vec![gpu("cuda:0", 300.0)], ..node(&format!("node{i:03}"), 3) });
    let many_cells = (0..90).map(|i| cell(&format!("a-task-with-a-long-name-{i}"), "method", [i, 0, 100]));
    let snapshots = [
        snapshot(cells(), nodes()),
        snapshot(many_cells.collect(), many.collect()),
        snapshot(Vec::new(), Vec::new()),
    ];
    for snapshot in &snapshots {
        for width in [20, 40, 80, 200] {
            for height in [20, 24, 50] {
                let canvas = Canvas { width, height: Some(height), ..PLAIN };
                let lines = frame(snapshot, canvas);
                assert!(lines.len() < height, "{width}×{height}: {}", lines.len());
                assert!(
                    lines.iter().all(|line| line.chars().count() <= width),
                    "{width}×{height}: {lines:#?}"
                );
            }
        }
    }
}

#[test]
fn of_many_processes_each_has_a_line_and_in_a_terminal_the_rest_is_counted() {
    let many =
        (0..100).map(|i| Node { devices: vec![gpu("cuda:0", 300.0)], ..node(&format!("node{i:03}"), 3) });
    let snapshot = snapshot(cells(), many.collect());
    let text = frame(&snapshot, PLAIN).join("\n");
    assert!(text.contains("\nnode000 pid 4711  1 of 1 busy, 300 W, 61 done\n"), "{text}");
    assert!(text.contains("\nnode099 pid 4711 ") && !text.contains("more"), "{text}");
    let text = frame(&snapshot, Canvas { height: Some(24), ..PLAIN }).join("\n");
    assert!(text.contains("processes: 100 working\n") && text.contains("\n… and "), "{text}");
}

#[test]
fn a_failure_is_named_with_what_is_known_of_it() {
    let text = |nodes: Vec<Node>| frame(&snapshot(cells(), nodes), PLAIN).join("\n");
    let only_its_row =
        "newest failures\n  inpainting-center/d-flow/test/000003\n            the loss is not a number";
    assert!(text(Vec::new()).ends_with(only_its_row), "{}", text(Vec::new()));
    let solved_since =
        Failure { row: "inpainting-center/d-flow/test/000009".to_owned(), ..Failure::default() };
    let node = Node { failures: vec![solved_since], ..node("gpu01", 1) };
    assert!(!text(vec![node]).contains("000009"), "another attempt solved it");
}

#[test]
fn complete_cells_give_way_to_open_ones() {
    let mut all: Vec<CellState> = (0..40).map(|i| cell(&format!("done-{i}"), "m", [5, 0, 5])).collect();
    all.push(cell("open", "m", [1, 0, 5]));
    let canvas = Canvas { height: Some(20), ..PLAIN };
    let text = frame(&snapshot(all, Vec::new()), canvas).join("\n");
    assert!(text.contains("open") && text.contains("of 41 cells shown, 40 complete"), "{text}");
}

#[test]
fn a_bar_is_full_only_when_all_rows_are_there_and_shows_every_failure() {
    let bar = |rows, planned| cells::bar(Line::default(), 10, rows, planned).render(80, false);
    assert_eq!(bar([0, 0], 1000), "░░░░░░░░░░");
    assert_eq!(bar([999, 0], 1000), "█████████░");
    assert_eq!(bar([1000, 0], 1000), "██████████");
    assert_eq!(bar([999, 1], 1000), "█████████▒");
    assert_eq!(bar([0, 1], 1000), "▒░░░░░░░░░");
    assert_eq!(bar([0, 0], 0), "░░░░░░░░░░");
}

#[test]
fn the_summary_is_one_line() {
    let snapshot = snapshot(cells(), nodes());
    assert_eq!(
        summary(&snapshot),
        "table1-cifar10: 192 of 384 rows durable, 1 failed, 2 processes working, 1 process silent, 720/h, \
         about 16 min 00 s left"
    );
}

#[test]
fn colours_are_only_where_they_are_wanted() {
    let snapshot = snapshot(cells(), nodes());
    let coloured = frame(&snapshot, Canvas { colour: true, ..PLAIN }).join("\n");
    assert!(coloured.contains("\x1b[31m") && coloured.contains("\x1b[32m"));
    assert!(!frame(&snapshot, PLAIN).join("\n").contains('\x1b'));
}

#[test]
fn a_queue_that_is_not_known_is_never_said_to_be_empty() {
    let mut snapshot = snapshot(cells(), nodes());
    let trouble = Some("the controller does not answer".to_owned());
    snapshot.chunks = Some(ChunkCounts { trouble: trouble.clone(), ..chunks(None) });
    for text in [frame(&snapshot, PLAIN).join("\n"), summary(&snapshot)] {
        assert!(text.contains("30 done, 15 open (queue not known)"), "{text}");
        assert!(!text.contains("not in the queue") && !text.contains("queued"), "{text}");
    }
    let text = frame(&snapshot, PLAIN).join("\n");
    assert!(text.ends_with("\nnote: the queue could not be asked: the controller does not answer"), "{text}");
    let queue = QueueCounts { queued: 12, running: 3, age_seconds: 125.0, ..QueueCounts::default() };
    snapshot.chunks = Some(ChunkCounts { trouble, ..chunks(Some(queue)) });
    let text = frame(&snapshot, PLAIN).join("\n");
    assert!(text.contains("12 queued, 3 running, 30 done, 0 failed\n"), "{text}");
    assert!(
        text.contains("\nnote: the queue is as it was 2 min 05 s ago: the controller does not"),
        "{text}"
    );
}

#[test]
fn why_a_chunk_failed_stands_beside_how_many() {
    let mut snapshot = snapshot(cells(), nodes());
    let chunk = |ending: Option<&str>| FailedChunk {
        ending: ending.map(str::to_owned),
        node: "node2".to_owned(),
        ..FailedChunk::default()
    };
    for (failed, ending, text) in [
        (1, Some("code 2"), "1 failed (code 2 on node2)"),
        (3, Some("the setup failed"), "3 failed (newest: the setup failed on node2)"),
        (1, None, "1 failed (no log on node2)"),
    ] {
        let queue = QueueCounts { failed, newest_failed: Some(chunk(ending)), ..QueueCounts::default() };
        snapshot.chunks = Some(chunks(Some(queue)));
        assert!(summary(&snapshot).contains(text), "{}", summary(&snapshot));
        let wide = Canvas { width: 120, ..PLAIN };
        assert!(frame(&snapshot, wide).join("\n").contains(text));
    }
}

#[test]
fn why_tasks_wait_stands_beside_how_many() {
    let mut snapshot = snapshot(cells(), nodes());
    let mut text = |tasks| {
        let waiting = Some(Waiting { reason: "PartitionConfig".to_owned(), tasks });
        let queue = QueueCounts { queued: 15, waiting, ..QueueCounts::default() };
        snapshot.chunks = Some(chunks(Some(queue)));
        summary(&snapshot)
    };
    assert!(text(15).contains("chunks: 15 queued (PartitionConfig), 0 running"), "{}", text(15));
    assert!(text(4).contains("chunks: 15 queued (4: PartitionConfig), 0 running"), "{}", text(4));
}

#[test]
fn the_time_that_is_left_is_told_without_a_rate_and_a_rate_without_it() {
    let mut snapshot = snapshot(cells(), Vec::new());
    assert!(summary(&snapshot).ends_with("1 failed"), "{}", summary(&snapshot));
    snapshot.seconds_left = Some(60.0);
    assert!(summary(&snapshot).ends_with("1 failed, about 1 min 00 s left"), "{}", summary(&snapshot));
    (snapshot.seconds_left, snapshot.samples_per_hour) = (None, Some(7.5));
    assert!(summary(&snapshot).ends_with("1 failed, 7.5/h"), "{}", summary(&snapshot));
}

#[test]
fn outside_of_a_terminal_reasons_are_whole() {
    let reason = "the checkpoint does not fit: ".repeat(20);
    let mut snapshot = snapshot(cells(), Vec::new());
    snapshot.failures[0].error = format!("{reason}end");
    let cut = frame(&snapshot, PLAIN).join("\n");
    assert!(!cut.contains("end"), "{cut}");
    let whole = frame(&snapshot, Canvas { is_cut: false, ..PLAIN }).join("\n");
    assert!(whole.contains(&format!("{reason}end")), "{whole}");
    assert!(whole.lines().take(6).all(|line| line.chars().count() <= 80), "the rest is as ever: {whole}");
}

#[test]
fn devices_stand_in_detail_however_many_processes_have_ended() {
    let ended = |i: u64| Node { ended_ms: Some(NOW_MS), ..node(&format!("old{i:03}"), i) };
    let many = (0..200).map(|i| Node { devices: vec![gpu("cuda:0", 1.0); 4], ..ended(i) });
    let text = frame(&snapshot(cells(), nodes().into_iter().chain(many).collect()), PLAIN).join("\n");
    assert!(text.contains("  cuda:0  busy    2/16  60 done  GPU 97 %"), "{text}");
    assert!(text.contains("processes: 2 working, 1 silent, 201 ended\n"), "{text}");
    assert!(!text.contains("old0") && !text.contains("more"), "{text}");
}

#[test]
fn of_ended_processes_the_newest_with_a_reason_are_shown() {
    let stopped = |i: u64| Node {
        ended_ms: Some(NOW_MS - 1000 * i),
        stopping: i.is_multiple_of(2).then(|| "asked to terminate (TERM)".to_owned()),
        ..node(&format!("old{i}"), i)
    };
    let text =
        frame(&snapshot(cells(), nodes()[..3].iter().cloned().chain((1..10).map(stopped)).collect()), PLAIN);
    let shown: Vec<&str> =
        text.iter().filter(|line| line.starts_with("old")).map(|line| &line[..4]).collect();
    assert_eq!(shown, ["old2", "old4", "old6"], "{text:#?}");
    assert!(text.iter().any(|line| line == "processes: 2 working, 1 silent, 9 ended"), "{text:#?}");
    assert!(text.iter().any(|line| line.starts_with("lost pid 4711  silent")), "{text:#?}");
}

#[test]
fn a_run_that_nobody_goes_on_with_says_so() {
    let says = |snapshot: &Snapshot| {
        let framed = frame(snapshot, PLAIN).iter().filter(|line| *line == NOBODY).count();
        let told = Changes::default().lines(snapshot).iter().filter(|line| *line == NOBODY).count();
        assert_eq!(framed, told, "both views say the same");
        framed == 1
    };
    let dead = nodes().split_off(2);
    let mut now = snapshot(cells(), dead.clone());
    assert!(says(&now), "silent and ended");
    assert!(!says(&snapshot(cells(), nodes())), "two work");
    assert!(!says(&snapshot(vec![cell("t", "m", [4, 1, 5])], dead)), "every row is there");
    let known = |queue| Some(chunks(Some(queue)));
    now.chunks = known(QueueCounts { failed: 3, absent: 12, ..QueueCounts::default() });
    assert!(says(&now));
    let busy = [
        QueueCounts { queued: 1, ..QueueCounts::default() },
        QueueCounts { running: 1, ..QueueCounts::default() },
        QueueCounts { older: 1, ..QueueCounts::default() },
    ];
    for queue in busy {
        now.chunks = known(queue);
        assert!(!says(&now), "the queue has some");
    }
    now.chunks = Some(chunks(None));
    assert!(!says(&now), "the queue is not known");
    let trouble = Some("away".to_owned());
    now.chunks = Some(ChunkCounts { trouble: trouble.clone(), ..chunks(Some(QueueCounts::default())) });
    assert!(!says(&now), "the queue is as it was");
    (now.chunks, now.trouble) = (None, trouble);
    assert!(!says(&now), "the files are as they were");

    now.trouble = None;
    let mut changes = Changes::default();
    changes.lines(&now);
    now.done += 1;
    assert_eq!(changes.lines(&now), [summary(&now)], "once");
}

#[test]
fn of_very_many_cells_the_open_ones_are_shown_and_the_rest_is_counted() {
    let many = (0..1000).map(|i| cell(&format!("task-{i}"), "m", [if i < 990 { 5 } else { 1 }, 0, 5]));
    let lines = frame(&snapshot(many.collect(), Vec::new()), PLAIN);
    assert!(lines.len() < 80, "{} lines", lines.len());
    let text = lines.join("\n");
    assert!(text.contains("task-990 ") && text.contains("task-999 "), "{text}");
    assert!(text.contains("… 59 of 1000 cells shown, 990 complete"), "{text}");
}

#[test]
fn what_could_not_be_read_is_told_beside_what_was_seen_last() {
    let mut snapshot = snapshot(cells(), Vec::new());
    snapshot.trouble = Some("cannot list /run/journal: stale file handle".to_owned());
    let told = "as it was seen last: cannot list /run/journal: stale file handle";
    assert!(summary(&snapshot).ends_with(told), "{}", summary(&snapshot));
    assert!(frame(&snapshot, PLAIN).join("\n").ends_with(&format!("note: {told}")));
}

#[test]
fn into_a_pipe_each_failure_is_named_once_with_its_reason() {
    let mut changes = Changes::default();
    let mut now = snapshot(cells(), nodes());
    now.progress.failures[0].error = format!("the loss\nis no number{}", " at all".repeat(30));
    let failed = format!(
        "failed: inpainting-center/d-flow/test/000003: the loss is no number{}",
        " at all".repeat(30)
    );
    assert_eq!(changes.lines(&now), [failed, summary(&now)]);
    assert!(changes.lines(&now).is_empty(), "nothing is new");
    now.samples_per_hour = Some(3.0);
    now.chunks = Some(chunks(Some(QueueCounts::default())));
    assert_eq!(changes.lines(&now), [summary(&now)], "told once");
    now.chunks = Some(chunks(Some(QueueCounts { age_seconds: 9.0, ..QueueCounts::default() })));
    assert!(changes.lines(&now).is_empty(), "an age is no news");
    now.trouble = Some("away".to_owned());
    assert_eq!(changes.lines(&now), [summary(&now)]);
}

#[test]
fn into_a_pipe_a_queue_that_is_not_known_has_its_reason_and_every_note_stands_once() {
    let mut changes = Changes::default();
    let mut now = snapshot(cells(), nodes());
    let queue = QueueCounts { queued: 12, running: 3, age_seconds: 5.0, ..QueueCounts::default() };
    now.chunks = Some(chunks(Some(queue.clone())));
    changes.lines(&now);
    let old = QueueCounts { age_seconds: 125.0, ..queue };
    let note = "a task is held (JobHeldUser): scontrol release 7".to_owned();
    now.chunks = Some(ChunkCounts {
        trouble: Some("the controller does not answer".to_owned()),
        notes: vec![note.clone()],
        ..chunks(Some(old))
    });
    now.notes = vec!["a part\nis damaged".to_owned()];
    let lines = changes.lines(&now);
    let told = ["note: a part is damaged".to_owned(), format!("note: {note}")];
    assert_eq!(lines, [&told[..], &[summary(&now)]].concat());
    let reason = ", the queue is as it was 2 min 05 s ago: the controller does not answer";
    assert!(lines[2].contains(reason), "{lines:?}");
    now.done += 1;
    assert_eq!(changes.lines(&now), [summary(&now)], "notes were told");
    now.notes.push("another".to_owned());
    assert_eq!(changes.lines(&now), ["note: another".to_owned(), summary(&now)]);
    now.chunks = Some(ChunkCounts { trouble: Some("away".to_owned()), ..chunks(None) });
    let summary = changes.lines(&now).pop().unwrap();
    assert!(summary.contains("(queue not known)"), "{summary}");
    assert!(summary.contains(", the queue could not be asked: away"), "{summary}");
}

#[test]
fn while_a_job_will_collect_it_is_said_to_go_on() {
    let dead = nodes().split_off(2);
    let mut now = snapshot(cells(), dead);
    let queue = QueueCounts { failed: 3, collector: Some(102), ..QueueCounts::default() };
    now.chunks = Some(chunks(Some(queue.clone())));
    let goes_on = "job 102 will collect, and may submit again what failed".to_owned();
    let mut changes = Changes::default();
    assert_eq!(changes.lines(&now).last(), Some(&goes_on));
    let framed = frame(&now, PLAIN);
    assert!(framed.contains(&goes_on) && !framed.iter().any(|line| line == NOBODY), "{framed:#?}");
    now.done += 1;
    assert_eq!(changes.lines(&now), [summary(&now)], "once");
    now.chunks = Some(chunks(Some(QueueCounts { queued: 1, ..queue.clone() })));
    assert_eq!(changes.lines(&now), [summary(&now)], "the chunks that wait go on");
    now.chunks = Some(chunks(Some(QueueCounts { collector: None, ..queue })));
    assert_eq!(changes.lines(&now).last().map(String::as_str), Some(NOBODY), "it is gone");
}

#[test]
fn of_many_notes_the_first_are_shown_and_the_rest_is_counted() {
    let mut now = snapshot(cells(), Vec::new());
    now.notes = (0..1000).map(|i| format!("part {i} is damaged")).collect();
    let notes = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|line| line.starts_with("note: ")).cloned().collect()
    };
    for lines in [frame(&now, PLAIN), Changes::default().lines(&now)] {
        let notes = notes(&lines);
        assert_eq!(notes.len(), NOTES + 1);
        assert_eq!((&*notes[0], &*notes[NOTES]), ("note: part 0 is damaged", "note: … and 990 more"));
    }
    let small = notes(&frame(&now, Canvas { height: Some(24), ..PLAIN }));
    assert_eq!((small.len(), small.last().map(String::as_str)), (4, Some("note: … and 997 more")));
}

#[test]
fn a_tiny_terminal_shows_a_cell() {
    let mut now = snapshot(cells(), nodes());
    now.chunks = Some(chunks(Some(QueueCounts { queued: 12, ..QueueCounts::default() })));
    let lines = frame(&now, Canvas { width: 40, height: Some(8), ..PLAIN });
    assert!(lines.len() < 8 && lines.iter().any(|line| line.contains("d-flow")), "{lines:#?}");
}
