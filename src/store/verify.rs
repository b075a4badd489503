//! Checks of a finished, stopped or copied run: nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::artifacts;
use super::error::StoreError;
use super::fs::{Fs, list_if_exists, read_if_exists};
use super::gather::{Finished, Note, finished, gather};
use super::layout::Layout;
use super::merge::{Columns, read_samples};
use super::record::{COLUMNS, Key, Record, Status};
use super::table::{Entry, entries_from_parquet};
use crate::plan::{Cell, Plan};

/// How thoroughly a run is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Keys and footers of Parquet files, all of the journals.
    Keys,
    /// Every byte: all columns, and every kept reconstruction against its hash.
    Deep,
}

/// A row that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRow {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// Id of the sample.
    pub sample_id: String,
    /// Why it failed.
    pub error: String,
}

/// Planned rows of one cell that are not in `samples.parquet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingRows {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// Ids of the samples, in manifest order.
    pub sample_ids: Vec<String>,
    /// How many of them are durable in a journal or part, and only need a merge.
    pub unmerged: usize,
}

/// Something wrong with what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Problem {
    /// `samples.parquet` holds a key more than once.
    Repeated {
        /// The key.
        key: Key,
        /// How often.
        times: usize,
    },
    /// Rows under a planned name, but of another cell.
    OtherCell {
        /// Name of the task.
        task: String,
        /// Name of the method.
        method: String,
        /// The rows' cell hash.
        found: String,
        /// The plan's.
        planned: String,
    },
    /// A file that cannot be read, or not as what its row says.
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A row of `samples.parquet` that differs from the one its journals and parts give.
    Altered {
        /// The row.
        key: Key,
    },
}

impl Problem {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Repeated { .. } | Self::Altered { .. } => REMAKE,
            Self::OtherCell { .. } => {
                "give the task or the method another name in the pipeline, or choose another `output`"
            }
            Self::Damaged { file, .. } => match file.extension().and_then(|ending| ending.to_str()) {
                _ if file.ends_with("samples.parquet") => REMAKE,
                Some(artifacts::EXTENSION) => {
                    "the row's numbers are whole; for the reconstruction run the pipeline into another `output`, or \
                     restore the file from a copy"
                }
                _ => "move it away; then `dflow run` on the same pipeline solves the rows that only it held",
            },
        }
    }
}

/// The remedy for a bad `samples.parquet`.
const REMAKE: &str =
    "move samples.parquet away and run `dflow merge`: it is made anew from the journals and parts";

impl std::fmt::Display for Problem {
    /// What is wrong, and what to do.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Repeated { key: (cell, sample), times } => {
                write!(out, "sample {sample} of cell {cell} is there {times} times")
            }
            Self::OtherCell { task, method, found, planned } => {
                write!(
                    out,
                    "task `{task}`, method `{method}`: rows of cell {found}, but {planned} is planned"
                )
            }
            Self::Damaged { file, detail } => write!(out, "{}: {detail}", file.display()),
            Self::Altered { key: (cell, sample) } => {
                write!(out, "sample {sample} of cell {cell} is not the row of the journals and parts")
            }
        }?;
        write!(out, "; {}", self.remedy())
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// Rows planned.
    pub planned: usize,
    /// Planned rows that are in `samples.parquet` once, and ok.
    pub ok: usize,
    /// Planned rows that failed.
    pub failed: Vec<FailedRow>,
    /// Planned rows that are not there.
    pub missing: Vec<MissingRows>,
    /// Rows that are there and not planned (an earlier, larger run).
    pub unplanned: usize,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is no error: torn ends of journals, left-over temporary files.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether every planned row is there exactly once and nothing is wrong. Rows may have failed.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.problems.is_empty()
    }

    /// What to do about missing rows; about a problem, its text says what to do.
    pub fn remedy(&self) -> Option<&'static str> {
        let unmerged: usize = self.missing.iter().map(|missing| missing.unmerged).sum();
        let missing: usize = self.missing.iter().map(|missing| missing.sample_ids.len()).sum();
        match missing - unmerged {
            0 if unmerged > 0 => Some("every row is durable: `dflow merge` on this directory completes it"),
            0 => None,
            _ => Some("`dflow run` on the same pipeline continues: finished rows are kept"),
        }
    }
}

