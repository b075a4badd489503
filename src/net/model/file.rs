//! `models/<name>.yaml`: a network's configuration, its weight file, and what its output means.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StateShape;
use crate::fetch::Source;
use crate::flow::Convention;
use crate::net::adm::AdmConfig;
use crate::net::egnn::EgnnConfig;
use crate::path::{NetworkTime, Parametrisation, Path, VpTable};

/// A model as its file states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// What it is and how it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Licence of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The network.
    pub network: NetworkSpec,
    /// The weight file (safetensors, or a zip file of `torch.save`): relative to the model file, or to `folder`.
    pub weights: String,
    /// Sub-folder of the data folder (`DATA=`, `--data`) that holds the weight file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The tensors of the network are those whose names start with this, such as `ema.state_dict.`; it is removed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// blake3 of the weight file in hex; checked where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// Public files that hold the weights: `dflow model fetch`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The probability path that the network was trained on.
    #[serde(default)]
    pub path: PathSpec,
    /// The path that solves run on, if it is another one than the network was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reparametrise: Option<Reparametrise>,
    /// What follows the last step of a forward solve; part of the map that is differentiated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// In what a GPU multiplies matrices, if not in f32. CPUs refuse such a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matmul: Option<Matmul>,
    /// What the network's output is.
    #[serde(default)]
    pub prediction: Prediction,
    /// The time that the network is told; by default the step index on `vp_linear`, else the flow time.
    /// The network multiplies it by its `time_embedding_scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeSpec>,
}

/// A network family with its configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NetworkSpec {
    /// The UNet of "Diffusion Models Beat GANs on Image Synthesis" (arXiv 2105.05233), with its public key layout.
    Adm(AdmConfig),
    /// The EGNN of EDM for molecules (arXiv 2203.17003), with its public key layout. Without `prefix`, tensors are
    /// those after `dynamics.egnn.` where the file has such, as public checkpoints of EDM and EquiFM have.
    Egnn(EgnnConfig),
}

/// A probability path from noise (t = 0) to data (t = 1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PathSpec {
    /// x_t = t·x₁ + (1 − t)·x₀.
    #[default]
    CondOt,
    /// A variance-preserving diffusion with β linear in the step index.
    VpLinear(VpLinear),
    /// The `polynomial_2` schedule of EDM for molecules.
    #[serde(rename = "polynomial_2")]
    Polynomial2,
}

/// Noise variances β_k from `first` to `last` in equal steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VpLinear {
    /// β of the least noisy step, in (0, 1).
    pub first: f64,
    /// β of the noisiest step, in (0, 1).
    pub last: f64,
    /// Number of steps, 3 to 1,000,000.
    #[schemars(range(min = 3, max = 1_000_000))]
    pub steps: u32,
}

/// More steps than any diffusion has: a larger number is a slip, and its table would fill the memory.
const MAX_STEPS: u32 = 1_000_000;

impl Default for VpLinear {
    /// The schedule of the public ADM checkpoints.
    fn default() -> Self {
        Self { first: 1e-4, last: 0.02, steps: 1000 }
    }
}

/// Another path for a trained network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reparametrise {
    /// Straight from the noisiest to the least noisy step of the diffusion: Cond-OT at t = α/(α + σ).
    CondOt,
}

/// What follows the last step of a forward solve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The denoiser at t = 1: the least noisy step of a diffusion keeps noise (ADM: σ = 0.01). One more evaluation.
    Denoise,
}

/// In what a GPU multiplies matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Matmul {
    /// TF32: factors of 10 bits of mantissa, sums in f32. Faster, and other numbers.
    Tf32,
}

/// What a network's output is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The velocity u_t(x).
    #[default]
    Velocity,
    /// The noise ε̂.
    Noise,
    /// The clean image x̂₁.
    Denoiser,
    /// v = α·ε̂ − σ·x̂₁.
    V,
    /// The derivative in the noise level, features without their factor: what EquiFM's network gives.
    Equifm,
}

/// The time that a network is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeSpec {
    /// t in [0, 1], 0 at noise.
    Flow,
    /// The step index of `vp_linear`, 0 at data; fractional between steps.
    StepIndex,
    /// τ = 1 − t of EDM and EquiFM, 0 at data.
    NoiseLevel,
}

impl ModelFile {
    /// What the states are.
    pub fn state(&self) -> StateShape {
        match &self.network {
            NetworkSpec::Adm(config) => {
                StateShape::Image([config.in_channels, config.image_size, config.image_size])
            }
            NetworkSpec::Egnn(config) => StateShape::Molecule(config.representation()),
        }
    }

    /// Number of classes; 0: unconditional.
    pub fn classes(&self) -> usize {
        match &self.network {
            NetworkSpec::Adm(config) => config.num_classes.unwrap_or(0),
            NetworkSpec::Egnn(_) => 0,
        }
    }

