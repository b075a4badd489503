//! Networks from ops with an explicit pull-back: CPU kernels over planned buffers, or a device through candle.
//!
//! [`Network`] evaluates rows of a batch; every row is one sample, computed alone, so that its numbers never depend on
//! the batch, the threads or the order. `net/op` has the differentiable ops, `net/kernel` the CPU kernels (the only
//! unsafe code), [`adm`] builds UNets from a configuration and [`weights`], [`egnn`] networks of molecules.

pub mod adm;
mod device;
pub mod egnn;
mod embedding;
mod graph;
pub mod kernel;
mod memory;
pub mod model;
mod network;
mod op;
pub mod perceptual;
mod pool;
#[cfg(test)]
mod testing;
pub mod weights;

pub use device::{DeviceNetwork, probe};
pub use network::Network;

/// Why a network could not be built.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] adm::ConfigError),
    /// The configuration of a network of molecules is wrong.
    #[error(transparent)]
    Egnn(#[from] egnn::EgnnConfigError),
    /// The configuration of a property classifier is wrong.
    #[error(transparent)]
    Classifier(#[from] egnn::ClassifierConfigError),
    /// The weights are not this configuration's.
    #[error(transparent)]
    Weights(#[from] weights::WeightsError),
    /// `DFLOW_CPU` is wrong.
    #[error(transparent)]
    Cpu(#[from] kernel::UnknownInstructionSet),
}

#[cfg(test)]
mod tests;
