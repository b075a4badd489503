//! Finds what a pipeline names: datasets and models, under the home folder and the user's data folder.

mod outline;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use crate::dataset::{
    self, Dataset, Description, Layout, Manifest, MoleculeTargets, Opened, PlaneComponent, Split,
};
use crate::flow::gaussian_fit::GaussianFit;
use crate::flow::{
    Component, FieldError, GaussianField, GaussianMixture, InBasis, Rows, Tape, VelocityField,
};
use crate::molecule::Representation;
use crate::net::model::{
    ClassifierFile, LoadedClassifier, Model, ModelFile, StateShape as ModelState, how_to_get,
    load_classifier, with_advice,
};
use crate::net::perceptual::{LoadedFeatures, LoadedLpips, PerceptualError, load_features, load_lpips};
use crate::operator::{Degradation, Shape};
use crate::path::{Parametrisation, Path as ProbabilityPath};
use crate::plan::{
    ClassifierInfo, DatasetInfo, HeldOut, ImageShape, ModelInfo, MoleculeShape, Resources, StateShape,
};
use crate::points::InitialPoints;
use crate::spec::dataset::DatasetRef;
use crate::spec::metric::{LpipsTrunk, MetricSpec};
use crate::spec::model::ModelRef;
use crate::spec::operator::OperatorSpec;
pub use outline::Outline;

/// Where datasets and models are found. What was opened once is kept, so that planning and running read it once.
#[derive(Clone)]
pub struct Catalog {
    home: Option<PathBuf>,
    data: Option<PathBuf>,
    datasets: Arc<Mutex<BTreeMap<String, Samples>>>,
    models: Arc<Mutex<BTreeMap<String, Prior>>>,
    classifiers: Arc<Mutex<BTreeMap<String, LoadedClassifier>>>,
    features: Arc<Mutex<BTreeMap<String, LoadedFeatures>>>,
    lpips: Arc<Mutex<BTreeMap<LpipsTrunk, LoadedLpips>>>,
}

/// What was asked for, or why it is not there and where it belongs.
pub type IfThere<T> = Result<T, String>;

/// The samples of a dataset; cheap to clone.
#[derive(Clone)]
pub enum Samples {
    /// Images.
    Images(Arc<dyn Dataset>),
    /// Atom counts and property targets of molecules that are to be made.
    Targets(Arc<MoleculeTargets>),
}

impl Samples {
    fn manifest(&self) -> &Manifest {
        match self {
            Self::Images(dataset) => dataset.manifest(),
            Self::Targets(targets) => targets.manifest(),
        }
    }

    fn shape(&self) -> StateShape {
        match self {
            Self::Images(dataset) => StateShape::Image(shape_of(&**dataset)),
            Self::Targets(targets) => {
                StateShape::Molecule(MoleculeShape { max_atoms: targets.max_atoms() as u32 })
            }
        }
    }
}

/// A model that can be evaluated; cheap to clone.
#[derive(Clone)]
pub enum Prior {
    /// A network with its path and parametrisation.
    Network(Model),
    /// A Gaussian fitted to training images.
    Gaussian(Fitted),
    /// The exact law of the dataset.
    Mixture(Arc<Law>),
}

impl Prior {
    /// Makes it ready to be evaluated, where that takes long: a Gaussian is fitted, once for all clones.
    ///
    /// # Errors
    /// A whole sentence: what is wrong with the training images.
    pub fn prepare(&self) -> Result<(), String> {
        match self {
            Self::Network(_) | Self::Mixture(_) => Ok(()),
            Self::Gaussian(fitted) => fitted.field().map(|_| ()),
        }
    }

    /// What [`Self::prepare`] would do now, if that takes long.
    pub fn preparation(&self) -> Option<&'static str> {
        match self {
            Self::Gaussian(fitted) if !fitted.is_at_hand() => {
                Some("a Gaussian is fitted to the training images, once (half a minute for 32×32 RGB)")
            }
            _ => None,
        }
    }

    /// Whether it can be evaluated at once: [`Self::prepare`] has ended.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Network(_) | Self::Mixture(_) => true,
            Self::Gaussian(fitted) => fitted.field.get().is_some(),
        }
    }

    /// A field of its own for one worker.
    pub fn field(&self) -> Box<dyn VelocityField<f32>> {
        match self {
            Self::Network(model) => model.field(),
            Self::Gaussian(fitted) => Box::new(FittedField { fitted: fitted.clone(), own: None }),
            Self::Mixture(law) => Box::new(law.field.clone()),
        }
    }

    /// What a plan knows of it.
    pub fn info(&self) -> ModelInfo {
        match self {
            Self::Network(model) => model_info(model.file(), model.identity()),
            Self::Gaussian(fitted) => fitted.info.clone(),
            Self::Mixture(law) => law.info.clone(),
        }
    }

    /// What its states are, if they are molecules.
    pub fn representation(&self) -> Option<Representation> {
        match self {
            Self::Network(model) => match model.state() {
                ModelState::Molecule(representation) => Some(representation),
                ModelState::Image(_) => None,
            },
            Self::Gaussian(_) | Self::Mixture(_) => None,
        }
    }

    /// Its probability path.
    pub fn path(&self) -> Option<ProbabilityPath> {
        match self {
            Self::Network(model) => Some(model.file().convention().path),
            Self::Gaussian(_) | Self::Mixture(_) => Some(ProbabilityPath::CondOt),
        }
    }
}

