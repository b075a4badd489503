//! An unconditional sample of the prior: x(1) of the drawn noise.

use serde::{Deserialize, Serialize};

use super::problem::{MethodError, Next, Problem};
use super::solve::Outcome;
use super::{Answer, Ask, Direction, Grid};
use crate::spec::method::SampleSpec;

/// The state of one sample.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SampleSolve {
    asked: bool,
    x1: Option<Vec<f32>>,
}

impl SampleSolve {
    pub(super) fn next(&mut self, spec: &SampleSpec, problem: &Problem, answer: Answer) -> Next {
        match (answer, self.asked) {
            (Answer::Start, false) => {
                self.asked = true;
                let start = problem.checked("the noise z", problem.draws.z.clone())?;
                Ok(Ask::Solve { start, grid: Grid { solver: spec.solver, direction: Direction::Forward } })
            }
            (Answer::State(x1), true) => {
                self.x1 = Some(problem.checked("the forward solve", x1)?);
                Ok(Ask::Done)
            }
            (answer, asked) => {
                Err(MethodError::unexpected(&answer, if asked { "a state" } else { "the start" }))
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.x1.is_some()
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.x1.clone().map(Outcome::direct)
    }
}
