//! Finds what a pipeline names: datasets and models, under the home folder and the user's data folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::dataset::{self, Dataset, Description, Split};
use crate::flow::gaussian_fit::GaussianFit;
use crate::flow::{GaussianField, VelocityField};
use crate::net::model::Model;
use crate::path::Path as ProbabilityPath;
use crate::plan::{DatasetInfo, ImageShape, ModelInfo, Resources};
use crate::points::InitialPoints;
use crate::spec::dataset::DatasetRef;
use crate::spec::model::ModelRef;

/// Where datasets and models are found. What was opened once is kept, so that planning and running read it once.
#[derive(Clone)]
pub struct Catalog {
    home: Option<PathBuf>,
    data: Option<PathBuf>,
    datasets: Arc<Mutex<BTreeMap<String, Arc<dyn Dataset>>>>,
    models: Arc<Mutex<BTreeMap<String, Prior>>>,
}

/// A model that can be evaluated; cheap to clone.
#[derive(Clone)]
pub enum Prior {
    /// A network with its path and parametrisation.
    Network(Model),
    /// A Gaussian fitted to training images.
    Gaussian {
        /// The field in its eigenbasis.
        field: GaussianField<f32>,
        /// What a plan knows of it.
        info: ModelInfo,
    },
}

impl Prior {
    /// A field of its own for one worker.
    pub fn field(&self) -> Box<dyn VelocityField<f32>> {
        match self {
            Self::Network(model) => model.field(),
            Self::Gaussian { field, .. } => Box::new(field.clone()),
        }
    }

    /// What a plan knows of it.
    pub fn info(&self) -> ModelInfo {
        match self {
            Self::Network(model) => {
                let [channels, height, width] = model.shape().map(|side| side as u32);
                let shape = ImageShape { channels, height, width };
                ModelInfo { identity: model.identity(), shape, classes: model.classes() as u32 }
            }
            Self::Gaussian { info, .. } => info.clone(),
        }
    }
}

impl Catalog {
    /// A catalog over `home` (`models/`, `pipelines/`; none: the working directory, then the program's own checkout)
    /// and `data` (one sub-folder per public dataset or weight set).
    pub fn new(home: Option<&Path>, data: Option<&Path>) -> Self {
        Self {
            home: home.map(Path::to_owned),
            data: data.map(Path::to_owned),
            datasets: Arc::default(),
            models: Arc::default(),
        }
    }

    /// The evaluated split of a dataset.
    ///
    /// # Errors
    /// A whole sentence: what is missing or wrong, where, and what to do.
    pub fn open_dataset(&self, reference: &DatasetRef) -> Result<Arc<dyn Dataset>, String> {
        let mut open =
            self.datasets.lock().map_err(|_| "the catalog broke down in another thread".to_owned())?;
        if let Some(dataset) = open.get(&reference.name) {
            return Ok(Arc::clone(dataset));
        }
        let dataset: Arc<dyn Dataset> =
            dataset::open(&reference.name, self.data.as_deref()).map_err(|error| error.to_string())?.into();
        open.insert(reference.name.clone(), Arc::clone(&dataset));
        Ok(dataset)
    }

    /// A model; a Gaussian is fitted to the training images of `dataset`.
    ///
    /// # Errors
    /// As [`Self::open_dataset`].
    pub fn open_model(&self, reference: &ModelRef, dataset: &DatasetRef) -> Result<Prior, String> {
        let key = format!("{reference} for {}", dataset.name);
        if let Some(prior) = self.models.lock().ok().and_then(|open| open.get(&key).cloned()) {
            return Ok(prior);
        }
        let prior = match reference {
            ModelRef::Name(name) => Prior::Network(
                Model::load(name, self.home.as_deref(), self.data.as_deref())
                    .map_err(|error| error.to_string())?,
            ),
            ModelRef::Gaussian(_) => self.fit_gaussian(dataset)?,
        };
        if let Ok(mut open) = self.models.lock() {
            open.insert(key, prior.clone());
        }
        Ok(prior)
    }

    fn fit_gaussian(&self, reference: &DatasetRef) -> Result<Prior, String> {
        let description = Description::load(&reference.name).map_err(|error| error.to_string())?;
        let train =
            description.open(Split::Train, self.data.as_deref()).map_err(|error| error.to_string())?;
        let shape = shape_of(&*train);
        let manifest = train.manifest().hash().to_string();
        let dim = (shape.channels * shape.height * shape.width) as usize;
        let rows = (0..train.len()).map(|index| train.image(index).map(|image| image.data));
        let fit = GaussianFit::cached(&manifest, dim, rows).map_err(|error| error.to_string())?;
        let info = ModelInfo { identity: fit.hash(), shape, classes: 0 };
        let field = fit.field(ProbabilityPath::CondOt).map_err(|error| error.to_string())?;
        Ok(Prior::Gaussian { field, info })
    }
}

fn shape_of(dataset: &dyn Dataset) -> ImageShape {
    let [channels, height, width] = dataset.shape().map(|side| side as u32);
    ImageShape { channels, height, width }
}

impl Resources for Catalog {
    fn dataset(&self, reference: &DatasetRef) -> Result<DatasetInfo, String> {
        let dataset = self.open_dataset(reference)?;
        let manifest = dataset.manifest();
        Ok(DatasetInfo {
            id: manifest.name().to_owned(),
            manifest: manifest.hash().to_string(),
            split: manifest.split().to_string(),
            shape: shape_of(&*dataset),
            classes: manifest.classes().unwrap_or(0) as u32,
            samples: manifest.entries().iter().map(|entry| entry.id.clone()).collect(),
        })
    }

    fn model(&self, reference: &ModelRef, dataset: &DatasetRef) -> Result<ModelInfo, String> {
        self.open_model(reference, dataset).map(|prior| prior.info())
    }

    fn initial_points(&self, path: &str, samples: &[String]) -> Result<String, String> {
        let points = InitialPoints::read(Path::new(path))?;
        points.check(samples)?;
        Ok(points.hash().to_owned())
    }
}
