//! `dflow draws`: every random draw of a pipeline as safetensors, for peers.
//!
//! Tensors (f32): `truth/<sample>`, `y/<task>/<sample>`, `z/<sample>`, `x0/<method>/<task>/<sample>`; the labels of the
//! samples stand in the file's metadata as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use safetensors::tensor::{Dtype, View, serialize_to_file};

use super::pipeline::PipelineArgs;
use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::plan::Unit;
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
    let mut tensors: BTreeMap<String, Flat> = BTreeMap::new();
    let mut labels = BTreeMap::new();
    for unit in plan.units(resolved.shard) {
        let cell = assembly.cell(unit);
        let sample = assembly.sample(unit).map_err(CliError::failure)?;
        let problem = assembly.problem(unit, &sample).map_err(CliError::failure)?;
        let id = &sample.id;
        labels.insert(id.clone(), sample.label);
        tensors.insert(format!("truth/{id}"), Flat::new(&sample.truth));
        tensors.insert(format!("z/{id}"), Flat::new(&problem.draws.z));
        tensors.insert(format!("y/{}/{id}", cell.task), Flat::new(&problem.measurement));
        if let Some(start) = initial_point(&assembly, unit)? {
            tensors.insert(format!("x0/{}/{}/{id}", cell.method, cell.task), Flat::new(&start));
        }
    }
    let labels = serde_json::to_string(&labels).map_err(CliError::failure)?;
    let metadata = [("labels".to_owned(), labels)].into_iter().collect();
    let count = tensors.len();
    serialize_to_file(tensors, Some(metadata), &args.out)
        .map_err(|error| CliError::failure(format!("cannot write {}: {error}", args.out.display())))?;
    print_lossy(&format!("{}: {count} tensors", args.out.display()));
    Ok(exit::OK)
}

/// x₀ of a solve: runs it until the first forward solve is asked for.
fn initial_point(assembly: &Assembly, unit: Unit) -> Result<Option<Vec<f32>>, CliError> {
    let device = Device {
        name: "cpu:0".to_owned(),
        kind: DeviceKind::Cpu { threads: granted_cores().len(), cores: vec![] },
    };
    let fields = assembly.fields(&device).map_err(CliError::failure)?;
    let mut engine = Engine::new(fields, MemoryBudget::Recompute, 1);
    engine.slots.push(assembly.open(unit, None).map_err(CliError::failure)?);
    loop {
        let slot = &engine.slots[0];
        if slot.is_finished() {
            return Ok(None);
        }
        if let Some(start) = slot.forward_start() {
            return Ok(Some(start.to_vec()));
        }
        engine.round();
    }
}