/// The law of a dataset that is a mixture, with its exact flow.
pub struct Law {
    field: GaussianMixture,
    info: ModelInfo,
}

impl Law {
    /// # Errors
    /// A whole sentence: the dataset is no mixture.
    fn new(description: &Description) -> Result<Self, String> {
        let Layout::Mixture(layout) = &description.layout else {
            return Err(format!(
                "model: {{ mixture: {{ of: dataset }} }}: the dataset {} is not drawn from a mixture; name ring-mixture, or \
                 a description whose layout is `mixture`",
                description.name
            ));
        };
        let part = |component: &PlaneComponent| Component {
            weight: component.weight,
            mean: component.mean.to_vec(),
            covariance: component.covariance.concat(),
        };
        let components: Vec<Component> = layout.components.iter().map(part).collect();
        let field = GaussianMixture::new(ProbabilityPath::CondOt, &components).map_err(|e| e.to_string())?;
        let law = serde_json::to_string(&layout.components).map_err(|error| error.to_string())?;
        let identity = format!("mixture {}", blake3::hash(law.as_bytes()).to_hex());
        let sides = description.image_shape().map_err(|e| e.to_string())?;
        let shape = StateShape::Image(ImageShape::from_sides(sides));
        Ok(Self { field, info: ModelInfo::of_closed_form(identity, shape) })
    }
}

/// A Gaussian that is fitted when it is first needed: a plan takes milliseconds, the fit half a minute.
#[derive(Clone)]
pub struct Fitted {
    train: Arc<dyn Dataset>,
    /// Hash of the training images' manifest.
    manifest: String,
    info: ModelInfo,
    field: Arc<OnceLock<Result<GaussianField<f32>, String>>>,
}

impl Fitted {
    fn new(train: Arc<dyn Dataset>) -> Result<Self, String> {
        let manifest = train.manifest().hash().to_string();
        let dim = train.shape().iter().product();
        let identity = GaussianFit::identity(&manifest, dim).map_err(|error| error.to_string())?;
        let shape = StateShape::Image(shape_of(&*train));
        let info = ModelInfo::of_closed_form(identity, shape);
        Ok(Self { train, manifest, info, field: Arc::default() })
    }

    fn is_at_hand(&self) -> bool {
        self.field.get().is_some() || GaussianFit::is_cached(&self.manifest, self.dim())
    }

    fn field(&self) -> Result<&GaussianField<f32>, String> {
        let fit = || {
            catch_unwind(AssertUnwindSafe(|| self.fit()))
                .unwrap_or_else(|_| Err("the Gaussian fit panicked; please report this".to_owned()))
        };
        self.field.get_or_init(fit).as_ref().map_err(Clone::clone)
    }

    fn fit(&self) -> Result<GaussianField<f32>, String> {
        let rows = (0..self.train.len()).map(|index| self.train.image(index).map(|image| image.data));
        let fit = GaussianFit::cached(&self.manifest, self.dim(), rows).map_err(|error| error.to_string())?;
        fit.field(ProbabilityPath::CondOt).map_err(|error| error.to_string())
    }

    fn dim(&self) -> usize {
        self.train.shape().iter().product()
    }
}

/// The field of a [`Fitted`] for one worker.
struct FittedField {
    fitted: Fitted,
    own: Option<GaussianField<f32>>,
}

impl FittedField {
    fn own(&mut self) -> Result<&mut GaussianField<f32>, FieldError> {
        let own = match self.own.take() {
            Some(own) => own,
            None => self.fitted.field().map_err(FieldError::Other)?.clone(),
        };
        Ok(self.own.insert(own))
    }
}

impl VelocityField<f32> for FittedField {
    fn dim(&self) -> usize {
        self.fitted.dim()
    }

