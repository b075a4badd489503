//! The `dflow` program.
fn main() {}