    /// What is wrong in the file beyond its syntax: every problem, one a line.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let PathSpec::VpLinear(VpLinear { first, last, steps }) = self.path {
            let is_variance = |beta: f64| beta > 0.0 && beta < 1.0;
            if !is_variance(first) || !is_variance(last) || first > last {
                problems.push(format!("path.vp_linear: 0 < first ({first}) ≤ last ({last}) < 1 must hold"));
            }
            if !(3..=MAX_STEPS).contains(&steps) {
                problems.push(format!("path.vp_linear.steps: {steps} steps; 3 to {MAX_STEPS} are possible"));
            }
        } else if self.time == Some(TimeSpec::StepIndex) {
            problems.push("time: step_index needs `path: {vp_linear: {}}`; write `time: flow`".to_owned());
        }
        problems.extend(self.path_problems());
        problems.extend(self.network.problems());
        if self.prediction == Prediction::Equifm {
            let is_egnn = matches!(self.network, NetworkSpec::Egnn(_));
            if !is_egnn || self.path != PathSpec::CondOt || self.time != Some(TimeSpec::NoiseLevel) {
                problems.push(
                    "prediction: equifm needs `network: {egnn: …}`, `path: cond_ot` and `time: noise_level`"
                        .to_owned(),
                );
            }
        }
        if let (Some(Matmul::Tf32), NetworkSpec::Egnn(_)) = (self.matmul, &self.network) {
            problems
                .push("matmul: networks of molecules are evaluated on CPUs, in f32; leave it out".to_owned());
        }
        problems.extend(self.source().problem());
        problems
    }

    /// What is wrong in `reparametrise` and `finish`.
    fn path_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let keeps_no_noise = self.path == PathSpec::CondOt;
        if self.reparametrise.is_some() && keeps_no_noise {
            problems.push("reparametrise: the network's path is cond_ot already".to_owned());
        }
        if self.reparametrise.is_some()
            && matches!(self.prediction, Prediction::Velocity | Prediction::Equifm)
        {
            problems.push(
                "reparametrise: a velocity is of its own path; noise, denoiser or v are needed".to_owned(),
            );
        }
        if self.finish.is_some() && keeps_no_noise {
            problems.push("finish: the path cond_ot ends without noise; leave `finish` out".to_owned());
        }
        problems
    }

    /// Where the weights are.
    pub(super) fn source(&self) -> WeightSource<'_> {
        WeightSource {
            weights: &self.weights,
            folder: self.folder.as_deref(),
            prefix: &self.prefix,
            blake3: self.blake3.as_deref(),
        }
    }

    /// Path, parametrisation and time of a file without problems.
    pub fn convention(&self) -> Convention {
        let (path, by_default) = match self.path {
            PathSpec::CondOt => (Path::CondOt, NetworkTime::Flow),
            PathSpec::Polynomial2 => (Path::Polynomial2, NetworkTime::Flow),
            PathSpec::VpLinear(VpLinear { first, last, steps }) => {
                let table = VpTable::linear(first, last, steps as usize);
                (Path::VpDiscrete(table.into()), NetworkTime::StepIndex { steps })
            }
        };
        let parametrisation = match self.prediction {
            // The network is wrapped: see `egnn::EquiFmVelocity`.
            Prediction::Velocity | Prediction::Equifm => Parametrisation::Velocity,
            Prediction::Noise => Parametrisation::Noise,
            Prediction::Denoiser => Parametrisation::Denoiser,
            Prediction::V => Parametrisation::V,
        };
        let time = match self.time {
            Some(TimeSpec::Flow) => NetworkTime::Flow,
            Some(TimeSpec::NoiseLevel) => NetworkTime::NoiseLevel,
            Some(TimeSpec::StepIndex) | None => by_default,
        };
        let finish = self.finish.is_some();
        match self.reparametrise {
            None => Convention { path, trained: None, parametrisation, time, finish },
            Some(Reparametrise::CondOt) => {
                Convention { path: path.straightened(), trained: Some(path), parametrisation, time, finish }
            }
        }
    }
}

impl NetworkSpec {
    /// What is wrong in the configuration.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match self {
            Self::Adm(adm) => {
                if let Err(error) = adm.check() {
                    problems.push(format!("network.adm: {error}"));
                }
                if adm.in_channels != adm.out_channels {
                    problems.push(format!(
                        "network.adm: a flow needs as many output as input channels, not {} and {} (variances of a \
                         diffusion are not counted: use `learn_sigma: true`)",
                        adm.out_channels, adm.in_channels
                    ));
                }
            }
            Self::Egnn(egnn) => {
                problems.extend(egnn.check().err().map(|error| format!("network.egnn: {error}")));
            }
        }
        problems
    }
}

/// Where a model's or a classifier's weights are.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightSource<'a> {
    /// File name, relative to the file that names it or to `folder`.
    pub weights: &'a str,
    /// Sub-folder of the data folder.
    pub folder: Option<&'a str>,
    /// Start of the tensors' names.
    pub prefix: &'a str,
    /// Of the weight file, in hex.
    pub blake3: Option<&'a str>,
}

impl WeightSource<'_> {
    /// What is wrong in it.
    pub(super) fn problem(&self) -> Option<String> {
        let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        (!self.blake3.is_none_or(is_hash)).then(|| "blake3: 64 hexadecimal digits are expected".to_owned())
    }
}
