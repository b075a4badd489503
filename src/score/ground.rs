//! The samples of a plan and their degradations.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{Catalog, Samples, image_shape};
use crate::operator::{Degradation, Operator, Shape};
use crate::plan::{Cell, Plan, Unit};
use crate::random::{Purpose, Stream};
use crate::spec::dataset::DatasetRef;

/// A sample, before any method sees it.
pub struct Sample {
    /// The sample's id.
    pub id: String,
    /// Its label.
    pub label: Option<u32>,
    /// The sample itself.
    pub content: Content,
}

/// What is known of a sample beforehand.
pub enum Content {
    /// The ground truth of an image: `channels × height × width` in [−1, 1].
    Image(Vec<f32>),
    /// The number of atoms of a molecule that is to be made.
    Molecule {
        /// 1 to the dataset's most.
        atoms: usize,
    },
}

/// A plan with its samples and degradations: what is known of its units without any model.
pub struct Ground {
    plan: Plan,
    samples: Samples,
    /// H of each cell, where images are restored.
    degradations: Vec<Option<Arc<Degradation>>>,
}

impl Ground {
    /// Opens the dataset and prepares the operators of the plan.
    ///
    /// # Errors
    /// A whole sentence: what is missing or wrong, where, and what to do.
    pub fn new(plan: Plan, dataset: &DatasetRef, catalog: &Catalog) -> Result<Self, String> {
        let mut known: BTreeMap<&str, Option<Arc<Degradation>>> = BTreeMap::new();
        for cell in &plan.cells {
            if !known.contains_key(cell.task.as_str()) {
                known.insert(&cell.task, degradation(&plan, cell)?);
            }
        }
        let degradations = plan.cells.iter().map(|cell| known[cell.task.as_str()].clone()).collect();
        let samples = catalog.open_samples(dataset)?;
        Ok(Self { plan, samples, degradations })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The samples.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// Shape of every image of the dataset, if they are images.
    pub fn image_shape(&self) -> Option<Shape> {
        self.plan.dataset.shape.image().map(image_shape)
    }

    /// The random stream of a sample and a purpose.
    pub fn stream(&self, id: &str, purpose: Purpose) -> Stream {
        Stream::new(self.plan.seed, &self.plan.dataset.id, id, purpose)
    }

    /// Reads sample number `index` of the plan.
    ///
    /// # Errors
    /// When this sample cannot be read; the others may.
    pub fn sample(&self, index: usize) -> Result<Sample, String> {
        let id = self.plan.dataset.samples[index].clone();
        match &self.samples {
            Samples::Images(dataset) => {
                let image = dataset.image(index).map_err(|error| error.to_string())?;
                let label = dataset.manifest().entries().get(index).and_then(|entry| entry.label);
                Ok(Sample { id, label, content: Content::Image(image.data) })
            }
            Samples::Targets(targets) => {
                let atoms = targets.atoms(self.plan.seed, &id);
                Ok(Sample { id, label: None, content: Content::Molecule { atoms } })
            }
        }
    }

    /// H of a unit, where images are restored.
    pub fn operator(&self, unit: Unit) -> Option<Operator> {
        let degradation = self.degradations[unit.cell].as_ref()?;
        let id = &self.plan.dataset.samples[unit.sample];
        Some(degradation.for_sample(&mut self.stream(id, Purpose::Mask)))
    }
}

/// H of a cell that restores images.
fn degradation(plan: &Plan, cell: &Cell) -> Result<Option<Arc<Degradation>>, String> {
    let (Some(restoration), Some(shape)) = (cell.goal.restoration(), plan.dataset.shape.image()) else {
        return Ok(None);
    };
    let degradation = Degradation::new(&restoration.operator, image_shape(shape))
        .map_err(|error| format!("task `{}`: {error}", cell.task))?;
    Ok(Some(Arc::new(degradation)))
}
