//! Optimisers as ask/tell machines.
