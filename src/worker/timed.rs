//! How much of a run's time is spent inside its networks.

use std::time::Instant;

use super::engine::Field;
use crate::flow::{Cond, FieldError, InBasis, Rows, Tape, VelocityField};
use crate::path::Affine;

/// A field that counts the seconds inside its calls.
pub(super) struct Timed {
    field: Field,
    seconds: f64,
}

impl Timed {
    pub(super) fn new(field: Field) -> Self {
        Self { field, seconds: 0.0 }
    }

    /// Seconds inside the calls since this was asked last.
    pub(super) fn take_seconds(&mut self) -> f64 {
        std::mem::take(&mut self.seconds)
    }

    fn clocked<R>(&mut self, call: impl FnOnce(&mut dyn VelocityField<f32>) -> R) -> R {
        let clock = Instant::now();
        let result = call(self.field.as_mut());
        self.seconds += clock.elapsed().as_secs_f64();
        result
    }
}

impl VelocityField<f32> for Timed {
    fn dim(&self) -> usize {
        self.field.dim()
    }

    fn velocity(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<(), FieldError> {
        self.clocked(|field| field.velocity(rows, out))
    }

    fn velocity_taped(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<Tape, FieldError> {
        self.clocked(|field| field.velocity_taped(rows, out))
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[f32], out: &mut [f32]) -> Result<(), FieldError> {
        self.clocked(|field| field.pull_back(tape, cotangent, out))
    }

    fn tape_bytes_per_row(&self) -> usize {
        self.field.tape_bytes_per_row()
    }

    fn vjp(&mut self, rows: Rows<'_, f32>, cotangent: &[f32], out: &mut [f32]) -> Result<(), FieldError> {
        self.clocked(|field| field.vjp(rows, cotangent, out))
    }

    fn extent(&self, cond: &Cond) -> usize {
        self.field.extent(cond)
    }

    fn noise(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<(), FieldError> {
        self.clocked(|field| field.noise(rows, out))
    }

    fn finish(&self) -> Option<Affine> {
        self.field.finish()
    }

    fn in_basis(&mut self) -> Option<InBasis<'_, f32>> {
        self.field.in_basis()
    }
}
