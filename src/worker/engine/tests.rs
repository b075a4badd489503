//! Engines on fields that refuse, fail or panic: no sample is lost by it, and no number changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::flow::{GaussianField, Rows, Tape, VelocityField};
use crate::method::{Draws, Goal, Outcome, Restoration};
use crate::operator::{Degradation, Shape, measure};
use crate::path::Path;
use crate::random::{Purpose, Stream};
use crate::spec::method::MethodSpec;
use crate::spec::operator::{CenterMask, OperatorSpec};
use crate::store::checkpoint::{Running, Stored};

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

/// A method of every kind: whole solves, guided steps, and calls without a gradient.
fn methods() -> Vec<MethodSpec> {
    let methods = serde_json::json!([
        { "dflow": { "stop": [{ "evals": 12 }] } },
        { "ot_ode": { "steps": 20 } },
        { "pigdm": { "form": { "ddim": { "steps": 15, "eta": 0.5 } } } },
        { "red_diff": { "steps": 20 } },
    ]);
    serde_json::from_value(methods).unwrap()
}

const fn is_pulled_back(method: &MethodSpec) -> bool {
    !matches!(method, MethodSpec::RedDiff(_))
}

/// An inpainting problem of its own for every sample.
fn slot(method: &MethodSpec, sample: usize, cond: Cond, stored: Option<StoredSolve>) -> Slot {
    let stream = |purpose| Stream::new(0, "engine", &sample.to_string(), purpose);
    let operator = OperatorSpec::CenterMask(CenterMask { size: 2 });
    let operator = Degradation::new(&operator, SHAPE).unwrap().for_sample(&mut stream(Purpose::Mask));
    let truth = stream(Purpose::Image).normals(SHAPE.dim());
    let y = measure(&operator, &truth, 0.0, &mut stream(Purpose::MeasurementNoise));
    let goal = Goal::Restore(Restoration::new(method, operator, y, 0.0));
    let draws = Draws::for_method(method, &goal, stream);
    let problem = Problem { path: Some(Path::CondOt), ..Problem::new(method.clone(), goal, draws) };
    Slot::new(Unit { cell: 0, sample }, (Some(0), None), cond, problem, stored)
}

/// Solves five samples, of which one may be a spoiler; outcomes and the rows that a call may have at the end.
fn solve(
    method: &MethodSpec,
    field: Field,
    memory: MemoryBudget,
    spoiler: Option<usize>,
) -> (Vec<Result<Outcome, String>>, Engine) {
    let mut engine = Engine::new(vec![field], memory, 8);
    let cond = |sample| if spoiler == Some(sample) { SPOILER } else { Cond::None };
    engine.slots = (0..5).map(|sample| slot(method, sample, cond(sample), None)).collect();
    finish(engine)
}

fn finish(mut engine: Engine) -> (Vec<Result<Outcome, String>>, Engine) {
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

fn costs(engine: &Engine) -> Vec<(u64, u64)> {
    engine.slots.iter().map(|slot| (slot.cost().nfe_forward, slot.cost().nfe_vjp)).collect()
}

fn reconstructions(outcomes: &[Result<Outcome, String>]) -> Vec<Option<Vec<f32>>> {
    outcomes.iter().map(|outcome| outcome.as_ref().ok().map(|o| o.reconstruction.clone())).collect()
}

fn untroubled(method: &MethodSpec) -> Vec<Option<Vec<f32>>> {
    let (outcomes, engine) = solve(method, troubled(Trouble::None, Trouble::None), MemoryBudget::Tape, None);
    assert_eq!(engine.max_rows(), 8);
    reconstructions(&outcomes)
}

#[test]
fn out_of_memory_halves_the_rows_and_changes_no_bit() {
    for method in methods() {
        let expected = untroubled(&method);
        assert!(expected.iter().all(Option::is_some));
        for memory in [MemoryBudget::Tape, MemoryBudget::Recompute] {
            for most in 1..5 {
                let limit = Trouble::MoreRowsThan(most);
                for (forward, pull_back) in [(limit, Trouble::None), (Trouble::None, limit), (limit, limit)] {
                    let (outcomes, engine) = solve(&method, troubled(forward, pull_back), memory, None);
                    let case = format!("{} {memory:?} {forward:?} {pull_back:?}", method.kind());
                    assert_eq!(reconstructions(&outcomes), expected, "{case}");
                    let struck = forward == limit || is_pulled_back(&method);
                    assert!(!struck || engine.max_rows() <= most, "{case}: {} rows", engine.max_rows());
                }
            }
        }
    }
}

#[test]
fn a_tape_that_does_not_fit_one_row_is_not_kept() {
    for method in methods().iter().filter(|method| is_pulled_back(method)) {
        let field = troubled(Trouble::Tapes, Trouble::None);
        let (outcomes, engine) = solve(method, field, MemoryBudget::Tape, None);
        assert_eq!(reconstructions(&outcomes), untroubled(method), "{}", method.kind());
        assert_eq!(engine.memory, MemoryBudget::Recompute);
    }
}

#[test]
fn no_room_for_a_single_row_fails_every_sample_with_the_reason() {
    for method in methods() {
        let field = troubled(Trouble::MoreRowsThan(0), Trouble::None);
        let (outcomes, _) = solve(&method, field, MemoryBudget::Tape, None);
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(error.contains("out of memory for a batch of 1 rows"), "{error}");
        }
    }
}

