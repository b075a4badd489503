//! LPIPS against a fixed image as a read-out, with its gradient.

use std::sync::Arc;

use crate::flow::{Cond, FieldError, ReadOut};
use crate::net::kernel::Team;
use crate::net::pool::each;

use super::lpips::SCALE;
use super::value::Value;
use super::{Lpips, PerceptualError};

/// F(x) = LPIPS(x, reference): one number per image. Outside of [−1, 1] x is clamped, so that the gradient there is 0.
#[derive(Debug, Clone)]
pub struct LpipsReadOut {
    lpips: Lpips,
    sides: [usize; 3],
    /// The layers of the fixed image.
    reference: Arc<Vec<Value>>,
}

impl LpipsReadOut {
    /// See [`Lpips::read_out`].
    pub(super) fn new(lpips: Lpips, reference: &[f32], sides: [usize; 3]) -> Result<Self, PerceptualError> {
        let reference = Arc::new(lpips.inner.layers_of(reference, sides)?);
        Ok(Self { lpips, sides, reference })
    }

    fn distance(&self, x: &[f32], team: Team) -> Result<f32, PerceptualError> {
        let input = self.lpips.inner.input(x, self.sides)?;
        Ok(self.lpips.inner.total(&self.lpips.inner.traces(&input, team), &self.reference) as f32)
    }

    /// The gradient of the distance times `cotangent`.
    fn gradient(&self, x: &[f32], cotangent: f32, team: Team) -> Result<Vec<f32>, PerceptualError> {
        let inner = &self.lpips.inner;
        let input = inner.input(x, self.sides)?;
        let traces = inner.traces(&input, team);
        let gradient = inner.gradient(&input, &traces, &self.reference, f64::from(cotangent), team);
        let mut planes = gradient.into_planes();
        let pixels = self.sides[1] * self.sides[2];
        for (i, (g, x)) in planes.iter_mut().zip(x).enumerate() {
            *g = if x.abs() <= 1.0 { *g / SCALE[i / pixels] } else { 0.0 };
        }
        Ok(planes)
    }

    /// Rows of a call, where the numbers of its arguments are those of so many images.
    fn rows(&self, x: usize, values: usize) -> Result<usize, FieldError> {
        if x == values * self.dim() {
            Ok(values)
        } else {
            Err(FieldError::Other(format!(
                "LPIPS of {x} numbers with {values} values: {} numbers an image are needed",
                self.dim()
            )))
        }
    }
}

/// The first of the errors of the rows.
fn first_error(results: Vec<Option<PerceptualError>>) -> Result<(), FieldError> {
    let named = |(row, error): (usize, Option<PerceptualError>)| {
        error.map(|error| FieldError::Other(format!("LPIPS of row {row}: {error}")))
    };
    results.into_iter().enumerate().find_map(named).map_or(Ok(()), Err)
}

impl ReadOut for LpipsReadOut {
    fn dim(&self) -> usize {
        self.sides.iter().product()
    }

    fn outputs(&self) -> usize {
        1
    }

    fn read(&mut self, x: &[f32], _cond: &[Cond], out: &mut [f32]) -> Result<(), FieldError> {
        let rows = self.rows(x.len(), out.len())?;
        let mut errors: Vec<Option<PerceptualError>> = (0..rows).map(|_| None).collect();
        let work = x.chunks_exact(self.dim()).zip(out).zip(&mut errors).collect();
        each(work, |((x, out), error), team| match self.distance(x, team) {
            Ok(distance) => *out = distance,
            Err(found) => *error = Some(found),
        });
        first_error(errors)
    }

    fn vjp(
        &mut self,
        x: &[f32],
        _cond: &[Cond],
        cotangent: &[f32],
        out: &mut [f32],
    ) -> Result<(), FieldError> {
        let rows = self.rows(x.len(), cotangent.len())?;
        self.rows(out.len(), rows)?;
        let mut errors: Vec<Option<PerceptualError>> = (0..rows).map(|_| None).collect();
        let dim = self.dim();
        let work =
            (x.chunks_exact(dim).zip(cotangent)).zip(out.chunks_exact_mut(dim).zip(&mut errors)).collect();
        each(work, |((x, cotangent), (out, error)), team| match self.gradient(x, *cotangent, team) {
            Ok(gradient) => out.copy_from_slice(&gradient),
            Err(found) => *error = Some(found),
        });
        first_error(errors)
    }
}
