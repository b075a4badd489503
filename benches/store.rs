//! Times, memory and file operations of the store at the size of a cluster's run, as lines of JSON.
//!
//! ```text
//! store make DIR ROWS PARTS [TRACE]   a run of ROWS made-up rows in PARTS parts and a few journals of dead writers
//! store merge DIR                     merge (twice: the second time there is nothing to do)
//! store read DIR                      finished, verify, reading all rows, watching
//! store compare DIR DIR2              `dflow verify DIR --same-as DIR2`
//! store all ROWS PARTS [TRACE]        all of it in a temporary folder
//! ```
//!
//! TRACE (30) is the number of evaluations in a row's history, the most of its bytes.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use dflow::plan::{
    ClassifierInfo, DatasetInfo, ImageShape, ModelInfo, Plan, Resources, Shard, StateShape, Unit,
};
use dflow::spec::dataset::DatasetRef;
use dflow::spec::diagnostic::Source;
use dflow::spec::document::Document;
use dflow::spec::metric::MetricSpec;
use dflow::spec::model::ModelRef;
use dflow::spec::operator::OperatorSpec;
use dflow::store::attempt::AttemptId;
use dflow::store::fs::{Fs, FsFile, FsRead, LockGuard, OsFs};
use dflow::store::record::SCHEMA_VERSION;
use dflow::store::verify::Depth;
use dflow::store::{
    Columns, Layout, Record, RunDir, Start, Status, Store, TracePoint, Watch, merge, parts, same_as, verify,
    visit_samples,
};
use serde_json::json;

/// Tasks of the made-up run.
const CELLS: usize = 20;
/// Journals of writers that died, and rows in each.
const JOURNALS: (usize, usize) = (10, 20);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["make", dir, rows, parts] => make(Path::new(dir), rows.parse()?, parts.parse()?, 30),
        ["make", dir, rows, parts, trace] => {
            make(Path::new(dir), rows.parse()?, parts.parse()?, trace.parse()?)
        }
        ["merge", dir] => merge_twice(Path::new(dir)),
        ["read", dir] => read(Path::new(dir)),
        ["compare", left, right] => compare(Path::new(left), Path::new(right)),
        ["all", rows, parts] => all(rows.parse()?, parts.parse()?, 30),
        ["all", rows, parts, trace] => all(rows.parse()?, parts.parse()?, trace.parse()?),
        [] => all(10_000, 20, 30),
        _ => {
            let usage = "make DIR ROWS PARTS [TRACE] | merge DIR | read DIR | compare DIR DIR2 | all ROWS PARTS [TRACE]";
            Err(format!("usage: store {usage}").into())
        }
    }
}

fn all(rows: usize, parts: usize, trace: u32) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("run");
    make(&root, rows, parts, trace)?;
    merge_twice(&root)?;
    read(&root)?;
    compare(&root, &root)
}

/// Prints what `body` takes: seconds, peak memory, and what it asks of the file system.
fn measured<T>(what: &str, body: impl FnOnce(&Counted) -> Result<T>) -> Result<T> {
    let fs = Counted::default();
    measured_on(&fs, what, || body(&fs))
}

