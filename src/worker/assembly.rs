//! From a plan to problems: what all workers of a run share, read once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::device::{Device, DeviceKind};
use super::engine::{Engine, Field, Slot, StoredSolve};
use super::protocol::MemoryPlan;
use crate::catalog::{Catalog, Prior, image_shape};
use crate::dataset::Dataset;
use crate::flow::Cond;
use crate::method::{Draws, Problem};
use crate::operator::{Degradation, Shape, measure};
use crate::plan::{Cell, Plan, Unit};
use crate::points::InitialPoints;
use crate::random::{Purpose, Stream};
use crate::spec::dataset::DatasetRef;
use crate::spec::init::InitSpec;
use crate::spec::method::{ConditionSpec, MethodSpec};

/// Plan, dataset, models and degradations of a run.
pub struct Assembly {
    /// The plan.
    pub plan: Plan,
    dataset: Arc<dyn Dataset>,
    priors: Vec<Prior>,
    cells: Vec<Prepared>,
}

/// What a cell needs besides its sample.
struct Prepared {
    degradation: Arc<Degradation>,
    /// Index of its prior.
    prior: Option<usize>,
    points: Option<Arc<InitialPoints>>,
}

/// A sample with its measurement, before any method sees it.
pub struct Sample {
    /// The sample's id.
    pub id: String,
    /// Its label.
    pub label: Option<u32>,
    /// Ground truth: `channels × height × width` in [−1, 1].
    pub truth: Vec<f32>,
}

impl Assembly {
    /// Opens everything that the plan names.
    ///
    /// # Errors
    /// A whole sentence: what is missing or wrong, where, and what to do.
    pub fn new(plan: Plan, dataset: &DatasetRef, catalog: &Catalog) -> Result<Self, String> {
        let mut priors: Vec<(String, Prior)> = Vec::new();
        let mut degradations: BTreeMap<String, Arc<Degradation>> = BTreeMap::new();
        let shape = image_shape(plan.dataset.shape);
        let mut cells = Vec::new();
        for cell in &plan.cells {
            let degradation = match degradations.get(&cell.task) {
                Some(known) => Arc::clone(known),
                None => Arc::new(
                    Degradation::new(&cell.operator, shape)
                        .map_err(|error| format!("task `{}`: {error}", cell.task))?,
                ),
            };
            degradations.insert(cell.task.clone(), Arc::clone(&degradation));
            let prior = match &cell.model {
                None => None,
                Some(model) => {
                    let known = priors.iter().position(|(identity, _)| *identity == model.info.identity);
                    Some(if let Some(index) = known {
                        index
                    } else {
                        priors.push((
                            model.info.identity.clone(),
                            catalog.open_model(&model.reference, dataset)?,
                        ));
                        priors.len() - 1
                    })
                }
            };
            cells.push(Prepared { degradation, prior, points: given_points(cell)? });
        }
        let dataset = catalog.open_dataset(dataset)?;
        Ok(Self { plan, dataset, priors: priors.into_iter().map(|(_, prior)| prior).collect(), cells })
    }

