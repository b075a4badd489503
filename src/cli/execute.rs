//! Solving units on the devices of this machine: what `dflow run` and `dflow work` share.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::Receiver;

use super::pipeline::Resolved;
use super::{CliError, Global};
use crate::cluster::WorkOptions;
use crate::plan::{Cell, Plan, Unit};
use crate::run::event::MEASURING;
use crate::run::signal::StopRequest;
use crate::run::{Blame, Dispatcher, Identity, Limits, Live, RunEvent, RunSummary};
use crate::store::RunDir;
use crate::store::run_dir::Written;
use crate::ui::Style;
use crate::ui::json::{self, EventLog, Pace};
use crate::ui::progress::{Names, Progress};
use crate::worker::assembly::Assembly;
use crate::worker::device::{self, Device, DeviceKind};
use crate::worker::engine::MemoryBudget;
use crate::worker::process::{Processes, Setup};
use crate::worker::protocol::{Layouts, Work};
use crate::worker::{Settings, Threads, Workers, throughput};

/// How units are solved; none of it changes a number.
#[derive(Debug, Clone, Args)]
pub(super) struct SolveArgs {
    /// Samples that a device solves at a time; never changes a number. auto: the fewest with about the best measured
    /// throughput (a few seconds, once per model and machine; kept in the user's cache folder).
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = parse_slots)]
    slots: Slots,
    /// What is kept of each network call for its pull-back; never changes a number.
    #[arg(long, value_name = "auto|tape|recompute", default_value = "auto", value_parser = parse_memory)]
    memory: Memory,
    /// Stop after so many failed samples.
    #[arg(long, value_name = "N", value_parser = parse_failures)]
    max_failures: Option<NonZeroUsize>,
    /// Least seconds between two checkpoints of a running solve.
    #[arg(long, value_name = "S", default_value_t = 60)]
    checkpoint_every: u64,
    /// Seconds between two readings of the devices, which go to `telemetry.parquet`; 0: none.
    #[arg(long, value_name = "S", default_value_t = TELEMETRY_EVERY)]
    telemetry_every: u64,
}

/// A worker process that says nothing for so long while it solves hangs, unless its evaluations take so long.
const SILENCE: Duration = Duration::from_secs(600);

/// Samples that there must be for each worker of one core, so that all have work nearly to the end.
const SAMPLES_PER_WORKER: usize = 4;

/// Seconds between two readings, unless the user says otherwise.
const TELEMETRY_EVERY: u64 = 5;

impl SolveArgs {
    /// The options of a submission.
    pub(super) fn of_submission(options: &WorkOptions) -> Result<Self, CliError> {
        let WorkOptions { slots, memory, checkpoint_every, .. } = options;
        Ok(Self {
            slots: parse_slots(slots).map_err(CliError::usage)?,
            memory: parse_memory(memory).map_err(CliError::usage)?,
            max_failures: None,
            checkpoint_every: *checkpoint_every,
            telemetry_every: TELEMETRY_EVERY,
        })
    }

    fn settings(&self, work: Work) -> Settings {
        Settings {
            slots: self.slots.0,
            memory: self.memory.0,
            checkpoint_every: Duration::from_secs(self.checkpoint_every),
            work,
        }
    }
}

/// `--slots`.
#[derive(Debug, Clone, Copy)]
struct Slots(Option<usize>);

/// `--memory`.
#[derive(Debug, Clone, Copy)]
struct Memory(Option<MemoryBudget>);

fn parse_failures(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "write a number of samples ≥ 1".to_owned())
}

fn parse_slots(text: &str) -> Result<Slots, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Slots(None)),
        Ok(n) if n > 0 => Ok(Slots(Some(n))),
        _ => Err("write a number of samples ≥ 1, or auto".to_owned()),
    }
}

fn parse_memory(text: &str) -> Result<Memory, String> {
    match text {
        "auto" => Ok(Memory(None)),
        "tape" => Ok(Memory(Some(MemoryBudget::Tape))),
        "recompute" => Ok(Memory(Some(MemoryBudget::Recompute))),
        _ => Err("write auto, tape or recompute".to_owned()),
    }
}

/// Cells and samples by the names that people know.
struct PlanNames<'a>(&'a Plan);

