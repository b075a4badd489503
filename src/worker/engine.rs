//! Many independent solves on one device: their pending asks are grouped by kind, model and grid, and each group
//! runs in lock-step as a whole evaluation (forward grid, losses on the host, backward grid; or one call, and its
//! pull-back where one follows).

mod call;
mod kind;
mod read_out;
mod stored;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use kind::Kind;
pub use stored::{Frozen, StoredSolve};

use super::protocol::MemoryPlan;
use super::timed::Timed;
use crate::flow::{self, Cond, Direction, FieldError, Grid, Keep, ReadOut, SolveError, VelocityField};
use crate::method::{Answer, Ask, Problem, Solve};
use crate::plan::Unit;

/// A velocity field that a worker owns, by the index of its model.
pub type Field = Box<dyn VelocityField<f32>>;

/// A read-out that a worker owns, by its index.
pub type Reader = Box<dyn ReadOut>;

/// A small known call of a device: an error where it does not answer any more, whatever is asked of it.
pub type Probe = Box<dyn Fn() -> Result<(), String>>;

/// One running solve.
pub struct Slot {
    /// Which sample of which cell.
    pub unit: Unit,
    /// Index of its model among the worker's fields; `None`: the method asks for no evaluation.
    pub model: Option<usize>,
    /// Index of its read-out among the worker's; `None`: the method asks for none.
    pub reader: Option<usize>,
    /// Its condition.
    pub cond: Cond,
    /// What it solves.
    pub problem: Problem,
    /// Why it cannot go on.
    pub error: Option<String>,
    state: StoredSolve,
    opened: Instant,
}

/// What a solve has cost, over all attempts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Network calls forward; work repeated after a restart is not counted.
    pub nfe_forward: u64,
    /// Vector–Jacobian products, likewise.
    pub nfe_vjp: u64,
    /// Its share of the device: Σ seconds of a call / rows of the call.
    pub device_seconds: f64,
}

impl Slot {
    /// A new solve, or one that goes on from a checkpoint.
    pub fn new(
        unit: Unit,
        (model, reader): (Option<usize>, Option<usize>),
        cond: Cond,
        problem: Problem,
        stored: Option<StoredSolve>,
    ) -> Self {
        let fresh = stored.is_none();
        let state = stored.unwrap_or_else(|| StoredSolve {
            solve: Solve::new(&problem),
            ask: Ask::Done,
            last: None,
            seconds: 0.0,
            cost: Cost::default(),
        });
        let opened = Instant::now();
        let mut slot = Self { unit, model, reader, cond, problem, error: None, state, opened };
        if fresh {
            slot.tell(Answer::Start);
        }
        slot
    }

    /// Wall seconds in a slot, over all attempts.
    pub fn seconds(&self) -> f64 {
        self.state.seconds + self.opened.elapsed().as_secs_f64()
    }

    /// Time since it got this slot, or since it was last stored.
    pub fn held_for(&self) -> Duration {
        self.opened.elapsed()
    }

    /// What it has cost so far.
    pub fn cost(&self) -> Cost {
        self.state.cost
    }

    /// The solve's own state.
    pub fn solve(&self) -> &Solve {
        &self.state.solve
    }

    /// Whether nothing is left to evaluate.
    pub fn is_finished(&self) -> bool {
        self.error.is_some() || self.state.ask == Ask::Done
    }

    /// The state as it would be stored.
    #[cfg(test)]
    pub fn stored(&self) -> StoredSolve {
        StoredSolve { seconds: self.seconds(), ..self.state.clone() }
    }

    fn tell(&mut self, answer: Answer) {
        let seconds = self.seconds();
        let next = catch_unwind(AssertUnwindSafe(|| self.state.solve.next(&self.problem, answer, seconds)));
        match next {
            Ok(Ok(ask)) => self.state.ask = ask,
            Ok(Err(error)) => self.error = Some(error.to_string()),
            Err(panic) => self.error = Some(format!("the method panicked: {}", panic_text(&*panic))),
        }
    }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no message)".to_owned())
}

fn field_error(error: SolveError) -> FieldError {
    match error {
        SolveError::Field(error) => error,
        other => FieldError::Other(other.to_string()),
    }
}

/// Rows of `dim` numbers; zeros follow the numbers of a smaller sample.
fn padded<'a>(dim: usize, parts: impl ExactSizeIterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut rows = vec![0.0; parts.len() * dim];
    for (row, part) in rows.chunks_exact_mut(dim.max(1)).zip(parts) {
        row[..part.len()].copy_from_slice(part);
    }
    rows
}

