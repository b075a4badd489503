//! The method that measures how likely a model finds the (restored) image.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::method::ConditionSpec;
use super::model::ModelRef;
use super::solver::{FixedSteps, SolverSpec};

/// Options of the log-likelihood of H†y: of the image itself where H = I, of its masked copy where H is a mask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LikelihoodSpec {
    /// Name of the row in tables; default `likelihood`.
    pub name: Option<String>,
    /// The tasks it is run on; default: all.
    pub tasks: Option<Vec<String>>,
    /// A model of its own; default: the pipeline's.
    pub model: Option<ModelRef>,
    /// The condition of a conditional model.
    pub condition: ConditionSpec,
    /// The ODE solver, with fixed steps: the divergence is integrated with its own weights.
    pub solver: SolverSpec,
    /// Rademacher probes of Hutchinson's estimate; the error bar needs two.
    #[schemars(range(min = 1))]
    pub probes: u32,
    /// What is measured.
    pub data: MeasuredData,
    /// The constant in the bits per dimension.
    pub offset: BitsOffset,
}

impl Default for LikelihoodSpec {
    fn default() -> Self {
        Self {
            name: None,
            tasks: None,
            model: None,
            condition: ConditionSpec::default(),
            solver: SolverSpec::Midpoint(FixedSteps { nfe: 40 }),
            probes: 8,
            data: MeasuredData::default(),
            offset: BitsOffset::default(),
        }
    }
}

/// What a likelihood is measured of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeasuredData {
    /// 2(v + u)/256 − 1 of the byte v = round(127.5(x + 1)) with u uniform in (0, 1), drawn once per sample: a bound on the
    /// likelihood of the bytes (Theis et al., arXiv 1511.01844).
    #[default]
    Dequantized,
    /// x as it is.
    Plain,
}

/// The constant in bits per dimension, −log₂ p₁(x)/d + offset (Song et al., arXiv 2011.13456, appendix B).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BitsOffset {
    /// 7: a level of a byte is 2/256 wide in [−1, 1). The bits that the bytes take.
    #[default]
    Signed,
    /// 8: as if the model's data were in [0, 1), for comparison with values that were computed so.
    Unit,
    /// 0: the bits of the density itself.
    None,
}

impl BitsOffset {
    /// The constant.
    pub const fn bits(self) -> f64 {
        match self {
            Self::Signed => 7.0,
            Self::Unit => 8.0,
            Self::None => 0.0,
        }
    }
}

impl LikelihoodSpec {
    /// What is measured and how it is counted, for people.
    pub fn convention(&self) -> String {
        let data = match self.data {
            MeasuredData::Dequantized => "uniformly dequantised bytes",
            MeasuredData::Plain => "values as they are",
        };
        format!("{data}, offset {}", self.offset.bits())
    }
}