impl Names for PlanNames<'_> {
    fn row(&self, unit: Unit) -> String {
        let cell = &self.0.cells[unit.cell];
        format!("{}/{}/{}", cell.task, cell.method, self.0.dataset.samples[unit.sample])
    }
}

/// Units to solve, and where.
pub(super) struct Job<'a> {
    pub(super) resolved: &'a Resolved,
    pub(super) run_dir: &'a RunDir,
    pub(super) devices: Vec<Device>,
    /// Whether they are what `auto` stands for.
    pub(super) is_auto: bool,
    /// What is left to do.
    pub(super) todo: Vec<Unit>,
    /// Units of this part of the run, done ones included.
    pub(super) planned: usize,
    pub(super) options: &'a SolveArgs,
    /// Submission and chunk, of a task of a cluster.
    pub(super) task: Option<(String, usize)>,
    /// Time that workers have to come to their end after a stop; none: any.
    pub(super) stop_within: Option<Duration>,
    /// When samples are blamed for crashes.
    pub(super) blame: Blame,
}

/// Whether the devices are able to do what the models' files say.
pub(super) fn check_models(plan: &Plan, devices: &[Device]) -> Result<(), CliError> {
    let mut models = plan.cells.iter().filter_map(|cell| cell.model.as_ref());
    let (Some(model), Some(device)) = (
        models.find(|model| model.info.gpu_only),
        devices.iter().find(|device| !matches!(device.kind, DeviceKind::Cuda { .. })),
    ) else {
        return Ok(());
    };
    Err(CliError::usage(format!(
        "model {}: `matmul: tf32` is of GPUs, and {} is none: use --devices cuda, or take it out of the model's file",
        model.reference, device.name
    )))
}

