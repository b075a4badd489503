//! Errors of weight files: each names the file, what is wrong and what to do.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::Tensor;

/// Why weights could not be read or do not fit a network.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read at all.
    #[error("weight file {}: {source}; correct `weights:` (and `folder:`) in the model file, or put the file there", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The content is not what a reader takes.
    #[error("weight file {}: {detail}; {remedy}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A value is NaN or infinite.
    #[error(
        "weight file {}: tensor `{tensor}` holds {value} at index {index}; the training diverged, or the values \
         overflowed when they were converted: use another checkpoint",
        path.display()
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Position in row-major order.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The tensors are not those of the network.
    #[error("weight file {} does not fit the network: {}", path.display(), List(problems))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// All that differs.
        problems: Vec<Problem>,
    },
}

/// One tensor that is not as the network needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The network needs it, the file has it not.
    Missing {
        /// Name in the network.
        name: String,
        /// Shape in the network.
        shape: Vec<usize>,
        /// The most similar name of the file.
        nearest: Option<String>,
    },
    /// The file has it, the network needs it not.
    Extra {
        /// Name in the file.
        name: String,
        /// Shape in the file.
        shape: Vec<usize>,
    },
    /// Both have it, in different shapes.
    Misshapen {
        /// The common name.
        name: String,
        /// Shape in the network.
        wanted: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
}

impl Problem {
    /// Misshapen tensors say most about the cause, extra ones least.
    fn rank(&self) -> usize {
        match self {
            Self::Misshapen { .. } => 0,
            Self::Missing { .. } => 1,
            Self::Extra { .. } => 2,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misshapen { name, wanted, found } => {
                write!(f, "`{name}` has shape {found:?}, the network takes {wanted:?}")
            }
            Self::Missing { name, shape, nearest: Some(nearest) } => {
                write!(f, "`{name}` {shape:?} is missing (nearest name: `{nearest}`)")
            }
            Self::Missing { name, shape, nearest: None } => write!(f, "`{name}` {shape:?} is missing"),
            Self::Extra { name, shape } => write!(f, "`{name}` {shape:?} is not part of the network"),
        }
    }
}

/// Counts, and the first problems of every kind: 493 lines would hide what they say.
struct List<'a>(&'a [Problem]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let of_rank = |rank| self.0.iter().filter(move |problem| problem.rank() == rank);
        let counts = [0, 1, 2].map(|rank| of_rank(rank).count());
        write!(f, "{} misshapen, {} missing, {} extra tensors", counts[0], counts[1], counts[2])?;
        for (rank, count) in counts.into_iter().enumerate() {
            for problem in of_rank(rank).take(SHOWN) {
                write!(f, "\n  {problem}")?;
            }
            if count > SHOWN {
                write!(f, "\n  … and {} more", count - SHOWN)?;
            }
        }
        write!(f, "\nthe network's configuration in the model file must be that of the checkpoint")
    }
}

/// The most similar name, if one is similar; of two names as similar, the one with the wanted shape.
pub(super) fn nearest(name: &str, shape: &[usize], tensors: &BTreeMap<String, Tensor>) -> Option<String> {
    const SIMILAR: f64 = 0.6;
    let score = |(candidate, tensor): (&String, &Tensor)| {
        let same_shape = if tensor.shape == shape { 1e-3 } else { 0.0 };
        strsim::normalized_levenshtein(name, candidate) + same_shape
    };
    tensors
        .iter()
        .map(|entry| (score(entry), entry.0))
        .filter(|(score, _)| *score > SIMILAR)
        // The first of equals, so that the text does not depend on anything but the file.
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| candidate.clone())
}

impl WeightsError {
    /// Whether there is no such file.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}
