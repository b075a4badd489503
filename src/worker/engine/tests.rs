//! Engines on fields that refuse, fail or panic: no sample is lost by it, and no number changes.

use super::*;
use crate::flow::{GaussianField, Rows, Tape, VelocityField};
use crate::method::{Draws, Goal, Outcome, Restoration};
use crate::operator::{Degradation, Shape, measure};
use crate::path::Path;
use crate::random::{Purpose, Stream};
use crate::spec::method::{DflowSpec, MethodSpec};
use crate::spec::operator::{CenterMask, OperatorSpec};

const SHAPE: Shape = Shape::new(1, 6, 6);

/// A sample with this condition spoils every call that it is in.
const SPOILER: Cond = Cond::Class(13);

/// What goes wrong in a call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    None,
    /// More rows than this do not fit.
    MoreRowsThan(usize),
    /// A kept tape never fits.
    Tapes,
    Error,
    Panic,
}

/// A Gaussian that makes trouble on the way forward or in the pull-back.
struct Troubled {
    field: GaussianField<f32>,
    forward: Trouble,
    pull_back: Trouble,
    /// Of the call that made the last tape.
    spoiled: bool,
}

impl Trouble {
    fn strike(self, rows: usize, spoiled: bool) -> Result<(), FieldError> {
        match self {
            Self::MoreRowsThan(most) if rows > most => {
                Err(FieldError::OutOfMemory { rows, detail: "no room".to_owned() })
            }
            Self::Error if spoiled => Err(FieldError::Other("spoiled".to_owned())),
            Self::Panic if spoiled => panic!("spoiled"),
            _ => Ok(()),
        }
    }
}

impl VelocityField<f32> for Troubled {
    fn dim(&self) -> usize {
        VelocityField::dim(&self.field)
    }