/// As [`measured`], on files that outlive it.
fn measured_on<T>(fs: &Counted, what: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let counters = [&fs.0.listings, &fs.0.opens, &fs.0.reads, &fs.0.read_bytes, &fs.0.written_bytes];
    counters.iter().for_each(|counter| counter.store(0, Relaxed));
    reset_peak();
    let (clock, cpu) = (Instant::now(), cpu_seconds());
    let value = body()?;
    let (seconds, cpu) = (clock.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let rounded = |seconds: f64| (seconds * 1e3).round() / 1e3;
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    println!(
        "{}",
        json!({
            "what": what, "seconds": rounded(seconds), "cpu_seconds": rounded(cpu), "peak_mb": peak_mb(),
            "listings": count(&fs.0.listings), "opens": count(&fs.0.opens), "reads": count(&fs.0.reads),
            "read_mb": count(&fs.0.read_bytes) >> 20, "written_mb": count(&fs.0.written_bytes) >> 20,
        })
    );
    Ok(value)
}

fn make(root: &Path, rows: usize, parts: usize, trace: u32) -> Result<()> {
    let document = document()?;
    let plan =
        Plan::resolve(&document, &MadeUp { samples: rows.div_ceil(CELLS) }).map_err(|e| e.to_string())?;
    let dir = RunDir::open(root, &Start { plan: &plan, document: &document })?;
    let units: Vec<Unit> = plan.units(Shard::WHOLE).take(rows).collect();
    measured("make", |fs| {
        let (journaled, parted) = units.split_at((JOURNALS.0 * JOURNALS.1).min(rows / 10));
        for units in journaled.chunks(JOURNALS.1) {
            let mut store =
                Store::with_fs(Arc::new(fs.clone()), dir.layout().clone(), AttemptId::tagged("c0s0"))?;
            for unit in units {
                store.append(&row(&plan, *unit, trace))?;
            }
        }
        for (part, units) in parted.chunks(parted.len().div_ceil(parts)).enumerate() {
            let attempt = AttemptId::tagged(&format!("c{part}s0"));
            let rows: Vec<Record> = units
                .iter()
                .map(|unit| Record { attempt: attempt.to_string(), ..row(&plan, *unit, trace) })
                .collect();
            parts::write(fs, dir.layout(), &attempt, 0, &rows)?;
        }
        Ok(())
    })
}

fn merge_twice(root: &Path) -> Result<()> {
    let layout = Layout::new(root);
    for what in ["merge", "merge again"] {
        measured(what, |fs| Ok(merge(fs, &layout, "made-up")?))?;
    }
    Ok(())
}

fn read(root: &Path) -> Result<()> {
    let dir = RunDir::existing(root)?;
    let layout = dir.layout();
    measured("finished", |fs| Ok(dflow::store::gather::finished(fs, layout)?))?;
    measured("what a task need not solve", |fs| Ok(dflow::store::gather::done_for(fs, layout, "c7s0")?))?;
    let verdict = measured("verify", |fs| Ok(verify(fs, layout, dir.plan(), Depth::Keys)?))?;
    println!("{}", json!({ "planned": verdict.planned, "ok": verdict.ok, "failed": verdict.failed.len() }));
    measured("visit all rows", |fs| {
        let mut sum = 0.0;
        visit_samples(fs, layout, Columns::WithoutTrace, |row| sum += row.psnr.unwrap_or_default())?;
        Ok(sum)
    })?;
    let fs = Counted::default();
    let mut watch = Watch::new(Arc::new(fs.clone()), layout.clone(), dir.plan());
    let done = measured_on(&fs, "watch, first look", || Ok(watch.refresh()?.done()))?;
    measured_on(&fs, "watch, nothing new", || Ok(watch.refresh()?.done()))?;
    println!("{}", json!({ "done": done }));
    Ok(())
}

fn compare(left: &Path, right: &Path) -> Result<()> {
    let (left, right) = (Layout::new(left), Layout::new(right));
    let compared = measured("compare", |fs| Ok(same_as(fs, &left, &right)?))?;
    let only = compared.only_left.len() + compared.only_right.len();
    println!("{}", json!({ "same": compared.same, "different": compared.different, "only_in_one": only }));
    Ok(())
}

/// A row as a D-Flow solve leaves it; one of a hundred has failed.
fn row(plan: &Plan, unit: Unit, trace: u32) -> Record {
    let (cell, (hash, sample)) = (&plan.cells[unit.cell], plan.key(unit));
    // Digits that do not compress better than measured ones.
    let noise = |k: u32| {
        let hash = blake3::hash(format!("{} {} {k}", unit.cell, unit.sample).as_bytes());
        f64::from(u32::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes"))) / f64::from(u32::MAX)
    };
    let failed = unit.sample % 100 == 99;
    let value = |k: u32| (!failed).then(|| 30.0 + noise(k));
    let point = |eval| TracePoint {
        eval,
        seconds: noise(7 * eval),
        loss: -noise(7 * eval + 1),
        psnr: value(7 * eval + 2),
    };
    Record {
        task: cell.task.clone(),
        method: cell.method.clone(),
        sample_id: sample.to_owned(),
        cell_hash: hash.to_string(),
        dataset: "made-up".to_owned(),
        split: "test".to_owned(),
        schema_version: SCHEMA_VERSION,
        status: if failed { Status::Failed } else { Status::Ok },
        error: failed.then(|| "the image cannot be read".to_owned()),
        stop_reason: Some("target_psnr".to_owned()),
        reproducible: true,
        evals: trace,
        nfe_forward: 6 * u64::from(trace),
        nfe_vjp: 6 * u64::from(trace),
        wall_seconds: 60.0 * noise(1),
        device_seconds: 50.0 * noise(2),
        peak_memory: Some(1 << 30),
        device: "cuda:0".to_owned(),
        instruction_set: "x86-64-v3".to_owned(),
        host: format!("node{:03}", unit.sample % 128),
        mse: value(3),
        psnr: value(4),
        ssim_tm13: value(5),
        ssim_tm19: value(6),
        loss: value(8),
        x0_norm: value(9),
        x1_blake3: Some(
            blake3::hash(format!("{} {}", unit.cell, unit.sample).as_bytes()).to_hex().to_string(),
        ),
        x1_file: Some(format!("{}-000.f32", AttemptId::new())),
        x1_offset: Some(12_288 * unit.sample as u64),
        x1_shape: vec![3, 32, 32],
        trace: (1..=trace).map(point).collect(),
        ..Record::default()
    }
}

fn document() -> Result<Document> {
    let task = |i: usize| {
        format!(
            "  - {{ name: task-{i:02}, operator: {{ center_mask: {{ size: 10 }} }}, noise: {} }}\n",
            i as f64 / 100.0
        )
    };
    let tasks: String = (0..CELLS).map(task).collect();
    let text = format!(
        "name: made-up\ndataset: {{ name: made-up }}\ntasks:\n{tasks}methods: [ pinv: {{}} ]\noutput: reports/made-up\n"
    );
    let source = Source { name: "made-up.yaml".to_owned(), text };
    Ok(Document::parse(source).map_err(|error| error.to_string())?)
}

/// A dataset that there is not.
struct MadeUp {
    samples: usize,
}

impl Resources for MadeUp {
    fn dataset(&self, _: &DatasetRef) -> std::result::Result<DatasetInfo, String> {
        Ok(DatasetInfo {
            id: "made-up".to_owned(),
            manifest: "made-up".to_owned(),
            split: "test".to_owned(),
            shape: StateShape::Image(ImageShape { channels: 3, height: 32, width: 32 }),
            classes: 0,
            samples: (0..self.samples).map(|i| format!("test/{i:06}")).collect(),
        })
    }

    fn model(&self, _: &ModelRef, _: &DatasetRef) -> std::result::Result<ModelInfo, String> {
        Err("there are no models".to_owned())
    }

    fn classifier(&self, _: &str) -> std::result::Result<ClassifierInfo, String> {
        Err("no classifier".to_owned())
    }

    fn metric(&self, _: &MetricSpec) -> std::result::Result<(), String> {
        Ok(())
    }

    fn operator(&self, _: &OperatorSpec, _: ImageShape) -> std::result::Result<(), String> {
        Ok(())
    }

    fn initial_points(&self, _: &str, _: &DatasetInfo) -> std::result::Result<String, String> {
        Err("there are no points".to_owned())
    }
}

/// Processor time of this process so far: other work on the machine does not lengthen it.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0 // hundredths of a second on Linux
}

/// Largest resident memory since [`reset_peak`], in MB.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kb| kb >> 10)
}