    /// One field per prior, for one worker.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub fn fields(&self, device: &Device) -> Result<Vec<Field>, String> {
        match &device.kind {
            DeviceKind::Cpu { .. } => Ok(self.priors.iter().map(Prior::field).collect()),
            DeviceKind::Cuda { index } => {
                self.priors.iter().map(|prior| super::cuda::field(prior, *index)).collect()
            }
        }
    }

    /// The decision between tape and recompute.
    pub fn memory_plan(&self, engine: &Engine) -> MemoryPlan {
        engine.memory_plan(self.plan.cells.iter().filter_map(|cell| match &cell.solve {
            MethodSpec::Dflow(spec) => spec.solver.nfe(),
            MethodSpec::Pinv(_) => None,
        }))
    }

    /// Shape of every image of the dataset.
    pub fn shape(&self) -> Shape {
        image_shape(self.plan.dataset.shape)
    }

    /// The cell of a unit.
    pub fn cell(&self, unit: Unit) -> &Cell {
        &self.plan.cells[unit.cell]
    }

    /// Reads a unit's sample.
    ///
    /// # Errors
    /// When this sample cannot be read; the others may.
    pub fn sample(&self, unit: Unit) -> Result<Sample, String> {
        let image = self.dataset.image(unit.sample).map_err(|error| error.to_string())?;
        let label = self.dataset.manifest().entries().get(unit.sample).and_then(|entry| entry.label);
        Ok(Sample { id: self.plan.dataset.samples[unit.sample].clone(), label, truth: image.data })
    }

    fn stream(&self, id: &str, purpose: Purpose) -> Stream {
        Stream::new(self.plan.seed, &self.plan.dataset.id, id, purpose)
    }

    /// The problem of a unit: operator, measurement and initial noise. Equal for every method but for its options.
    ///
    /// # Errors
    /// When the sample or its given initial point cannot be read.
    pub fn problem(&self, unit: Unit, sample: &Sample) -> Result<Problem, String> {
        let (cell, prepared) = (self.cell(unit), &self.cells[unit.cell]);
        let operator = prepared.degradation.for_sample(&mut self.stream(&sample.id, Purpose::Mask));
        let mut noise = self.stream(&sample.id, Purpose::MeasurementNoise);
        let measurement = measure(&operator, &sample.truth, cell.noise, &mut noise);
        let given = prepared.points.as_ref().map(|points| points.point(&sample.id)).transpose()?;
        let stream = |purpose| self.stream(&sample.id, purpose);
        let draws = Draws { given, ..Draws::for_method(&cell.solve, sample.truth.len(), stream) };
        Ok(Problem::new(cell.solve.clone(), operator, measurement, cell.noise, draws))
    }

    /// Opens a unit: a new solve, or one that goes on from a checkpoint.
    ///
    /// # Errors
    /// When the sample cannot be read, its label does not suit the model, or a Gaussian cannot be fitted.
    pub fn open(&self, unit: Unit, stored: Option<StoredSolve>) -> Result<Slot, String> {
        let sample = self.sample(unit)?;
        let problem = self.problem(unit, &sample)?;
        let prior = self.cells[unit.cell].prior;
        if let Some(index) = prior {
            self.priors[index].prepare()?;
        }
        let cond = self.condition(unit, sample.label)?;
        Ok(Slot::new(unit, prior, cond, problem, stored))
    }

    /// Starts to prepare the priors of these units on a thread of its own; gives what takes long of it.
    ///
    /// Units of a prior that is not [ready](Self::is_ready) wait meanwhile, the others are solved.
    pub fn prepare(&self, units: &[Unit]) -> Vec<&'static str> {
        let used: BTreeSet<usize> = units.iter().filter_map(|unit| self.cells[unit.cell].prior).collect();
        let priors: Vec<Prior> = used.into_iter().map(|index| self.priors[index].clone()).collect();
        let slow = priors.iter().filter_map(Prior::preparation).collect();
        let prepare = |priors: &[Prior]| {
            for prior in priors {
                // Its error is told again to every unit that needs it.
                let _ = prior.prepare();
            }
        };
        let own = priors.clone();
        let thread = std::thread::Builder::new().name("prepare".to_owned());
        if thread.spawn(move || prepare(&own)).is_err() {
            // Without another thread on this one: units must not wait for ever.
            prepare(&priors);
        }
        slow
    }

    /// Whether a unit can be opened without a long wait.
    pub fn is_ready(&self, unit: Unit) -> bool {
        self.cells[unit.cell].prior.is_none_or(|index| self.priors[index].is_ready())
    }

    fn condition(&self, unit: Unit, label: Option<u32>) -> Result<Cond, String> {
        let classes = self.cell(unit).model.as_ref().map_or(0, |model| model.info.classes);
        let MethodSpec::Dflow(spec) = &self.cell(unit).solve else { return Ok(Cond::None) };
        if classes == 0 {
            return Ok(Cond::None);
        }
        let class = match spec.condition {
            ConditionSpec::None => return Ok(Cond::None),
            ConditionSpec::Fixed(class) => class,
            ConditionSpec::Label(_) => {
                label.ok_or("the sample has no label; write `condition: {fixed: …}`")?
            }
        };
        if class < classes {
            Ok(Cond::Class(class))
        } else {
            Err(format!("label {class} is out of range: the model has classes 0 to {}", classes - 1))
        }
    }
}

fn given_points(cell: &Cell) -> Result<Option<Arc<InitialPoints>>, String> {
    let MethodSpec::Dflow(spec) = &cell.solve else { return Ok(None) };
    let InitSpec::Given(path) = &spec.init else { return Ok(None) };
    Ok(Some(Arc::new(InitialPoints::read(std::path::Path::new(path))?)))
}
