//! The program's store under a simulated cluster: real rows and checkpoints in real files.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use dflow::plan::{
    ClassifierInfo, DatasetInfo, ImageShape, ModelInfo, Plan, Resources, Shard, StateShape, Unit,
};
use dflow::spec::dataset::DatasetRef;
use dflow::spec::diagnostic::Source;
use dflow::spec::document::Document;
use dflow::spec::metric::MetricSpec;
use dflow::spec::model::ModelRef;
use dflow::spec::operator::OperatorSpec;
use dflow::store::checkpoint::{Checkpoints, Origin, Running};
use dflow::store::record::SCHEMA_VERSION;
use dflow::store::verify::Depth;
use dflow::store::{Key, Part, Record, RunDir, Start, Status, Store, TracePoint, Verdict, verify};

use super::files::{CountedFs, Operations};

/// Points of a row's history, the most of its bytes.
const TRACE: u32 = 30;

const PIPELINE: &str = "\
name: scale
dataset: { name: made-up }
tasks:
  - { name: inpainting-center, operator: { center_mask: { size: 10 } }, noise: 0 }
  - { name: super-resolution-x2, operator: { bicubic: { factor: 2 } }, noise: 0 }
  - { name: gaussian-deblur, operator: { gaussian_blur: { size: 61, sigma: 1 } }, noise: 0 }
  - { name: inpainting-center-noisy, operator: { center_mask: { size: 10 } }, noise: 0.05 }
  - { name: super-resolution-x2-noisy, operator: { bicubic: { factor: 2 } }, noise: 0.05 }
  - { name: gaussian-deblur-noisy, operator: { gaussian_blur: { size: 61, sigma: 1 } }, noise: 0.05 }
methods: [ pinv: {} ]
output: reports/scale
";

/// A run directory on files that are counted.
pub struct Disk {
    files: CountedFs,
    dir: RunDir,
    plan: Arc<Plan>,
}

/// What a run directory came to.
pub struct Collected {
    /// Rows that the merge left out for others of the same key.
    pub duplicates: u64,
    /// The check of what it wrote against the plan.
    pub verdict: Verdict,
}

impl Disk {
    /// A run of so many samples of each task of Table 1 in `root`, which is made.
    pub fn create(root: &Path, samples: usize) -> Self {
        let source = Source { name: "scale.yaml".to_owned(), text: PIPELINE.to_owned() };
        let document = Document::parse(source).expect("the pipeline above is right");
        let plan =
            Plan::resolve(&document, &MadeUp { samples }).expect("it asks for nothing that is not there");
        let files = CountedFs::default();
        let start = Start { plan: &plan, document: &document };
        let dir = RunDir::open_on(Arc::new(files.clone()), root, &start).expect("a new directory");
        Self { files, dir, plan: Arc::new(plan) }
    }

    /// Its samples, task by task.
    pub fn units(&self) -> Vec<Unit> {
        self.plan.units(Shard::WHOLE).collect()
    }

    /// Operations on files so far.
    pub fn operations(&self) -> Operations {
        self.files.operations()
    }

    /// Files in a folder of the run.
    pub fn files_in(&self, folder: &str) -> usize {
        std::fs::read_dir(self.dir.layout().root().join(folder)).map_or(0, Iterator::count)
    }

    /// The samples of a chunk that its task still has to solve.
    pub fn left(&self, chunk: usize, units: &[Unit]) -> Vec<Unit> {
        let finished = self.dir.done_for(&tag(chunk)).expect("the files can be read");
        let is_left = |unit: &&Unit| !finished.rows.contains_key(&key(&self.plan, **unit));
        units.iter().filter(is_left).copied().collect()
    }

    /// The files of a worker that starts in the task of a chunk.
    pub fn writer(&self, chunk: usize) -> Writer {
        let dir = self.dir.clone().with_part(Part { tag: tag(chunk), ..Part::default() });
        let store = dir.store().expect("the run directory can be written");
        let checkpoints = dir.checkpoints(&store, Origin::new("made-up", "cuda:0"));
        Writer {
            plan: Arc::clone(&self.plan),
            store,
            checkpoints: checkpoints.expect("the run directory can be read"),
        }
    }

    /// Merges, and checks against the plan.
    pub fn collect(&self) -> Collected {
        let completeness = self.dir.finish(&self.plan).expect("merging");
        let (fs, layout) = (&**self.dir.fs(), self.dir.layout());
        let verdict = verify(fs, layout, &self.plan, Depth::Keys).expect("verifying");
        Collected { duplicates: completeness.duplicates, verdict }
    }
}

fn tag(chunk: usize) -> String {
    format!("c{chunk}s1a2b")
}

fn key(plan: &Plan, unit: Unit) -> Key {
    let (cell, sample) = plan.key(unit);
    (cell.to_string(), sample.to_owned())
}

