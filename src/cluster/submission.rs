//! A submission: everything that array tasks and the collecting job have to know, frozen in `submit/<id>/`.
//!
//! The pipeline is kept as written, with its `--set` arguments, so that later edits of the user's file change nothing.
//! `submission.json` also says what was submitted; it is written before and after every step, so that a submission that
//! was cut short can be gone on from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chunks::Chunk;
use super::error::ClusterError;
use super::frozen::ChunkFile;
use super::queue::Job;
use crate::atomic;
use crate::plan::{Plan, Unit};
use crate::spec::cluster::ClusterSpec;
use crate::spec::device::DeviceList;
use crate::spec::diagnostic::Source;
use crate::spec::document::Document;
use crate::store::attempt::AttemptId;
use crate::store::fs::{Fs, OsFs};
use crate::store::run_dir::Written;

/// Folder of a run directory that holds its submissions.
pub const FOLDER: &str = "submit";
/// Version of the form of `submission.json`.
const FORMAT_VERSION: u32 = 1;
/// File whose presence says that the submission was cancelled: nobody who writes `submission.json` at the same time can undo
/// it.
const CANCELLED: &str = "cancelled";
/// File whose lock a writer of `submission.json` holds. It stays.
const LOCK: &str = "submission.lock";
/// Random hexadecimal digits at the end of an id.
const SHORT: usize = 8;

/// Options of the solves, as `dflow run` takes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkOptions {
    /// Samples that a device solves at a time, or `auto`.
    pub slots: String,
    /// `auto`, `tape` or `recompute`.
    pub memory: String,
    /// Whether rows that failed stay as they are.
    pub keep_failed: bool,
    /// Seconds between two checkpoints.
    pub checkpoint_every: u64,
}

/// What runs the chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Slurm arrays.
    Slurm,
    /// An Indexed Job of Kubernetes.
    Kubernetes,
}

/// One array of Slurm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Array {
    /// Name of the job, unique for ever.
    pub name: String,
    /// Chunk of its task 0.
    pub first: usize,
    /// Chunks from one task to the next: the arrays of a submission take turns.
    #[serde(default = "one")]
    pub stride: usize,
    /// Its task indices in Slurm's form, `0-399` or `3,7`.
    pub tasks: String,
    /// How often what is missing was submitted again before.
    pub sweep: u32,
    /// Nodes that were left out, in Slurm's form; empty: none.
    #[serde(default)]
    pub exclude: String,
    /// Id of the array; none until Slurm said it.
    pub job: Option<u64>,
    /// It was not in the queue when it was looked for after its process had ended: its sweep does not count.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lost: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

const fn one() -> usize {
    1
}

impl Array {
    /// The chunk of a task.
    pub const fn chunk(&self, index: usize) -> usize {
        self.first + self.stride * index
    }

    /// Whether a job of the queue is a task of this array.
    pub fn is(&self, job: &Job) -> bool {
        self.job == Some(job.id) || self.name == job.name
    }
}

/// One job that collects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collector {
    /// Name of the job.
    pub name: String,
    /// Its id; none until Slurm said it.
    pub job: Option<u64>,
}

/// The content of `submission.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmissionFile {
    /// Version of this form.
    dflow_submission: u32,
    /// Its id; sortable by time.
    pub id: String,
    /// Name of the run.
    pub name: String,
    /// Version of dflow.
    pub version: String,
    /// What runs it.
    pub engine: Engine,
    /// Name that the pipeline file had.
    pub pipeline: String,
    /// `--set` arguments, those of `--limit` and the like included.
    pub set: Vec<String>,
    /// Working directory, which relative paths of the pipeline begin from; absolute.
    pub directory: PathBuf,
    /// `--home`, absolute.
    pub home: Option<PathBuf>,
    /// `--data`, absolute.
    pub data: Option<PathBuf>,
    /// Devices of a task.
    pub devices: DeviceList,
    /// Options of the solves.
    pub options: WorkOptions,
    /// What a task of the cluster gets: site file and pipeline.
    pub cluster: ClusterSpec,
    /// How dflow is started on a node, as bash reads it.
    pub command: String,
    /// Number of chunks.
    pub chunks: usize,
    /// Units of all chunks.
    pub units: usize,
    /// Arrays, in the order in which they were submitted.
    pub arrays: Vec<Array>,
    /// Collecting jobs, one a sweep.
    pub collectors: Vec<Collector>,
    /// Units that were missing at the end of each sweep.
    pub missing: Vec<usize>,
    /// Whether it was cancelled: nothing of it is submitted again.
    pub cancelled: bool,
}

