//! `dflow draws`: every random draw of a pipeline as safetensors, for peers.
//!
//! Tensors (f32): `truth/<sample>`, `y/<task>/<sample>`, `z/<sample>` (noise of the initial point),
//! `noise/<sample>` (of the steps of methods that draw some, step by step; of which one of fewer steps takes the first),
//! `x0/<method>/<task>/<sample>`, `atoms/<sample>` and `target/<task>/<sample>` of molecules, and where they are drawn
//! `steps/<method>/<task>/<sample>` (noise of a stochastic sampler, step by step), `probes/<method>/<task>/<sample>`
//! (signs of the likelihood penalty, probe by probe) and `hole/<task>/<sample>` (1: not observed; per pixel). The labels
//! of the samples stand in the file's metadata as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use safetensors::tensor::{Dtype, View, serialize};

use super::execute::check_models;
use super::pipeline::PipelineArgs;
use super::{CliError, CliResult, Global, print_lossy};
use crate::atomic;
use crate::exit;
use crate::method::{Goal, PropertyTarget, Restoration, StepNoise};
use crate::plan::Unit;
use crate::score::{Content, Sample};
use crate::spec::method::MethodSpec;
use crate::worker::assembly::Assembly;
use crate::worker::device::{Device, DeviceKind, granted_cores};
use crate::worker::engine::{Engine, MemoryBudget};

/// Options of `dflow draws`.
#[derive(Debug, Args)]
pub(super) struct DrawsArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// File to write.
    out: PathBuf,
}

/// A flat f32 tensor.
struct Flat(Vec<usize>, Vec<u8>);

impl Flat {
    fn new(values: &[f32]) -> Self {
        Self(vec![values.len()], values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }
}

impl View for Flat {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.0
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.1).into()
    }
    fn data_len(&self) -> usize {
        self.1.len()
    }
}

pub(super) fn run(args: &DrawsArgs, global: &Global) -> CliResult {
    let resolved = args.pipeline.resolve(global)?;
    let (plan, dataset) = (&resolved.plan, &resolved.document.spec.dataset);
    let assembly = Assembly::new(plan.clone(), dataset, &resolved.catalog).map_err(CliError::usage)?;
    let mut starts = Starts::new(&assembly)?;
    let mut tensors: BTreeMap<String, Flat> = BTreeMap::new();
    let mut labels = BTreeMap::new();
    for unit in plan.units(resolved.shard) {
        let cell = assembly.cell(unit);
        let sample = assembly.sample(unit).map_err(CliError::failure)?;
        let problem = assembly.problem(unit, &sample).map_err(CliError::failure)?;
        let id = &sample.id;
        let of_method = |what: &str| format!("{what}/{}/{}/{id}", cell.method, cell.task);
        labels.insert(id.clone(), sample.label);
        insert_goal(&mut tensors, &cell.task, &sample, &problem.goal);
        if !problem.draws.z.is_empty() {
            tensors.insert(format!("z/{id}"), Flat::new(&problem.draws.z));
        }
        if let Some(noise) = &problem.draws.noise {
            insert_noise(&mut tensors, id, noise, problem.dim());
        }
        if !problem.draws.probes.is_empty() {
            tensors.insert(of_method("probes"), Flat::new(&problem.draws.probes.concat()));
        }
        if !problem.draws.steps.is_empty() {
            tensors.insert(of_method("steps"), Flat::new(&problem.draws.steps.concat()));
        }
        if let Some(start) = starts.find(unit)? {
            tensors.insert(of_method("x0"), Flat::new(&start));
        }
    }
    let labels = serde_json::to_string(&labels).map_err(CliError::failure)?;
    let metadata = [("labels".to_owned(), labels)].into_iter().collect();
    let count = tensors.len();
    let failed = |error: &dyn std::fmt::Display| {
        CliError::failure(format!("cannot write {}: {error}", args.out.display()))
    };
    let bytes = serialize(tensors, Some(metadata)).map_err(|error| failed(&error))?;
    atomic::write_bytes(&args.out, &bytes).map_err(|error| failed(&error))?;
    let json = serde_json::json!({ "file": args.out, "tensors": count });
    let text = format!("{}: {count} tensors", args.out.display());
    print_lossy(&if global.json { json.to_string() } else { text });
    Ok(exit::OK)
}

/// Noise of a method's steps: `steps × dim`, the longest that any method needs.
fn insert_noise(tensors: &mut BTreeMap<String, Flat>, id: &str, noise: &StepNoise, dim: usize) {
    let name = format!("noise/{id}");
    let known = tensors.get(&name).map_or(0, |tensor| tensor.shape()[0]);
    if known < noise.count as usize {
        let steps: Vec<f32> = (0..noise.count).flat_map(|step| noise.of(step)).collect();
        let Flat(_, bytes) = Flat::new(&steps);
        tensors.insert(name, Flat(vec![noise.count as usize, dim], bytes));
    }
}

/// What is asked of a sample: truth, measurement and hole of an image, atoms and target of a molecule.
fn insert_goal(tensors: &mut BTreeMap<String, Flat>, task: &str, sample: &Sample, goal: &Goal) {
    let id = &sample.id;
    if let Content::Image(truth) = &sample.content {
        tensors.insert(format!("truth/{id}"), Flat::new(truth));
    }
    match goal {
        Goal::Restore(Restoration { operator, measurement, .. }) => {
            tensors.insert(format!("y/{task}/{id}"), Flat::new(measurement));
            if let Some(hole) = operator.hole() {
                let hole: Vec<f32> = hole.iter().map(|hidden| f32::from(u8::from(*hidden))).collect();
                tensors.insert(format!("hole/{task}/{id}"), Flat::new(&hole));
            }
        }
        Goal::Property(PropertyTarget { points, value }) => {
            tensors.insert(format!("atoms/{id}"), Flat::new(&[points.count as f32]));
            tensors.insert(format!("target/{task}/{id}"), Flat::new(&[*value as f32]));
        }
        Goal::Generate(points) => {
            tensors.insert(format!("atoms/{id}"), Flat::new(&[points.count as f32]));
        }
    }
}

/// Finds the first source points of solves, which may take a backward solve each.
struct Starts<'a> {
    assembly: &'a Assembly,
    engine: Engine,
}

impl<'a> Starts<'a> {
    fn new(assembly: &'a Assembly) -> Result<Self, CliError> {
        let kind = DeviceKind::Cpu { threads: granted_cores().len(), cores: Vec::new() };
        let device = [Device { name: "cpu:0".to_owned(), kind }];
        check_models(assembly.plan(), &device)?;
        let fields = assembly.fields(&device[0]).map_err(CliError::failure)?;
        let engine = Engine::new(fields, MemoryBudget::Recompute, 1).with_readers(assembly.readers());
        Ok(Self { assembly, engine })
    }

    /// x₀ of a unit; none: its method has no source point.
    fn find(&mut self, unit: Unit) -> Result<Option<Vec<f32>>, CliError> {
        if !matches!(self.assembly.cell(unit).solve, MethodSpec::Dflow(_)) {
            return Ok(None);
        }
        self.engine.slots = vec![self.assembly.open(unit, None).map_err(CliError::failure)?];
        loop {
            let slot = &self.engine.slots[0];
            if let Some(error) = &slot.error {
                return Err(CliError::failure(error));
            }
            if let Some(start) = slot.solve().source_point() {
                return Ok(Some(start.to_vec()));
            }
            if slot.is_finished() {
                return Ok(None);
            }
            self.engine.round();
        }
    }
}
