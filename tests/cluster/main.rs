//! Runs on a real Slurm that is started on loopback for every scenario: three nodes with two fake GPUs each, on which
//! device kind `sim` solves (one thread of the CPU per GPU). `make test-cluster` runs it; it needs root.
//!
//! ```text
//! cluster [NAME]...      scenarios whose names contain one of the words; default: the short set, with FULL=1 all
//! ```
//!
//! Every scenario ends with [`pipeline::Run::is_as_uninterrupted`]: nothing lost, nothing twice, every bit the same.

#![expect(clippy::unwrap_used, reason = "a scenario fails by panicking")]
#![expect(clippy::print_stdout, reason = "this is a test runner")]

mod ended;
mod pipeline;
mod process;
mod queue;
mod sandbox;
mod scenarios;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use scenarios::{SCENARIOS, Scenario, Set, Trial};

/// How a scenario ended.
enum Outcome {
    Ok,
    Failed,
    /// The machine does not permit what it needs.
    NotRun(String),
}

fn main() -> ExitCode {
    sandbox::sweep();
    let chosen = chosen();
    println!("\nrunning {} scenarios", chosen.len());
    let begin = Instant::now();
    let home = tempfile::tempdir().unwrap();
    let uninterrupted = pipeline::run_uninterrupted(home.path());
    println!("the uninterrupted run took {:.1} s", begin.elapsed().as_secs_f64());
    let (mut passed, mut failed, mut not_run) = (0, Vec::new(), Vec::new());
    for scenario in &chosen {
        match run(scenario, &uninterrupted) {
            Outcome::Ok => passed += 1,
            Outcome::Failed => failed.push(scenario.name),
            Outcome::NotRun(reason) => not_run.push((scenario.name, reason)),
        }
    }
    for (name, reason) in &not_run {
        println!("NOT RUN: {name}: {reason}");
    }
    failed.iter().for_each(|name| println!("FAILED: {name}"));
    let is_ok = failed.is_empty() && !chosen.is_empty();
    println!(
        "\ntest result: {}. {passed} passed; {} failed; {} not run; {} left out; finished in {:.1}s",
        if is_ok { "ok" } else { "FAILED" },
        failed.len(),
        not_run.len(),
        SCENARIOS.len() - chosen.len(),
        begin.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(!is_ok))
}

/// The scenarios that the arguments and `FULL` choose.
fn chosen() -> Vec<&'static Scenario> {
    // `cargo test` hands on options of the usual runner.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let full = std::env::var("FULL").is_ok_and(|value| value == "1");
    let is_chosen = |scenario: &&Scenario| match &*words {
        [] => full || matches!(scenario.set, Set::Short),
        words => words.iter().any(|word| scenario.name.contains(&**word)),
    };
    SCENARIOS.iter().filter(is_chosen).collect()
}

fn run(scenario: &Scenario, uninterrupted: &Path) -> Outcome {
    let Scenario { name, .. } = scenario;
    if let Some(reason) = scenario.needs_mounts.then(sandbox::why_no_mounts).flatten() {
        if std::env::var("DFLOW_REQUIRE_CLUSTER").is_ok_and(|value| value == "1") {
            println!("test {name} ... FAILED\n    {reason}, and DFLOW_REQUIRE_CLUSTER=1");
            return Outcome::Failed;
        }
        println!("test {name} ... NOT RUN: {reason}");
        return Outcome::NotRun(reason);
    }
    let begin = Instant::now();
    let mut trial = Trial { uninterrupted, notes: Vec::new() };
    let result = catch_unwind(AssertUnwindSafe(|| (scenario.run)(&mut trial)));
    let seconds = begin.elapsed().as_secs_f64();
    let word = if result.is_ok() { "ok" } else { "FAILED" };
    println!("test {name} ... {word} ({seconds:.1} s)");
    trial.notes.iter().for_each(|note| println!("    {note}"));
    // What was wrong the panic hook has printed.
    if result.is_ok() { Outcome::Ok } else { Outcome::Failed }
}
