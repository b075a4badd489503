//! From finished solves to durable rows: metrics, reconstruction, record, in this order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::assembly::{Assembly, PropertyReader};
use super::device::{Device, host_name, peak_memory};
use super::engine::{Frozen, Slot, StoredSolve, panic_text};
use crate::flow::{Cond, ReadOut};
use crate::method::{Goal, Outcome, Points, Problem};
use crate::metric::molecule::{molecule_scores, structure};
use crate::molecule::Molecule;
use crate::molecule::sdf::write_sdf;
use crate::molecule::xyz::write_xyz;
use crate::net::kernel;
use crate::plan::Unit;
use crate::score::{Content, Sample, score_image};
use crate::spec::method::MethodSpec;
use crate::spec::metric::MetricSpec;
use crate::spec::metric::SaveSpec;
use crate::spec::stop::StopRule;
use crate::store::artifacts::{ArtifactWriter, Reconstruction, write_png, write_shown, x1_blake3};
use crate::store::checkpoint::{Checkpoints, Origin};
use crate::store::record::SCHEMA_VERSION;
use crate::store::{FeatureRow, FeatureWriter, Key, Record, RunDir, Status, Store, StoreError, TracePoint};

/// Which running solves a checkpoint is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Due {
    /// All.
    Now,
    /// Those with a new outer step that were not stored for so long.
    After(Duration),
}

/// Writes the rows of one worker.
pub(super) struct Writer {
    store: Store,
    artifacts: Option<ArtifactWriter>,
    /// One per feature network.
    features: Vec<FeatureWriter>,
    run_dir: RunDir,
    checkpoints: Checkpoints,
    /// When each running solve was last stored, and its outer steps then.
    checkpointed: BTreeMap<Unit, (Instant, u32)>,
    device: String,
    host: String,
}

impl Writer {
    pub(super) fn open(assembly: &Assembly, run_dir: &RunDir, device: &Device) -> Result<Self, StoreError> {
        let store = run_dir.store()?;
        let keep = !assembly.plan().save.is_empty();
        let new = || ArtifactWriter::new(Arc::clone(run_dir.fs()), run_dir.layout(), store.attempt());
        let artifacts = keep.then(new);
        let features = assembly.scorers().writers(run_dir.fs(), run_dir.layout(), store.attempt())?;
        let checkpoints =
            run_dir.checkpoints(&store, Origin::new(kernel::instruction_set(), &device.name))?;
        Ok(Self {
            store,
            artifacts,
            features,
            run_dir: run_dir.clone(),
            checkpoints,
            checkpointed: BTreeMap::new(),
            device: device.name.clone(),
            host: host_name(),
        })
    }

    /// Attempt that the rows carry.
    pub(super) fn attempt(&self) -> &str {
        self.store.attempt().as_str()
    }

    /// The newest stored state of a unit, if there is a whole one.
    pub(super) fn stored(&mut self, assembly: &Assembly, unit: Unit) -> Option<StoredSolve> {
        let stored = StoredSolve::decode(&self.checkpoints.take(&key(assembly, unit))?);
        if stored.is_none() {
            tracing::warn!("a checkpoint of another version is not used");
        }
        stored
    }

    /// Looks for checkpoints that others have left since this writer was opened.
    pub(super) fn look_again(&mut self) -> Result<(), StoreError> {
        self.checkpoints.look_again()
    }

    /// Stores the running solves that are due.
    pub(super) fn checkpoint(
        &mut self,
        assembly: &Assembly,
        slots: &mut [Slot],
        due: Due,
    ) -> Result<(), StoreError> {
        let now = Instant::now();
        let any_due = slots.iter().any(|slot| !slot.is_finished() && self.is_due(slot, due, now));
        if !any_due {
            return Ok(());
        }
        let saved = self.save(assembly, slots, (due, now));
        // Once more, and everything: the log was removed meanwhile, or its file system refuses the old file.
        if self.checkpoints.is_broken() { self.save(assembly, slots, (due, now)) } else { saved }
    }

