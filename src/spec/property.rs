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

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}
