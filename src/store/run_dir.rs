//! A run directory: what was asked (`run.json`), whether it fits what is there, and how it stands.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attempt::AttemptId;
use super::checkpoint::{Checkpoints, remove_finished};
use super::error::StoreError;
use super::fs::{Fs, OsFs, read_if_exists, write_atomic};
use super::gather::{Finished, finished};
use super::handle::Store;
use super::layout::Layout;
use super::log::create_dirs;
use super::merge::merge;
use super::record::{SCHEMA_VERSION, Status};
use crate::plan::identity::NUMERICS;
use crate::plan::{Cell, CellConflict, Plan};
use crate::spec::document::Document;

/// Names in `reports/` that are no run's.
pub const RESERVED: [&str; 2] = ["paper", "templates"];
/// Version of the form of `run.json`.
const FORMAT_VERSION: u32 = 1;
/// How the metrics of the rows are measured.
const METRIC_PROFILE: &str = "x(1) clamped to [-1, 1]; PSNR with R = 2; SSIM of (x + 1)/2 with R = 1 as TorchMetrics 1.3 (ssim_tm13) and 1.9 (ssim_tm19)";

/// What a run begins or continues with.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// What will run.
    pub plan: &'a Plan,
    /// The pipeline as written.
    pub document: &'a Document,
}

/// A pipeline as its author wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Name of the file.
    pub file: String,
    /// Its text.
    pub text: String,
    /// `--set` arguments.
    pub set: Vec<String>,
}

/// Whether every planned row is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Every planned row is in `samples.parquet`, ok or failed.
    Complete,
    /// Rows are missing.
    Partial,
}

/// The content of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// Version of this form.
    pub dflow_run: u32,
    /// Name of the run.
    pub name: String,
    /// Whether it is complete, when last merged.
    pub state: State,
    /// Rows, when last merged.
    pub rows: Completeness,
    /// Versions of dflow that wrote here.
    pub code_versions: BTreeSet<String>,
    /// Version of the columns of its rows.
    pub schema_version: u32,
    /// Version of everything that determines numbers.
    pub numerics: u32,
    /// How the metrics are measured.
    pub metric_profile: String,
    /// The pipeline that ran last, as written.
    pub pipeline: Written,
    /// Everything that was ever planned here, resolved: hashes of dataset and weights included.
    pub plan: Plan,
}

/// How many of the planned rows are there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Completeness {
    /// Rows planned: cells × samples, all shards.
    pub planned: u64,
    /// Rows that ended by a stop rule.
    pub ok: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Rows that are not there.
    pub missing: u64,
    /// Rows dropped for another of the same key (two copies of a shard, retries).
    pub duplicates: u64,
}

impl Completeness {
    /// Counts the rows of a plan.
    pub fn of(plan: &Plan, finished: &Finished) -> Self {
        let mut counts = Self::default();
        for cell in &plan.cells {
            let hash = cell.hash.to_string();
            for sample in &plan.dataset.samples {
                counts.planned += 1;
                match finished.rows.get(&(hash.clone(), sample.clone())) {
                    Some(Status::Ok) => counts.ok += 1,
                    Some(Status::Failed) => counts.failed += 1,
                    None => counts.missing += 1,
                }
            }
        }
        counts
    }

    /// Whether no row is missing.
    pub const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    fn state(&self) -> State {
        if self.is_complete() { State::Complete } else { State::Partial }
    }
}

/// An open run directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    fs: Arc<dyn Fs>,
    layout: Layout,
    run: RunFile,
}

impl RunDir {
    /// Begins or continues a run in `root`: creates it, or checks that what it holds fits the plan.
    ///
    /// Nothing is written if anything is wrong, or if `run.json` already says it all.
    pub fn open(root: &Path, start: &Start<'_>) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(OsFs), root, start)
    }

    /// As [`Self::open`] on other files, for tests.
    pub fn open_on(fs: Arc<dyn Fs>, root: &Path, start: &Start<'_>) -> Result<Self, StoreError> {
        check_name(root)?;
        let layout = Layout::new(root);
        let old = read_run_file(&*fs, &layout)?;
        let finished = finished(&*fs, &layout)?;
        check_conflicts(root, start.plan, old.as_ref().map(|run| &run.plan), &finished)?;
        // Without rows, what was planned before binds nobody.
        let run = continued(old.as_ref().filter(|_| !finished.rows.is_empty()), start);
        let dir = Self { fs, layout, run };
        if old.as_ref() != Some(&dir.run) {
            create_dirs(&*dir.fs, root)?;
            write_run_file(&*dir.fs, &dir.layout, &dir.run)?;
        }
        Ok(dir)
    }