/// Where the system lets us: else peaks are those of the process so far.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The operating system's files, counted.
#[derive(Debug, Clone, Default)]
struct Counted(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    listings: AtomicU64,
    opens: AtomicU64,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Counts {
    fn read(&self, bytes: usize) {
        self.reads.fetch_add(1, Relaxed);
        self.read_bytes.fetch_add(bytes as u64, Relaxed);
    }
}

impl Fs for Counted {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsFs.create_dir(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(CountedFile { file: OsFs.create_new(path)?, counts: Arc::clone(&self.0) }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.opens.fetch_add(1, Relaxed);
        OsFs.read(path).inspect(|bytes| self.0.read(bytes.len()))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsRead>> {
        self.0.opens.fetch_add(1, Relaxed);
        Ok(Arc::new(CountedFile { file: OsFs.open(path)?, counts: Arc::clone(&self.0) }))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.listings.fetch_add(1, Relaxed);
        OsFs.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        OsFs.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsFs.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsFs.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        OsFs.lock(path)
    }
}

#[derive(Debug)]
struct CountedFile<F> {
    file: F,
    counts: Arc<Counts>,
}

impl FsFile for CountedFile<Box<dyn FsFile>> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.counts.written_bytes.fetch_add(bytes.len() as u64, Relaxed);
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }
}

impl FsRead for CountedFile<Arc<dyn FsRead>> {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.counts.read(length);
        self.file.read_at(offset, length)
    }
}
