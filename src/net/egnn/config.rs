//! Configuration of an EGNN, with the names of EDM's public code.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::molecule::{ELEMENTS, Representation};
use crate::net::kernel::MAX_WIDTH;

/// More atoms than any molecule of small elements has: a larger number is a slip.
const MAX_ATOMS: usize = 256;
/// More layers than any network has.
const MAX_LAYERS: usize = 1000;

/// Configuration of the EGNN dynamics of EDM (arXiv 2203.17003, appendix C; also of EquiFM's network).
#[expect(clippy::struct_excessive_bools, reason = "the switches of the public configuration")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EgnnConfig {
    /// Channels of an atom, 1 to 1024.
    #[schemars(range(min = 1, max = 1024))]
    pub nf: usize,
    /// Blocks, each of `inv_sublayers` message layers and one coordinate update.
    pub n_layers: usize,
    /// Message layers of a block.
    #[serde(default = "one")]
    pub inv_sublayers: usize,
    /// Whether messages are gated by σ of a linear map of them.
    #[serde(default = "yes")]
    pub attention: bool,
    /// Whether coordinate weights are bounded: tanh, times `coords_range`.
    #[serde(default = "yes")]
    pub tanh: bool,
    /// Factor of the tanh. The public code is given 15 and does not divide it by the number of layers.
    #[serde(default = "fifteen")]
    pub coords_range: f64,
    /// c of the direction (x_i − x_j) / (√(‖x_i − x_j‖² + 1e-8) + c); 0 or more.
    #[serde(default = "unit")]
    pub norm_constant: f64,
    /// What sums over senders are divided by, if `aggregation_method` is `sum`.
    #[serde(default = "unit")]
    pub normalization_factor: f64,
    /// How messages to one atom are combined.
    #[serde(default)]
    pub aggregation_method: Aggregation,
    /// Sinusoids of the distances: not supported, must be false.
    #[serde(default)]
    pub sin_embedding: bool,
    /// Whether the time is an input of every atom.
    #[serde(default = "yes")]
    pub condition_time: bool,
    /// Whether the nuclear charge is a column of the state.
    #[serde(default = "yes")]
    pub include_charges: bool,
    /// What positions, one-hot elements and charges are divided by in the state.
    #[serde(default = "qm9_factors")]
    pub normalize_factors: [f64; 3],
    /// Most atoms of a molecule: rows of the state.
    #[serde(default = "qm9_atoms")]
    pub max_atoms: usize,
}

/// How messages to one atom are combined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Their sum over `normalization_factor`.
    #[default]
    Sum,
    /// Their sum over the number of atoms. (The public code also counts the padding of a batch; there is none here.)
    Mean,
}

const fn one() -> usize {
    1
}

const fn yes() -> bool {
    true
}

const fn unit() -> f64 {
    1.0
}

const fn fifteen() -> f64 {
    15.0
}

const fn qm9_factors() -> [f64; 3] {
    Representation::QM9.factors
}

const fn qm9_atoms() -> usize {
    Representation::QM9.max_atoms
}

/// A configuration that no network can be built from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgnnConfigError {
    /// A number is outside of its range.
    #[error("network configuration: {name} must be {wanted}, got {got}")]
    Range {
        /// The field.
        name: &'static str,
        /// Its range.
        wanted: String,
        /// As given.
        got: String,
    },
    /// Sinusoids of distances do not exist here.
    #[error(
        "network configuration: sin_embedding: true is not supported: only networks that were trained on plain \
         squared distances can be used"
    )]
    SinEmbedding,
}

/// Checks that a number is positive (or `minimum` itself) and finite.
pub(super) fn positive(name: &'static str, value: f64, or_zero: bool) -> Result<(), EgnnConfigError> {
    if value.is_finite() && (value > 0.0 || or_zero && value == 0.0) {
        return Ok(());
    }
    let wanted = if or_zero { "finite and not below 0" } else { "finite and above 0" };
    Err(EgnnConfigError::Range { name, wanted: wanted.to_owned(), got: value.to_string() })
}

/// Checks that a count is between 1 and `most`.
pub(super) fn count(name: &'static str, value: usize, most: usize) -> Result<(), EgnnConfigError> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(EgnnConfigError::Range { name, wanted: format!("1 to {most}"), got: value.to_string() })
}

/// Checks the sizes that every network of this kind has.
pub(super) fn sizes(nf: usize, n_layers: usize) -> Result<(), EgnnConfigError> {
    count("nf", nf, MAX_WIDTH)?;
    count("n_layers", n_layers, MAX_LAYERS)
}

impl EgnnConfig {
    /// How molecules are states of the network.
    pub const fn representation(&self) -> Representation {
        Representation {
            max_atoms: self.max_atoms,
            factors: self.normalize_factors,
            include_charges: self.include_charges,
        }
    }

    /// Columns of an atom beside its position: 5, and 1 for the charge.
    pub(super) const fn features(&self) -> usize {
        ELEMENTS + self.include_charges as usize
    }

    /// Inputs and outputs of an atom: its features, and the time.
    pub(super) const fn node_inputs(&self) -> usize {
        self.features() + self.condition_time as usize
    }

    /// Checks that a network can be built.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn check(&self) -> Result<(), EgnnConfigError> {
        if self.sin_embedding {
            return Err(EgnnConfigError::SinEmbedding);
        }
        sizes(self.nf, self.n_layers)?;
        count("inv_sublayers", self.inv_sublayers, MAX_LAYERS)?;
        count("max_atoms", self.max_atoms, MAX_ATOMS)?;
        positive("coords_range", self.coords_range, false)?;
        positive("norm_constant", self.norm_constant, true)?;
        positive("normalization_factor", self.normalization_factor, false)?;
        self.normalize_factors.iter().try_for_each(|factor| positive("normalize_factors", *factor, false))
    }
}