    /// An existing run, by its directory alone.
    pub fn existing(root: &Path) -> Result<Self, StoreError> {
        Self::existing_on(Arc::new(OsFs), root)
    }

    /// As [`Self::existing`] on other files, for tests.
    pub fn existing_on(fs: Arc<dyn Fs>, root: &Path) -> Result<Self, StoreError> {
        let layout = Layout::new(root);
        match read_run_file(&*fs, &layout)? {
            Some(run) => Ok(Self { fs, layout, run }),
            None => Err(StoreError::NoRun { path: root.to_owned() }),
        }
    }

    /// What `run.json` says.
    pub fn run(&self) -> &RunFile {
        &self.run
    }

    /// Everything that was ever planned here.
    pub fn plan(&self) -> &Plan {
        &self.run.plan
    }

    /// The files' names.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The files.
    pub fn fs(&self) -> &Arc<dyn Fs> {
        &self.fs
    }

    /// A new writer of rows.
    pub fn store(&self) -> Result<Store, StoreError> {
        Store::with_fs(Arc::clone(&self.fs), self.layout.clone(), AttemptId::new())
    }

    /// Checkpoints that `store` writes, and what earlier attempts left.
    pub fn checkpoints(&self, store: &Store) -> Result<Checkpoints, StoreError> {
        Checkpoints::open(Arc::clone(&self.fs), &self.layout, store.attempt())
    }

    /// Which rows are durable, whoever wrote them.
    pub fn finished(&self) -> Result<Finished, StoreError> {
        finished(&*self.fs, &self.layout)
    }

    /// Merges, removes checkpoints of durable rows, and writes into `run.json` how the whole run stands. The result
    /// counts the rows of `plan` (all shards).
    pub fn finish(&self, plan: &Plan) -> Result<Completeness, StoreError> {
        let merged = merge(&*self.fs, &self.layout, &self.run.name)?;
        merged.notes.iter().for_each(|note| tracing::warn!("{note}"));
        let finished = self.finished()?;
        remove_finished(&*self.fs, &self.layout, &finished)?;
        let count =
            |plan| Completeness { duplicates: merged.duplicates, ..Completeness::of(plan, &finished) };
        // Other processes may have planned more since.
        let old = read_run_file(&*self.fs, &self.layout)?;
        let mut run = old.clone().unwrap_or_else(|| self.run.clone());
        run.plan = union(&self.run.plan, &run.plan);
        run.rows = count(&run.plan);
        run.state = run.rows.state();
        if old.as_ref() != Some(&run) {
            write_run_file(&*self.fs, &self.layout, &run)?;
        }
        Ok(count(plan))
    }
}

fn check_name(root: &Path) -> Result<(), StoreError> {
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    if RESERVED.contains(&&*name) {
        return Err(StoreError::Reserved { path: root.to_owned() });
    }
    Ok(())
}

/// Rows of one name must be of one cell, and all of one dataset. What was only planned is no conflict: a pipeline
/// may be corrected until its first row.
fn check_conflicts(
    root: &Path,
    plan: &Plan,
    old: Option<&Plan>,
    finished: &Finished,
) -> Result<(), StoreError> {
    let hashes = |cell: &Cell| finished.cells.get(&(cell.task.clone(), cell.method.clone()));
    let has_rows = |cell: &&Cell| hashes(cell).is_some();
    let mut conflicts = plan.conflicts(old.iter().flat_map(|plan| &plan.cells).filter(has_rows));
    let other_rows = |cell: &&Cell| {
        let hash = cell.hash.to_string();
        hashes(cell).is_some_and(|hashes| hashes.iter().any(|known| *known != hash))
    };
    if conflicts.is_empty() {
        // Rows without a run.json that explains them.
        let conflict = |cell: &Cell| CellConflict {
            task: cell.task.clone(),
            method: cell.method.clone(),
            differences: Vec::new(),
        };
        conflicts.extend(plan.cells.iter().filter(other_rows).map(conflict));
    }
    if !conflicts.is_empty() {
        return Err(StoreError::Conflict { path: root.to_owned(), conflicts });
    }
    match old.filter(|old| old.dataset.manifest != plan.dataset.manifest) {
        Some(old) if !finished.rows.is_empty() => Err(StoreError::OtherDataset {
            path: root.to_owned(),
            old: old.dataset.id.clone(),
            new: plan.dataset.id.clone(),
        }),
        _ => Ok(()),
    }
}

