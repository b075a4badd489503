//! `dflow verify`: a run against its plan, or against another run; writes nothing.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::store::verify::{Comparison, Verdict};
use crate::store::{Depth, RunDir, same_as, verify};
use crate::ui::text;

/// Rows named at the most in each list.
const LISTED: usize = 10;

/// Options of `dflow verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The run directory.
    run: PathBuf,
    /// Read every byte: all columns, and every kept reconstruction against its hash.
    #[arg(long, conflicts_with = "same_as")]
    deep: bool,
    /// Compare all reproducible columns with another run, bit for bit.
    #[arg(long, value_name = "RUN2")]
    same_as: Option<PathBuf>,
}

pub(super) fn run(args: &VerifyArgs, global: &Global) -> CliResult {
    match &args.same_as {
        Some(other) => compare(&args.run, other, global),
        None => check(&args.run, args.deep, global),
    }
}

fn check(run: &Path, deep: bool, global: &Global) -> CliResult {
    let run_dir = RunDir::existing(run).map_err(CliError::store)?;
    let depth = if deep { Depth::Deep } else { Depth::Keys };
    let verdict =
        verify(&**run_dir.fs(), run_dir.layout(), run_dir.plan(), depth).map_err(CliError::store)?;
    let text = if global.json { to_json(&verdict)? } else { verdict_text(run, &verdict) };
    print_lossy(&text);
    Ok(match (verdict.is_complete(), verdict.failed.is_empty()) {
        (false, _) => exit::INCOMPLETE,
        (true, false) => exit::FAILED_ROWS,
        (true, true) => exit::OK,
    })
}

fn compare(run: &Path, other: &Path, global: &Global) -> CliResult {
    let left = RunDir::existing(run).map_err(CliError::store)?;
    let right = RunDir::existing(other).map_err(CliError::store)?;
    let comparison = same_as(&**left.fs(), left.layout(), right.layout()).map_err(CliError::store)?;
    print_lossy(&if global.json { to_json(&comparison)? } else { comparison_text(&comparison) });
    Ok(if comparison.is_same() { exit::OK } else { exit::INCOMPLETE })
}

fn to_json(value: &impl serde::Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(value).map_err(CliError::failure)
}

fn verdict_text(run: &Path, verdict: &Verdict) -> String {
    let mut lines = verdict_lines(run, verdict);
    lines.extend(verdict.remedy().map(str::to_owned));
    lines.join("\n")
}

/// What was found, without what to do about it.
pub(super) fn verdict_lines(run: &Path, verdict: &Verdict) -> Vec<String> {
    let mut lines: Vec<String> = verdict.notes.iter().map(|note| format!("note: {note}")).collect();
    lines.extend(verdict.problems.iter().map(|problem| format!("problem: {problem}")));
    for cell in &verdict.missing {
        let ids = listed(cell.sample_ids.iter().map(String::as_str));
        let count = text::count(cell.sample_ids.len(), "row");
        lines.push(format!(
            "missing: {}/{}: {count} ({} unmerged): {ids}",
            cell.task, cell.method, cell.unmerged
        ));
    }
    for row in verdict.failed.iter().take(LISTED) {
        lines.push(format!("failed: {}/{}/{}: {}", row.task, row.method, row.sample_id, row.error));
    }
    if verdict.failed.len() > LISTED {
        lines.push(format!("… and {} more failed rows", verdict.failed.len() - LISTED));
    }
    let missing: usize = verdict.missing.iter().map(|cell| cell.sample_ids.len()).sum();
    let state = if verdict.is_complete() { "complete" } else { "not complete" };
    lines.push(format!(
        "{}: {state}: {} ok, {} failed, {missing} missing of {} planned rows; {} not planned",
        run.display(),
        verdict.ok,
        verdict.failed.len(),
        verdict.planned,
        verdict.unplanned
    ));
    lines
}

fn listed<'a>(ids: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = ids.len().saturating_sub(LISTED);
    let shown = ids.take(LISTED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown}, … and {more} more") } else { shown }
}

fn comparison_text(comparison: &Comparison) -> String {
    let differences = comparison.differences.iter().map(|row| {
        format!(
            "{}/{}/{}: {}: {} against {}",
            row.task, row.method, row.sample_id, row.column, row.left, row.right
        )
    });
    let mut lines: Vec<String> = differences.collect();
    for (which, keys) in [("first", &comparison.only_left), ("second", &comparison.only_right)] {
        if !keys.is_empty() {
            let ids = listed(keys.iter().map(|(_, id)| id.as_str()));
            lines.push(format!("only in the {which}: {}: {ids}", text::count(keys.len(), "row")));
        }
    }
    if comparison.same + comparison.different == 0 {
        lines.push("there is no row to compare: both runs must have solved the same samples".to_owned());
    }
    lines.push(format!(
        "{} rows equal bit for bit, {} different, {} not comparable (ended by time_limit)",
        comparison.same, comparison.different, comparison.not_comparable
    ));
    lines.join("\n")
}
