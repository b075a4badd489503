//! What can be wrong with a perceptual network's files, weights or images.

use crate::net::kernel::UnknownInstructionSet;
use crate::net::model::ModelError;
use crate::net::weights::WeightsError;

use super::Trunk;

/// Why a perceptual network cannot be loaded, or cannot judge an image.
#[derive(Debug, thiserror::Error)]
pub enum PerceptualError {
    /// Its model file or weight file.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Two files.
    #[error("{0}; {1}")]
    Both(Box<PerceptualError>, Box<PerceptualError>),
    /// `DFLOW_CPU` is wrong.
    #[error(transparent)]
    Cpu(#[from] UnknownInstructionSet),
    /// The heads are those of another trunk.
    #[error(
        "LPIPS heads {}: {} layers of {found:?} channels, but the trunk `{trunk}` has {} of {wanted:?}; \
         give the heads that were trained on `{trunk}`{}",
        path.display(), found.len(), wanted.len(), fitting(found)
    )]
    WrongHeads {
        /// The file of the heads.
        path: std::path::PathBuf,
        /// Channels of every head.
        found: Vec<usize>,
        /// The trunk of the model file.
        trunk: Trunk,
        /// Its channels.
        wanted: Vec<usize>,
    },
    /// A head has a negative weight: the distance could be negative.
    #[error(
        "LPIPS heads {}: `{tensor}` holds {value}, weights of a distance are not negative; use the public heads v0.1",
        path.display()
    )]
    NegativeHead {
        /// The file of the heads.
        path: std::path::PathBuf,
        /// The tensor.
        tensor: String,
        /// The weight.
        value: f32,
    },
    /// A batch normalisation has a negative variance.
    #[error(
        "weight file {}: tensor `{tensor}` holds the variance {value} at index {index}, which cannot be negative; the \
         file is damaged or was converted wrongly: fetch it again",
        path.display()
    )]
    NegativeVariance {
        /// The weight file.
        path: std::path::PathBuf,
        /// The tensor.
        tensor: String,
        /// Position in it.
        index: usize,
        /// The variance.
        value: f32,
    },
    /// The weights are those of another variant of InceptionV3.
    #[error(
        "weight file {}: `fc.weight` has {outputs} classes, the variant for FID has 1008: these weights are another \
         InceptionV3's (torchvision's have 1000), and features of it give no FID; use \
         pt_inception-2015-12-05-6726825d.pth",
        path.display()
    )]
    NotFidInception {
        /// The weight file.
        path: std::path::PathBuf,
        /// Classes of its last layer.
        outputs: usize,
    },
    /// The image has not the channels that the network takes.
    #[error("an image of {channels} channels: the network takes {wanted} (grey images must be repeated)")]
    Sides {
        /// Channels of the image.
        channels: usize,
        /// Channels of the network.
        wanted: usize,
    },
    /// The image has not as many numbers as its sides say.
    #[error("an image of {found} numbers, its sides {sides:?} say {}", sides.iter().product::<usize>())]
    Length {
        /// Numbers given.
        found: usize,
        /// Channels, height and width.
        sides: [usize; 3],
    },
    /// The image is too small for the network's windows.
    #[error(
        "an image of {height}×{width} pixels is too small for the network `{network}`, which needs at least \
         {least}×{least}; leave out this metric, or use larger images"
    )]
    TooSmall {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Name of the network.
        network: &'static str,
        /// The smallest side of an image that works.
        least: usize,
    },
    /// The image holds NaN or infinity.
    #[error("an image holds {value} at index {index}: it has no features")]
    NotFinite {
        /// Position in the image.
        index: usize,
        /// The number.
        value: f32,
    },
}

impl PerceptualError {
    /// Two errors; of one that is damaged and one that is missing, the damaged one.
    pub(crate) fn both(one: Self, other: Self) -> Self {
        match (one.is_missing(), other.is_missing()) {
            (true, true) if one.to_string() == other.to_string() => one,
            (true, false) => other,
            (false, true) => one,
            _ => Self::Both(one.into(), other.into()),
        }
    }

    /// Whether the weights are simply not there: a file that does not exist, or no data folder given. A table then
    /// prints `no weights`; any other error is one.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Model(error) => error.is_missing(),
            Self::Weights(error) => error.is_absent(),
            Self::Both(one, other) => one.is_missing() && other.is_missing(),
            _ => false,
        }
    }
}

/// Which trunk the heads would fit.
fn fitting(found: &[usize]) -> String {
    let fits = Trunk::ALL.into_iter().find(|trunk| trunk.channels() == found);
    fits.map_or(String::new(), |trunk| format!("; these fit `{trunk}`"))
}