    fn velocity(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<(), FieldError> {
        self.forward.strike(rows.len(), rows.cond.contains(&SPOILER))?;
        VelocityField::velocity(&mut self.field, rows, out)
    }

    fn velocity_taped(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<Tape, FieldError> {
        self.spoiled = rows.cond.contains(&SPOILER);
        if self.forward == Trouble::Tapes {
            return Err(FieldError::OutOfMemory {
                rows: rows.len(),
                detail: "no room for a tape".to_owned(),
            });
        }
        self.forward.strike(rows.len(), self.spoiled)?;
        self.field.velocity_taped(rows, out)
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[f32], out: &mut [f32]) -> Result<(), FieldError> {
        self.pull_back.strike(cotangent.len() / SHAPE.dim(), self.spoiled)?;
        self.field.pull_back(tape, cotangent, out)
    }

    fn vjp(&mut self, rows: Rows<'_, f32>, cotangent: &[f32], out: &mut [f32]) -> Result<(), FieldError> {
        self.pull_back.strike(rows.len(), rows.cond.contains(&SPOILER))?;
        self.field.vjp(rows, cotangent, out)
    }

    fn tape_bytes_per_row(&self) -> usize {
        8
    }
}

fn troubled(forward: Trouble, pull_back: Trouble) -> Field {
    let variances = (0..SHAPE.dim()).map(|i| 0.1 + i as f64 / 50.0).collect();
    let field = GaussianField::diagonal(Path::CondOt, vec![0.1; SHAPE.dim()], variances).unwrap();
    Box::new(Troubled { field, forward, pull_back, spoiled: false })
}

/// An inpainting problem of its own for every sample.
fn slot(sample: usize, cond: Cond) -> Slot {
    let spec: DflowSpec = serde_json::from_value(serde_json::json!({ "stop": [{ "evals": 12 }] })).unwrap();
    let stream = |purpose| Stream::new(0, "engine", &sample.to_string(), purpose);
    let operator = OperatorSpec::CenterMask(CenterMask { size: 2 });
    let operator = Degradation::new(&operator, SHAPE).unwrap().for_sample(&mut stream(Purpose::Mask));
    let truth = stream(Purpose::Image).normals(SHAPE.dim());
    let y = measure(&operator, &truth, 0.0, &mut stream(Purpose::MeasurementNoise));
    let method = MethodSpec::Dflow(Box::new(spec));
    let goal = Goal::Restore(Restoration::new(&method, operator, y, 0.0));
    let draws = Draws::for_method(&method, &goal, stream);
    let problem = Problem::new(method, goal, draws);
    Slot::new(Unit { cell: 0, sample }, (Some(0), None), cond, problem, None)
}

/// Solves five samples, of which one may be a spoiler; outcomes and the rows that a call may have at the end.
fn solve(
    field: Field,
    memory: MemoryBudget,
    spoiler: Option<usize>,
) -> (Vec<Result<Outcome, String>>, Engine) {
    let mut engine = Engine::new(vec![field], memory, 8);
    let cond = |sample| if spoiler == Some(sample) { SPOILER } else { Cond::None };
    engine.slots = (0..5).map(|sample| slot(sample, cond(sample))).collect();
    for _ in 0..500 {
        engine.round();
    }
    assert!(engine.slots.iter().all(Slot::is_finished), "500 rounds are more than enough");
    let outcome = |slot: &Slot| match &slot.error {
        Some(error) => Err(error.clone()),
        None => Ok(slot.solve().outcome().expect("a finished solve has an outcome")),
    };
    (engine.slots.iter().map(outcome).collect(), engine)
}

fn reconstructions(outcomes: &[Result<Outcome, String>]) -> Vec<Option<Vec<f32>>> {
    outcomes.iter().map(|outcome| outcome.as_ref().ok().map(|o| o.reconstruction.clone())).collect()
}

fn untroubled() -> Vec<Option<Vec<f32>>> {
    let (outcomes, engine) = solve(troubled(Trouble::None, Trouble::None), MemoryBudget::Tape, None);
    assert_eq!(engine.max_rows(), 8);
    reconstructions(&outcomes)
}

#[test]
fn out_of_memory_halves_the_rows_and_changes_no_bit() {
    let expected = untroubled();
    assert!(expected.iter().all(Option::is_some));
    for memory in [MemoryBudget::Tape, MemoryBudget::Recompute] {
        for most in 1..5 {
            let limit = Trouble::MoreRowsThan(most);
            for (forward, pull_back) in [(limit, Trouble::None), (Trouble::None, limit), (limit, limit)] {
                let (outcomes, engine) = solve(troubled(forward, pull_back), memory, None);
                assert_eq!(reconstructions(&outcomes), expected, "{memory:?} {forward:?} {pull_back:?}");
                assert!(engine.max_rows() <= most, "{} rows of at most {most}", engine.max_rows());
            }
        }
    }
}

#[test]
fn a_tape_that_does_not_fit_one_row_is_not_kept() {
    let (outcomes, engine) = solve(troubled(Trouble::Tapes, Trouble::None), MemoryBudget::Tape, None);
    assert_eq!(reconstructions(&outcomes), untroubled());
    assert_eq!(engine.memory, MemoryBudget::Recompute);
}

#[test]
fn no_room_for_a_single_row_fails_every_sample_with_the_reason() {
    let (outcomes, _) = solve(troubled(Trouble::MoreRowsThan(0), Trouble::None), MemoryBudget::Tape, None);
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(error.contains("out of memory for a batch of 1 rows"), "{error}");
    }
}

#[test]
fn a_sample_that_spoils_its_calls_fails_alone() {
    let expected = untroubled();
    for trouble in [Trouble::Error, Trouble::Panic] {
        for (forward, pull_back) in [(trouble, Trouble::None), (Trouble::None, trouble)] {
            for memory in [MemoryBudget::Tape, MemoryBudget::Recompute] {
                let (outcomes, _) = solve(troubled(forward, pull_back), memory, Some(2));
                let error = outcomes[2].as_ref().unwrap_err();
                assert!(error.contains("spoiled"), "{error}");
                let (mut ours, mut theirs) = (reconstructions(&outcomes), expected.clone());
                (ours[2], theirs[2]) = (None, None);
                assert_eq!(ours, theirs, "{memory:?} {forward:?} {pull_back:?}");
            }
        }
    }
}