/// Checks that a run directory holds every row of a plan exactly once. Writes nothing.
pub fn verify(fs: &dyn Fs, layout: &Layout, plan: &Plan, depth: Depth) -> Result<Verdict, StoreError> {
    let mut verdict = Verdict::default();
    let durable = finished(fs, layout)?;
    for note in &durable.notes {
        match note {
            Note::TornTail { .. } | Note::MovedAway { .. } => verdict.notes.push(note.to_string()),
            Note::Damaged { file, detail } => {
                verdict.problems.push(Problem::Damaged { file: file.clone(), detail: detail.clone() });
            }
        }
    }
    let entries = sample_entries(fs, layout)?;
    check_keys(&mut verdict, &entries);
    check_plan(&mut verdict, plan, &entries, &durable);
    check_failed(&mut verdict, fs, layout, plan, &entries)?;
    note_leftovers(&mut verdict, fs, layout)?;
    if depth == Depth::Deep {
        check_deep(&mut verdict, fs, layout)?;
    }
    Ok(verdict)
}

/// Entries of `samples.parquet`; damage is reported by the check of all files.
fn sample_entries(fs: &dyn Fs, layout: &Layout) -> Result<Vec<Entry>, StoreError> {
    let path = layout.samples();
    match read_if_exists(fs, &path)?.map(|bytes| entries_from_parquet(&path, bytes)) {
        None | Some(Err(StoreError::Damaged { .. })) => Ok(Vec::new()),
        Some(entries) => entries,
    }
}

fn check_keys(verdict: &mut Verdict, entries: &[Entry]) {
    let mut counts = BTreeMap::<&Key, usize>::new();
    for entry in entries {
        *counts.entry(&entry.key).or_default() += 1;
    }
    let repeated = counts.into_iter().filter(|(_, times)| *times > 1);
    verdict.problems.extend(repeated.map(|(key, times)| Problem::Repeated { key: key.clone(), times }));
}

fn check_plan(verdict: &mut Verdict, plan: &Plan, entries: &[Entry], durable: &Finished) {
    let have: BTreeMap<&Key, Status> = entries.iter().map(|entry| (&entry.key, entry.status)).collect();
    let mut planned = BTreeSet::new();
    for cell in &plan.cells {
        let hash = cell.hash.to_string();
        let keys = plan.dataset.samples.iter().map(|sample| (hash.clone(), sample.clone()));
        let (there, missing): (Vec<Key>, Vec<Key>) = keys.partition(|key| have.contains_key(key));
        verdict.planned += there.len() + missing.len();
        verdict.ok += there.iter().filter(|key| have[key] == Status::Ok).count();
        if !missing.is_empty() {
            let unmerged = missing.iter().filter(|key| durable.rows.contains_key(key)).count();
            let sample_ids = missing.into_iter().map(|(_, sample)| sample).collect();
            let (task, method) = (cell.task.clone(), cell.method.clone());
            verdict.missing.push(MissingRows { task, method, sample_ids, unmerged });
        }
        planned.extend(there);
    }
    verdict.unplanned = have.keys().filter(|key| !planned.contains(**key)).count();
    verdict.problems.extend(other_cells(plan, durable));
}

fn other_cells(plan: &Plan, durable: &Finished) -> Vec<Problem> {
    let mut problems = Vec::new();
    for ((task, method), hashes) in &durable.cells {
        let Some(cell) = plan.cell(task, method) else { continue };
        let planned = cell.hash.to_string();
        problems.extend(hashes.iter().filter(|found| **found != planned).map(|found| Problem::OtherCell {
            task: task.clone(),
            method: method.clone(),
            found: found.clone(),
            planned: planned.clone(),
        }));
    }
    problems
}

