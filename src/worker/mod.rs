//! One worker per device: many independent solves, grouped into whole evaluations.

pub mod protocol;
