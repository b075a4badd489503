//! `dflow`: batch evaluation of D-Flow (controlled generation by differentiating through a pretrained flow,
//! arXiv 2402.14017) and its baselines.
//!
//! The modules in the order in which data passes through them:
//!
//! ```text
//! pipelines/*.yaml ─ spec ─► plan (cells × samples, seeds, shard M/N)
//!                               │ tasks
//!                               ▼
//!             run: dispatcher ──commands / events──► worker ──► network ops, solvers (batched)
//!                                              │ one independent solve per sample: method, operator, stop rule
//!                                              ▼ records
//!             store: journal ─► parts ─► samples.parquet ─► report: tables beside the paper's values
//! ```

pub mod atomic;
pub mod catalog;
pub mod cli;
pub mod cluster;
pub mod dataset;
pub mod exit;
pub mod fetch;
pub mod flow;
pub mod method;
pub mod metric;
pub mod molecule;
pub mod net;
pub mod operator;
pub mod optim;
pub mod path;
pub mod plan;
pub mod points;
pub mod random;
pub mod real;
pub mod report;
pub mod run;
pub mod score;
pub mod spec;
pub mod status;
pub mod store;
pub mod telemetry;
#[cfg(test)]
mod test_data;
pub mod ui;
pub mod user_cache;
pub mod worker;