    /// Stores the running solves that are due, or all where the log begins anew.
    fn save(
        &mut self,
        assembly: &Assembly,
        slots: &mut [Slot],
        (due, now): (Due, Instant),
    ) -> Result<(), StoreError> {
        let all = self.checkpoints.begins_anew();
        let mut chosen: Vec<&mut Slot> = slots.iter_mut().filter(|slot| !slot.is_finished()).collect();
        chosen.retain(|slot| all || self.is_due(slot, due, now));
        for slot in &chosen {
            self.checkpointed.insert(slot.unit, (now, slot.solve().progress().outer_steps));
        }
        self.checkpoints.save(chosen.into_iter().map(|slot| {
            let key = key(assembly, slot.unit);
            Frozen::new(slot, key)
        }))
    }

    /// Whether a running solve is to be stored. Between two outer steps its state changes little, and a crash repeats
    /// less than one.
    fn is_due(&self, slot: &Slot, due: Due, now: Instant) -> bool {
        let Due::After(time) = due else { return true };
        let outer_steps = slot.solve().progress().outer_steps;
        let (is_late, known) = match self.checkpointed.get(&slot.unit) {
            Some((at, known)) => (now.duration_since(*at) >= time, *known),
            None => (slot.held_for() >= time, 0),
        };
        is_late && (outer_steps > known || !slot.solve().is_differentiated())
    }

    /// Makes the rows of finished solves durable; gives the error of each that failed.
    pub(super) fn finish(
        &mut self,
        assembly: &Assembly,
        slots: &[Slot],
    ) -> Result<Vec<Option<String>>, StoreError> {
        let identities: Vec<Record> = slots.iter().map(|slot| self.identity(assembly, slot.unit)).collect();
        let mut rows: Vec<Row> = slots
            .par_iter()
            .zip(identities)
            .map(|(slot, identity)| guarded(assembly, slot, identity))
            .collect();
        if assembly.plan().save.contains(&SaveSpec::Reconstructions) {
            self.keep(assembly, slots, &mut rows)?;
        }
        self.keep_trajectories(assembly, slots, &mut rows)?;
        self.keep_features(&rows)?;
        let (records, errors): (Vec<Record>, Vec<Option<String>>) =
            rows.into_iter().map(|row| (row.record.clone(), row.record.error)).unzip();
        self.store.append_all(&records)?;
        for slot in slots {
            self.checkpointed.remove(&slot.unit);
            self.checkpoints.forget(&key(assembly, slot.unit));
        }
        Ok(errors)
    }

    /// Keeps what solves have kept of their way: durable before their rows.
    fn keep_trajectories(
        &mut self,
        assembly: &Assembly,
        slots: &[Slot],
        rows: &mut [Row],
    ) -> Result<(), StoreError> {
        let Some(artifacts) = &mut self.artifacts else { return Ok(()) };
        let kept: Vec<KeptWay<'_>> = slots
            .iter()
            .zip(rows)
            .filter(|(slot, row)| row.x1.is_some() && !slot.solve().snapshots().is_empty())
            .map(|(slot, row)| KeptWay::new(assembly, slot, row))
            .collect();
        let items =
            kept.iter().map(|way| Reconstruction { key: &way.key, shape: &way.shape, x1: &way.points });
        let placed = artifacts.append(&items.collect::<Vec<_>>())?;
        for (way, artifact) in kept.into_iter().zip(placed) {
            artifact.describe_trajectory(way.evals, &mut way.row.record);
        }
        Ok(())
    }