/// Runs an evaluation; a panic in it is an error.
fn guarded(evaluate: impl FnOnce() -> Result<(), FieldError>) -> Result<(), FieldError> {
    catch_unwind(AssertUnwindSafe(evaluate)).unwrap_or_else(|panic| {
        Err(FieldError::Other(format!("the network panicked: {}", panic_text(&*panic))))
    })
}

/// The slots of one device and the fields they are evaluated on.
pub struct Engine {
    /// Running solves.
    pub slots: Vec<Slot>,
    fields: Vec<Timed>,
    readers: Vec<Reader>,
    memory: MemoryBudget,
    max_rows: usize,
    probe: Probe,
    /// Why the device does not answer any more.
    lost: Option<String>,
    /// Seconds inside network calls so far.
    pub network_seconds: f64,
}

/// Chooses between tape and recompute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryBudget {
    /// Keep the tape of every network call while all of them fit into so many bytes.
    Bytes(u64),
    /// Always keep it.
    Tape,
    /// Never: store the calls' inputs and repeat them.
    Recompute,
}

impl Engine {
    /// An engine without running solves that evaluates at most `max_rows` rows in a call.
    pub fn new(fields: Vec<Field>, memory: MemoryBudget, max_rows: usize) -> Self {
        let fields = fields.into_iter().map(Timed::new).collect();
        let (slots, readers) = (Vec::new(), Vec::new());
        let (probe, max_rows): (Probe, _) = (Box::new(|| Ok(())), max_rows.max(1));
        Self { slots, fields, readers, memory, max_rows, probe, lost: None, network_seconds: 0.0 }
    }

    /// The engine on a device that is probed when a call fails: where the probe fails too, no sample is to blame.
    #[must_use]
    pub fn with_probe(self, probe: Probe) -> Self {
        Self { probe, ..self }
    }

    /// Why the device does not answer any more, if it does not. What was not evaluated is still to be done.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// The engine with these read-outs.
    #[must_use]
    pub fn with_readers(self, readers: Vec<Reader>) -> Self {
        Self { readers, ..self }
    }

    /// How tape or recompute is chosen; recompute for good once a single tape did not fit.
    pub fn memory(&self) -> MemoryBudget {
        self.memory
    }

    /// Rows that a call may have; halved when the device runs out of memory.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// The decision between tape and recompute for solves of the given costs.
    pub fn memory_plan(&self, nfes: impl IntoIterator<Item = u32>) -> MemoryPlan {
        let tape = self.fields.iter().map(VelocityField::tape_bytes_per_row).max().unwrap_or(0) as u64;
        let tape_bytes = u64::from(nfes.into_iter().max().unwrap_or(0)) * self.max_rows as u64 * tape;
        let (kept, budget) = match self.memory {
            MemoryBudget::Tape => (true, None),
            MemoryBudget::Recompute => (false, None),
            MemoryBudget::Bytes(budget) => (tape_bytes <= budget, Some(budget)),
        };
        MemoryPlan { kept, tape_bytes, budget }
    }

    /// Evaluates every pending ask once and tells the answers. A slot whose evaluation fails carries its error, unless the
    /// device is [lost](Self::lost).
    pub fn round(&mut self) {
        let everyone: Vec<usize> = (0..self.slots.len()).collect();
        for (kind, model, members) in self.groups(&everyone, |_| true) {
            self.run_group(kind, model, &members);
        }
    }

    /// The pending asks of `members` that are `wanted`, by kind and by field or read-out.
    fn groups(&mut self, members: &[usize], wanted: impl Fn(Kind) -> bool) -> Vec<(Kind, usize, Vec<usize>)> {
        let mut groups: Vec<(Kind, usize, Vec<usize>)> = Vec::new();
        for &index in members {
            let slot = &mut self.slots[index];
            if slot.is_finished() {
                continue;
            }
            let kind = Kind::of(&slot.state);
            let of = kind.and_then(|kind| if kind.is_of_reader() { slot.reader } else { slot.model });
            let (Some(kind), Some(of)) = (kind, of) else {
                slot.error = Some(
                    "internal error: the method asks for what its cell has not got; please report this"
                        .to_owned(),
                );
                continue;
            };
            if !wanted(kind) {
                continue;
            }
            match groups.iter_mut().find(|(k, m, _)| *k == kind && *m == of) {
                Some((_, _, members)) => members.push(index),
                None => groups.push((kind, of, vec![index])),
            }
        }
        groups
    }