/// Lists planned rows that failed; only if there are any are whole rows read.
fn check_failed(
    verdict: &mut Verdict,
    fs: &dyn Fs,
    layout: &Layout,
    plan: &Plan,
    entries: &[Entry],
) -> Result<(), StoreError> {
    if entries.iter().all(|entry| entry.status == Status::Ok) {
        return Ok(());
    }
    let cells: BTreeMap<String, &Cell> =
        plan.cells.iter().map(|cell| (cell.hash.to_string(), cell)).collect();
    let samples: BTreeSet<&String> = plan.dataset.samples.iter().collect();
    let rows = read_samples(fs, layout, Columns::WithoutTrace)?.into_iter();
    let failed = rows.filter(|row| row.status == Status::Failed && samples.contains(&row.sample_id));
    verdict.failed = failed
        .filter_map(|row| {
            // The plan's names: the row may have been solved under others.
            let cell = cells.get(&row.cell_hash)?;
            let (task, method) = (cell.task.clone(), cell.method.clone());
            Some(FailedRow { task, method, sample_id: row.sample_id, error: row.error.unwrap_or_default() })
        })
        .collect();
    Ok(())
}

fn note_leftovers(verdict: &mut Verdict, fs: &dyn Fs, layout: &Layout) -> Result<(), StoreError> {
    for dir in [layout.root().to_owned(), layout.parts(), layout.checkpoints()] {
        let paths = list_if_exists(fs, &dir)?.into_iter().map(|name| dir.join(name));
        for path in paths.filter(|path| path.extension().is_some_and(|ending| ending == "tmp")) {
            verdict.notes.push(format!("{} was left by a writer that died; it is not used", path.display()));
        }
    }
    Ok(())
}

/// Reads every column of every file, compares the merged rows with their sources, and every kept reconstruction
/// with its hash.
fn check_deep(verdict: &mut Verdict, fs: &dyn Fs, layout: &Layout) -> Result<(), StoreError> {
    let gathered = gather(fs, layout)?;
    for note in gathered.notes {
        if let Note::Damaged { file, detail } = note
            && !verdict
                .problems
                .iter()
                .any(|known| matches!(known, Problem::Damaged { file: f, .. } if *f == file))
        {
            verdict.problems.push(Problem::Damaged { file, detail });
        }
    }
    let merged = match read_samples(fs, layout, Columns::All) {
        Err(StoreError::Damaged { .. }) => return Ok(()), // among the notes
        merged => merged?,
    };
    let winners: BTreeMap<Key, &Record> =
        gathered.records.iter().map(|record| (record.key(), record)).collect();
    for record in &merged {
        let key = record.key();
        let winner = winners.get(&key).copied();
        // A row may be newer in a journal (a retry, not merged yet), but not another of the same attempt.
        let altered = |winner: &Record| winner.attempt == record.attempt && winner.precedence(record).is_ne();
        if winner.is_some_and(altered) {
            verdict.problems.push(Problem::Altered { key });
        }
        if let Err(error) = artifacts::read(fs, layout, record) {
            let file = layout.artifacts().join(record.x1_file.as_deref().unwrap_or_default());
            let detail = format!("reconstruction of sample {}: {error}", record.sample_id);
            verdict.problems.push(Problem::Damaged { file, detail });
        }
        if let Err(error) = artifacts::read_trajectory(fs, layout, record) {
            let file = layout.artifacts().join(record.trajectory_file.as_deref().unwrap_or_default());
            let detail = format!("trajectory of sample {}: {error}", record.sample_id);
            verdict.problems.push(Problem::Damaged { file, detail });
        }
    }
    Ok(())
}

/// A value that differs between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowDifference {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// Id of the sample.
    pub sample_id: String,
    /// Name of the column.
    pub column: String,
    /// The first run's value.
    pub left: String,
    /// The second's.
    pub right: String,
}

/// How two runs compare.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// Rows that both have and that agree bit for bit in every reproducible column.
    pub same: usize,
    /// Rows that both have and that differ.
    pub different: usize,
    /// Rows that `time_limit` ended in either run: not compared.
    pub not_comparable: usize,
    /// Keys that only the first has.
    pub only_left: Vec<Key>,
    /// Keys that only the second has.
    pub only_right: Vec<Key>,
    /// The first differences, at most [`Comparison::LIMIT`].
    pub differences: Vec<RowDifference>,
}

impl Comparison {
    /// Differences that are listed.
    pub const LIMIT: usize = 20;

    /// Whether both hold the same rows with the same bits: at least one row that can be compared.
    pub fn is_same(&self) -> bool {
        let matched = self.only_left.is_empty() && self.only_right.is_empty();
        self.same > 0 && self.different == 0 && matched
    }
}

