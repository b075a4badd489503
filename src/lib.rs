//! Batch evaluation of D-Flow.
