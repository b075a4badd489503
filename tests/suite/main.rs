//! End-to-end tests: the built program, the shipped files, and the structure of the sources.

mod bad_input;
mod layering;
mod pipelines;
mod run;
#[expect(dead_code, reason = "a driver offers more than the tests of one day use")]
mod run_test;