/// Compares the rows of two runs, merged or not, bit for bit, in every reproducible column.
///
/// # Errors
/// Where a file cannot be read, also as damaged: without its rows nothing can be said.
pub fn same_as(fs: &dyn Fs, left: &Layout, right: &Layout) -> Result<Comparison, StoreError> {
    let read = |layout| {
        let gathered = gather(fs, layout)?;
        for note in gathered.notes {
            if let Note::Damaged { file: path, detail } = note {
                return Err(StoreError::Damaged { path, detail });
            }
        }
        Ok(gathered.records)
    };
    Ok(compare(&read(left)?, &read(right)?))
}

/// Compares rows by key.
pub fn compare(left: &[Record], right: &[Record]) -> Comparison {
    let by_key = |rows: &'_ [Record]| rows.iter().enumerate().map(|(i, row)| (row.key(), i)).collect();
    let (lefts, mut rights): (BTreeMap<Key, usize>, BTreeMap<Key, usize>) = (by_key(left), by_key(right));
    let mut comparison = Comparison::default();
    for (key, l) in lefts {
        match rights.remove(&key) {
            Some(r) => compare_rows(&mut comparison, &left[l], &right[r]),
            None => comparison.only_left.push(key),
        }
    }
    comparison.only_right.extend(rights.into_keys());
    comparison
}

