//! The pictures of a run directory: what figures show besides the numbers of the rows.

use crate::flow::{Grid, Keep, pull_back, solve_taped};
use crate::method::{Restoration, loss};
use crate::operator::Shape;
use crate::plan::Unit;
use crate::report::figures::{GradientPair, Pictures, Snapshot};
use crate::score::Content;
use crate::spec::init::Lift;
use crate::spec::method::MethodSpec;
use crate::store::{Record, RunDir, artifacts};
use crate::worker::assembly::Assembly;

/// The run's dataset and what was kept of its solves.
pub(super) struct RunPictures<'a> {
    pub(super) run_dir: &'a RunDir,
    pub(super) assembly: &'a Assembly,
    pub(super) shape: Shape,
}

impl Pictures for RunPictures<'_> {
    fn shape(&self) -> [usize; 3] {
        [self.shape.channels, self.shape.height, self.shape.width]
    }

    fn truth(&self, sample: usize) -> Result<Option<Vec<f32>>, String> {
        // A sample that cannot be read leaves a grey field: its rows say why.
        Ok(match self.assembly.sample(Unit { cell: 0, sample }) {
            Ok(sample) => match sample.content {
                Content::Image(image) => Some(image),
                Content::Molecule { .. } => None,
            },
            Err(_) => None,
        })
    }

    fn degraded(&self, unit: Unit) -> Result<Option<Vec<f32>>, String> {
        let Ok(sample) = self.assembly.sample(unit) else { return Ok(None) };
        let problem = self.assembly.problem(unit, &sample)?;
        let Some(Restoration { operator, measurement, .. }) = problem.goal.restoration() else {
            return Ok(None);
        };
        operator.lift(measurement, Lift::Auto).map(Some).map_err(|error| error.to_string())
    }

    fn reconstruction(&self, record: &Record) -> Result<Option<Vec<f32>>, String> {
        artifacts::read(&**self.run_dir.fs(), self.run_dir.layout(), record)
            .map_err(|error| error.to_string())
    }

    fn trajectory(&self, record: &Record) -> Result<Vec<Snapshot>, String> {
        let way = artifacts::read_trajectory(&**self.run_dir.fs(), self.run_dir.layout(), record);
        let way = way.map_err(|error| error.to_string())?;
        Ok(way.into_iter().map(|(eval, x0, x1)| Snapshot { eval, x0, x1 }).collect())
    }

    /// D = ∂x(1)/∂x₀ by rows: the pull-backs of the two unit vectors.
    fn gradients(&self, unit: Unit, x0: &[f32]) -> Result<GradientPair, String> {
        let slot = self.assembly.open(unit, None)?;
        let problem = &slot.problem;
        let (MethodSpec::Dflow(spec), Some(restoration)) = (&problem.method, problem.goal.restoration())
        else {
            return Err("only D-Flow has a gradient at its source point".to_owned());
        };
        let mut field = self.assembly.field(unit)?.ok_or("the method has no model")?;
        let (cond, grid) = ([slot.cond; 2], Grid::forward(spec.solver));
        let (solution, tape) = solve_taped(&mut *field, &grid, &x0.repeat(2), &cond, Keep::Inputs)
            .map_err(|error| error.to_string())?;
        let jacobian = pull_back(&mut *field, tape, &cond, &[1.0, 0.0, 0.0, 1.0]);
        let jacobian = jacobian.map_err(|error| error.to_string())?.x;
        let x1 = &solution.x[..x0.len()];
        let Restoration { operator, measurement, .. } = restoration;
        let target = loss::target(&spec.loss, operator, measurement);
        let (_, raw) = loss::evaluate(&spec.loss, operator, measurement, &target, x1);
        projected(x1, &raw, &jacobian).ok_or_else(|| {
            format!("gradients are drawn in the plane; these samples have {} numbers", x0.len())
        })
    }
}

/// ∇L and D Dᵀ∇L of D by rows.
fn projected(x1: &[f32], raw: &[f32], jacobian: &[f32]) -> Option<GradientPair> {
    let plane = |v: &[f32]| <[f32; 2]>::try_from(v).ok().map(|v| v.map(f64::from));
    let (x1, raw) = (plane(x1)?, plane(raw)?);
    let rows = [plane(jacobian.get(..2)?)?, plane(jacobian.get(2..)?)?];
    let at_source = [0, 1].map(|j| raw[0] * rows[0][j] + raw[1] * rows[1][j]);
    let projected = rows.map(|row| row[0] * at_source[0] + row[1] * at_source[1]);
    Some(GradientPair { x1, raw, projected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projection_is_d_times_its_transpose() {
        // D = [[2, 1], [0, 3]]: D Dᵀ = [[5, 3], [3, 9]].
        let pair = projected(&[0.0, 0.0], &[1.0, -1.0], &[2.0, 1.0, 0.0, 3.0]).unwrap();
        assert_eq!((pair.raw, pair.projected), ([1.0, -1.0], [2.0, -6.0]));
        assert_eq!(projected(&[0.0; 3], &[0.0; 3], &[0.0; 4]), None);
    }
}