impl Job<'_> {
    /// Solves until everything is durable or a stop is asked for, and shows how it goes.
    pub(super) fn execute(
        mut self,
        stop: &Receiver<StopRequest>,
        global: &Global,
    ) -> Result<RunSummary, CliError> {
        let plan = &self.resolved.plan;
        let names = PlanNames(plan);
        let mut progress = Progress::new(Style::choose(global.json, global.quiet), &names);
        if self.todo.is_empty() {
            let summary = RunSummary::default();
            progress.end(&summary);
            return Ok(summary);
        }
        let assembly = self.assembly()?;
        let work = self.work();
        // What the layout would only advise, the quiet do not want to wait for.
        let layout = if self.is_auto || !global.quiet {
            self.lay_out(assembly.as_deref(), &work, || {
                progress.observe(&RunEvent::Preparing { what: format!("cpu {MEASURING}") });
            })
        } else {
            None
        };
        let device_names: Vec<String> = self.devices.iter().map(|device| device.name.clone()).collect();
        let workers = self.workers(assembly, work, global);
        let live = self.live(&device_names);
        let mut log = Log::open(self.run_dir);
        let mut observe = |event: &RunEvent| {
            progress.observe(event);
            live.observe(event);
            log.observe(event, &names);
        };
        // The longest first: what is left at the end is short, and no device waits long for another.
        self.todo.sort_by_key(|unit| std::cmp::Reverse(expected_calls(&plan.cells[unit.cell])));
        let slow = workers.threads.as_ref().map(|threads| threads.assembly.prepare(&self.todo));
        let done = self.planned - self.todo.len();
        observe(&RunEvent::Begin { planned: self.planned, done, devices: device_names.clone() });
        if let Some(layouts) = layout {
            observe(&RunEvent::Layout { layouts, is_free: self.is_auto });
        }
        if let (Some(threads), Some([_, ..])) = (&workers.threads, slow.as_deref()) {
            // Samples that wait for it come last: no device idles for them.
            self.todo.sort_by_cached_key(|unit| !threads.assembly.is_ready(*unit));
        }
        for what in slow.into_iter().flatten() {
            observe(&RunEvent::Preparing { what: what.to_owned() });
        }
        let max_failures = self.options.max_failures.map(NonZeroUsize::get);
        let limits = Limits {
            max_failures,
            stop_within: self.stop_within,
            silence: Some(SILENCE),
            blame: self.blame,
            ..Limits::default()
        };
        let dispatcher = Dispatcher::new(self.todo, &device_names, limits, &mut observe);
        let summary = dispatcher.run(&workers, stop);
        live.end();
        log.write(json::summary(&summary));
        progress.end(&summary);
        Ok(summary)
    }

    fn work(&self) -> Work {
        let cells: BTreeSet<usize> = self.todo.iter().map(|unit| unit.cell).collect();
        Work { units: self.todo.len(), cells: cells.into_iter().collect() }
    }

    /// Readings and heartbeat of this process.
    fn live(&self, devices: &[String]) -> Live {
        let (submission, chunk) = self.task.clone().unzip();
        let chunk = chunk.map(|chunk| chunk as u32);
        let attempt = self.run_dir.attempt().to_string();
        let identity = Identity { attempt, host: device::host_name(), submission, chunk };
        let every = Duration::from_secs(self.options.telemetry_every);
        Live::start(self.run_dir, &self.resolved.plan, devices, identity, every)
    }

    /// What the workers of this process need; none where no device is a CPU.
    fn assembly(&self) -> Result<Option<Arc<Assembly>>, CliError> {
        let Resolved { plan, document, catalog, .. } = self.resolved;
        if !self.devices.iter().any(|device| matches!(device.kind, DeviceKind::Cpu { .. })) {
            return Ok(None);
        }
        let assembly = Assembly::new(plan.clone(), &document.spec.dataset, catalog);
        Ok(Some(Arc::new(assembly.map_err(CliError::usage)?)))
    }

    /// Measures how a CPU's cores are best shared out, where there are samples enough for workers of one core; `auto` takes
    /// the faster way.
    fn lay_out(
        &mut self,
        assembly: Option<&Assembly>,
        work: &Work,
        announce: impl FnOnce(),
    ) -> Option<Layouts> {
        let [device] = &*self.devices else { return None };
        // Pinned: the user has shared them out.
        let DeviceKind::Cpu { threads, ref cores } = device.kind else { return None };
        if !cores.is_empty() || self.todo.len() < SAMPLES_PER_WORKER * threads {
            return None;
        }
        let layouts = throughput::layouts(assembly?, device, self.options.memory.0, work, announce)?;
        if self.is_auto && layouts.is_better_apart() {
            self.devices = device::split(device);
        }
        Some(layouts)
    }

    /// Workers of the devices: threads where they are cores of this process, else processes.
    fn workers(&self, assembly: Option<Arc<Assembly>>, work: Work, global: &Global) -> Workers {
        let (settings, devices) = (self.options.settings(work), self.devices.clone());
        let Resolved { plan, document, .. } = self.resolved;
        let threads = assembly.map(|assembly| Threads {
            assembly,
            run_dir: Arc::new(self.run_dir.clone()),
            devices: devices.clone(),
            settings: settings.clone(),
        });
        let folders = (global.home.clone(), global.data.clone());
        let setup = Setup::new(plan, Written::from(document), folders, self.run_dir, settings);
        // Not its path: that may be a newer build by the time that a worker starts again.
        let program = PathBuf::from("/proc/self/exe");
        let arguments = ["worker", "--log", &global.log].map(str::to_owned).to_vec();
        Workers { threads, processes: Processes::new(program, arguments, setup, devices) }
    }
}

/// Network calls of a row, to order rows by: a closed form takes next to no time, and what nothing bounds may take
/// any.
fn expected_calls(cell: &Cell) -> u64 {
    if cell.is_closed_form() { 0 } else { cell.calls_per_row().unwrap_or(u64::MAX) }
}

/// The run's log; it never stops a run.
struct Log {
    file: Option<EventLog>,
    pace: Pace,
}

impl Log {
    fn open(run_dir: &RunDir) -> Self {
        let path = run_dir.log_path();
        let opened = EventLog::open(&path, &device::host_name());
        let file =
            opened.inspect_err(|error| tracing::warn!("{}: {error}; going on without", path.display())).ok();
        Self { file, pace: Pace::new(Instant::now()) }
    }

    fn observe(&mut self, event: &RunEvent, names: &dyn Names) {
        if self.pace.takes(event, Instant::now()) {
            self.write(json::event(event, names));
        }
    }

    fn write(&mut self, event: serde_json::Value) {
        let written = self.file.as_mut().map_or(Ok(()), |log| log.write(event));
        if let Err(error) = written {
            tracing::warn!("log.jsonl: {error}; going on without");
            self.file = None;
        }
    }
}