#[test]
fn a_sample_that_spoils_its_calls_fails_alone() {
    for method in methods() {
        let expected = untroubled(&method);
        for trouble in [Trouble::Error, Trouble::Panic] {
            for (forward, pull_back) in [(trouble, Trouble::None), (Trouble::None, trouble)] {
                if forward == Trouble::None && !is_pulled_back(&method) {
                    continue;
                }
                for memory in [MemoryBudget::Tape, MemoryBudget::Recompute] {
                    let (outcomes, _) = solve(&method, troubled(forward, pull_back), memory, Some(2));
                    let error = outcomes[2].as_ref().unwrap_err();
                    assert!(error.contains("spoiled"), "{error}");
                    let (mut ours, mut theirs) = (reconstructions(&outcomes), expected.clone());
                    (ours[2], theirs[2]) = (None, None);
                    assert_eq!(ours, theirs, "{} {memory:?} {forward:?} {pull_back:?}", method.kind());
                }
            }
        }
    }
}

#[test]
fn a_lost_device_is_no_samples_fault() {
    for method in &methods() {
        let trouble =
            if is_pulled_back(method) { [Trouble::None, Trouble::Error] } else { [Trouble::Error; 2] };
        let mut engine = Engine::new(vec![troubled(trouble[0], trouble[1])], MemoryBudget::Tape, 8)
            .with_probe(Box::new(|| Err("an illegal address".to_owned())));
        engine.slots = (0..5).map(|sample| slot(method, sample, SPOILER, None)).collect();
        for _ in 0..500 {
            engine.round();
        }
        let lost = engine.lost().unwrap_or_else(|| panic!("{}", method.kind()));
        assert!(lost.contains("spoiled") && lost.contains("an illegal address"), "{lost}");
        assert!(engine.slots.iter().all(|slot| !slot.is_finished()), "{}", method.kind());
    }
}

#[test]
fn a_device_that_answers_is_not_lost_by_an_error() {
    let engine = Engine::new(vec![troubled(Trouble::Panic, Trouble::None)], MemoryBudget::Tape, 8);
    let mut engine = engine.with_probe(Box::new(|| Ok(())));
    let method = &methods()[0];
    engine.slots = vec![slot(method, 0, SPOILER, None), slot(method, 1, Cond::None, None)];
    let (outcomes, engine) = finish(engine);
    assert!(engine.lost().is_none() && outcomes[0].is_err() && outcomes[1].is_ok());
}

/// Counts the calls of a field, by kind.
struct Counted {
    field: Field,
    calls: Arc<[AtomicU32; 4]>,
}

impl Counted {
    fn count(&self, kind: usize) {
        self.calls[kind].fetch_add(1, Ordering::Relaxed);
    }
}

impl VelocityField<f32> for Counted {
    fn dim(&self) -> usize {
        self.field.dim()
    }

