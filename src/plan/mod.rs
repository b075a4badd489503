//! What will run: a pipeline resolved into cells (task × method) × samples.
//!
//! [`Plan::resolve`] turns a [`Document`](crate::spec::document::Document) into a [`Plan`] or reports everything that
//! is wrong, missing data and weights included, before any work. What it has to know of datasets and models comes
//! through [`Resources`], so that nothing in here touches tensors or files.
//!
//! A row of the results has the identity ([`CellHash`], sample id): see [`identity`].

mod estimate;
pub mod identity;
mod resolve;
pub mod resources;
pub mod shard;
pub mod summary;
#[cfg(test)]
pub(crate) mod toy;

use serde::{Deserialize, Serialize};

pub use estimate::{Assumptions, CallsFrom, CellEstimate, MeasuredCell, device_hours, estimate};
pub use identity::{CellConflict, CellHash, Difference};
pub use resources::{
    ClassifierInfo, DatasetInfo, HeldOut, ImageShape, ModelInfo, MoleculeShape, Resources, StateShape,
};
pub use shard::Shard;
pub use summary::{CellSummary, Summary};

use crate::spec::device::DeviceList;
use crate::spec::method::MethodSpec;
use crate::spec::metric::{MetricSpec, SaveSpec};
use crate::spec::model::ModelRef;
use crate::spec::operator::OperatorSpec;
use crate::spec::property::PropertySpec;

/// A resolved pipeline. Its serialised form is what `run.json` keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the run.
    pub name: String,
    /// Run seed.
    pub seed: u64,
    /// The dataset; `samples` holds only those planned, in manifest order.
    pub dataset: DatasetInfo,
    /// Task × method, tasks outermost, in the order of the file.
    pub cells: Vec<Cell>,
    /// Devices asked for.
    pub devices: DeviceList,
    /// Metrics of every row.
    pub metrics: Vec<MetricSpec>,
    /// What is kept beside the rows.
    pub save: Vec<SaveSpec>,
    /// The run directory.
    pub output: String,
}

/// One task under one method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// What is asked of the sample.
    pub goal: Goal,
    /// The method as it runs here: `per_task` applied, names removed.
    pub solve: MethodSpec,
    /// The model, where the method needs one.
    pub model: Option<CellModel>,
    /// Identity: the hash of `determinants`.
    pub hash: CellHash,
    /// Everything that determines the numbers of the cell's rows, and nothing else.
    pub determinants: serde_json::Value,
}

impl Cell {
    /// Whether a forward solve ends with one more evaluation.
    pub(crate) fn has_finish(&self) -> bool {
        self.model.as_ref().is_some_and(|model| model.info.finish)
    }
}

/// What a task asks of its samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// To be the image behind a measurement y = Hx + σ_y n.
    Restore(Restoration),
    /// To have a property.
    Property(PropertyGoal),
    /// Nothing.
    Generate,
}

/// The measurement of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restoration {
    /// The degradation H.
    pub operator: OperatorSpec,
    /// σ_y on [−1, 1].
    pub noise: f64,
}

/// The property of a molecule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PropertyGoal {
    /// As written: property, classifier's name, common target.
    pub spec: PropertySpec,
    /// What was found under the classifier's name.
    pub classifier: ClassifierInfo,
}

impl Goal {
    /// The measurement, where an image is restored.
    pub const fn restoration(&self) -> Option<&Restoration> {
        if let Self::Restore(restoration) = self { Some(restoration) } else { None }
    }

    /// The property, where one is wanted.
    pub const fn property(&self) -> Option<&PropertyGoal> {
        if let Self::Property(property) = self { Some(property) } else { None }
    }
}

/// The model of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellModel {
    /// As named in the pipeline.
    pub reference: ModelRef,
    /// What was found under that name.
    pub info: ModelInfo,
}

/// One solve: a cell and a sample, by their places in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unit {
    /// Index into [`Plan::cells`].
    pub cell: usize,
    /// Index into the dataset's samples.
    pub sample: usize,
}

impl Cell {
    /// Whether its model is a closed form, which is evaluated in milliseconds.
    pub fn is_closed_form(&self) -> bool {
        self.model.as_ref().is_some_and(|model| !matches!(model.reference, ModelRef::Name(_)))
    }
}

impl Plan {
    /// The solves of one shard: cells in order, within a cell the samples in manifest order.
    ///
    /// A sample belongs to one shard with all its cells, so that methods can be compared within a shard.
    pub fn units(&self, shard: Shard) -> impl Iterator<Item = Unit> + '_ {
        (0..self.cells.len()).flat_map(move |cell| {
            let mine = (0..self.dataset.samples.len()).filter(move |sample| shard.contains(*sample));
            mine.map(move |sample| Unit { cell, sample })
        })
    }

    /// The cell and sample id of a solve.
    pub fn key(&self, unit: Unit) -> (CellHash, &str) {
        (self.cells[unit.cell].hash, &self.dataset.samples[unit.sample])
    }

    /// The cell of these names.
    pub fn cell(&self, task: &str, method: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.task == task && cell.method == method)
    }
}

#[cfg(test)]
mod tests;