fn compare_rows(comparison: &mut Comparison, left: &Record, right: &Record) {
    if !(left.reproducible && right.reproducible) && left.status == Status::Ok && right.status == Status::Ok {
        comparison.not_comparable += 1;
        return;
    }
    let differs = |column: &&super::columns::Column| column.reproducible && !column.same(left, right);
    let differing: Vec<_> = COLUMNS.iter().filter(differs).collect();
    if differing.is_empty() {
        comparison.same += 1;
        return;
    }
    comparison.different += 1;
    let room = Comparison::LIMIT.saturating_sub(comparison.differences.len());
    comparison.differences.extend(differing.into_iter().take(room).map(|column| RowDifference {
        task: left.task.clone(),
        method: left.method.clone(),
        sample_id: left.sample_id.clone(),
        column: column.name.to_owned(),
        left: column.show(left),
        right: column.show(right),
    }));
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::plan::{Shard, Unit};
    use crate::store::fault::FaultFs;
    use crate::store::run_dir::{RunDir, Start};
    use crate::store::samples::{document, failed_row, plan, record, row};

    const TWO_TASKS: &str = "tasks: [ { name: hole, operator: { center_mask: { size: 10 } } }, \
                             { name: small-hole, operator: { center_mask: { size: 4 } } } ]";

    /// A run of 20 planned rows, and their units.
    fn run() -> (FaultFs, RunDir, Vec<Unit>) {
        let fs = FaultFs::new(Path::new("/reports"));
        let document = document(TWO_TASKS);
        let start = Start { plan: &plan(&document), document: &document };
        let dir = RunDir::open_on(Arc::new(fs.clone()), Path::new("/reports/run"), &start).unwrap();
        let units = dir.plan().units(Shard::WHOLE).collect();
        (fs, dir, units)
    }

    fn check(dir: &RunDir, depth: Depth) -> Verdict {
        verify(&**dir.fs(), dir.layout(), dir.plan(), depth).unwrap()
    }

    #[test]
    fn a_whole_run_is_complete_and_checking_writes_nothing() {
        let (fs, dir, units) = run();
        let mut store = dir.store().unwrap();
        for unit in &units {
            store.append(&row(dir.plan(), *unit)).unwrap();
        }
        dir.finish(dir.plan()).unwrap();
        let operations = fs.operations();
        for depth in [Depth::Keys, Depth::Deep] {
            let verdict = check(&dir, depth);
            assert!(verdict.is_complete() && verdict.remedy().is_none(), "{verdict:?}");
            assert_eq!((verdict.planned, verdict.ok, verdict.unplanned), (20, 20, 0));
        }
        assert_eq!(fs.operations(), operations);
    }

    #[test]
    fn missing_unmerged_and_failed_rows_are_told_apart() {
        let (_, dir, units) = run();
        assert_eq!(check(&dir, Depth::Deep).missing.len(), 2);
        let mut store = dir.store().unwrap();
        store.append(&failed_row(dir.plan(), units[0])).unwrap();
        dir.finish(dir.plan()).unwrap();
        for unit in &units[1..15] {
            store.append(&row(dir.plan(), *unit)).unwrap();
        }
        let verdict = check(&dir, Depth::Keys);
        assert_eq!((verdict.failed.len(), verdict.ok), (1, 0));
        assert_eq!(verdict.failed[0].error, "the image cannot be read");
        let missing: Vec<_> =
            verdict.missing.iter().map(|cell| (cell.sample_ids.len(), cell.unmerged)).collect();
        assert_eq!(missing, [(9, 9), (10, 5)]);
        assert!(verdict.remedy().unwrap().contains("dflow run"));
        for unit in &units[15..] {
            store.append(&row(dir.plan(), *unit)).unwrap();
        }
        assert!(check(&dir, Depth::Keys).remedy().unwrap().contains("dflow merge"));
    }

    #[test]
    fn damage_is_found_and_a_torn_end_is_a_note() {
        let (fs, dir, units) = run();
        let mut store = dir.store().unwrap();
        store.append(&row(dir.plan(), units[0])).unwrap();
        let journal = dir.layout().journals().join("torn-000.journal");
        fs.create_new(&journal).unwrap().append(b"DFf1 torn").unwrap();
        let verdict = check(&dir, Depth::Keys);
        assert!(verdict.problems.is_empty() && verdict.notes[0].contains("torn-000"), "{verdict:?}");

        dir.finish(dir.plan()).unwrap();
        let samples = dir.layout().samples();
        let bytes = fs.read(&samples).unwrap();
        fs.remove(&samples).unwrap();
        fs.create_new(&samples).unwrap().append(&bytes[..bytes.len() - 9]).unwrap();
        let verdict = check(&dir, Depth::Keys);
        assert!(matches!(&verdict.problems[..], [Problem::Damaged { file, .. }] if *file == samples));
    }

    #[test]
    fn a_deep_check_finds_altered_rows_and_reconstructions() {
        let (fs, dir, units) = run();
        let mut store = dir.store().unwrap();
        let mut writer = artifacts::ArtifactWriter::new(Arc::clone(dir.fs()), dir.layout(), store.attempt());
        let mut kept = row(dir.plan(), units[0]);
        let item = artifacts::Reconstruction { key: &kept.key(), shape: &[2], x1: &[1.0, 2.0] };
        let artifact = writer.append(&[item]).unwrap().remove(0);
        let file = dir.layout().artifacts().join(&artifact.file);
        artifact.describe(&mut kept);
        store.append(&kept).unwrap();
        dir.finish(dir.plan()).unwrap();
        assert!(check(&dir, Depth::Deep).problems.is_empty());

        let mut bytes = fs.read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs.remove(&file).unwrap();
        fs.create_new(&file).unwrap().append(&bytes).unwrap();
        assert!(check(&dir, Depth::Keys).problems.is_empty());
        assert!(matches!(&check(&dir, Depth::Deep).problems[..], [Problem::Damaged { .. }]));
    }

    #[test]
    fn rows_of_another_cell_are_a_problem() {
        let (_, dir, units) = run();
        let mut store = dir.store().unwrap();
        let other = Record { cell_hash: "0".repeat(64), ..row(dir.plan(), units[0]) };
        store.append(&other).unwrap();
        let verdict = check(&dir, Depth::Keys);
        assert!(matches!(&verdict.problems[..], [Problem::OtherCell { .. }]));
    }

    #[test]
    fn every_kind_of_problem_has_a_remedy_of_its_own() {
        let damaged = |file: &str| Problem::Damaged { file: file.into(), detail: "bad".to_owned() };
        let key = ("0".repeat(64), "s0".to_owned());
        let other = Problem::OtherCell {
            task: "hole".to_owned(),
            method: "pinv".to_owned(),
            found: "0".repeat(64),
            planned: "1".repeat(64),
        };
        for (problem, remedy) in [
            (Problem::Repeated { key: key.clone(), times: 2 }, "run `dflow merge`"),
            (Problem::Altered { key }, "run `dflow merge`"),
            (damaged("/run/samples.parquet"), "run `dflow merge`"),
            (damaged("/run/parts/a-000.parquet"), "`dflow run` on the same pipeline"),
            (damaged("/run/journal/a-000.journal"), "`dflow run` on the same pipeline"),
            (damaged("/run/artifacts/a-000.f32"), "restore the file"),
            (other, "another name"),
        ] {
            assert!(problem.to_string().contains(remedy), "{problem}");
        }
    }

    #[test]
    fn failed_rows_have_the_plans_names() {
        let (_, dir, units) = run();
        dir.store().unwrap().append(&failed_row(dir.plan(), units[0])).unwrap();
        dir.finish(dir.plan()).unwrap();
        let mut plan = dir.plan().clone();
        plan.cells[0].task = "gap".to_owned();
        let verdict = verify(&**dir.fs(), dir.layout(), &plan, Depth::Keys).unwrap();
        assert_eq!(verdict.failed[0].task, "gap");
    }

    #[test]
    fn runs_without_comparable_rows_are_not_the_same() {
        let (fs, left, units) = run();
        let right = Layout::new("/reports/other");
        let compared = || same_as(&fs, left.layout(), &right).unwrap();
        assert!(!compared().is_same(), "no rows on either side");

        let other = |attempt| {
            let attempt = crate::store::attempt::AttemptId::from_text(attempt);
            crate::store::Store::with_fs(Arc::new(fs.clone()), right.clone(), attempt).unwrap()
        };
        left.store().unwrap().append(&row(left.plan(), units[0])).unwrap();
        assert_eq!(compared().only_left.len(), 1, "rows of a journal count");
        other("a").append(&row(left.plan(), units[0])).unwrap();
        assert!(compared().is_same() && compared().same == 1);

        let timed = Record { reproducible: false, ..row(left.plan(), units[1]) };
        other("b").append(&timed).unwrap();
        assert_eq!(compared().only_right.len(), 1);
        fs.create_new(&right.samples()).unwrap().append(b"nonsense").unwrap();
        assert!(matches!(same_as(&fs, left.layout(), &right), Err(StoreError::Damaged { .. })));
        let timed = std::slice::from_ref(&timed);
        assert!(!compare(timed, timed).is_same(), "nothing that can be compared");
    }

    #[test]
    fn equal_rows_are_the_same_whatever_the_machine() {
        let rows: Vec<Record> = (0..6).map(record).collect();
        let mut others = rows.clone();
        for (i, row) in others.iter_mut().enumerate() {
            row.wall_seconds += 1.0;
            row.device_seconds += 1.0;
            row.peak_memory = None;
            row.device = "cpu:7".to_owned();
            row.host = "other".to_owned();
            row.attempt = i.to_string();
            row.trace.iter_mut().for_each(|point| point.seconds += 1.0);
        }
        others.reverse();
        let comparison = compare(&rows, &others);
        assert!(comparison.is_same() && comparison.same == 6, "{comparison:?}");
    }

    #[test]
    fn every_reproducible_column_is_compared_bit_for_bit() {
        let zero = Record { reproducible: true, ssim_tm13: Some(0.0), ..record(1) };
        let changes: [(&str, Record); 6] = [
            ("ssim_tm13", Record { ssim_tm13: Some(-0.0), ..zero.clone() }),
            ("psnr", Record { psnr: zero.psnr.map(f64::next_up), ..zero.clone() }),
            ("status", Record { status: Status::Failed, ..zero.clone() }),
            ("label", Record { label: None, ..zero.clone() }),
            ("trace", Record { trace: Vec::new(), ..zero.clone() }),
            ("evals", Record { evals: 0, ..zero.clone() }),
        ];
        for (column, changed) in changes {
            let comparison = compare(std::slice::from_ref(&zero), std::slice::from_ref(&changed));
            let found: Vec<_> = comparison.differences.iter().map(|found| found.column.as_str()).collect();
            assert_eq!(found, [column]);
        }
    }

    #[test]
    fn rows_ended_by_time_limit_are_not_compared() {
        let timed = Record { reproducible: false, evals: 3, ..record(1) };
        let comparison = compare(&[record(1), record(2)], &[timed]);
        assert_eq!((comparison.not_comparable, comparison.different), (1, 0));
        assert_eq!(comparison.only_left, [record(2).key()]);
    }
}
