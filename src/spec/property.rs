//! The six quantum properties of QM9 that molecules are generated for.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A property of QM9 (Ramakrishnan et al. 2014).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Property {
    /// Isotropic polarisability α in Bohr³.
    Alpha,
    /// Gap between HOMO and LUMO in eV.
    Gap,
    /// Energy of the highest occupied orbital in eV.
    Homo,
    /// Energy of the lowest unoccupied orbital in eV.
    Lumo,
    /// Dipole moment μ in debye.
    Mu,
    /// Heat capacity at 298.15 K in cal/(mol K), less the atoms' own contributions (as EDM's data loader gives it).
    Cv,
}

impl Property {
    /// Every property, in the order of the paper's tables.
    pub const ALL: [Self; 6] = [Self::Alpha, Self::Gap, Self::Homo, Self::Lumo, Self::Mu, Self::Cv];

    /// As it is written in pipeline files.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Alpha => "alpha",
            Self::Gap => "gap",
            Self::Homo => "homo",
            Self::Lumo => "lumo",
            Self::Mu => "mu",
            Self::Cv => "cv",
        }
    }

    /// As it is written in tables.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Alpha => "α",
            Self::Gap => "Δε",
            Self::Homo => "ε_HOMO",
            Self::Lumo => "ε_LUMO",
            Self::Mu => "μ",
            Self::Cv => "Cv",
        }
    }

    /// The unit of values.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Alpha => "Bohr³",
            Self::Gap | Self::Homo | Self::Lumo => "eV",
            Self::Mu => "D",
            Self::Cv => "cal/(mol K)",
        }
    }
}

/// The property task of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PropertySpec {
    /// Which property.
    pub name: Property,
    /// The classifier F that reads it: a name under `models/classifiers/`, or a path ending in `.yaml`.
    pub classifier: String,
    /// The same target for every sample, in the property's unit; default: drawn from the dataset's statistics.
    #[serde(default)]
    pub value: Option<f64>,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}
