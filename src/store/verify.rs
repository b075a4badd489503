//! Checks of a finished, stopped or copied run: nothing is written.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::artifacts;
pub use super::compare::{Comparison, RowDifference, compare, same_as};
use super::error::StoreError;
use super::fs::Fs;
use super::gather::{NamedCells, Note, Rounds};
use super::index::Index;
use super::layout::Layout;
use super::leftovers::leftovers;
use super::merge::{Columns, visit_samples};
use super::names::{Entry, Names};
use super::record::{Key, Record, Status};
use super::rows::Grid;
use super::sources::{Kind, Scope, Source, read_entries};
use super::table::{Failure, to_records, visit_failures};
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
    let there = There::read(fs, layout)?;
    for note in &there.notes {
        match note {
            Note::TornTail { .. } | Note::MovedAway { .. } => verdict.notes.push(note.to_string()),
            Note::Damaged { file, detail } => damaged(&mut verdict, file.clone(), detail.clone()),
        }
    }
    verdict.problems.extend(there.repeated());
    check_plan(&mut verdict, plan, &there);
    if there.failed {
        list_failed(&mut verdict, fs, layout, plan)?;
    }
    let note = |path: PathBuf| {
        let path = path.display();
        format!("{path} is a temporary file of a writer that works now or died; no row is taken from it")
    };
    verdict.notes.extend(leftovers(fs, layout)?.into_iter().map(note));
    if depth == Depth::Deep {
        check_deep(&mut verdict, fs, layout)?;
    }
    Ok(verdict)
}

/// Notes a damaged file once.
fn damaged(verdict: &mut Verdict, file: PathBuf, detail: String) {
    let is_file = |known: &Problem| matches!(known, Problem::Damaged { file: known, .. } if *known == file);
    if !verdict.problems.iter().any(is_file) {
        verdict.problems.push(Problem::Damaged { file, detail });
    }
}

/// The rows that are there, by their names.
#[derive(Debug, Default)]
struct There {
    names: Names,
    /// In any file.
    durable: Grid,
    /// In `samples.parquet`.
    merged: Grid,
    /// Keys that are in `samples.parquet` already when they come again.
    again: Vec<(u32, u32)>,
    /// Whether a row of `samples.parquet` has failed.
    failed: bool,
    cells: NamedCells,
    notes: Vec<Note>,
}

impl There {
    fn read(fs: &dyn Fs, layout: &Layout) -> Result<Self, StoreError> {
        let (mut there, mut names) = (Self::default(), Names::default());
        let found = read_entries(fs, layout, Scope::ALL, &mut names, |source, entries| {
            entries.iter().for_each(|entry| there.add(entry, source.kind == Kind::Samples));
        })?;
        Ok(Self { names, notes: found.notes, ..there })
    }

    fn add(&mut self, entry: &Entry, merged: bool) {
        self.durable.add(entry.cell, entry.sample, entry.status);
        self.cells.add(entry);
        if merged {
            self.failed |= entry.status == Status::Failed;
            if self.merged.add(entry.cell, entry.sample, entry.status).is_some() {
                self.again.push((entry.cell, entry.sample));
            }
        }
    }

    fn repeated(&self) -> Vec<Problem> {
        let mut times = BTreeMap::<Key, usize>::new();
        for &numbers in &self.again {
            *times.entry(self.names.key(numbers)).or_insert(1) += 1;
        }
        times.into_iter().map(|(key, times)| Problem::Repeated { key, times }).collect()
    }
}

fn check_plan(verdict: &mut Verdict, plan: &Plan, there: &There) {
    let numbers: Vec<Option<u32>> =
        plan.dataset.samples.iter().map(|sample| there.names.samples.find(sample)).collect();
    let mut merged = 0;
    for cell in &plan.cells {
        let number = there.names.cells.find(&cell.hash.to_string());
        let status = |grid: &Grid, sample: Option<u32>| grid.get(number?, sample?);
        let (mut sample_ids, mut unmerged) = (Vec::new(), 0);
        for (sample, id) in numbers.iter().zip(&plan.dataset.samples) {
            verdict.planned += 1;
            if let Some(status) = status(&there.merged, *sample) {
                merged += 1;
                verdict.ok += usize::from(status == Status::Ok);
            } else {
                unmerged += usize::from(status(&there.durable, *sample).is_some());
                sample_ids.push(id.clone());
            }
        }
        if !sample_ids.is_empty() {
            let (task, method) = (cell.task.clone(), cell.method.clone());
            verdict.missing.push(MissingRows { task, method, sample_ids, unmerged });
        }
    }
    verdict.unplanned = there.merged.len().saturating_sub(merged);
    verdict.problems.extend(other_cells(plan, &there.cells.texts(&there.names)));
}

