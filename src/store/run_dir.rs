//! A run directory: what was asked (`run.json`), whether it fits what is there, and how it stands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attempt::AttemptId;
use super::checkpoint::{Checkpoints, Origin, remove_finished};
use super::error::StoreError;
use super::fs::{Fs, OsFs, read_if_exists, write_atomic};
use super::gather::{Finished, done_for, finished};
use super::handle::Store;
use super::layout::Layout;
use super::log::create_dirs;
use super::merge::{Columns, merge, visit_samples};
use super::nodes;
use super::record::{METRIC_PROFILE, Record, SCHEMA_VERSION, Status};
use super::telemetry;
use crate::plan::identity::NUMERICS;
use crate::plan::{Cell, CellHash, Plan};
use crate::spec::document::Document;
use crate::spec::metric::{MetricSpec, SaveSpec};

/// Names in `reports/` that are no run's.
pub const RESERVED: [&str; 2] = ["paper", "templates"];
/// Version of the form of `run.json`.
const FORMAT_VERSION: u32 = 1;

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

impl From<&Document> for Written {
    fn from(document: &Document) -> Self {
        let source = document.source();
        let set = document.sets().map(str::to_owned).collect();
        Self { file: source.name.clone(), text: source.text.clone(), set }
    }
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
            let rows = finished.rows.cell(cell.hash);
            for sample in &plan.dataset.samples {
                counts.planned += 1;
                match rows.get(sample) {
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
    part: Option<Part>,
}

/// A part of a run that processes of its own work on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Part {
    /// What marks its files: the last part of their attempt ids. ASCII letters and digits.
    pub tag: String,
    /// Names of files in `checkpoints/` that hold some of its solves, though they are of other tags or none.
    pub checkpoints: Vec<String>,
}

/// What a run directory holds before a run begins or continues there.
#[derive(Debug, Clone)]
pub struct Found {
    /// What `run.json` says, if there is one.
    pub run: Option<RunFile>,
    /// Which rows are durable.
    pub finished: Finished,
}

impl RunDir {
    /// What is in `root`, if a run of `start` may begin or continue there; writes nothing.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn look(root: &Path, start: &Start<'_>) -> Result<Found, StoreError> {
        Self::look_on(&OsFs, root, start)
    }

    fn look_on(fs: &dyn Fs, root: &Path, start: &Start<'_>) -> Result<Found, StoreError> {
        check_name(root)?;
        let layout = Layout::new(root);
        let (run, finished) = (read_run_file(fs, &layout)?, finished(fs, &layout)?);
        check_conflicts(root, start.plan, run.as_ref().map(|run| &run.plan), &finished)?;
        Ok(Found { run, finished })
    }

    /// What finished rows in `root` lack though `plan` asks for it, one line each: metrics and reconstructions are made
    /// with their row only. Rows that were never merged are not looked at; a `samples.parquet` that cannot be read is
    /// the next merge's affair.
    pub fn stays_without(root: &Path, plan: &Plan) -> Vec<String> {
        Self::stays_without_on(&OsFs, root, plan)
    }

    fn stays_without_on(fs: &dyn Fs, root: &Path, plan: &Plan) -> Vec<String> {
        let wanted = wanted(plan);
        let cells: BTreeSet<String> = plan.cells.iter().map(|cell| cell.hash.to_string()).collect();
        let mut counts = vec![0; wanted.len()];
        let read = visit_samples(fs, &Layout::new(root), Columns::WithoutTrace, |row| {
            if row.status == Status::Ok && cells.contains(&row.cell_hash) {
                counts
                    .iter_mut()
                    .zip(&wanted)
                    .for_each(|(count, (_, lacks))| *count += usize::from(lacks(&row)));
            }
        });
        let lacking = counts.into_iter().zip(wanted).filter(|(count, _)| read.is_ok() && *count > 0);
        let text = |(count, (what, _)): (usize, (String, _))| match what.parse::<MetricSpec>() {
            Ok(MetricSpec::Molecule) | Err(_) => format!(
                "{count} finished rows stay without {what}; run into another `output` to have it everywhere"
            ),
            Ok(metric) => format!(
                "{count} finished rows stay without {metric}; `dflow score {} --metrics {metric}` makes it from \
                 their reconstructions",
                root.display()
            ),
        };
        lacking.map(text).collect()
    }

    /// Begins or continues a run in `root`: creates it, or checks that what it holds fits the plan.
    ///
    /// Nothing is written if anything is wrong, or if `run.json` already says it all.
    pub fn open(root: &Path, start: &Start<'_>) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(OsFs), root, start)
    }

    /// As [`Self::open`] on other files, for tests.
    pub fn open_on(fs: Arc<dyn Fs>, root: &Path, start: &Start<'_>) -> Result<Self, StoreError> {
        let Found { run: old, finished } = Self::look_on(&*fs, root, start)?;
        let layout = Layout::new(root);
        // Without rows another dataset may take the place of what was planned; else plans add up, also without rows: a
        // process that planned before may be solving its first sample now.
        let binds = |now: &&RunFile| {
            !finished.rows.is_empty() || now.plan.dataset.manifest == start.plan.dataset.manifest
        };
        let change = |now: Option<&RunFile>| continued(now.filter(binds), start);
        let run = update_run_file(&*fs, &layout, old.as_ref(), change)?;
        Ok(Self { fs, layout, run, part: None })
    }

