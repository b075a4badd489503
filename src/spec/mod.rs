//! What the user wrote: the types of a pipeline file, their parsing, and the errors of both.
//!
//! Closed families (operators, solvers, methods, stop rules …) are externally tagged enums of config structs,
//! so that every error keeps its line and column: no `tag`, `untagged` or `flatten` anywhere in here.
//! Nothing in this module knows tensors, devices or files other than the pipeline file itself.

pub mod check;
pub mod cluster;
pub mod dataset;
pub mod device;
pub mod diagnostic;
pub mod document;
pub mod init;
pub mod likelihood;
pub mod method;
pub mod metric;
pub mod model;
pub mod operator;
pub mod parse;
pub mod pipeline;
pub mod property;
pub mod schema;
pub mod set;
pub mod solver;
pub mod span;
pub mod stop;

#[cfg(test)]
mod tests;
