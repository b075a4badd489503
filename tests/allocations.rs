//! What an evaluation allocates once its buffers are there: a counting allocator sees every allocation of the threads that
//! evaluate.
//!
//! A network call allocates nothing of the size of its activations or states, an evaluation of whole solves a few states.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "an allocator is unsafe; this one counts and passes on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dflow::catalog::Catalog;
use dflow::flow::{Cond, Rows};
use dflow::plan::{Plan, Unit};
use dflow::spec::document::Document;
use dflow::worker::assembly::Assembly;
use dflow::worker::device::{Device, DeviceKind};
use dflow::worker::engine::{Engine, Field, MemoryBudget};
use rayon::ThreadPool;

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread evaluates.
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn note(bytes: usize) {
    // A thread that ends has nothing to count any more.
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        COUNT.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes, Ordering::Relaxed);
        LARGEST.fetch_max(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every request goes to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counters are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What was allocated meanwhile by the threads of a pool.
#[derive(Debug, Clone, Copy)]
struct Allocated {
    count: usize,
    bytes: usize,
    largest: usize,
}

fn allocated(body: impl FnOnce()) -> Allocated {
    let counters = [&COUNT, &BYTES, &LARGEST];
    counters.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
    body();
    let [count, bytes, largest] = counters.map(|counter| counter.load(Ordering::Relaxed));
    Allocated { count, bytes, largest }
}

fn pool(threads: usize) -> ThreadPool {
    let count = |_| IS_COUNTED.with(|is_counted| is_counted.set(true));
    rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(count).build().unwrap()
}

/// The samples of one cell of a shipped pipeline: the first of D-Flow.
struct Case {
    assembly: Assembly,
    cell: usize,
}

impl Case {
    fn new(pipeline: &str, sets: &[&str]) -> Self {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path: PathBuf = home.join("pipelines").join(pipeline);
        let mut document = Document::read(&path).unwrap();
        for set in ["dataset.limit=4", "metrics=[]"].iter().chain(sets) {
            document.set(set).unwrap();
        }
        let catalog = Catalog::new(Some(home), None);
        let plan = Plan::resolve(&document, &catalog).unwrap();
        let cell = plan.cells.iter().position(|cell| cell.method == "d-flow").unwrap();
        Self { assembly: Assembly::new(plan, &document.spec.dataset, &catalog).unwrap(), cell }
    }

    fn images() -> Self {
        Self::new("table1-mini.yaml", &["methods[0].dflow.stop=[{evals: 300}]"])
    }

    fn molecules() -> Self {
        let sets = ["methods[0].dflow.solver.midpoint.nfe=6", "methods[0].dflow.stop=[{evals: 300}]"];
        Self::new("table4-mini.yaml", &sets)
    }

    fn unit(&self, sample: usize) -> Unit {
        Unit { cell: self.cell, sample }
    }

    fn fields(&self) -> Vec<Field> {
        let kind = DeviceKind::Cpu { threads: 1, cores: Vec::new() };
        self.assembly.fields(&Device { name: "cpu:0".to_owned(), kind }).unwrap()
    }

    /// What a taped call of so many rows allocates, and its pull-back.
    fn call(&self, rows: usize, threads: usize) -> [Allocated; 2] {
        let mut field = self.assembly.field(self.unit(0)).unwrap().unwrap();
        let conds: Vec<Cond> =
            (0..rows).map(|sample| self.assembly.open(self.unit(sample), None).unwrap().cond).collect();
        let x: Vec<f32> = (0..rows * field.dim()).map(|i| libm::sinf(i as f32)).collect();
        let (t, mut out, mut gradient) = (vec![0.5; rows], x.clone(), x.clone());
        pool(threads).install(|| {
            let mut call = || {
                let mut tape = None;
                let rows = Rows { t: &t, x: &x, cond: &conds };
                let forward = allocated(|| tape = Some(field.velocity_taped(rows, &mut out).unwrap()));
                let back = allocated(|| field.pull_back(tape.take().unwrap(), &x, &mut gradient).unwrap());
                [forward, back]
            };
            for _ in 0..5 {
                call();
            }
            // The least of several: buffers of a thread are made when it first takes part, which may be late.
            let calls = [(); 8].map(|()| call());
            [0, 1].map(|part| calls.iter().map(|call| call[part]).min_by_key(|call| call.bytes).unwrap())
        })
    }

    /// What an evaluation of so many solves allocates, with what it does on the host: the median of several, of which one
    /// may end a line search or make the buffers of a thread that first takes part.
    fn evaluation(&self, rows: usize, threads: usize) -> Allocated {
        pool(threads).install(|| {
            let mut engine =
                Engine::new(self.fields(), MemoryBudget::Tape, rows).with_readers(self.assembly.readers());
            engine.slots =
                (0..rows).map(|sample| self.assembly.open(self.unit(sample), None).unwrap()).collect();
            for _ in 0..8 {
                engine.round();
            }
            let mut rounds = [(); 7].map(|()| allocated(|| engine.round()));
            rounds.sort_by_key(|round| round.bytes);
            assert!(engine.slots.iter().all(|slot| !slot.is_finished()), "every solve was evaluated");
            rounds[rounds.len() / 2]
        })
    }

    /// Bytes of a state.
    fn state(&self) -> usize {
        size_of::<f32>() * self.assembly.field(self.unit(0)).unwrap().unwrap().dim()
    }
}

/// The list of a call's rows, of which each thread takes some.
const BYTES_PER_ROW: usize = 56;

#[test]
fn a_network_call_allocates_nothing_but_a_list_of_its_rows() {
    let _alone = ALONE.lock().unwrap();
    for (name, case) in [("images", Case::images()), ("molecules", Case::molecules())] {
        for (rows, threads) in [(1, 1), (4, 1), (1, 2), (4, 2), (3, 2)] {
            let calls = case.call(rows, threads);
            println!("{name}, {rows} rows, {threads} threads: {calls:?}");
            for Allocated { count, bytes, largest } in calls {
                // Where threads share a molecule, each op on edges lists its blocks: two ops in each of six layers.
                let lists = if name == "molecules" && rows % threads != 0 { 12 } else { 0 };
                assert!(count <= 1 + lists, "{count} allocations");
                assert!(bytes <= BYTES_PER_ROW * rows + lists * 1024, "{bytes} bytes");
                assert!(largest <= BYTES_PER_ROW * rows || (lists > 0 && largest <= 1024), "{largest} bytes");
            }
        }
    }
}

#[test]
fn an_evaluation_of_solves_allocates_a_few_states() {
    let _alone = ALONE.lock().unwrap();
    // Work buffers of the solve and its pull-back, L-BFGS's new pair, direction and points. The tapes of a solve are 600
    // states of an image, and no evaluation allocates any.
    for (name, case, states) in [("images", Case::images(), 30), ("molecules", Case::molecules(), 30)] {
        for (rows, threads) in [(1, 1), (4, 1), (1, 2), (4, 2)] {
            let evaluation = case.evaluation(rows, threads);
            let Allocated { count, bytes, largest } = evaluation;
            let state = case.state();
            println!(
                "{name}, {rows} rows, {threads} threads: {count} allocations of {} states a row",
                bytes / rows / state
            );
            // Where threads share a molecule, the lists of its blocks: kilobytes, against states of one.
            let lists = if name == "molecules" && rows % threads != 0 { 100 * 1024 } else { 0 };
            assert!(bytes <= states * rows * state + lists, "{evaluation:?}");
            // Never more at a time than two states of every row: what a step of the midpoint rule gathers.
            assert!(largest <= (2 * rows * state).max(4096), "{evaluation:?}");
            assert!(count <= 250 + 50 * rows, "{evaluation:?}");
        }
    }
}