fn other_cells(plan: &Plan, cells: &BTreeMap<(String, String), BTreeSet<String>>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for ((task, method), hashes) in cells {
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

/// Lists planned rows that failed, under the plan's names: a row may have been solved under others.
fn list_failed(verdict: &mut Verdict, fs: &dyn Fs, layout: &Layout, plan: &Plan) -> Result<(), StoreError> {
    let cells: BTreeMap<String, &Cell> =
        plan.cells.iter().map(|cell| (cell.hash.to_string(), cell)).collect();
    let samples: HashSet<&str> = plan.dataset.samples.iter().map(String::as_str).collect();
    visit_failures(fs, &layout.samples(), |failure| {
        if let Some(cell) = cells.get(&failure.cell_hash)
            && samples.contains(&*failure.sample_id)
        {
            let (task, method) = (cell.task.clone(), cell.method.clone());
            let Failure { sample_id, error, .. } = failure;
            verdict.failed.push(FailedRow { task, method, sample_id, error });
        }
    })
}

/// Reads every column of every file, compares the merged rows with their sources, and every kept reconstruction
/// with its hash.
fn check_deep(verdict: &mut Verdict, fs: &dyn Fs, layout: &Layout) -> Result<(), StoreError> {
    let mut rounds = Rounds::default();
    loop {
        let index = rounds.index(fs, layout)?;
        if let Some(altered) = rounds.settle(&index, altered(fs, &index))? {
            verdict.problems.extend(altered.into_iter().map(|key| Problem::Altered { key }));
            break;
        }
    }
    for note in rounds.notes {
        if let Note::Damaged { file, detail } = note {
            damaged(verdict, file, detail);
        }
    }
    check_artifacts(verdict, fs, layout)
}

/// Keys of the rows of `samples.parquet` that differ from every copy of them. A row may be newer in a journal (a retry,
/// not merged yet), but not another of the same attempt.
fn altered(fs: &dyn Fs, index: &Index) -> Result<Vec<Key>, StoreError> {
    let samples = index.sources().iter().find(|source| source.kind == Kind::Samples);
    let merged = samples.map_or_else(|| Ok(Vec::new()), |samples| digests(fs, index, samples))?;
    // Of the rows that have copies, whether one is equal.
    let mut copied = BTreeMap::<u32, bool>::new();
    for (source, copies) in index.sources().iter().zip(index.copies()) {
        let found = digests(fs, index, source)?;
        for (row, sample) in copies {
            let equal = found.get(row as usize).is_some_and(|digest| *digest == merged[sample as usize]);
            *copied.entry(sample).or_default() |= equal;
        }
    }
    let altered = copied.into_iter().filter(|(_, equal)| !equal).map(|(row, _)| row);
    Ok(index.keys_of_samples(&altered.collect()))
}

/// A short hash of every row of a file, in order.
fn digests(fs: &dyn Fs, index: &Index, source: &Source) -> Result<Vec<[u8; 16]>, StoreError> {
    let mut digests = Vec::new();
    for batch in source.batches(fs, index.samples())? {
        let records = to_records(&batch?).map_err(StoreError::damaged(&source.path))?;
        digests.extend(records.iter().map(Record::digest));
    }
    Ok(digests)
}

fn check_artifacts(verdict: &mut Verdict, fs: &dyn Fs, layout: &Layout) -> Result<(), StoreError> {
    let problem = |what: &str, file: Option<&str>, record: &Record, error: StoreError| Problem::Damaged {
        file: layout.artifacts().join(file.unwrap_or_default()),
        detail: format!("{what} of sample {}: {error}", record.sample_id),
    };
    let read = visit_samples(fs, layout, Columns::WithoutTrace, |record| {
        if let Err(error) = artifacts::read(fs, layout, &record) {
            let file = record.x1_file.as_deref();
            verdict.problems.push(problem("reconstruction", file, &record, error));
        }
        if let Err(error) = artifacts::read_trajectory(fs, layout, &record) {
            let file = record.trajectory_file.as_deref();
            verdict.problems.push(problem("trajectory", file, &record, error));
        }
    });
    match read {
        Err(StoreError::Damaged { .. }) => Ok(()), // known by now
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::plan::{Shard, Unit};
    use crate::store::fault::FaultFs;
    use crate::store::run_dir::{RunDir, Start};
    use crate::store::samples::{document, failed_row, plan, row};

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
}