/// The files of one worker.
pub struct Writer {
    plan: Arc<Plan>,
    store: Store,
    checkpoints: Checkpoints,
}

impl Writer {
    /// Device-seconds of a solve that an earlier worker has left, as this one found them.
    pub fn stored(&mut self, unit: Unit) -> f64 {
        let stored = self.checkpoints.take(&key(&self.plan, unit));
        stored.map_or(0.0, |stored| f64::from_le_bytes(stored.core.try_into().expect("written below")))
    }

    /// Looks anew what others have left.
    pub fn look_again(&mut self) {
        self.checkpoints.look_again().expect("the run directory can be read");
    }

    /// Stores how far solves are.
    pub fn checkpoint(&mut self, solves: impl Iterator<Item = (Unit, f64)>) {
        let frozen = solves.map(|(unit, done)| Frozen { key: key(&self.plan, unit), done });
        self.checkpoints.save(frozen).expect("the run directory can be written");
    }

    /// Writes the row of a solve.
    pub fn row(&mut self, unit: Unit, evals: u32, seconds: f64) {
        self.store.append(&row(&self.plan, unit, evals, seconds)).expect("the run directory can be written");
        self.checkpoints.forget(&key(&self.plan, unit));
    }

    /// Writes the row of a sample that failed.
    pub fn failed(&mut self, unit: Unit, error: &str) {
        let (status, error) = (Status::Failed, Some(error.to_owned()));
        let record = Record { status, error, ..row(&self.plan, unit, 0, 0.0) };
        self.store.append(&record).expect("the run directory can be written");
    }

    /// The orderly end.
    pub fn close(&mut self, leaves_solves: bool) {
        if !leaves_solves {
            self.checkpoints.clear();
        }
        self.store.flush_part().expect("the run directory can be written");
    }
}

/// A running solve: nothing but how far it is.
struct Frozen {
    key: Key,
    done: f64,
}

impl Running for Frozen {
    fn key(&self) -> Key {
        self.key.clone()
    }

    fn core(&self) -> Vec<u8> {
        self.done.to_le_bytes().to_vec()
    }

    fn items(&self) -> Range<u64> {
        0..0
    }

    fn item(&self, number: u64) -> Vec<u8> {
        unreachable!("there is no item {number}")
    }
}

/// A row as a solve leaves it, with numbers that do not compress.
fn row(plan: &Plan, unit: Unit, evals: u32, seconds: f64) -> Record {
    let (cell, (cell_hash, sample_id)) = (&plan.cells[unit.cell], key(plan, unit));
    let value = |k: u32| super::service::uniform(&[unit.cell as u64, unit.sample as u64, u64::from(k)]);
    let point = |k| TracePoint {
        eval: k,
        seconds: seconds * value(3 * k),
        loss: -30.0 * value(3 * k + 1),
        psnr: Some(30.0 * value(3 * k + 2)),
    };
    Record {
        task: cell.task.clone(),
        method: cell.method.clone(),
        sample_id,
        cell_hash,
        dataset: plan.dataset.id.clone(),
        split: plan.dataset.split.clone(),
        schema_version: SCHEMA_VERSION,
        stop_reason: Some("target_psnr".to_owned()),
        reproducible: true,
        evals,
        nfe_forward: 6 * u64::from(evals),
        nfe_vjp: 6 * u64::from(evals),
        wall_seconds: seconds,
        device_seconds: seconds,
        device: "cuda:0".to_owned(),
        mse: Some(value(1000)),
        psnr: Some(30.0 + value(1001)),
        loss: Some(-value(1002)),
        x0_norm: Some(value(1003)),
        trace: (1..=TRACE.min(evals)).map(point).collect(),
        ..Record::default()
    }
}

/// A dataset that there is not.
struct MadeUp {
    samples: usize,
}

impl Resources for MadeUp {
    fn dataset(&self, _: &DatasetRef) -> Result<DatasetInfo, String> {
        Ok(DatasetInfo {
            id: "made-up".to_owned(),
            manifest: "made-up".to_owned(),
            split: "test".to_owned(),
            shape: StateShape::Image(ImageShape { channels: 3, height: 32, width: 32 }),
            classes: 0,
            samples: (0..self.samples).map(|sample| format!("test/{sample:06}")).collect(),
        })
    }

    fn model(&self, _: &ModelRef, _: &DatasetRef) -> Result<ModelInfo, String> {
        Err("there are no models".to_owned())
    }

    fn classifier(&self, _: &str) -> Result<ClassifierInfo, String> {
        Err("no classifier".to_owned())
    }

    fn metric(&self, _: &MetricSpec) -> Result<(), String> {
        Ok(())
    }

    fn operator(&self, _: &OperatorSpec, _: ImageShape) -> Result<(), String> {
        Ok(())
    }

    fn initial_points(&self, _: &str, _: &DatasetInfo) -> Result<String, String> {
        Err("there are no points".to_owned())
    }
}
