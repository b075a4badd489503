//! `dflow model time`: what one evaluation of D-Flow costs with a model, in seconds and memory.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use crate::catalog::image_shape;
use crate::cli::{CliError, CliResult, Global, print_lossy};
use crate::dataset;
use crate::exit;
use crate::flow::{Cond, Grid, Keep, VelocityField, pull_back, solve_taped};
use crate::method::loss::{evaluate, target};
use crate::net::kernel;
use crate::net::model::{Model, StateShape};
use crate::operator::{Degradation, Operator, measure};
use crate::plan::ImageShape;
use crate::random::{Purpose, Stream};
use crate::spec::method::{LossSpace, LossSpec};
use crate::spec::operator::{CenterMask, OperatorSpec};
use crate::spec::solver::{FixedSteps, SolverSpec};
use crate::worker::device::peak_memory;

/// Options of `dflow model time`.
#[derive(Debug, Args)]
pub(super) struct TimeArgs {
    /// Name under `models/`, or path of a model file; of images.
    name: String,
    /// Dataset whose first image is restored.
    #[arg(long)]
    dataset: String,
    /// Evaluations of the network in one solve by the midpoint rule.
    #[arg(long, default_value_t = 6)]
    nfe: u32,
    /// Random weights in the place of the model's, which need not be there.
    #[arg(long)]
    random_weights: bool,
    /// Keep the network's tapes instead of computing each again in the pull-back: faster, with NFE times the memory.
    #[arg(long)]
    keep_tapes: bool,
    /// Threads; default: all allowed cores.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

/// What was measured.
#[derive(Serialize)]
struct Timed {
    model: PathBuf,
    dataset: String,
    sample: String,
    instruction_set: &'static str,
    threads: usize,
    /// Network calls forward, and vector–Jacobian products.
    nfe: u32,
    nfe_vjp: u32,
    /// Of a tape of one call, in bytes.
    tape_bytes: usize,
    recompute: bool,
    build_seconds: f64,
    forward_seconds: f64,
    pull_back_seconds: f64,
    /// Of one evaluation: solve, loss and pull-back.
    evaluation_seconds: f64,
    loss: f64,
    gradient_norm: f64,
    /// `VmHWM` of this process in bytes: after building, and at the end.
    peak_memory_built: u64,
    peak_memory: u64,
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        writeln!(f, "{} on {} of {}", self.model.display(), self.sample, self.dataset)?;
        writeln!(
            f,
            "one evaluation (solve, loss, pull-back): {:.1} s on {} threads, {}",
            self.evaluation_seconds, self.threads, self.instruction_set
        )?;
        let how = if self.recompute { "each computed again" } else { "from kept tapes" };
        writeln!(f, "  solve {:.1} s for {} network calls", self.forward_seconds, self.nfe)?;
        writeln!(f, "  pull-back {:.1} s for {} calls, {how}", self.pull_back_seconds, self.nfe_vjp)?;
        writeln!(f, "  loss {:.4}, gradient norm {:.4e}", self.loss, self.gradient_norm)?;
        write!(
            f,
            "peak memory {:.2} GiB ({:.2} GiB to build the network in {:.1} s); a tape has {:.2} GiB",
            gib(self.peak_memory),
            gib(self.peak_memory_built),
            self.build_seconds,
            gib(self.tape_bytes as u64)
        )
    }
}

pub(super) fn run(args: &TimeArgs, global: &Global) -> CliResult {
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads));
        pool.build_global().map_err(CliError::failure)?;
    }
    let timed = time(args, global)?;
    let json = serde_json::to_string(&timed).map_err(CliError::failure)?;
    print_lossy(&if global.json { json } else { timed.to_string() });
    Ok(exit::OK)
}