/// `run.json` of a run that begins, or goes on with another plan: cells and samples add up.
fn continued(old: Option<&RunFile>, start: &Start<'_>) -> RunFile {
    let plan = old.map_or_else(|| start.plan.clone(), |old| union(&old.plan, start.plan));
    let same_plan = old.is_some_and(|old| old.plan.cells == plan.cells && old.plan.dataset == plan.dataset);
    let (state, rows) = match old {
        Some(old) if same_plan => (old.state, old.rows.clone()),
        // How it stands is known at the next merge.
        _ => (State::Partial, Completeness::default()),
    };
    let mut code_versions = old.map(|old| old.code_versions.clone()).unwrap_or_default();
    code_versions.insert(env!("CARGO_PKG_VERSION").to_owned());
    let source = start.document.source();
    let set = start.document.sets().map(str::to_owned).collect();
    RunFile {
        dflow_run: FORMAT_VERSION,
        name: plan.name.clone(),
        state,
        rows,
        code_versions,
        schema_version: SCHEMA_VERSION,
        numerics: NUMERICS,
        metric_profile: METRIC_PROFILE.to_owned(),
        pipeline: Written { file: source.name.clone(), text: source.text.clone(), set },
        plan,
    }
}

/// The new plan with the old one's cells and samples that it lacks.
///
/// A larger limit keeps manifest order; other samples that only the old plan has come last.
fn union(old: &Plan, new: &Plan) -> Plan {
    let mut plan = new.clone();
    let known = |cell: &&Cell| new.cell(&cell.task, &cell.method).is_none();
    plan.cells.extend(old.cells.iter().filter(known).cloned());
    let (larger, smaller) = if old.dataset.samples.len() > new.dataset.samples.len() {
        (&old.dataset.samples, &new.dataset.samples)
    } else {
        (&new.dataset.samples, &old.dataset.samples)
    };
    let have: BTreeSet<&String> = larger.iter().collect();
    let more = smaller.iter().filter(|id| !have.contains(id));
    plan.dataset.samples = larger.iter().chain(more).cloned().collect();
    plan
}