    fn velocity(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<(), FieldError> {
        self.own()?.velocity(rows, out)
    }

    fn velocity_taped(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<Tape, FieldError> {
        self.own()?.velocity_taped(rows, out)
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[f32], out: &mut [f32]) -> Result<(), FieldError> {
        self.own()?.pull_back(tape, cotangent, out)
    }

    fn tape_bytes_per_row(&self) -> usize {
        // A Gaussian's VJP needs the time alone.
        size_of::<f64>()
    }

    fn vjp(&mut self, rows: Rows<'_, f32>, cotangent: &[f32], out: &mut [f32]) -> Result<(), FieldError> {
        self.own()?.vjp(rows, cotangent, out)
    }

    fn in_basis(&mut self) -> Option<InBasis<'_, f32>> {
        self.own().ok()?.in_basis()
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
            classifiers: Arc::default(),
            features: Arc::default(),
            lpips: Arc::default(),
        }
    }

    /// The evaluated split of a dataset of images.
    ///
    /// # Errors
    /// As [`Self::open_samples`], and if its samples are no images.
    pub fn open_dataset(&self, reference: &DatasetRef) -> Result<Arc<dyn Dataset>, String> {
        match self.open_samples(reference)? {
            Samples::Images(dataset) => Ok(dataset),
            Samples::Targets(_) => Err(format!("the dataset {} holds no images", reference.name)),
        }
    }

    /// The evaluated samples of a dataset.
    ///
    /// # Errors
    /// A whole sentence: what is missing or wrong, where, and what to do.
    pub fn open_samples(&self, reference: &DatasetRef) -> Result<Samples, String> {
        let mut open =
            self.datasets.lock().map_err(|_| "the catalog broke down in another thread".to_owned())?;
        if let Some(samples) = open.get(&reference.name) {
            return Ok(samples.clone());
        }
        let opened = dataset::open_any(&reference.name, self.data.as_deref());
        let samples = match opened.map_err(|error| error.to_string())? {
            Opened::Images(dataset) => Samples::Images(dataset.into()),
            Opened::Targets(targets) => Samples::Targets(Arc::new(targets)),
            Opened::Molecules(_) => {
                return Err(format!(
                    "the dataset {} holds real molecules, which are nothing to be made: name qm9-targets, or a dataset \
                     of targets drawn from their statistics (`dflow data statistics`)",
                    reference.name
                ));
            }
        };
        open.insert(reference.name.clone(), samples.clone());
        Ok(samples)
    }

    /// A property classifier: `models/classifiers/<name>.yaml`, or a path ending in `.yaml`.
    ///
    /// # Errors
    /// As [`Self::open_samples`].
    pub fn open_classifier(&self, name: &str) -> Result<LoadedClassifier, String> {
        if let Some(classifier) = self.classifiers.lock().ok().and_then(|open| open.get(name).cloned()) {
            return Ok(classifier);
        }
        let classifier = load_classifier(name, self.home.as_deref(), self.data.as_deref())
            .map_err(|error| error.to_string())?;
        if let Ok(mut open) = self.classifiers.lock() {
            open.insert(name.to_owned(), classifier.clone());
        }
        Ok(classifier)
    }

    /// A feature network: `models/features/<name>.yaml`, or a path ending in `.yaml`.
    ///
    /// # Errors
    /// A whole sentence: an unknown name, or weights that are there and wrong.
    pub fn open_features(&self, name: &str) -> Result<IfThere<LoadedFeatures>, String> {
        let load = || load_features(name, self.home.as_deref(), self.data.as_deref());
        kept(&self.features, name.to_owned(), load).map(|found| {
            found.map_err(|missing| missing + &how_to_get(&format!("features/{name}"), self.home.as_deref()))
        })
    }

    /// LPIPS by its trunk: `models/lpips/<trunk>.yaml`.
    ///
    /// # Errors
    /// As [`Self::open_features`].
    pub fn open_lpips(&self, trunk: LpipsTrunk) -> Result<IfThere<LoadedLpips>, String> {
        let load = || load_lpips(trunk, self.home.as_deref(), self.data.as_deref());
        kept(&self.lpips, trunk, load).map(|found| {
            found.map_err(|missing| missing + &how_to_get(&format!("lpips/{trunk}"), self.home.as_deref()))
        })
    }

    /// A model; a Gaussian is one to be fitted to the training images of `dataset`.
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
                    .map_err(|error| with_advice(&error, name, self.home.as_deref()))?,
            ),
            ModelRef::Gaussian(_) => self.gaussian(dataset)?,
            ModelRef::Mixture(_) => {
                let description = Description::load(&dataset.name).map_err(|error| error.to_string())?;
                Prior::Mixture(Arc::new(Law::new(&description)?))
            }
        };
        if let Ok(mut open) = self.models.lock() {
            open.insert(key, prior.clone());
        }
        Ok(prior)
    }

    fn gaussian(&self, reference: &DatasetRef) -> Result<Prior, String> {
        let description = Description::load(&reference.name).map_err(|error| error.to_string())?;
        let train =
            description.open(Split::Train, self.data.as_deref()).map_err(|error| error.to_string())?;
        Fitted::new(train.into()).map(Prior::Gaussian)
    }
}

