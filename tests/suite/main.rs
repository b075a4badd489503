//! End-to-end tests: the built program, the shipped files, and the structure of the sources.

mod layering;
mod pipelines;
mod run_test;
