//! What a loss sees of the end of a flow, where that is more than the state itself.

use super::field::{Cond, FieldError};

/// A differentiable map of end points x(1) to the numbers that a loss compares, such as a property classifier.
///
/// A row's results depend on that row only, bit for bit, whatever else is in the call.
pub trait ReadOut: Send {
    /// Numbers in one state.
    fn dim(&self) -> usize;

    /// Numbers read from one state.
    fn outputs(&self) -> usize;

    /// `out[r] = F(x[r])`; `x` has `rows × dim` numbers, `out` has `rows × outputs`.
    fn read(&mut self, x: &[f32], cond: &[Cond], out: &mut [f32]) -> Result<(), FieldError>;

    /// `out[r] = (∂F/∂x)(x[r])ᵀ cotangent[r]`; `cotangent` has `rows × outputs` numbers, `out` has `rows × dim`.
    fn vjp(&mut self, x: &[f32], cond: &[Cond], cotangent: &[f32], out: &mut [f32])
    -> Result<(), FieldError>;
}
