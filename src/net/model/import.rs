//! Importing a checkpoint in the ADM key layout: our own weight file, and a model file to complete.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::infer::{Given, infer};
use super::{ModelError, ModelFile, NetworkSpec, PathSpec, Prediction};
use crate::atomic;
use crate::net::adm;
use crate::net::weights::Weights;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Half precision: half the size; the rounding is reported.
    #[default]
    F16,
    /// As computed with.
    F32,
}

/// What to import, and what the weights do not say of themselves.
#[derive(Debug, Clone)]
pub struct Import<'a> {
    /// A safetensors file, or a zip file of `torch.save`.
    pub source: &'a Path,
    /// Start of the names of the tensors to take, such as `ema.state_dict.`.
    pub prefix: &'a str,
    /// Image size, attention heads and their order.
    pub given: Given,
    /// What the network was trained as.
    pub path: PathSpec,
    /// What its output is.
    pub prediction: Prediction,
    /// Factor of the network's time argument; default: 1 where the path gives step indices, 1000 for t in [0, 1].
    pub time_embedding_scale: Option<f64>,
    /// Precision of the new weight file.
    pub precision: Precision,
}

/// What an import wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The model file.
    pub model: PathBuf,
    /// The weight file.
    pub weights: PathBuf,
    /// Number of parameters.
    pub parameters: usize,
    /// ‖rounded − exact‖ / ‖exact‖ over all weights.
    pub rounding: f64,
}

impl Import<'_> {
    /// Writes `models/<name>.yaml` and `models/weights/<name>.safetensors` under `home`.
    ///
    /// # Errors
    /// Unreadable or foreign weights, a configuration that they contradict, values that overflow f16, files that
    /// exist already or cannot be written. Nothing is left half-written.
    pub fn run(&self, home: &Path, name: &str) -> Result<Imported, ModelError> {
        let models = home.join("models");
        let (model, stored) =
            (models.join(format!("{name}.yaml")), models.join(format!("weights/{name}.safetensors")));
        if model.exists() {
            return Err(invalid(&model, "it exists already; import under another name"));
        }
        let weights = Weights::read(self.source)?.strip_prefix(self.prefix);
        let mut config = infer(&weights, self.given)?;
        config.time_embedding_scale = self.time_embedding_scale.unwrap_or(match self.path {
            PathSpec::VpLinear(_) => 1.0,
            PathSpec::CondOt | PathSpec::Polynomial2 => 1000.0,
        });
        config.check().map_err(|error| invalid(self.source, error.to_string()))?;
        weights.check(&adm::tensors(&config))?;
        let mut file = ModelFile {
            about: Some(format!("Imported from {}", file_name(self.source))),
            licence: None,
            network: NetworkSpec::Adm(config),
            weights: format!("weights/{name}.safetensors"),
            folder: None,
            prefix: String::new(),
            blake3: None,
            sources: Vec::new(),
            path: self.path,
            reparametrise: None,
            finish: None,
            matmul: None,
            prediction: self.prediction,
            time: None,
        };
        let problems = file.problems();
        if !problems.is_empty() {
            return Err(invalid(self.source, problems.join("; ")));
        }
        let rounding = store(&weights, self.precision, &stored)?;
        file.blake3 = Some(Weights::read(&stored)?.blake3().to_owned());
        let text = serde_yaml::to_string(&file).map_err(|error| invalid(&model, error.to_string()))?;
        // The model file comes last: without it the weights are nobody's, and the next attempt replaces them.
        write(&model, text.as_bytes())?;
        Ok(Imported { model, weights: stored, parameters: weights.parameters(), rounding })
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    atomic::write_bytes(path, bytes).map_err(|source| ModelError::Write { path: path.to_owned(), source })
}

fn invalid(path: &Path, detail: impl Into<String>) -> ModelError {
    ModelError::Invalid { path: path.to_owned(), detail: detail.into() }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Writes a safetensors file, sorted by name; the relative rounding error.
fn store(weights: &Weights, precision: Precision, path: &Path) -> Result<f64, ModelError> {
    let (mut error, mut norm) = (0.0, 0.0);
    let mut encoded = Vec::with_capacity(weights.len());
    for (name, tensor) in weights.iter() {
        let mut bytes = Vec::new();
        for &value in &tensor.values {
            let rounded = match precision {
                Precision::F32 => value,
                Precision::F16 => f16::from_f32(value).to_f32(),
            };
            if !rounded.is_finite() {
                let detail = format!("tensor `{name}` holds {value}, too large for f16; import it as f32");
                return Err(invalid(weights.path(), detail));
            }
            match precision {
                Precision::F32 => bytes.extend(value.to_le_bytes()),
                Precision::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
            }
            error += f64::from(rounded - value).powi(2);
            norm += f64::from(value).powi(2);
        }
        encoded.push((name, tensor.shape.clone(), bytes));
    }
    let dtype = match precision {
        Precision::F32 => Dtype::F32,
        Precision::F16 => Dtype::F16,
    };
    let views = encoded
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| invalid(path, error.to_string()))?;
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = serialize(views, Some(format)).map_err(|error| invalid(path, error.to_string()))?;
    write(path, &bytes)?;
    Ok((error / f64::max(norm, f64::MIN_POSITIVE)).sqrt())
}
