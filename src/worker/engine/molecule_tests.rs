//! Engines with samples of different size and a read-out: what a sample's numbers are does not depend on the others.

use super::*;
use crate::flow::GaussianField;
use crate::method::{Draws, Goal, Outcome, Points, PropertyTarget};
use crate::path::Path;
use crate::random::{Purpose, Stream};
use crate::spec::method::{DflowSpec, MethodSpec};

const COLUMNS: usize = 9;
const MOST_ATOMS: usize = 6;
const DIM: usize = COLUMNS * MOST_ATOMS;
/// A sample of so many atoms cannot be read.
const UNREADABLE: u32 = 5;

/// F(x) = Σ sin(i) xᵢ; fails for one number of atoms, in the value or in the gradient.
struct Linear {
    trouble: Option<Trouble>,
}

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    InValue,
    InGradient,
}

impl Linear {
    fn strike(&self, cond: &[Cond], here: Trouble) -> Result<(), FieldError> {
        let spoiled = self.trouble == Some(here) && cond.contains(&Cond::Atoms(UNREADABLE));
        if spoiled { Err(FieldError::Other("unreadable".to_owned())) } else { Ok(()) }
    }
}

fn weight(i: usize) -> f32 {
    (i as f32).sin()
}

impl ReadOut for Linear {
    fn dim(&self) -> usize {
        DIM
    }

    fn outputs(&self) -> usize {
        1
    }

    fn read(&mut self, x: &[f32], cond: &[Cond], out: &mut [f32]) -> Result<(), FieldError> {
        self.strike(cond, Trouble::InValue)?;
        for (out, row) in out.iter_mut().zip(x.chunks_exact(DIM)) {
            *out = row.iter().enumerate().map(|(i, x)| weight(i) * x).sum();
        }
        Ok(())
    }

    fn vjp(
        &mut self,
        x: &[f32],
        cond: &[Cond],
        cotangent: &[f32],
        out: &mut [f32],
    ) -> Result<(), FieldError> {
        self.strike(cond, Trouble::InGradient)?;
        assert_eq!(x.len(), out.len());
        for (row, c) in out.chunks_exact_mut(DIM).zip(cotangent) {
            row.iter_mut().enumerate().for_each(|(i, out)| *out = weight(i) * c);
        }
        Ok(())
    }
}

fn slot(atoms: u32, stored: Option<StoredSolve>) -> Slot {
    let json = serde_json::json!({
        "init": "source",
        "loss": { "squared_error": "measurement" },
        "normalize": { "per_feature": {} },
        "optimizer": { "lbfgs": { "inner": 5 } },
        "stop": [{ "outer_steps": 3 }],
    });
    let spec: DflowSpec = serde_json::from_value(json).expect("a spec");
    let method = MethodSpec::Dflow(Box::new(spec));
    let points = Points { count: atoms as usize, columns: COLUMNS };
    let goal = Goal::Property(PropertyTarget { points, value: 3.0 });
    let stream = |purpose: Purpose| Stream::new(1, "engine", &atoms.to_string(), purpose);
    let draws = Draws::for_method(&method, &goal, stream);
    let unit = Unit { cell: 0, sample: atoms as usize };
    Slot::new(unit, (Some(0), Some(0)), Cond::Atoms(atoms), Problem::new(method, goal, draws), stored)
}

fn engine(memory: MemoryBudget, rows: usize, trouble: Option<Trouble>) -> Engine {
    let variances = (0..DIM).map(|i| 0.3 + i as f64 / 60.0).collect();
    let field = GaussianField::diagonal(Path::CondOt, vec![0.1; DIM], variances).expect("a field");
    Engine::new(vec![Box::new(field)], memory, rows).with_readers(vec![Box::new(Linear { trouble })])
}

fn finish(engine: &mut Engine) -> Vec<Result<Outcome, String>> {
    for _ in 0..500 {
        engine.round();
    }
    assert!(engine.slots.iter().all(Slot::is_finished), "500 rounds are more than enough");
    let outcome = |slot: &Slot| match &slot.error {
        Some(error) => Err(error.clone()),
        None => Ok(slot.solve().outcome().expect("a finished solve has an outcome")),
    };
    engine.slots.iter().map(outcome).collect()
}

fn alone(atoms: u32) -> Outcome {
    let mut engine = engine(MemoryBudget::Tape, 1, None);
    engine.slots = vec![slot(atoms, None)];
    finish(&mut engine).remove(0).expect("solves")
}

fn bits(outcome: &Outcome) -> (Vec<u32>, u32, u64) {
    let x1 = outcome.reconstruction.iter().map(|x| x.to_bits()).collect();
    (x1, outcome.evals, outcome.loss.expect("a loss").to_bits())
}

#[test]
fn sizes_mix_in_a_call_and_change_no_bit() {
    let sizes = [6, 1, 3, 2, 4];
    for (memory, rows) in [(MemoryBudget::Tape, 8), (MemoryBudget::Recompute, 8), (MemoryBudget::Tape, 2)] {
        let mut engine = engine(memory, rows, None);
        engine.slots = sizes.map(|atoms| slot(atoms, None)).into();
        for (atoms, outcome) in sizes.into_iter().zip(finish(&mut engine)) {
            let outcome = outcome.expect("solves");
            assert_eq!(outcome.reconstruction.len(), atoms as usize * COLUMNS);
            assert_eq!(bits(&outcome), bits(&alone(atoms)), "{atoms} atoms, {memory:?}, {rows} rows");
        }
    }
}

#[test]
fn a_solve_that_is_stored_at_any_round_goes_on_to_the_same_bits() {
    for rounds in [1, 2, 5] {
        let mut first = engine(MemoryBudget::Tape, 8, None);
        first.slots = vec![slot(4, None), slot(2, None)];
        (0..rounds).for_each(|_| first.round());
        let bytes = postcard::to_allocvec(&first.slots[0].stored()).expect("plain data");
        let stored: StoredSolve = postcard::from_bytes(&bytes).expect("plain data");
        let mut second = engine(MemoryBudget::Tape, 8, None);
        second.slots = vec![slot(4, Some(stored))];
        let outcome = finish(&mut second).remove(0).expect("solves");
        assert_eq!(bits(&outcome), bits(&alone(4)), "after {rounds} rounds");
    }
}

#[test]
fn a_sample_that_cannot_be_read_fails_alone() {
    for trouble in [Trouble::InValue, Trouble::InGradient] {
        let mut engine = engine(MemoryBudget::Tape, 8, Some(trouble));
        let sizes = [3, UNREADABLE, 4];
        engine.slots = sizes.map(|atoms| slot(atoms, None)).into();
        let outcomes = finish(&mut engine);
        assert_eq!(outcomes[1].as_ref().unwrap_err(), "unreadable");
        for place in [0, 2] {
            let outcome = outcomes[place].as_ref().expect("solves");
            assert_eq!(bits(outcome), bits(&alone(sizes[place])));
        }
    }
}
