//! Resources for tests of what plans are made of.

use super::{ClassifierInfo, DatasetInfo, ImageShape, ModelInfo, Resources, StateShape};
use crate::spec::dataset::DatasetRef;
use crate::spec::metric::MetricSpec;
use crate::spec::model::ModelRef;
use crate::spec::operator::OperatorSpec;

/// Resources of a made-up dataset of so many images, and one model.
pub(crate) struct Toy(pub(crate) usize);

impl Resources for Toy {
    fn dataset(&self, _: &DatasetRef) -> Result<DatasetInfo, String> {
        Ok(DatasetInfo {
            id: "toy".to_owned(),
            manifest: "m0".to_owned(),
            split: "test".to_owned(),
            shape: StateShape::Image(ImageShape { channels: 3, height: 32, width: 32 }),
            classes: 0,
            samples: (0..self.0).map(|i| format!("s{i}")).collect(),
        })
    }

    fn model(&self, _: &ModelRef, dataset: &DatasetRef) -> Result<ModelInfo, String> {
        let shape = self.dataset(dataset)?.shape;
        Ok(ModelInfo {
            identity: "w0".to_owned(),
            shape,
            classes: 0,
            predicts_noise: true,
            finish: false,
            gpu_only: false,
        })
    }

    fn classifier(&self, _: &str) -> Result<ClassifierInfo, String> {
        Err("no classifier".to_owned())
    }

    fn metric(&self, _: &MetricSpec) -> Result<(), String> {
        Ok(())
    }

    fn operator(&self, _: &OperatorSpec, _: ImageShape) -> Result<(), String> {
        Ok(())
    }

    fn initial_points(&self, _: &str, _: &DatasetInfo) -> Result<String, String> {
        Err("no points".to_owned())
    }
}
