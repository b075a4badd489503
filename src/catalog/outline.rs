//! What a pipeline names as its files describe it: enough for an estimate before data and weights are here.

use std::cell::RefCell;

use super::{Catalog, classifier_info, model_info};
use crate::dataset::{Description, Selector};
use crate::net::model;
use crate::plan::{ClassifierInfo, DatasetInfo, ImageShape, ModelInfo, Resources, StateShape};
use crate::spec::dataset::DatasetRef;
use crate::spec::metric::MetricSpec;
use crate::spec::model::ModelRef;
use crate::spec::operator::OperatorSpec;

/// Identity of what is not here.
const NOT_HERE: &str = "not here";

/// A catalog that takes the word of descriptions and model files where data or weights are missing. Identities and sample
/// ids are then made up: a plan from it can be counted, not run.
pub struct Outline<'a> {
    catalog: &'a Catalog,
    described: RefCell<Vec<String>>,
}

impl<'a> Outline<'a> {
    /// Over a catalog.
    pub fn new(catalog: &'a Catalog) -> Self {
        Self { catalog, described: RefCell::default() }
    }

    /// What was taken from descriptions, in words.
    pub fn described(self) -> Vec<String> {
        self.described.into_inner()
    }

    fn note(&self, what: String) {
        let mut described = self.described.borrow_mut();
        if !described.contains(&what) {
            described.push(what);
        }
    }

    /// `missing` says what is missing, where nothing can be described in its place.
    fn describe(&self, reference: &DatasetRef, missing: String) -> Result<DatasetInfo, String> {
        let Ok(description) = Description::load(&reference.name) else { return Err(missing) };
        let Ok(sides) = description.image_shape() else { return Err(missing) };
        let selected = match &description.selector {
            Selector::First(count) => Some(*count),
            Selector::Seeded(seeded) => seeded.count,
            Selector::All | Selector::FromFile(_) => None,
        };
        let limit = reference.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let Some(count) = selected.into_iter().chain(limit).min() else { return Err(missing) };
        self.note(format!("dataset {} ({count} samples)", reference.name));
        let labels = description.classes.len().max(usize::from(description.class_list.is_some()));
        Ok(DatasetInfo {
            id: description.name,
            manifest: NOT_HERE.to_owned(),
            split: description.split.to_string(),
            shape: StateShape::Image(ImageShape::from_sides(sides)),
            classes: labels as u32,
            samples: (0..count).map(|i| format!("#{i}")).collect(),
        })
    }
}

impl Resources for Outline<'_> {
    fn dataset(&self, reference: &DatasetRef) -> Result<DatasetInfo, String> {
        self.catalog.dataset(reference).or_else(|missing| self.describe(reference, missing))
    }

    fn model(&self, reference: &ModelRef, dataset: &DatasetRef) -> Result<ModelInfo, String> {
        let missing = match self.catalog.model(reference, dataset) {
            Ok(info) => return Ok(info),
            Err(missing) => missing,
        };
        self.note(format!("model {reference}"));
        match reference {
            ModelRef::Name(name) => {
                let path =
                    model::find(name, self.catalog.home.as_deref()).map_err(|error| error.to_string())?;
                let file = model::read(&path).map_err(|error| error.to_string())?;
                Ok(model_info(&file, NOT_HERE.to_owned()))
            }
            ModelRef::Gaussian(_) => {
                let shape = self.describe(dataset, missing)?.shape;
                let identity = NOT_HERE.to_owned();
                Ok(ModelInfo::of_closed_form(identity, shape))
            }
            ModelRef::Mixture(_) => Err(missing),
        }
    }

    fn classifier(&self, reference: &str) -> Result<ClassifierInfo, String> {
        let missing = match self.catalog.classifier(reference) {
            Ok(info) => return Ok(info),
            Err(missing) => missing,
        };
        let Ok(file) = model::read_classifier(reference, self.catalog.home.as_deref()) else {
            return Err(missing);
        };
        self.note(format!("classifier {reference}"));
        Ok(classifier_info(&file, NOT_HERE.to_owned()))
    }

    fn metric(&self, metric: &MetricSpec) -> Result<(), String> {
        self.catalog.metric(metric)
    }

    fn operator(&self, operator: &OperatorSpec, shape: ImageShape) -> Result<(), String> {
        self.catalog.operator(operator, shape)
    }

    fn initial_points(&self, path: &str, dataset: &DatasetInfo) -> Result<String, String> {
        self.catalog.initial_points(path, dataset)
    }
}
