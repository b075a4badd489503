//! Read-outs: what the losses of members see of their end points.

use std::time::Instant;

use super::Engine;
use super::kind::Kind;
use crate::flow::FieldError;
use crate::method::{Answer, Ask};

impl Engine {
    /// Answers the read-outs that members ask for between a solve and its pull-back.
    ///
    /// One that fails here stays asked, and is found in the next round.
    pub(super) fn read_outs(&mut self, members: &[usize]) {
        for _ in 0..2 {
            for (kind, reader, members) in self.groups(members, Kind::is_of_reader) {
                self.run_group(kind, reader, &members);
            }
        }
    }

    pub(super) fn read_out(&mut self, reader: usize, members: &[usize]) -> Result<(), FieldError> {
        let (dim, outputs) = (self.readers[reader].dim(), self.readers[reader].outputs());
        let x = self.end_points(members, dim);
        let cond = self.conds(members);
        let mut out = vec![0.0; members.len() * outputs];
        let clock = Instant::now();
        self.readers[reader].read(&x, &cond, &mut out)?;
        self.charge_reader(members, clock);
        self.tell(members, outputs, &out, Answer::Value);
        Ok(())
    }

    pub(super) fn read_out_vjp(&mut self, reader: usize, members: &[usize]) -> Result<(), FieldError> {
        let (dim, outputs) = (self.readers[reader].dim(), self.readers[reader].outputs());
        let x = self.end_points(members, dim);
        let cond = self.conds(members);
        let cotangent = self.gather(members, outputs, |ask| {
            if let Ask::ReadOutVjp { cotangent, .. } = ask { cotangent } else { &[] }
        });
        let mut out = vec![0.0; x.len()];
        let clock = Instant::now();
        self.readers[reader].vjp(&x, &cond, &cotangent, &mut out)?;
        self.charge_reader(members, clock);
        self.tell(members, dim, &out, Answer::Gradient);
        Ok(())
    }

    fn end_points(&self, members: &[usize], dim: usize) -> Vec<f32> {
        self.gather(members, dim, |ask| match ask {
            Ask::ReadOut { x } | Ask::ReadOutVjp { x, .. } => x,
            _ => &[],
        })
    }

    fn charge_reader(&mut self, members: &[usize], clock: Instant) {
        let seconds = clock.elapsed().as_secs_f64();
        self.network_seconds += seconds;
        for &member in members {
            self.slots[member].state.cost.device_seconds += seconds / members.len() as f64;
        }
    }
}
