//! The contract of a velocity field.

use std::any::Any;

use serde::{Deserialize, Serialize};

use super::basis::Basis;
use crate::path::Affine;
use crate::real::Real;

/// What a conditional model is told about one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Cond {
    /// Nothing.
    #[default]
    None,
    /// A class label in `0..classes`.
    Class(u32),
    /// Number of atoms of a molecule; the state's further rows are zero and stay so.
    Atoms(u32),
}

/// Rows of one network call; each has its own time and condition.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, T> {
    /// Time of each row, in [0, 1].
    pub t: &'a [f64],
    /// States, row-major: `rows × dim`.
    pub x: &'a [T],
    /// Condition of each row.
    pub cond: &'a [Cond],
}

impl<T> Rows<'_, T> {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.t.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.t.is_empty()
    }
}

/// What a field keeps of one call for its pull-back; it belongs to the batch of that call.
pub type Tape = Box<dyn Any + Send>;

/// Why a field could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    /// The device has no memory for so many rows: fewer may do.
    #[error("out of memory for a batch of {rows} rows: {detail}")]
    OutOfMemory {
        /// Rows of the call.
        rows: usize,
        /// What the device said.
        detail: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl FieldError {
    /// A tape that another field made was given to `field`.
    pub(crate) fn foreign_tape(field: &str) -> Self {
        Self::Other(format!(
            "{field}: the tape was made by another field; pull back with the field that was solved"
        ))
    }
}

/// A velocity field u_t(x) with its vector–Jacobian product in x.
///
/// A row's results depend on that row only, bit for bit, whatever else is in the call.
pub trait VelocityField<T: Real>: Send {
    /// Numbers in one state.
    fn dim(&self) -> usize;

    /// `out[r] = u(t[r], x[r])`; `out` has `rows × dim` numbers.
    fn velocity(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<(), FieldError>;

    /// As [`Self::velocity`], keeping what [`Self::pull_back`] needs.
    fn velocity_taped(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<Tape, FieldError>;

    /// `out[r] = (∂u/∂x)(t[r], x[r])ᵀ cotangent[r]` for the call that made `tape`.
    fn pull_back(&mut self, tape: Tape, cotangent: &[T], out: &mut [T]) -> Result<(), FieldError>;

    /// Bytes that one row's tape takes, for choosing between tape and recompute.
    fn tape_bytes_per_row(&self) -> usize;

    /// `velocity_taped` and `pull_back` in one: the recompute of a stored call.
    ///
    /// The result must be bit-identical to theirs. Fields whose Jacobian needs no tape override it.
    fn vjp(&mut self, rows: Rows<'_, T>, cotangent: &[T], out: &mut [T]) -> Result<(), FieldError> {
        let mut velocity = vec![T::ZERO; rows.x.len()];
        let tape = self.velocity_taped(rows, &mut velocity)?;
        self.pull_back(tape, cotangent, out)
    }

    /// Numbers of a state with this condition; those after them are zero and stay so (atoms that are not there).
    fn extent(&self, _cond: &Cond) -> usize {
        self.dim()
    }

    /// `out[r] = E[x₀ | x_t = x]`: the noise that the field's model sees in `x[r]` at `t[r]`.
    ///
    /// # Errors
    /// Where the field's model is not of a kind that can say it at every time: see its own documentation.
    fn noise(&mut self, _rows: Rows<'_, T>, _out: &mut [T]) -> Result<(), FieldError> {
        Err(FieldError::Other(
            "this model gives no noise predictions; the ancestral sampler needs them".to_owned(),
        ))
    }

    /// The last step of a forward solve, x ↦ `x`·x + `y`·u(1, x), where the path keeps noise at t = 1; none otherwise.
    ///
    /// It is one more evaluation, and part of the map that is differentiated.
    fn finish(&self) -> Option<Affine> {
        None
    }

    /// The same field in orthonormal coordinates in which it is cheaper, if there are such.
    ///
    /// Solves change to these coordinates once at their start and back once at their end. The error norm of an
    /// adaptive solver is then taken in them.
    fn in_basis(&mut self) -> Option<InBasis<'_, T>> {
        None
    }
}

/// A field in the coordinates of an orthonormal basis; see [`VelocityField::in_basis`].
pub struct InBasis<'a, T> {
    /// The basis.
    pub basis: &'a Basis<T>,
    /// The field in its coordinates.
    pub field: &'a mut dyn VelocityField<T>,
}