/// What a submission begins with.
#[derive(Debug, Clone)]
pub struct New<'a> {
    /// The pipeline as it was read, `--set` arguments applied.
    pub document: &'a Document,
    /// As it resolved.
    pub plan: &'a Plan,
    /// What runs it.
    pub engine: Engine,
    /// `--home`.
    pub home: Option<PathBuf>,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// Working directory; absolute.
    pub directory: PathBuf,
    /// Options of the solves.
    pub options: WorkOptions,
    /// Site file and pipeline.
    pub cluster: ClusterSpec,
    /// How dflow is started on a node.
    pub command: String,
}

/// A submission, open.
#[derive(Debug, Clone)]
pub struct Submission {
    dir: PathBuf,
    file: SubmissionFile,
    chunks: ChunkFile,
}

impl Submission {
    /// A new one, not yet written, for the run in `root`, which is absolute.
    pub fn new(root: &Path, new: &New<'_>, chunks: Vec<Chunk>) -> Self {
        let id = AttemptId::new().to_string();
        let chunks = ChunkFile::new(new.plan, chunks);
        let absolute = |path: &PathBuf| new.directory.join(path);
        let file = SubmissionFile {
            dflow_submission: FORMAT_VERSION,
            name: new.plan.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: new.engine,
            pipeline: new.document.source().name.clone(),
            set: new.document.sets().map(str::to_owned).collect(),
            directory: new.directory.clone(),
            home: new.home.as_ref().map(absolute),
            data: new.data.as_ref().map(absolute),
            devices: new.cluster.devices.clone().unwrap_or_else(|| new.plan.devices.clone()),
            options: new.options.clone(),
            cluster: new.cluster.clone(),
            command: new.command.clone(),
            chunks: chunks.chunks.len(),
            units: chunks.chunks.iter().map(Chunk::len).sum(),
            arrays: Vec::new(),
            collectors: Vec::new(),
            missing: Vec::new(),
            cancelled: false,
            id,
        };
        Self { dir: root.join(FOLDER).join(&file.id), file, chunks }
    }

    /// Writes its folder: the chunks, the pipeline, a folder for logs, and last `submission.json`.
    ///
    /// # Errors
    /// [`ClusterError::Io`].
    pub fn create(&self, document: &Document) -> Result<(), ClusterError> {
        let logs = self.logs();
        std::fs::create_dir_all(&logs).map_err(ClusterError::io("create", &logs))?;
        self.write_file("chunks.json", &self.chunks.to_text())?;
        self.write_file("pipeline.yaml", &document.source().text)?;
        self.save()
    }

    /// Opens the submission in a folder.
    ///
    /// # Errors
    /// No submission there, or files that were damaged or are of another version.
    pub fn open(dir: &Path) -> Result<Self, ClusterError> {
        let dir = std::path::absolute(dir).map_err(ClusterError::io("find", dir))?;
        let file = read_file(&dir)?;
        let path = dir.join("chunks.json");
        let chunks = ChunkFile::read(&path)?;
        if chunks.chunks.len() != file.chunks {
            let detail =
                format!("it has {} chunks, submission.json says {}", chunks.chunks.len(), file.chunks);
            return Err(ClusterError::Damaged { path, detail });
        }
        Ok(Self { dir, file, chunks })
    }

