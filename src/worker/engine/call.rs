//! Single calls of a field: at the points that members ask for, each at its own time.

use std::time::Instant;

use super::{Engine, Timed, guarded};
use crate::flow::{FieldError, Rows, Tape, VelocityField};
use crate::method::{Answer, Ask};

/// Where a call is made: times, and rows of states.
struct Points {
    t: Vec<f64>,
    x: Vec<f32>,
}

impl Engine {
    /// One forward call.
    pub(super) fn call(
        &mut self,
        model: usize,
        members: &[usize],
        call: impl Fn(&mut Timed, Rows<'_, f32>, &mut [f32]) -> Result<(), FieldError>,
    ) -> Result<(), FieldError> {
        let points = self.points(members, self.fields[model].dim());
        self.forward(model, members, &points, call)
    }

    /// One forward call, and the pull-back of it for those that ask for it next.
    pub(super) fn velocity_taped(&mut self, model: usize, members: &[usize]) -> Result<(), FieldError> {
        let points = self.points(members, self.fields[model].dim());
        let tape = self.forward(model, members, &points, VelocityField::velocity_taped)?;
        // The members have their velocities: what fails now is asked again in the next round, as a pull-back that
        // repeats the call, and there the sample that spoils it is found.
        let pulled = guarded(|| self.pull_back_call(tape, model, members, &points));
        if let Err(FieldError::OutOfMemory { .. }) = pulled {
            self.max_rows = (members.len() / 2).max(1);
        }
        Ok(())
    }

    fn forward<R>(
        &mut self,
        model: usize,
        members: &[usize],
        points: &Points,
        call: impl Fn(&mut Timed, Rows<'_, f32>, &mut [f32]) -> Result<R, FieldError>,
    ) -> Result<R, FieldError> {
        let dim = self.fields[model].dim();
        let cond = self.conds(members);
        let mut out = vec![0.0; points.x.len()];
        let clock = Instant::now();
        let rows = Rows { t: &points.t, x: &points.x, cond: &cond };
        let result = call(&mut self.fields[model], rows, &mut out)?;
        self.charge(model, members, clock);
        for &member in members {
            self.slots[member].state.cost.nfe_forward += 1;
        }
        self.tell(members, dim, &out, Answer::State);
        Ok(result)
    }

    /// Answers the members that ask for the pull-back of the call at `points` which made `tape`.
    fn pull_back_call(
        &mut self,
        tape: Tape,
        model: usize,
        members: &[usize],
        points: &Points,
    ) -> Result<(), FieldError> {
        let dim = self.fields[model].dim();
        let mut cotangents = vec![0.0; points.x.len()];
        let mut asked = Vec::with_capacity(members.len());
        let rows = cotangents.chunks_exact_mut(dim).zip(points.x.chunks_exact(dim)).zip(&points.t);
        for (i, ((row, called), called_at)) in rows.enumerate() {
            let slot = &self.slots[members[i]];
            if let (Ask::Vjp { t, x, cotangent }, false) = (&slot.state.ask, slot.is_finished())
                && (t, &**x) == (called_at, &called[..x.len()])
            {
                row[..cotangent.len()].copy_from_slice(cotangent);
                asked.push(i);
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let mut out = vec![0.0; points.x.len()];
        let clock = Instant::now();
        self.fields[model].pull_back(tape, &cotangents, &mut out)?;
        let rows: Vec<f32> = asked.iter().flat_map(|&i| &out[i * dim..(i + 1) * dim]).copied().collect();
        let asked: Vec<usize> = asked.into_iter().map(|i| members[i]).collect();
        self.pulled_back(model, &asked, &rows, clock);
        Ok(())
    }

    /// The pull-back of a call that is repeated for it.
    pub(super) fn vjp(&mut self, model: usize, members: &[usize]) -> Result<(), FieldError> {
        let dim = self.fields[model].dim();
        let Points { t, x } = self.points(members, dim);
        let cond = self.conds(members);
        let cotangent = self
            .gather(members, dim, |ask| if let Ask::Vjp { cotangent, .. } = ask { cotangent } else { &[] });
        let mut out = vec![0.0; x.len()];
        let clock = Instant::now();
        self.fields[model].vjp(Rows { t: &t, x: &x, cond: &cond }, &cotangent, &mut out)?;
        self.pulled_back(model, members, &out, clock);
        Ok(())
    }

    fn pulled_back(&mut self, model: usize, members: &[usize], rows: &[f32], clock: Instant) {
        self.charge(model, members, clock);
        for &member in members {
            self.slots[member].state.cost.nfe_vjp += 1;
        }
        self.tell(members, self.fields[model].dim(), rows, Answer::Gradient);
    }

    fn points(&self, members: &[usize], dim: usize) -> Points {
        let time = |ask: &Ask| match ask {
            Ask::Velocity { t, .. } | Ask::Vjp { t, .. } | Ask::Noise { t, .. } => *t,
            _ => 0.0,
        };
        let t = members.iter().map(|&m| time(&self.slots[m].state.ask)).collect();
        let x = self.gather(members, dim, |ask| match ask {
            Ask::Velocity { x, .. } | Ask::Vjp { x, .. } | Ask::Noise { x, .. } => x,
            _ => &[],
        });
        Points { t, x }
    }
}
