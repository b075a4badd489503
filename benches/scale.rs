//! A submission on clusters of 1 to 1,024 devices, in virtual time, as lines of a table: the program's own scheduler,
//! chunks and store; devices, nodes and their faults are made up (`tests/suite/scale/model`). See `docs/scale.md`.
//!
//! ```text
//! scale                   devices × samples × faults, without files
//! scale only SAMPLES      of that table the lines of so many samples
//! scale sizing            256 devices: devices of a task, slots, chunk, start-up
//! scale alone             256 devices: each task of Table 1 alone, against list scheduling
//! scale store SAMPLES     rows and checkpoints in real files (in a temporary folder): operations, parts, merge
//! ```
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

#[expect(unreachable_pub, reason = "one model for the tests and the benchmark")]
#[path = "../tests/suite/scale/model/mod.rs"]
mod model;

use std::time::{Duration, Instant};

use dflow::plan::Unit;
use model::outcome::Outcome;
use model::service::CELLS;
use model::{Disk, Faults, Setting, list_scheduling, simulate, simulate_on};

const FAULTS: [(&str, Faults); 4] = [
    ("none", Faults::NONE),
    ("nodes", Faults::NODES),
    ("preempted", Faults::PREEMPTIONS),
    ("stragglers", Faults::STRAGGLERS),
];

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => table(&[10_000, 100_000, 1_000_000]),
        ["only", samples] => table(&[number(samples)?]),
        ["sizing"] => sizing(),
        ["alone"] => alone(),
        ["store", samples] => store(number(samples)?),
        _ => return Err("usage: scale [only SAMPLES | sizing | alone | store SAMPLES]".to_owned()),
    }
    Ok(())
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

/// `samples` in all, of the six tasks of Table 1.
fn units(samples: usize) -> Vec<Unit> {
    (0..samples).map(|i| Unit { cell: i % CELLS, sample: i / CELLS }).collect()
}

fn table(runs: &[usize]) {
    println!("{}", heading("devices  samples"));
    for &samples in runs {
        for devices in [1, 8, 64, 256, 1024] {
            for (name, faults) in FAULTS {
                let setting = Setting { faults, ..Setting::usual(devices) };
                let clock = Instant::now();
                let outcome = simulate(&setting, &units(samples));
                let row = format!("{devices:7} {samples:8} {name:10}");
                println!("{}", line(&row, &outcome, clock.elapsed()));
            }
        }
    }
}

fn sizing() {
    println!("{}", heading("per task slots chunk start"));
    let usual = Setting::usual(256);
    let mut settings = Vec::new();
    for per_task in [1, 4, 8] {
        for slots in [1, 8] {
            for chunk in [1800.0, 3600.0, 7200.0] {
                settings.push(Setting { per_task, slots, chunk, ..usual });
            }
        }
    }
    let start_ups = [0, 60, 120].map(Duration::from_secs);
    settings.extend(start_ups.map(|start_up| Setting { start_up, ..usual }));
    settings.extend([1800.0, 7200.0].map(|chunk| Setting { slots: 8, overhead: 3.0, chunk, ..usual }));
    for setting in settings {
        for faults in [Faults::NONE, Faults::STRAGGLERS] {
            let setting = Setting { faults, ..setting };
            let clock = Instant::now();
            let outcome = simulate(&setting, &units(60_000));
            let Setting { per_task, slots, chunk, start_up, overhead, .. } = setting;
            let slow = if faults.slow_share > 0.0 { "stragglers" } else { "" };
            let overhead = if overhead > 0.0 { format!("+{overhead}") } else { String::new() };
            let row = format!("{per_task} {slots}{overhead:3} {chunk:5} {:4} {slow:10}", start_up.as_secs());
            println!("{}", line(&row, &outcome, clock.elapsed()));
        }
    }
}

fn alone() {
    println!("{}   list", heading("task"));
    for cell in 0..CELLS {
        for per_task in [1, 4] {
            let setting = Setting { per_task, ..Setting::usual(256) };
            let units: Vec<Unit> = (0..10_000).map(|sample| Unit { cell, sample }).collect();
            let clock = Instant::now();
            let outcome = simulate(&setting, &units);
            let of_list = list_scheduling(&setting, &units) / outcome.makespan;
            let row = format!("{cell} by {per_task}");
            println!("{} {:6.2}", line(&row, &outcome, clock.elapsed()), 100.0 * of_list);
        }
    }
}

fn store(samples: usize) {
    println!("{}", heading("devices  samples"));
    for (name, faults) in FAULTS {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().join("scale");
        let disk = Disk::create(&root, samples.div_ceil(CELLS));
        let setting = Setting { faults, ..Setting::usual(256) };
        let units = disk.units();
        let clock = Instant::now();
        let (outcome, disk) = simulate_on(&setting, &units, Some(disk));
        let disk = disk.expect("given");
        let row = format!("{:7} {:8} {name:10}", setting.devices, units.len());
        println!("{}", line(&row, &outcome, clock.elapsed()));
        println!("    before collecting: {:?}", disk.operations());
        let files = ["journal", "parts", "checkpoints"].map(|folder| (folder, disk.files_in(folder)));
        println!("    files: {files:?}");
        let clock = Instant::now();
        let collected = disk.collect();
        println!(
            "    collected in {:.1} s: {} ok, {} failed, {} duplicates left out; complete: {}; peak memory {} MB",
            clock.elapsed().as_secs_f64(),
            collected.verdict.ok,
            collected.verdict.failed.len(),
            collected.duplicates,
            collected.verdict.is_complete(),
            peak_mb().unwrap_or_default(),
        );
    }
}

fn heading(first: &str) -> String {
    format!(
        "{first:27}    hours  bound  there   idle starved repeated  twice lost failed  tasks starts seconds"
    )
}

fn line(first: &str, outcome: &Outcome, elapsed: Duration) -> String {
    let percent = |share: f64| format!("{:6.2}", 100.0 * share);
    format!(
        "{first:27} {:8.1} {} {} {}  {} {}   {:6} {:4} {:6} {:6} {:6} {:7.1}",
        outcome.makespan / 3600.0,
        percent(outcome.of_bound()),
        percent(outcome.of_available),
        percent(outcome.idle),
        percent(outcome.starved),
        percent(outcome.repeated),
        outcome.duplicates,
        outcome.lost,
        outcome.tally.failed,
        outcome.chunks,
        outcome.tally.starts,
        elapsed.as_secs_f64(),
    )
}

/// Largest resident memory of this process so far, in MB.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kb| kb >> 10)
}