    fn run_group(&mut self, kind: Kind, model: usize, members: &[usize]) {
        let mut rest = members;
        while !rest.is_empty() && self.lost.is_none() {
            let rows = rest.len().min(self.max_rows);
            match self.evaluate(kind, model, &rest[..rows]) {
                Ok(()) => rest = &rest[rows..],
                Err(FieldError::OutOfMemory { .. }) if rows > 1 => self.max_rows = rows / 2,
                Err(FieldError::OutOfMemory { .. }) if self.memory != MemoryBudget::Recompute => {
                    self.memory = MemoryBudget::Recompute;
                }
                Err(error) if self.is_lost_by(&error) => {}
                Err(error) if rows == 1 => {
                    self.slots[rest[0]].error = Some(error.to_string());
                    rest = &rest[1..];
                }
                // One of them spoils the call: find it by evaluating them one by one.
                Err(_) => {
                    for member in &rest[..rows] {
                        self.run_group(kind, model, std::slice::from_ref(member));
                    }
                    rest = &rest[rows..];
                }
            }
        }
    }

    /// Whether the error is that of a device that answers nobody any more.
    fn is_lost_by(&mut self, error: &FieldError) -> bool {
        if matches!(error, FieldError::OutOfMemory { .. }) {
            return false;
        }
        let answer = catch_unwind(AssertUnwindSafe(|| (self.probe)()));
        let answer = answer.unwrap_or_else(|panic| Err(panic_text(&*panic)));
        self.lost = answer.err().map(|probe| format!("{error} (and then, to a small known call: {probe})"));
        self.lost.is_some()
    }

    fn evaluate(&mut self, kind: Kind, model: usize, members: &[usize]) -> Result<(), FieldError> {
        guarded(|| match kind {
            Kind::Solve(grid, is_taped) => self.solve(grid, is_taped, model, members),
            Kind::PullBack(grid) => self.repeat_and_pull_back(grid, model, members),
            Kind::Velocity(true) if self.has_room(model, 1, members.len()) => {
                self.velocity_taped(model, members)
            }
            Kind::Velocity(_) => self.call(model, members, VelocityField::velocity),
            Kind::Vjp => self.vjp(model, members),
            Kind::Noise => self.call(model, members, VelocityField::noise),
            Kind::ReadOut => self.read_out(model, members),
            Kind::ReadOutVjp => self.read_out_vjp(model, members),
        })
    }

    /// Forward grid, losses on the host, backward grid for those that ask for it.
    fn solve(
        &mut self,
        grid: Grid,
        is_taped: bool,
        model: usize,
        members: &[usize],
    ) -> Result<(), FieldError> {
        let dim = self.fields[model].dim();
        let start =
            self.gather(members, dim, |ask| if let Ask::Solve { start, .. } = ask { start } else { &[] });
        let cond = self.conds(members);
        let keep = self.keep(model, grid, members.len());
        let clock = Instant::now();
        let field = &mut self.fields[model];
        let (solution, tape) = match grid.direction {
            Direction::Forward if is_taped => {
                let (solution, tape) =
                    flow::solve_taped(field, &grid, &start, &cond, keep).map_err(field_error)?;
                (solution, Some(tape))
            }
            _ => (flow::solve(field, &grid, &start, &cond).map_err(field_error)?, None),
        };
        self.charge(model, members, clock);
        for (&member, &nfe) in members.iter().zip(&solution.nfe) {
            let slot = &mut self.slots[member];
            slot.state.cost.nfe_forward += u64::from(nfe);
            if let Ask::Solve { start, grid } = std::mem::replace(&mut slot.state.ask, Ask::Done) {
                slot.state.last = Some((start, grid));
            }
        }
        self.tell(members, dim, &solution.x, Answer::State);
        let Some(tape) = tape else { return Ok(()) };
        self.read_outs(members);
        // The members have their states and wait for gradients: what fails now is asked again in the next round, as a
        // pull-back that repeats the solve, and there the sample that spoils it is found.
        if let Err(FieldError::OutOfMemory { .. }) = guarded(|| self.pull_back(tape, model, members)) {
            self.max_rows = (members.len() / 2).max(1);
        }
        Ok(())
    }