fn read_run_file(fs: &dyn Fs, layout: &Layout) -> Result<Option<RunFile>, StoreError> {
    #[derive(Deserialize)]
    struct Version {
        dflow_run: u32,
    }
    let path = layout.run_json();
    let Some(bytes) = read_if_exists(fs, &path)? else { return Ok(None) };
    let Version { dflow_run } = serde_json::from_slice(&bytes).map_err(StoreError::damaged(&path))?;
    if dflow_run != FORMAT_VERSION {
        let (found, expected) = (dflow_run.to_string(), FORMAT_VERSION.to_string());
        return Err(StoreError::Version { path, what: "run.json format", found, expected });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(StoreError::damaged(&path))
}

fn write_run_file(fs: &dyn Fs, layout: &Layout, run: &RunFile) -> Result<(), StoreError> {
    let mut text = serde_json::to_vec_pretty(run).map_err(|error| StoreError::Encode(error.to_string()))?;
    text.push(b'\n');
    write_atomic(fs, &layout.run_json(), &text)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::store::fault::{Fault, FaultFs};
    use crate::store::samples::{document, failed_row, plan, row};

    const ROOT: &str = "/reports/small";

    fn open(fs: &FaultFs, text: &str) -> Result<RunDir, StoreError> {
        let document = document(text);
        let start = Start { plan: &plan(&document), document: &document };
        RunDir::open_on(Arc::new(fs.clone()), Path::new(ROOT), &start)
    }

    fn files() -> FaultFs {
        FaultFs::new(Path::new("/reports"))
    }

    const TWO: &str = "dataset: { name: toy, limit: 2 }";
    const THREE: &str = "dataset: { name: toy, limit: 3 }";

    #[test]
    fn a_run_is_partial_until_every_planned_row_is_there() {
        let fs = files();
        let dir = open(&fs, TWO).unwrap();
        assert_eq!(dir.run().state, State::Partial);
        let mut store = dir.store().unwrap();
        let plan = dir.plan().clone();
        let units: Vec<_> = plan.units(crate::plan::Shard::WHOLE).collect();
        for (i, unit) in units.iter().enumerate() {
            let before = dir.finish(&plan).unwrap();
            assert_eq!((before.missing, before.is_complete()), ((units.len() - i) as u64, false));
            store.append(&if i == 0 { failed_row(&plan, *unit) } else { row(&plan, *unit) }).unwrap();
        }
        let after = dir.finish(&plan).unwrap();
        assert_eq!((after.ok, after.failed, after.missing), (units.len() as u64 - 1, 1, 0));
        let run = RunDir::existing_on(Arc::new(fs.clone()), Path::new(ROOT)).unwrap();
        assert_eq!((run.run().state, run.plan()), (State::Complete, &plan));
    }

    #[test]
    fn opening_again_writes_nothing() {
        let fs = files();
        let dir = open(&fs, TWO).unwrap();
        let unit = dir.plan().units(crate::plan::Shard::WHOLE).next().unwrap();
        dir.store().unwrap().append(&row(dir.plan(), unit)).unwrap();
        let plan = dir.plan().clone();
        dir.finish(&plan).unwrap();
        let operations = fs.operations();
        open(&fs, TWO).unwrap().finish(&plan).unwrap();
        assert_eq!(fs.operations(), operations);
    }

    #[test]
    fn larger_limits_and_other_cells_add_up() {
        let fs = files();
        let dir = open(&fs, THREE).unwrap();
        let unit = dir.plan().units(crate::plan::Shard::WHOLE).next().unwrap();
        dir.store().unwrap().append(&row(dir.plan(), unit)).unwrap();
        let second = open(&fs, &format!("{TWO}\nmethods: [ pinv: {{ name: other }} ]")).unwrap();
        assert_eq!(second.plan().dataset.samples.len(), 3);
        assert_eq!(second.plan().cells.len(), dir.plan().cells.len() * 2);
    }

    #[test]
    fn other_settings_under_an_old_name_are_an_error_once_there_are_rows() {
        let fs = files();
        open(&fs, TWO).unwrap();
        let dir = open(&fs, &format!("{TWO}\nseed: 4")).unwrap();
        let unit = dir.plan().units(crate::plan::Shard::WHOLE).next().unwrap();
        dir.store().unwrap().append(&row(dir.plan(), unit)).unwrap();
        let operations = fs.operations();
        let message = open(&fs, TWO).unwrap_err().to_string();
        assert!(message.contains("seed: 4 there, 0 here"), "{message}");
        assert_eq!(fs.operations(), operations, "nothing is written");
        fs.remove(&dir.layout().run_json()).unwrap();
        assert!(matches!(open(&fs, TWO), Err(StoreError::Conflict { .. })), "rows speak for themselves");
    }

    #[test]
    fn reserved_and_missing_directories_are_errors() {
        let document = document(TWO);
        let start = Start { plan: &plan(&document), document: &document };
        let fs = Arc::new(files());
        let reserved = RunDir::open_on(fs.clone(), Path::new("/reports/paper"), &start).unwrap_err();
        assert!(reserved.to_string().contains("reserved"));
        let missing = RunDir::existing_on(fs, Path::new("/reports/none")).unwrap_err();
        assert!(missing.to_string().contains("no run.json"));
    }

    #[test]
    fn a_full_or_read_only_disk_leaves_nothing_half_written() {
        for fault in [Fault::ShortWrite, Fault::Fail(ErrorKind::ReadOnlyFilesystem)] {
            for k in 0.. {
                let fs = files();
                fs.inject(k, fault);
                if open(&fs, TWO).is_ok() {
                    break;
                }
                let names = fs.list(Path::new(ROOT)).unwrap_or_default();
                assert!(names.iter().all(|name| name == "run.json"), "{names:?}");
                open(&fs, TWO).unwrap();
            }
        }
    }
}
