//! End-to-end tests: the built program, the shipped files, and the structure of the sources.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod collect;
mod commands;
mod fetch;
mod figures;
mod interruptions;
mod layering;
mod molecules;
mod own_data;
mod pipelines;
mod processes;
mod run;
mod run_test;
mod scale;
mod score;
mod submit;
mod telemetry;
#[expect(clippy::print_stderr, reason = "a test without its data says so")]
#[path = "../../src/test_data.rs"]
mod test_data;
mod throughput;
mod timeline;
mod work;