    fn pull_back(
        &mut self,
        tape: flow::SolveTape<f32>,
        model: usize,
        members: &[usize],
    ) -> Result<(), FieldError> {
        let dim = self.fields[model].dim();
        let mut cotangent = vec![0.0; members.len() * dim];
        let mut asked = Vec::with_capacity(members.len());
        for (row, &member) in cotangent.chunks_exact_mut(dim).zip(members) {
            let slot = &self.slots[member];
            if let (Ask::PullBack { cotangent }, false) = (&slot.state.ask, slot.is_finished()) {
                row[..cotangent.len()].copy_from_slice(cotangent);
                asked.push(member);
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let cond = self.conds(members);
        let clock = Instant::now();
        let gradient =
            flow::pull_back(&mut self.fields[model], tape, &cond, &cotangent).map_err(field_error)?;
        self.charge(model, &asked, clock);
        for (&member, &nfe) in
            members.iter().zip(&gradient.nfe_vjp).filter(|(member, _)| asked.contains(member))
        {
            self.slots[member].state.cost.nfe_vjp += u64::from(nfe);
        }
        let mut rows = gradient.x;
        if asked.len() < members.len() {
            let own = members.iter().zip(rows.chunks_exact(dim)).filter(|(member, _)| asked.contains(member));
            rows = own.flat_map(|(_, row)| row).copied().collect();
        }
        self.tell(&asked, dim, &rows, Answer::Gradient);
        Ok(())
    }

    fn repeat_and_pull_back(
        &mut self,
        grid: Grid,
        model: usize,
        members: &[usize],
    ) -> Result<(), FieldError> {
        let dim = self.fields[model].dim();
        let starts = members.iter().map(|&m| self.slots[m].state.last.as_ref());
        let start = padded(dim, starts.map(|last| last.map_or(&[][..], |(start, _)| start)));
        let cond = self.conds(members);
        let keep = self.keep(model, grid, members.len());
        let clock = Instant::now();
        let (_, tape) =
            flow::solve_taped(&mut self.fields[model], &grid, &start, &cond, keep).map_err(field_error)?;
        self.charge(model, members, clock);
        self.pull_back(tape, model, members)
    }

    /// A part of each member's ask, as rows of `dim` numbers.
    fn gather(&self, members: &[usize], dim: usize, part: impl Fn(&Ask) -> &[f32]) -> Vec<f32> {
        padded(dim, members.iter().map(|&m| part(&self.slots[m].state.ask)))
    }

    fn conds(&self, members: &[usize]) -> Vec<Cond> {
        members.iter().map(|&m| self.slots[m].cond).collect()
    }

    fn keep(&self, model: usize, grid: Grid, rows: usize) -> Keep {
        // An adaptive solve keeps inputs whatever is said here.
        if self.has_room(model, grid.nfe().unwrap_or(1), rows) { Keep::Tape } else { Keep::Inputs }
    }

    /// Whether the tapes of so many calls of so many rows are to be kept.
    fn has_room(&self, model: usize, calls: u32, rows: usize) -> bool {
        match self.memory {
            MemoryBudget::Tape => true,
            MemoryBudget::Recompute => false,
            MemoryBudget::Bytes(budget) => {
                let tape = self.fields[model].tape_bytes_per_row() as u64;
                u64::from(calls) * rows as u64 * tape <= budget
            }
        }
    }

    fn charge(&mut self, model: usize, members: &[usize], clock: Instant) {
        let seconds = clock.elapsed().as_secs_f64();
        let called = self.fields[model].take_seconds();
        // A field that is solved in a basis of its own is not called by its front door: all of its solve counts.
        self.network_seconds += if called > 0.0 { called } else { seconds };
        for &member in members {
            self.slots[member].state.cost.device_seconds += seconds / members.len() as f64;
        }
    }

    /// Tells every member its row of `dim` numbers, of which a smaller sample has the first; the host part of the
    /// methods runs in parallel over samples.
    fn tell(&mut self, members: &[usize], dim: usize, rows: &[f32], wrap: fn(Vec<f32>) -> Answer) {
        let mut answers: Vec<Option<Answer>> = self.slots.iter().map(|_| None).collect();
        for (&member, row) in members.iter().zip(rows.chunks_exact(dim.max(1))) {
            let own = self.slots[member].problem.dim().min(dim);
            answers[member] = Some(wrap(row[..own].to_vec()));
        }
        self.slots.par_iter_mut().zip(answers).for_each(|(slot, answer)| {
            if let Some(answer) = answer {
                slot.tell(answer);
            }
        });
    }
}

#[cfg(test)]
mod molecule_tests;
#[cfg(test)]
mod tests;