    /// As [`Self::open`], without the chunks: whatever became of their file, the jobs can be cancelled.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn without_chunks(dir: &Path) -> Result<Self, ClusterError> {
        let dir = std::path::absolute(dir).map_err(ClusterError::io("find", dir))?;
        Ok(Self { file: read_file(&dir)?, chunks: ChunkFile::unknown(), dir })
    }

    /// Every submission of the run in `root`, oldest first. Of one that was cancelled the chunks are not needed: it is there
    /// without them where they cannot be read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn all(root: &Path) -> Result<Vec<Self>, ClusterError> {
        Self::folders(root)?.iter().map(|dir| Self::open_among(dir)).collect()
    }

    /// As [`Self::open`], one of those of [`Self::all`].
    pub(super) fn open_among(dir: &Path) -> Result<Self, ClusterError> {
        Self::open(dir).or_else(|error| {
            let known = Self::without_chunks(dir)?;
            if known.is_cancelled() { Ok(known) } else { Err(error) }
        })
    }

    /// The folders of the submissions of the run in `root`, oldest first; none if there is no such folder. One that was cut
    /// short before its `submission.json` was written has submitted nothing, and is left out.
    ///
    /// # Errors
    /// [`ClusterError::Io`].
    pub fn folders(root: &Path) -> Result<Vec<PathBuf>, ClusterError> {
        let folder = root.join(FOLDER);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ClusterError::io("list", folder)(error)),
        };
        let mut dirs = Vec::new();
        for entry in entries {
            let dir = entry.map_err(ClusterError::io("list", &folder))?.path();
            dirs.extend(dir.join("submission.json").exists().then_some(dir));
        }
        dirs.sort();
        Ok(dirs)
    }

    /// Changes `submission.json`, from what it says now: another process may have changed it since it was read.
    ///
    /// # Errors
    /// [`ClusterError::Io`]; what it says is then as before.
    pub fn update(&mut self, change: impl FnOnce(&mut SubmissionFile)) -> Result<(), ClusterError> {
        // Without one, where there are none, only two processes of the same moment are not kept apart.
        let _lock = OsFs.lock(&self.dir.join(LOCK)).ok().flatten();
        let mut file = read_file(&self.dir)?;
        change(&mut file);
        let before = std::mem::replace(&mut self.file, file);
        self.save().inspect_err(|_| self.file = before)
    }

    /// Takes what the queue says of arrays that were about to be submitted when their process ended, or was not answered:
    /// those that are in it have ids, the others are lost, and a sweep that lacks one of its arrays was none. Lost ones are
    /// asked for all the same: a busy controller may have taken one later. Nobody may be submitting of the run meanwhile.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn settle(&mut self, jobs: &[Job]) -> Result<(), ClusterError> {
        if self.file.arrays.iter().all(|array| array.job.is_some()) {
            return Ok(());
        }
        self.update(|file| {
            let last_sweep = file.missing.len() as u32;
            let mut was_none = false;
            for array in file.arrays.iter_mut().filter(|array| array.job.is_none()) {
                array.job = jobs.iter().find(|job| job.name == array.name).map(|job| job.id);
                let was_lost = std::mem::replace(&mut array.lost, array.job.is_none());
                was_none |= array.lost && !was_lost && array.sweep > 0 && array.sweep == last_sweep;
            }
            if was_none {
                file.missing.pop();
            }
        })
    }

    /// Reads `submission.json` again.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn refresh(&mut self) -> Result<(), ClusterError> {
        self.file = read_file(&self.dir)?;
        Ok(())
    }

    /// Records that it is cancelled, for good.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn mark_cancelled(&mut self) -> Result<(), ClusterError> {
        self.write_file(CANCELLED, "")?;
        self.update(|file| file.cancelled = true)
    }

    /// Whether it was cancelled, also by another process a moment ago.
    pub fn is_cancelled(&self) -> bool {
        self.file.cancelled || self.dir.join(CANCELLED).exists()
    }

    /// Removes its folder, if nothing of it was ever submitted.
    ///
    /// # Errors
    /// [`ClusterError::Io`].
    pub fn discard(self) -> Result<(), ClusterError> {
        // First what makes the folder a submission: cut short, the rest is in nobody's way.
        let path = self.dir.join("submission.json");
        std::fs::remove_file(&path).map_err(ClusterError::io("remove", path))?;
        std::fs::remove_dir_all(&self.dir).map_err(ClusterError::io("remove", self.dir))
    }

    fn save(&self) -> Result<(), ClusterError> {
        let text = serde_json::to_string_pretty(&self.file).expect("texts and numbers are plain JSON");
        self.write_file("submission.json", &(text + "\n"))
    }

    /// Writes a file of its folder.
    ///
    /// # Errors
    /// [`ClusterError::Io`].
    pub fn write_file(&self, name: &str, text: &str) -> Result<(), ClusterError> {
        let path = self.dir.join(name);
        atomic::write_bytes(&path, text.as_bytes()).map_err(ClusterError::io("write", path))
    }

    /// Its folder; absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The run directory that it lies in.
    pub fn run_dir(&self) -> &Path {
        self.dir.parent().and_then(Path::parent).unwrap_or(&self.dir)
    }

    /// Where Slurm writes the outputs of its tasks.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// What `submission.json` says.
    pub fn file(&self) -> &SubmissionFile {
        &self.file
    }

    /// What `chunks.json` says.
    pub fn chunks(&self) -> &ChunkFile {
        &self.chunks
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.file.id
    }

    /// The random part of its id.
    pub fn short(&self) -> &str {
        let id = &self.file.id;
        id.get(id.len().saturating_sub(SHORT)..).unwrap_or(id)
    }

    /// What marks the files that attempts of a chunk write: the last part of their attempt id.
    pub fn tag(&self, chunk: usize) -> String {
        format!("c{chunk}s{}", self.short())
    }

    /// The pipeline as written.
    ///
    /// # Errors
    /// [`ClusterError::Io`].
    pub fn written(&self) -> Result<Written, ClusterError> {
        let path = self.dir.join("pipeline.yaml");
        let text = std::fs::read_to_string(&path).map_err(ClusterError::io("read", path))?;
        Ok(Written { file: self.file.pipeline.clone(), text, set: self.file.set.clone() })
    }

    /// The pipeline with its `--set` arguments, its devices as on the cluster, and the run directory that it lies in for
    /// its `output`, wherever that is mounted.
    ///
    /// # Errors
    /// [`ClusterError::Io`]; [`ClusterError::Pipeline`] when this version does not read it.
    pub fn document(&self) -> Result<Document, ClusterError> {
        let Written { file, text, set } = self.written()?;
        let mut document = Document::parse(Source { name: file, text }).map_err(ClusterError::Pipeline)?;
        for set in &set {
            document.set(set).map_err(ClusterError::Pipeline)?;
        }
        document.spec.devices = self.file.devices.clone();
        document.spec.output = self.run_dir().display().to_string();
        Ok(document)
    }

    /// The units of a chunk in the plan of [`Self::document`].
    ///
    /// # Errors
    /// As [`ChunkFile::units`].
    pub fn units(&self, plan: &Plan, chunk: usize) -> Result<Vec<Unit>, ClusterError> {
        self.chunks.units(plan, chunk)
    }
}

fn read_file(dir: &Path) -> Result<SubmissionFile, ClusterError> {
    #[derive(Deserialize)]
    struct Version {
        dflow_submission: u32,
    }
    let path = dir.join("submission.json");
    let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ClusterError::NoSubmission { path: dir.to_owned() },
        _ => ClusterError::io("read", &path)(error),
    })?;
    let damaged =
        |error: serde_json::Error| ClusterError::Damaged { path: path.clone(), detail: error.to_string() };
    let Version { dflow_submission: found } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if found != FORMAT_VERSION {
        return Err(ClusterError::Version { path, found, expected: FORMAT_VERSION });
    }
    let mut file: SubmissionFile = serde_json::from_slice(&bytes).map_err(damaged)?;
    file.cancelled |= dir.join(CANCELLED).exists();
    Ok(file)
}

#[cfg(test)]
impl Submission {
    /// With these arrays; nothing is written.
    pub(super) fn keep_arrays(&mut self, arrays: &[Array]) {
        self.file.arrays = arrays.to_vec();
    }

    /// Of this engine; nothing is written.
    pub(super) fn with_engine(mut self, engine: Engine) -> Self {
        self.file.engine = engine;
        self
    }
}

#[cfg(test)]
pub(super) mod tests;
