//! From a plan to problems: what all workers of a run share, read once.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::device::{Device, DeviceKind};
use super::engine::{Engine, Field, Reader, Slot, StoredSolve};
use super::protocol::{MemoryPlan, Work};
use crate::catalog::{Catalog, Prior, Samples};
use crate::flow::Cond;
use crate::method::{Draws, Goal, Points, Problem, PropertyTarget, Restoration};
use crate::molecule::Representation;
use crate::net::egnn::Classifier;
use crate::operator::{Shape, measure};
use crate::plan::{self, Cell, Plan, Unit};
use crate::points::InitialPoints;
use crate::random::Purpose;
use crate::score::{Content, Ground, Sample, Scorers};
use crate::spec::dataset::DatasetRef;
use crate::spec::init::InitSpec;
use crate::spec::method::{ConditionSpec, MethodSpec};
use crate::spec::metric::SaveSpec;

/// Plan, dataset, models and degradations of a run.
pub struct Assembly {
    ground: Ground,
    scorers: Scorers,
    priors: Vec<Prior>,
    readers: Vec<PropertyReader>,
    cells: Vec<Prepared>,
}

/// What a cell needs besides its sample.
struct Prepared {
    /// Index of its prior.
    prior: Option<usize>,
    /// Index of its property reader.
    reader: Option<usize>,
    points: Option<Arc<InitialPoints>>,
}

/// A classifier for the states of a model.
#[derive(Clone)]
pub struct PropertyReader {
    /// The classifier.
    pub classifier: Classifier,
    /// What the model's states are.
    pub representation: Representation,
}

/// A network of a plan, and a typical row of it.
pub struct Subject {
    /// Index of its field.
    pub field: usize,
    /// Its model's identity.
    pub identity: String,
    /// The row's condition.
    pub cond: Cond,
}

impl Assembly {
    /// Opens everything that the plan names.
    ///
    /// # Errors
    /// A whole sentence: what is missing or wrong, where, and what to do.
    pub fn new(plan: Plan, dataset: &DatasetRef, catalog: &Catalog) -> Result<Self, String> {
        let mut priors: Vec<(String, Prior)> = Vec::new();
        let scorers = Scorers::open(&plan.metrics, catalog)?;
        let mut readers: Vec<(String, PropertyReader)> = Vec::new();
        let mut cells = Vec::new();
        for cell in &plan.cells {
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
            let reader = match (&cell.goal, prior) {
                (plan::Goal::Property(goal), Some(prior)) => {
                    Some(reader(&mut readers, goal, &priors[prior].1, catalog)?)
                }
                _ => None,
            };
            cells.push(Prepared { prior, reader, points: given_points(cell)? });
        }
        let priors = priors.into_iter().map(|(_, prior)| prior).collect();
        let readers = readers.into_iter().map(|(_, reader)| reader).collect();
        let ground = Ground::new(plan, dataset, catalog)?;
        Ok(Self { ground, scorers, priors, readers, cells })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        self.ground.plan()
    }

    /// The networks of its metrics.
    pub fn scorers(&self) -> &Scorers {
        &self.scorers
    }