/// What is kept under `key`, or what `load` gives, which is kept.
fn kept<K: Ord, T: Clone>(
    known: &Mutex<BTreeMap<K, T>>,
    key: K,
    load: impl FnOnce() -> Result<T, PerceptualError>,
) -> Result<IfThere<T>, String> {
    if let Some(found) = known.lock().ok().and_then(|known| known.get(&key).cloned()) {
        return Ok(Ok(found));
    }
    match load() {
        Ok(loaded) => {
            if let Ok(mut known) = known.lock() {
                known.insert(key, loaded.clone());
            }
            Ok(Ok(loaded))
        }
        Err(error) if error.is_missing() => Ok(Err(error.to_string())),
        Err(error) => Err(error.to_string()),
    }
}

/// What a plan knows of a network by its model file.
fn model_info(file: &ModelFile, identity: String) -> ModelInfo {
    let shape = match file.state() {
        ModelState::Image(sides) => StateShape::Image(ImageShape::from_sides(sides)),
        ModelState::Molecule(representation) => {
            StateShape::Molecule(MoleculeShape { max_atoms: representation.max_atoms as u32 })
        }
    };
    ModelInfo {
        identity,
        shape,
        classes: file.classes() as u32,
        predicts_noise: file.convention().parametrisation == Parametrisation::Noise,
        finish: file.finish.is_some(),
        gpu_only: file.matmul.is_some(),
    }
}

/// What a plan knows of a property classifier by its file.
fn classifier_info(file: &ClassifierFile, identity: String) -> ClassifierInfo {
    let config = &file.classifier;
    let held_out = config
        .held_out
        .as_ref()
        .map(|held_out| HeldOut { molecules: held_out.molecules as u32, mae: held_out.mae });
    ClassifierInfo { identity, property: config.property, small: config.small, held_out }
}

/// The shape of an image as operators take it.
pub fn image_shape(shape: ImageShape) -> Shape {
    let [channels, height, width] = shape.sides().map(|side| side as usize);
    Shape::new(channels, height, width)
}

fn shape_of(dataset: &dyn Dataset) -> ImageShape {
    ImageShape::from_sides(dataset.shape())
}

impl Resources for Catalog {
    fn dataset(&self, reference: &DatasetRef) -> Result<DatasetInfo, String> {
        let samples = self.open_samples(reference)?;
        let manifest = samples.manifest();
        Ok(DatasetInfo {
            id: manifest.name().to_owned(),
            manifest: manifest.hash().to_string(),
            split: manifest.split().to_string(),
            shape: samples.shape(),
            classes: manifest.classes().unwrap_or(0) as u32,
            samples: manifest.entries().iter().map(|entry| entry.id.clone()).collect(),
        })
    }

    fn model(&self, reference: &ModelRef, dataset: &DatasetRef) -> Result<ModelInfo, String> {
        self.open_model(reference, dataset).map(|prior| prior.info())
    }

    fn classifier(&self, reference: &str) -> Result<ClassifierInfo, String> {
        let LoadedClassifier { file, identity, .. } = self.open_classifier(reference)?;
        Ok(classifier_info(&file, identity))
    }

    fn metric(&self, metric: &MetricSpec) -> Result<(), String> {
        match metric {
            MetricSpec::Features(name) => self.open_features(name).map(|_| ()),
            MetricSpec::Lpips(trunk) => self.open_lpips(*trunk).map(|_| ()),
            MetricSpec::Psnr | MetricSpec::Ssim | MetricSpec::Molecule => Ok(()),
        }
    }

    fn operator(&self, operator: &OperatorSpec, shape: ImageShape) -> Result<(), String> {
        let built = Degradation::new(operator, image_shape(shape));
        built.map(|_| ()).map_err(|error| error.to_string())
    }

    fn initial_points(&self, path: &str, dataset: &DatasetInfo) -> Result<String, String> {
        let points = InitialPoints::read(Path::new(path))?;
        // Molecules have states of different length: each is checked when its solve begins.
        let dim = dataset.shape.image().map(|shape| shape.sides().iter().product::<u32>() as usize);
        points.check(&dataset.samples, dim)?;
        Ok(points.hash().to_owned())
    }
}