fn time(args: &TimeArgs, global: &Global) -> Result<Timed, CliError> {
    let images = dataset::open(&args.dataset, global.data.as_deref()).map_err(CliError::usage)?;
    let entry = images.manifest().entry(0).map_err(CliError::failure)?;
    let image = images.image(0).map_err(CliError::failure)?;
    let start = Instant::now();
    let (home, data) = (global.home.as_deref(), global.data.as_deref());
    let model = if args.random_weights {
        Model::with_random_weights(&args.name, home)
    } else {
        Model::load(&args.name, home, data)
    }
    .map_err(CliError::usage)?;
    let mut field = model.field();
    let (build_seconds, peak_memory_built) = (start.elapsed().as_secs_f64(), peak_memory());
    if model.state() != StateShape::Image(image.shape) {
        return Err(CliError::usage(format!(
            "the model {} is not of images of the shape {:?} that {} has",
            args.name, image.shape, args.dataset
        )));
    }
    let cond = match entry.label {
        Some(label) if model.classes() > 0 => Cond::Class(label),
        _ if model.classes() > 0 => Cond::Class(0),
        _ => Cond::None,
    };
    let problem = Problem::new(images.manifest().name(), &entry.id, &image)?;
    let measured = problem.evaluate(&mut *field, args, cond)?;
    Ok(Timed {
        model: model.path().to_owned(),
        dataset: args.dataset.clone(),
        sample: entry.id.clone(),
        instruction_set: kernel::instruction_set(),
        threads: rayon::current_num_threads(),
        nfe: measured.nfe,
        nfe_vjp: measured.nfe_vjp,
        tape_bytes: field.tape_bytes_per_row(),
        recompute: !args.keep_tapes,
        build_seconds,
        forward_seconds: measured.forward,
        pull_back_seconds: measured.pull_back,
        evaluation_seconds: measured.whole,
        loss: measured.loss,
        gradient_norm: measured.gradient_norm,
        peak_memory_built,
        peak_memory: peak_memory(),
    })
}

/// The paper's inpainting of a centre hole of 5/16 of the side, with noise 0.05.
struct Problem {
    operator: Operator,
    y: Vec<f32>,
    x0: Vec<f32>,
}

/// What one evaluation took.
struct Measured {
    nfe: u32,
    nfe_vjp: u32,
    /// Seconds.
    forward: f64,
    pull_back: f64,
    whole: f64,
    loss: f64,
    gradient_norm: f64,
}

impl Problem {
    fn new(dataset: &str, sample: &str, image: &dataset::Image) -> Result<Self, CliError> {
        let stream = |purpose| Stream::new(0, dataset, sample, purpose);
        let [channels, height, width] = image.shape.map(|side| side as u32);
        let mask = OperatorSpec::CenterMask(CenterMask { size: height.min(width) * 5 / 16 });
        let shape = image_shape(ImageShape { channels, height, width });
        let operator =
            Degradation::new(&mask, shape).map_err(CliError::usage)?.for_sample(&mut stream(Purpose::Mask));
        let y = measure(&operator, &image.data, 0.05, &mut stream(Purpose::MeasurementNoise));
        Ok(Self { operator, y, x0: stream(Purpose::Init).normals(image.data.len()) })
    }

    /// x(1) of x₀, its loss, and the gradient of the loss with respect to x₀.
    fn evaluate(
        &self,
        field: &mut dyn VelocityField<f32>,
        args: &TimeArgs,
        cond: Cond,
    ) -> Result<Measured, CliError> {
        let loss = LossSpec::NegPsnr(LossSpace::Measurement);
        let grid = Grid::forward(SolverSpec::Midpoint(FixedSteps { nfe: args.nfe }));
        let keep = if args.keep_tapes { Keep::Tape } else { Keep::Inputs };
        let start = Instant::now();
        let (solution, tape) = solve_taped(field, &grid, &self.x0, &[cond], keep).map_err(CliError::usage)?;
        let forward = start.elapsed().as_secs_f64();
        let target = target(&loss, &self.operator, &self.y);
        let (fit, cotangent) = evaluate(&loss, &self.operator, &self.y, &target, &solution.x);
        let back = Instant::now();
        let gradient = pull_back(field, tape, &[cond], &cotangent).map_err(CliError::failure)?;
        let norm2: f64 = gradient.x.iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
        Ok(Measured {
            nfe: solution.nfe[0],
            nfe_vjp: gradient.nfe_vjp[0],
            forward,
            pull_back: back.elapsed().as_secs_f64(),
            whole: start.elapsed().as_secs_f64(),
            loss: fit.loss,
            gradient_norm: norm2.sqrt(),
        })
    }
}
