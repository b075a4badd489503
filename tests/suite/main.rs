//! End-to-end tests: the built program, the shipped files, and the structure of the sources.

mod layering;
mod pipelines;
#[expect(dead_code, reason = "a driver offers more than the tests of one day use")]
mod run_test;
