//! A cluster in virtual time that drives the program's own scheduler, chunks and store.
//!
//! Only what takes long or breaks is made up: devices that solve ([`worker`]), tasks that start and die ([`cluster`]),
//! and how long a solve takes ([`service`], fitted to measured solves). Which worker gets which sample is decided by
//! [`dflow::run::Scheduler`], which samples form an array task by [`dflow::cluster::chunks`], and rows and checkpoints
//! go through [`dflow::store`] where a [`disk`] is given. Times are virtual and draws keyed: a run of the simulation
//! depends on its settings alone.

pub mod agenda;
pub mod cluster;
pub mod disk;
pub mod faults;
pub mod files;
pub mod ledger;
pub mod outcome;
pub mod service;
pub mod task;
pub mod worker;

pub use cluster::{Setting, simulate, simulate_on};
pub use disk::Disk;
pub use faults::Faults;
pub use outcome::list_scheduling;
