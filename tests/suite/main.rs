//! End-to-end tests: the built program, the shipped files, and the structure of the sources.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod layering;
mod pipelines;
mod run;
mod run_test;