    /// An existing run, by its directory alone.
    pub fn existing(root: &Path) -> Result<Self, StoreError> {
        Self::existing_on(Arc::new(OsFs), root)
    }

    /// As [`Self::existing`] on other files, for tests.
    pub fn existing_on(fs: Arc<dyn Fs>, root: &Path) -> Result<Self, StoreError> {
        let layout = Layout::new(root);
        match read_run_file(&*fs, &layout)? {
            Some(run) => Ok(Self { fs, layout, run, part: None }),
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

    /// The same run for one part of the work: whatever is written through it (rows, checkpoints, artifacts, features)
    /// carries the tag in its attempt id, so that the part's files are found by their names ([`Self::done_for`]).
    ///
    /// # Panics
    /// As [`AttemptId::tagged`], when the first attempt begins.
    #[must_use]
    pub fn with_part(self, part: Part) -> Self {
        Self { part: Some(part), ..self }
    }

    /// The part of the work that this is, if it is one.
    pub fn part(&self) -> Option<&Part> {
        self.part.as_ref()
    }

    /// A fresh attempt id, with the tag if there is one.
    pub fn attempt(&self) -> AttemptId {
        self.part.as_ref().map_or_else(AttemptId::new, |part| AttemptId::tagged(&part.tag))
    }

    /// A new writer of rows.
    pub fn store(&self) -> Result<Store, StoreError> {
        Store::with_fs(Arc::clone(&self.fs), self.layout.clone(), self.attempt())
    }

    /// Checkpoints that `store` writes, and what earlier attempts of the same origin left.
    pub fn checkpoints(&self, store: &Store, origin: Origin) -> Result<Checkpoints, StoreError> {
        let older = self.part.as_ref().map_or(&[][..], |part| &part.checkpoints);
        Checkpoints::open(Arc::clone(&self.fs), &self.layout, store.attempt(), origin, older)
    }

    /// The log that this process appends to. Processes that share a run by tags have one each: a shared file system does
    /// not keep the lines of two machines apart.
    pub fn log_path(&self) -> PathBuf {
        match self.part {
            None => self.layout.log(),
            Some(_) => self.layout.logs().join(format!("{}.jsonl", self.attempt())),
        }
    }

    /// Whether rows can be written here; nothing stays behind.
    ///
    /// # Errors
    /// When they cannot: the folder is read-only, not ours, or the disk is full.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        let dir = self.layout.journals();
        create_dirs(&*self.fs, &dir)?;
        if self.part.is_some() {
            create_dirs(&*self.fs, &self.layout.logs())?;
        }
        let path = dir.join(format!(".probe-{}", AttemptId::new()));
        write_atomic(&*self.fs, &path, &[0; 4096])?;
        self.fs.remove(&path).map_err(StoreError::io("remove", &path))
    }

    /// Which rows are durable, whoever wrote them.
    pub fn finished(&self) -> Result<Finished, StoreError> {
        finished(&*self.fs, &self.layout)
    }

    /// What a part of the work with this tag need not solve: its own rows, ok or failed, and those that others had made
    /// ok, as far as these are merged or of no part.
    pub fn done_for(&self, tag: &str) -> Result<Finished, StoreError> {
        done_for(&*self.fs, &self.layout, tag)
    }

    /// Merges, removes checkpoints of durable rows, and writes into `run.json` how the whole run stands. The result
    /// counts the rows of `plan` (all shards).
    pub fn finish(&self, plan: &Plan) -> Result<Completeness, StoreError> {
        let merged = merge(&*self.fs, &self.layout, &self.run.name)?;
        merged.notes.iter().for_each(|note| tracing::warn!("{note}"));
        let finished = self.finished()?;
        remove_finished(&*self.fs, &self.layout, &finished)?;
        telemetry::tidy(&*self.fs, &self.layout);
        nodes::tidy(&*self.fs, &self.layout);
        let count =
            |plan: &Plan| Completeness { duplicates: merged.duplicates, ..Completeness::of(plan, &finished) };
        // Other processes may have planned more since.
        let change = |now: Option<&RunFile>| {
            let mut run = now.unwrap_or(&self.run).clone();
            run.plan = union(&self.run.plan, &run.plan);
            run.rows = count(&run.plan);
            run.state = run.rows.state();
            run
        };
        let old = read_run_file(&*self.fs, &self.layout)?;
        update_run_file(&*self.fs, &self.layout, old.as_ref(), change)?;
        Ok(count(plan))
    }
}

/// What a plan asks for of every row, and whether a row lacks it.
fn wanted(plan: &Plan) -> Vec<(String, fn(&Record) -> bool)> {
    let metrics = plan.metrics.iter().filter_map(|metric| -> Option<(String, fn(&Record) -> bool)> {
        Some(match metric {
            MetricSpec::Psnr => ("psnr".to_owned(), |row| row.psnr.is_none()),
            MetricSpec::Ssim => ("ssim".to_owned(), |row| row.ssim_tm13.is_none()),
            MetricSpec::Molecule => ("molecule metrics".to_owned(), |row| row.molecule_stable.is_none()),
            MetricSpec::Lpips(_) => (metric.to_string(), |row| row.lpips.is_none()),
            // Features lie beside the rows: `features/`.
            MetricSpec::Features(_) => return None,
        })
    });
    let saved = plan.save.iter().map(|kind| -> (String, fn(&Record) -> bool) {
        match kind {
            SaveSpec::Reconstructions => ("reconstructions".to_owned(), |row| row.x1_file.is_none()),
            // Only optimisers have one.
            SaveSpec::Trajectory => {
                ("a trajectory".to_owned(), |row| row.evals > 0 && row.trajectory_file.is_none())
            }
        }
    });
    metrics.chain(saved).collect()
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
    let rows = finished.cells.iter().flat_map(|((task, method), hashes)| {
        hashes.iter().map(move |hash| (task.as_str(), method.as_str(), hash.as_str()))
    });
    let conflicts = plan.conflicts(rows, old.map_or(&[], |old| &old.cells));
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
    RunFile {
        dflow_run: FORMAT_VERSION,
        name: plan.name.clone(),
        state,
        rows,
        code_versions,
        schema_version: SCHEMA_VERSION,
        numerics: NUMERICS,
        metric_profile: METRIC_PROFILE.to_owned(),
        pipeline: Written::from(start.document),
        plan,
    }
}

/// The new plan with the old one's cells and samples that it lacks.
///
/// A cell is known by its hash: under another name it is the same cell, and has the new plan's name. Of two cells of
/// one name the new plan's stays. Methods that are added later stand with their task: tables show tasks as blocks.
/// A larger limit keeps manifest order; other samples that only the old plan has come last.
fn union(old: &Plan, new: &Plan) -> Plan {
    let mut plan = new.clone();
    let mut have: BTreeSet<CellHash> = new.cells.iter().map(|cell| cell.hash).collect();
    let lacks = |cell: &&Cell| new.cell(&cell.task, &cell.method).is_none() && have.insert(cell.hash);
    plan.cells.extend(old.cells.iter().filter(lacks).cloned());
    let tasks: Vec<String> = plan.cells.iter().map(|cell| cell.task.clone()).collect();
    plan.cells.sort_by_key(|cell| tasks.iter().position(|task| *task == cell.task));
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

/// Changes `run.json` if `change` changes it; returns what it then says. `known` is what it says to the caller's
/// knowledge, which decides whether there is anything to write.
///
/// Under a lock and from what the file says then: another process may have added cells since it was read. Where the
/// file system has no locks, two writers of the same millisecond may still lose one's cells, until its next merge.
fn update_run_file(
    fs: &dyn Fs,
    layout: &Layout,
    known: Option<&RunFile>,
    change: impl Fn(Option<&RunFile>) -> RunFile,
) -> Result<RunFile, StoreError> {
    let run = change(known);
    if known == Some(&run) {
        return Ok(run);
    }
    create_dirs(fs, layout.root())?;
    let lock = layout.run_lock();
    let _guard = fs.lock(&lock).map_err(StoreError::io("lock", &lock))?;
    let now = read_run_file(fs, layout)?;
    let run = change(now.as_ref());
    if now.as_ref() != Some(&run) {
        write_run_file(fs, layout, &run)?;
    }
    Ok(run)
}

fn read_run_file(fs: &dyn Fs, layout: &Layout) -> Result<Option<RunFile>, StoreError> {
    #[derive(Deserialize)]
    struct Version {
        dflow_run: u32,
    }
    let path = layout.run_json();
    let Some(bytes) = read_if_exists(fs, &path)? else { return Ok(None) };
    let Version { dflow_run } = serde_json::from_slice(&bytes).map_err(damaged(&path))?;
    if dflow_run != FORMAT_VERSION {
        let (found, expected) = (dflow_run.to_string(), FORMAT_VERSION.to_string());
        return Err(StoreError::Version { path, what: "run.json format", found, expected });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(damaged(&path))
}

fn damaged(path: &Path) -> impl FnOnce(serde_json::Error) -> StoreError {
    let damaged = StoreError::damaged(path);
    let remedy = "move it away: the rows are kept, and the next `dflow run` of the pipeline writes it anew";
    move |error| damaged(format!("{error}; {remedy}"))
}

fn write_run_file(fs: &dyn Fs, layout: &Layout, run: &RunFile) -> Result<(), StoreError> {
    let mut text = serde_json::to_vec_pretty(run).map_err(|error| StoreError::Encode(error.to_string()))?;
    text.push(b'\n');
    write_atomic(fs, &layout.run_json(), &text)
}

#[cfg(test)]
mod tests;