    fn velocity(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<(), FieldError> {
        self.count(0);
        self.field.velocity(rows, out)
    }

    fn velocity_taped(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<Tape, FieldError> {
        self.count(1);
        self.field.velocity_taped(rows, out)
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[f32], out: &mut [f32]) -> Result<(), FieldError> {
        self.count(2);
        self.field.pull_back(tape, cotangent, out)
    }

    fn vjp(&mut self, rows: Rows<'_, f32>, cotangent: &[f32], out: &mut [f32]) -> Result<(), FieldError> {
        self.count(3);
        self.field.vjp(rows, cotangent, out)
    }

    fn tape_bytes_per_row(&self) -> usize {
        self.field.tape_bytes_per_row()
    }
}

/// Calls of `velocity`, `velocity_taped`, `pull_back` and `vjp` of a whole solve, its costs and its bits.
fn counted(method: &MethodSpec, memory: MemoryBudget) -> ([u32; 4], Vec<(u64, u64)>, Vec<Option<Vec<f32>>>) {
    let calls: Arc<[AtomicU32; 4]> = Arc::default();
    let field = Counted { field: troubled(Trouble::None, Trouble::None), calls: Arc::clone(&calls) };
    let (outcomes, engine) = solve(method, Box::new(field), memory, None);
    let calls = std::array::from_fn(|kind| calls[kind].load(Ordering::Relaxed));
    (calls, costs(&engine), reconstructions(&outcomes))
}

#[test]
fn a_guided_step_is_one_call_and_its_pull_back() {
    let methods = methods();
    // 20 steps of which 4 lie before the start, and 15.
    for (method, steps) in [(&methods[1], 16), (&methods[2], 15)] {
        let (calls, costs, bits) = counted(method, MemoryBudget::Tape);
        assert_eq!(calls, [0, steps, steps, 0], "{}", method.kind());
        assert_eq!(costs, [(u64::from(steps), u64::from(steps)); 5]);
        // A tape of 8 bytes per row, five rows: one byte short of room, the call is repeated for its pull-back.
        for memory in [MemoryBudget::Recompute, MemoryBudget::Bytes(39)] {
            let repeated = counted(method, memory);
            assert_eq!(repeated, ([steps, 0, 0, steps], costs.clone(), bits.clone()), "{}", method.kind());
        }
        assert_eq!(counted(method, MemoryBudget::Bytes(40)).0, calls);
    }
    let (calls, costs, _) = counted(&methods[3], MemoryBudget::Tape);
    assert_eq!((calls, costs), ([20, 0, 0, 0], vec![(20, 0); 5]));
}

#[test]
fn a_solve_stored_between_a_call_and_its_pull_back_goes_on_without_the_tape() {
    for method in &methods()[1..3] {
        let expected = untroubled(method);
        let broken = troubled(Trouble::None, Trouble::MoreRowsThan(0));
        let mut engine = Engine::new(vec![broken], MemoryBudget::Tape, 8);
        engine.slots = (0..5).map(|sample| slot(method, sample, Cond::None, None)).collect();
        engine.round();
        assert_eq!(costs(&engine), [(1, 0); 5], "the pull-back is still to come");
        let stored = engine.slots.iter().map(|slot| postcard::to_stdvec(&slot.stored()).unwrap());
        let stored: Vec<StoredSolve> = stored.map(|bytes| postcard::from_bytes(&bytes).unwrap()).collect();
        let mut engine = Engine::new(vec![troubled(Trouble::None, Trouble::None)], MemoryBudget::Tape, 8);
        let reopened = stored.into_iter().enumerate();
        engine.slots = reopened.map(|(i, stored)| slot(method, i, Cond::None, Some(stored))).collect();
        let (outcomes, engine) = finish(engine);
        assert_eq!(reconstructions(&outcomes), expected, "{}", method.kind());
        let (_, whole, _) = counted(method, MemoryBudget::Tape);
        assert_eq!(costs(&engine), whole);
    }
}

/// A slot's state as it comes out of a checkpoint.
fn through_a_checkpoint(slot: &mut Slot) -> StoredSolve {
    let frozen = Frozen::new(slot, (String::new(), String::new()));
    let items = frozen.items().map(|number| frozen.item(number)).collect();
    StoredSolve::decode(&Stored { core: frozen.core(), items }).unwrap()
}

#[test]
fn wherever_a_worker_is_stopped_one_evaluation_is_repeated_at_the_most() {
    for method in &methods() {
        let (whole, whole_costs, bits) = counted(method, MemoryBudget::Tape);
        let mut rounds = 0;
        loop {
            let calls: Arc<[AtomicU32; 4]> = Arc::default();
            let engine = || {
                let field = troubled(Trouble::None, Trouble::None);
                let field = Counted { field, calls: Arc::clone(&calls) };
                Engine::new(vec![Box::new(field) as Field], MemoryBudget::Tape, 8)
            };
            let mut stopped = engine();
            stopped.slots = (0..5).map(|sample| slot(method, sample, Cond::None, None)).collect();
            (0..rounds).for_each(|_| stopped.round());
            if stopped.slots.iter().any(Slot::is_finished) {
                break;
            }
            let stored: Vec<StoredSolve> = stopped.slots.iter_mut().map(through_a_checkpoint).collect();
            let bytes = |solve: &Solve| postcard::to_stdvec(solve).unwrap();
            let mut pairs = stored.iter().zip(&stopped.slots);
            assert!(
                pairs.all(|(stored, slot)| bytes(&stored.solve) == bytes(slot.solve())),
                "all is put back"
            );
            let mut resumed = engine();
            resumed.slots = stored
                .into_iter()
                .enumerate()
                .map(|(i, stored)| slot(method, i, Cond::None, Some(stored)))
                .collect();
            let (outcomes, resumed) = finish(resumed);
            assert_eq!(reconstructions(&outcomes), bits, "{} after {rounds} rounds", method.kind());
            assert_eq!(costs(&resumed), whole_costs, "{} after {rounds} rounds", method.kind());
            let made: u32 = calls.iter().map(|calls| calls.load(Ordering::Relaxed)).sum();
            let repeated = made - whole.iter().sum::<u32>();
            // Six calls are one forward solve of D-Flow.
            assert!(repeated <= 6, "{} after {rounds} rounds: {repeated} calls", method.kind());
            rounds += 1;
        }
        assert!(rounds >= 12, "{}: {rounds} rounds", method.kind());
    }
}
