//! Metrics of one reconstruction.
