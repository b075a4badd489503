//! E(n)-equivariant graph networks on molecules: the dynamics of EDM (arXiv 2203.17003) and EquiFM (arXiv 2312.07168),
//! and the invariant property classifiers that EDM's conditional evaluation uses (arXiv 2102.09844).
//!
//! A molecule is a complete graph of its real atoms: no padding is computed. Every op has a forward pass and an explicit
//! pull-back to its inputs; weights are frozen. Channels are rows per atom (`node`, `linear`) or per edge (`edge`), the
//! latter in blocks of receivers that fit the cache.

mod buffers;
mod build;
mod classifier;
mod config;
mod coord;
mod dynamics;
mod edge;
mod equifm;
mod geometry;
mod linear;
mod message;
mod network;
mod node;
mod tensors;

pub use classifier::{Classifier, ClassifierConfig, ClassifierConfigError, ClassifierReadOut, Reported};
pub use config::{Aggregation, EgnnConfig, EgnnConfigError};
pub use equifm::EquiFmVelocity;
pub use network::EgnnNetwork;
pub use tensors::{classifier_tensors, tensors};

#[cfg(test)]
mod tests;