    /// One field per prior, for one worker.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub fn fields(&self, device: &Device) -> Result<Vec<Field>, String> {
        match &device.kind {
            DeviceKind::Cpu { .. } | DeviceKind::Sim { .. } => {
                Ok(self.priors.iter().map(Prior::field).collect())
            }
            DeviceKind::Cuda { index, .. } => {
                self.priors.iter().map(|prior| super::cuda::field(prior, *index)).collect()
            }
        }
    }

    /// One read-out per property, for one worker. They run on the host: a classifier is called once in a hundred
    /// network calls.
    pub fn readers(&self) -> Vec<Reader> {
        let reader = |reader: &PropertyReader| -> Reader {
            Box::new(reader.classifier.read_out(reader.representation))
        };
        self.readers.iter().map(reader).collect()
    }

    /// A field of the unit's prior, on the host and ready to be evaluated; `None`: its method needs none.
    ///
    /// # Errors
    /// When the prior cannot be made ready.
    pub fn field(&self, unit: Unit) -> Result<Option<Field>, String> {
        let Some(index) = self.cells[unit.cell].prior else { return Ok(None) };
        self.priors[index].prepare()?;
        Ok(Some(self.priors[index].field()))
    }

    /// The networks that there is work for, each once; closed forms are none.
    pub fn subjects(&self, work: &Work) -> Vec<Subject> {
        let mut subjects: Vec<Subject> = Vec::new();
        for &index in &work.cells {
            let (cell, prepared) = (&self.plan().cells[index], &self.cells[index]);
            let (Some(field), Some(model)) = (prepared.prior, &cell.model) else { continue };
            let is_network = matches!(self.priors[field], Prior::Network(_));
            if !is_network || subjects.iter().any(|subject| subject.field == field) {
                continue;
            }
            let cond = match self.priors[field].representation() {
                // QM9's molecules have 18 atoms on average, of 29 at the most.
                Some(representation) => Cond::Atoms((2 * representation.max_atoms).div_ceil(3) as u32),
                None if model.info.classes > 0 => Cond::Class(0),
                None => Cond::None,
            };
            subjects.push(Subject { field, identity: model.info.identity.clone(), cond });
        }
        subjects
    }

    /// The decision between tape and recompute.
    pub fn memory_plan(&self, engine: &Engine, work: &Work) -> MemoryPlan {
        engine.memory_plan([self.calls_kept(work)])
    }

    /// Most network calls that a pull-back may need the tapes of at a time.
    pub fn calls_kept(&self, work: &Work) -> u32 {
        let calls = work.cells.iter().filter_map(|cell| match &self.plan().cells[*cell].solve {
            MethodSpec::Dflow(spec) => spec.solver.nfe(),
            // A step pulls its own call back at once.
            MethodSpec::OtOde(_) | MethodSpec::Pigdm(_) => Some(1),
            MethodSpec::RedDiff(_)
            | MethodSpec::Pinv(_)
            | MethodSpec::Sample(_)
            | MethodSpec::Ancestral(_)
            | MethodSpec::Likelihood(_) => None,
        });
        calls.max().unwrap_or(0)
    }

    /// Shape of every image of the dataset, if they are images.
    pub fn image_shape(&self) -> Option<Shape> {
        self.ground.image_shape()
    }

    /// The classifier of a unit's property, with the states that it reads.
    pub fn reader(&self, unit: Unit) -> Option<&PropertyReader> {
        self.cells[unit.cell].reader.map(|index| &self.readers[index])
    }

    /// What the states of a unit's model are, if they are molecules.
    pub fn representation(&self, unit: Unit) -> Option<Representation> {
        self.priors[self.cells[unit.cell].prior?].representation()
    }

    /// The cell of a unit.
    pub fn cell(&self, unit: Unit) -> &Cell {
        &self.plan().cells[unit.cell]
    }

    /// Reads a unit's sample.
    ///
    /// # Errors
    /// When this sample cannot be read; the others may.
    pub fn sample(&self, unit: Unit) -> Result<Sample, String> {
        self.ground.sample(unit.sample)
    }

    /// The problem of a unit: what is asked of it, and its initial noise. Equal for every method but for its options.
    ///
    /// # Errors
    /// When the sample or its given initial point cannot be read.
    pub fn problem(&self, unit: Unit, sample: &Sample) -> Result<Problem, String> {
        let (cell, prepared) = (self.cell(unit), &self.cells[unit.cell]);
        let goal = self.goal(unit, sample)?;
        let given = prepared.points.as_ref().map(|points| points.point(&sample.id)).transpose()?;
        let stream = |purpose| self.ground.stream(&sample.id, purpose);
        let draws = Draws { given, ..Draws::for_method(&cell.solve, &goal, stream) };
        let path = prepared.prior.and_then(|index| self.priors[index].path());
        let keeps_trajectory = self.plan().save.contains(&SaveSpec::Trajectory);
        let finish = cell.has_finish();
        Ok(Problem { path, finish, keeps_trajectory, ..Problem::new(cell.solve.clone(), goal, draws) })
    }

    fn goal(&self, unit: Unit, sample: &Sample) -> Result<Goal, String> {
        let cell = self.cell(unit);
        match (&cell.goal, &sample.content) {
            (plan::Goal::Restore(restoration), Content::Image(truth)) => {
                let operator = self.ground.operator(unit).ok_or("internal error: no operator")?;
                let mut noise = self.ground.stream(&sample.id, Purpose::MeasurementNoise);
                let sigma = restoration.noise;
                let measurement = measure(&operator, truth, sigma, &mut noise);
                Ok(Goal::Restore(Restoration::new(&cell.solve, operator, measurement, sigma)))
            }
            (plan::Goal::Property(property), Content::Molecule { atoms }) => {
                let drawn = || self.target(&sample.id, *atoms, property);
                let value = property.spec.value.map_or_else(drawn, Ok)?;
                Ok(Goal::Property(PropertyTarget { points: self.points(unit, *atoms)?, value }))
            }
            (plan::Goal::Generate, Content::Molecule { atoms }) => {
                Ok(Goal::Generate(self.points(unit, *atoms)?))
            }
            _ => Err(format!("the task `{}` is not for samples of this dataset", cell.task)),
        }
    }

    fn target(&self, id: &str, atoms: usize, property: &plan::PropertyGoal) -> Result<f64, String> {
        match self.ground.samples() {
            Samples::Targets(targets) => targets
                .target(self.plan().seed, id, atoms, property.spec.name)
                .map_err(|error| error.to_string()),
            Samples::Images(_) => Err("images have no property".to_owned()),
        }
    }

    fn points(&self, unit: Unit, count: usize) -> Result<Points, String> {
        let representation = self.representation(unit).ok_or("the model does not make molecules")?;
        if count == 0 || count > representation.max_atoms {
            return Err(format!("{count} atoms: the model makes 1 to {}", representation.max_atoms));
        }
        Ok(Points { count, columns: representation.columns() })
    }

    /// Opens a unit: a new solve, or one that goes on from a checkpoint.
    ///
    /// # Errors
    /// When the sample cannot be read, its label does not suit the model, or a Gaussian cannot be fitted.
    pub fn open(&self, unit: Unit, stored: Option<StoredSolve>) -> Result<Slot, String> {
        let sample = self.sample(unit)?;
        let problem = self.problem(unit, &sample)?;
        let Prepared { prior, reader, .. } = self.cells[unit.cell];
        if let Some(index) = prior {
            self.priors[index].prepare()?;
        }
        let cond = match sample.content {
            Content::Molecule { atoms } => Cond::Atoms(atoms as u32),
            Content::Image(_) => self.condition(unit, sample.label)?,
        };
        Ok(Slot::new(unit, (prior, reader), cond, problem, stored))
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
        let Some(condition) = self.cell(unit).solve.condition() else { return Ok(Cond::None) };
        if classes == 0 {
            return Ok(Cond::None);
        }
        let class = match condition {
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

/// The index of a property's reader for the states of `prior`, which is opened where it is not known yet.
fn reader(
    readers: &mut Vec<(String, PropertyReader)>,
    goal: &plan::PropertyGoal,
    prior: &Prior,
    catalog: &Catalog,
) -> Result<usize, String> {
    let representation = prior.representation().ok_or("the model does not make molecules")?;
    let is_same = |(identity, reader): &(String, PropertyReader)| {
        *identity == goal.classifier.identity && reader.representation == representation
    };
    if let Some(known) = readers.iter().position(is_same) {
        return Ok(known);
    }
    let classifier = catalog.open_classifier(&goal.spec.classifier)?.classifier;
    readers.push((goal.classifier.identity.clone(), PropertyReader { classifier, representation }));
    Ok(readers.len() - 1)
}

fn given_points(cell: &Cell) -> Result<Option<Arc<InitialPoints>>, String> {
    let MethodSpec::Dflow(spec) = &cell.solve else { return Ok(None) };
    let InitSpec::Given(path) = &spec.init else { return Ok(None) };
    Ok(Some(Arc::new(InitialPoints::read(std::path::Path::new(path))?)))
}