    /// Keeps the reconstructions: durable before their rows.
    fn keep(&mut self, assembly: &Assembly, slots: &[Slot], rows: &mut [Row]) -> Result<(), StoreError> {
        let Some(artifacts) = &mut self.artifacts else { return Ok(()) };
        let keys: Vec<(Key, Vec<u32>)> =
            slots.iter().map(|slot| (key(assembly, slot.unit), state_shape(&slot.problem))).collect();
        let kept: Vec<(&(Key, Vec<u32>), &mut Row)> =
            keys.iter().zip(rows).filter(|(_, row)| row.x1.is_some()).collect();
        let items = kept
            .iter()
            .filter_map(|((key, shape), row)| Some(Reconstruction { key, shape, x1: row.x1.as_deref()? }));
        let placed = artifacts.append(&items.collect::<Vec<_>>())?;
        let (fs, layout) = (&**self.run_dir.fs(), self.run_dir.layout());
        for (((_, shape), row), artifact) in kept.into_iter().zip(placed) {
            artifact.describe(&mut row.record);
            match (&row.molecule, &row.x1) {
                (Some(molecule), _) => {
                    for (kind, text) in molecule_files(molecule, &row.record) {
                        write_shown(fs, layout, &row.record, kind, text.as_bytes())?;
                    }
                }
                (None, Some(x1)) => write_png(fs, layout, &row.record, shape, x1)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Keeps the features of what was reconstructed: durable before the rows, as reconstructions are.
    fn keep_features(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let keys: Vec<Key> = rows.iter().map(|row| row.record.key()).collect();
        for (net, writer) in self.features.iter_mut().enumerate() {
            let of_net = keys.iter().zip(rows).filter_map(|(key, row)| {
                let x1_blake3 = row.record.x1_blake3.as_deref()?;
                Some(FeatureRow { key, x1_blake3, features: row.features.get(net)? })
            });
            writer.append(&of_net.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Makes the row of a unit durable that could not even begin.
    pub(super) fn fail(&mut self, assembly: &Assembly, unit: Unit, error: &str) -> Result<(), StoreError> {
        let record =
            Record { status: Status::Failed, error: Some(error.to_owned()), ..self.identity(assembly, unit) };
        self.store.append(&record)
    }

    /// The worker's orderly end; `leaves_solves`: running ones were stored, to go on elsewhere.
    pub(super) fn close(&mut self, leaves_solves: bool) -> Result<(), StoreError> {
        if !leaves_solves {
            self.checkpoints.clear();
        }
        self.store.flush_part()
    }

    fn identity(&self, assembly: &Assembly, unit: Unit) -> Record {
        let (plan, cell) = (assembly.plan(), assembly.cell(unit));
        Record {
            task: cell.task.clone(),
            method: cell.method.clone(),
            sample_id: plan.dataset.samples[unit.sample].clone(),
            cell_hash: cell.hash.to_string(),
            dataset: plan.dataset.id.clone(),
            split: plan.dataset.split.clone(),
            seed: plan.seed,
            schema_version: SCHEMA_VERSION,
            reproducible: true,
            device: self.device.clone(),
            instruction_set: kernel::instruction_set().to_owned(),
            host: self.host.clone(),
            peak_memory: Some(peak_memory()),
            ..Record::default()
        }
    }
}

/// A record, and the reconstruction that may be kept with it.
struct Row {
    record: Record,
    x1: Option<Vec<f32>>,
    /// The molecule of `x1`, if it is one.
    molecule: Option<Molecule>,
    /// Feature vectors of `x1`, one per network.
    features: Vec<Vec<f32>>,
}

/// The way of a solve, as it is stored.
struct KeptWay<'a> {
    row: &'a mut Row,
    key: Key,
    evals: Vec<u32>,
    shape: Vec<u32>,
    /// x₀ and x(1) of each evaluation.
    points: Vec<f32>,
}

impl<'a> KeptWay<'a> {
    fn new(assembly: &Assembly, slot: &Slot, row: &'a mut Row) -> Self {
        let way = slot.solve().snapshots();
        Self {
            row,
            key: key(assembly, slot.unit),
            evals: way.iter().map(|snapshot| snapshot.eval).collect(),
            shape: [vec![way.len() as u32, 2], state_shape(&slot.problem)].concat(),
            points: way.iter().flat_map(|s| s.x0.iter().chain(&s.x1)).copied().collect(),
        }
    }
}

impl Row {
    fn failed(record: Record, error: String) -> Self {
        let record = Record { status: Status::Failed, error: Some(error), ..record };
        Self { record, x1: None, molecule: None, features: Vec::new() }
    }

    fn new(record: Record, x1: Vec<f32>, molecule: Option<Molecule>) -> Self {
        Self { record, x1: Some(x1), molecule, features: Vec::new() }
    }
}

/// Shape of a sample's state: channels, height and width, or atoms and columns.
fn state_shape(problem: &Problem) -> Vec<u32> {
    match &problem.goal {
        Goal::Restore(restoration) => {
            let shape = restoration.operator.shape();
            [shape.channels, shape.height, shape.width].map(|side| side as u32).to_vec()
        }
        Goal::Property(crate::method::PropertyTarget { points, .. }) | Goal::Generate(points) => {
            vec![points.count as u32, points.columns as u32]
        }
    }
}

/// A molecule's files for eyes, by kind. Atoms that flew too far apart have no place in the columns of an SDF.
fn molecule_files(molecule: &Molecule, record: &Record) -> Vec<(&'static str, String)> {
    let title = title(record);
    let structure = structure(molecule);
    let values = [("target", record.target), ("property", record.property)];
    let data: Vec<(&str, String)> =
        values.iter().filter_map(|(name, value)| Some((*name, format!("{:.6}", (*value)?)))).collect();
    let mut files = vec![("xyz", write_xyz(molecule, &title))];
    match write_sdf(molecule, &title, &structure.bonds, &structure.charges, &data) {
        Ok(sdf) => files.push(("sdf", sdf)),
        Err(error) => tracing::warn!(sample = %record.sample_id, %error, "no SDF is written"),
    }
    files
}

/// What the comment line of a molecule's file says.
fn title(record: &Record) -> String {
    let property = record.property.zip(record.target);
    let property = property.map(|(value, target)| format!(" property {value:.4} target {target:.4}"));
    let Record { task, method, sample_id, .. } = record;
    format!("{task}/{method}/{sample_id}{}", property.unwrap_or_default())
}

fn key(assembly: &Assembly, unit: Unit) -> Key {
    let (hash, id) = assembly.plan().key(unit);
    (hash.to_string(), id.to_owned())
}

/// The lowest target of a method's stop rules: reaching it ends the solve.
fn target_psnr(method: &MethodSpec) -> Option<f64> {
    let MethodSpec::Dflow(spec) = method else { return None };
    let targets = spec.stop.iter().filter_map(|rule| match rule {
        StopRule::TargetPsnr(target) => Some(*target),
        _ => None,
    });
    targets.min_by(f64::total_cmp)
}

/// The image metrics of a reconstruction, and its features.
fn score_reconstruction(
    assembly: &Assembly,
    slot: &Slot,
    truth: &[f32],
    outcome: &Outcome,
    record: Record,
) -> Result<(Record, Vec<Vec<f32>>), String> {
    let Some((shape, restoration)) = assembly.image_shape().zip(slot.problem.goal.restoration()) else {
        return Ok((record, Vec::new()));
    };
    let hole = restoration.operator.hole();
    let x1 = &outcome.reconstruction;
    let families = (assembly.plan().metrics.as_slice(), assembly.scorers());
    let record = score_image(x1, truth, shape, hole, families, record)?;
    Ok((record, assembly.scorers().feature_vectors(x1, shape)?))
}

/// The molecule's own metrics and its property.
fn score_molecule(
    assembly: &Assembly,
    slot: &Slot,
    molecule: &Molecule,
    outcome: &Outcome,
    record: Record,
) -> Result<Record, String> {
    let mut record = Record { n_atoms: Some(molecule.len() as u32), ..record };
    if assembly.plan().metrics.contains(&MetricSpec::Molecule) {
        let scores = molecule_scores(molecule);
        record.stable_atoms = Some(scores.stable_atoms as u32);
        record.molecule_stable = Some(scores.stable);
        record.molecule_valid = Some(scores.valid);
        record.fragments = Some(scores.fragments as u32);
        record.borderline_bonds = Some(scores.borderline_bonds as u32);
        record.molecule_graph = scores.graph.map(|graph| graph.to_text());
    }
    let (Goal::Property(goal), Some(reader)) = (&slot.problem.goal, assembly.reader(slot.unit)) else {
        return Ok(record);
    };
    let value = f64::from(reader.classifier.predict(molecule));
    if !value.is_finite() {
        return Err("the classifier gives no finite number for the molecule: see its positions".to_owned());
    }
    record.target = Some(goal.value);
    record.property = Some(value);
    record.property_error = Some((value - goal.value).abs());
    record.property_relaxed = Some(relaxed(reader, goal.points, &outcome.reconstruction)?);
    Ok(record)
}

/// The property of x(1) as the loss sees it.
fn relaxed(reader: &PropertyReader, points: Points, x1: &[f32]) -> Result<f64, String> {
    let mut state = x1.to_vec();
    state.resize(reader.representation.dim(), 0.0);
    let mut value = [0.0];
    let cond = [Cond::Atoms(points.count as u32)];
    let mut read_out = reader.classifier.read_out(reader.representation);
    read_out.read(&state, &cond, &mut value).map_err(|error| error.to_string())?;
    Ok(f64::from(value[0]))
}

/// The record of a solve that ended in order.
fn scored(assembly: &Assembly, slot: &Slot, sample: &Sample, outcome: &Outcome, record: Record) -> Record {
    let target = target_psnr(&assembly.cell(slot.unit).solve);
    Record {
        label: sample.label,
        stop_reason: Some(outcome.stop_reason.to_string()),
        reproducible: outcome.stop_reason.is_reproducible(),
        observed_psnr: outcome.observed_psnr,
        best_psnr: outcome.best_psnr,
        target_psnr: target,
        target_reached: target.zip(outcome.observed_psnr).map(|(target, psnr)| psnr >= target),
        loss: outcome.loss,
        x0_norm: outcome.x0_norm,
        bits_per_dim: slot.solve().bits().map(|bits| bits.mean),
        bits_per_dim_error: slot.solve().bits().and_then(|bits| bits.error),
        x1_blake3: Some(x1_blake3(&outcome.reconstruction)),
        trace: outcome
            .trace
            .iter()
            .map(|point| TracePoint {
                eval: point.eval,
                seconds: point.seconds,
                loss: point.loss,
                psnr: point.psnr,
            })
            .collect(),
        ..record
    }
}

/// As [`row`]; a panic in it is this sample's failure, not the worker's.
fn guarded(assembly: &Assembly, slot: &Slot, identity: Record) -> Row {
    let failed = identity.clone();
    catch_unwind(AssertUnwindSafe(|| row(assembly, slot, identity))).unwrap_or_else(|panic| {
        let error = format!("the scoring panicked: {}; please report this", panic_text(&*panic));
        Row::failed(failed, error)
    })
}

/// The row of a finished solve; `identity` holds what does not depend on its end.
fn row(assembly: &Assembly, slot: &Slot, identity: Record) -> Row {
    let (progress, cost) = (slot.solve().progress(), slot.cost());
    let record = Record {
        outer_steps: progress.outer_steps,
        evals: progress.evals,
        nfe_forward: cost.nfe_forward,
        nfe_vjp: cost.nfe_vjp,
        wall_seconds: slot.seconds(),
        device_seconds: cost.device_seconds,
        ..identity
    };
    let failed = |error: String| Row::failed(record.clone(), error);
    if let Some(error) = &slot.error {
        return failed(error.clone());
    }
    let sample = match assembly.sample(slot.unit) {
        Ok(sample) => sample,
        Err(error) => return failed(error),
    };
    let Some(outcome) = slot.solve().outcome() else {
        return failed("the solve ended without a result; please report this".to_owned());
    };
    if !outcome.reconstruction.iter().all(|value| value.is_finite()) {
        let remedy = match assembly.cell(slot.unit).solve {
            MethodSpec::Dflow(_) => "look at the trace, and lower `lr` or change `init`",
            MethodSpec::OtOde(_) | MethodSpec::Pigdm(_) => {
                "look at the trace, take more steps, or start later (`start`)"
            }
            MethodSpec::RedDiff(_) => "look at the trace, and lower `lr` or `lambda`, or change `init`",
            MethodSpec::Sample(_) | MethodSpec::Ancestral(_) => "take more steps, or check the weights",
            MethodSpec::Pinv(_) | MethodSpec::Likelihood(_) => {
                "give H† a cut-off (`pinv_cutoff`), or lower the task's noise"
            }
        };
        return failed(format!("the reconstruction is not finite; {remedy}"));
    }
    let record = scored(assembly, slot, &sample, &outcome, record);
    match &sample.content {
        Content::Image(truth) => {
            match score_reconstruction(assembly, slot, truth, &outcome, record.clone()) {
                Ok((record, features)) => Row { features, ..Row::new(record, outcome.reconstruction, None) },
                Err(error) => Row::failed(record, error),
            }
        }
        Content::Molecule { atoms } => {
            let Some(representation) = assembly.representation(slot.unit) else {
                return Row::failed(record, "the model does not make molecules".to_owned());
            };
            let molecule = representation.decode(&outcome.reconstruction, *atoms);
            match score_molecule(assembly, slot, &molecule, &outcome, record.clone()) {
                Ok(record) => Row::new(record, outcome.reconstruction, Some(molecule)),
                Err(error) => Row::failed(record, error),
            }
        }
    }
}
