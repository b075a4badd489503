//! The UNet of "Diffusion Models Beat GANs on Image Synthesis" (ADM, arXiv 2105.05233) from one configuration: the
//! tensors of its public checkpoints (guided-diffusion's key layout), and the graph.

mod build;
mod config;
mod layout;
mod tensors;

pub(crate) use build::build;
pub use config::{AdmConfig, ConfigError};
pub use tensors::tensors;
