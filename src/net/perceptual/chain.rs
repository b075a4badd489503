//! Evaluation of a network: steps one after the other, each with its pull-back.

use crate::net::kernel::Team;

use super::conv::Conv;
use super::pool::{AveragePool, MaxPool};
use super::value::Value;

/// One step of a network.
#[derive(Debug)]
pub(super) enum Step {
    /// Convolution and ReLU.
    Conv(Box<Conv>),
    /// Maximum of windows.
    MaxPool(MaxPool),
    /// Mean of 3×3 windows.
    AveragePool(AveragePool),
    /// Branches on the same input, whose channels follow each other in the output.
    Split(Vec<Chain>),
}

/// Steps one after the other.
#[derive(Debug)]
pub(super) struct Chain {
    steps: Vec<Step>,
}

/// What a chain computed for one image: the result of every step, kept for a pull-back.
#[derive(Debug)]
pub(super) struct Trace {
    kept: Vec<Kept>,
}

/// The result of one step, and the traces of its branches.
#[derive(Debug)]
struct Kept {
    output: Value,
    branches: Vec<Trace>,
}

impl Trace {
    /// The result of the last step.
    pub(super) fn output(&self) -> &Value {
        &self.kept.last().expect("a chain has a step").output
    }
}

impl Chain {
    /// A chain of at least one step.
    pub(super) fn new(steps: Vec<Step>) -> Self {
        assert!(!steps.is_empty(), "a chain has a step");
        Self { steps }
    }

    /// Sides of the result for an input of `sides`; `None` where a window does not fit.
    pub(super) fn output(&self, sides: [usize; 2]) -> Option<[usize; 2]> {
        self.steps.iter().try_fold(sides, |sides, step| step.output(sides))
    }

    /// The result, for an input whose sides [`Self::output`] takes.
    pub(super) fn forward(&self, x: &Value, team: Team) -> Value {
        let (first, rest) = self.steps.split_first().expect("a chain has a step");
        rest.iter().fold(first.forward(x, team), |x, step| step.forward(&x, team))
    }

    /// The results of all steps.
    pub(super) fn trace(&self, x: &Value, team: Team) -> Trace {
        let mut kept: Vec<Kept> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let next = step.trace(kept.last().map_or(x, |kept| &kept.output), team);
            kept.push(next);
        }
        Trace { kept }
    }

    /// (∂y/∂x)ᵀ cotangent at the input `x` that gave `trace`.
    pub(super) fn pull_back(&self, x: &Value, trace: &Trace, cotangent: Value, team: Team) -> Value {
        let steps = self.steps.iter().enumerate().rev();
        steps.fold(cotangent, |cotangent, (i, step)| {
            let x = if i == 0 { x } else { &trace.kept[i - 1].output };
            step.pull_back(x, &trace.kept[i], cotangent, team)
        })
    }
}

impl Step {
    fn output(&self, sides: [usize; 2]) -> Option<[usize; 2]> {
        match self {
            Self::Conv(conv) => conv.output(sides),
            Self::MaxPool(pool) => pool.output(sides),
            Self::AveragePool(_) => Some(sides),
            Self::Split(branches) => {
                let sides: Option<Vec<_>> = branches.iter().map(|branch| branch.output(sides)).collect();
                sides.map(|sides| sides[0])
            }
        }
    }

    fn forward(&self, x: &Value, team: Team) -> Value {
        match self {
            Self::Conv(conv) => conv.forward(x, team),
            Self::MaxPool(pool) => pool.forward(x),
            Self::AveragePool(pool) => pool.forward(x),
            Self::Split(branches) => {
                let parts: Vec<Value> = branches.iter().map(|branch| branch.forward(x, team)).collect();
                Value::concat(&parts)
            }
        }
    }

    fn trace(&self, x: &Value, team: Team) -> Kept {
        let Self::Split(branches) = self else {
            return Kept { output: self.forward(x, team), branches: Vec::new() };
        };
        let branches: Vec<Trace> = branches.iter().map(|branch| branch.trace(x, team)).collect();
        let parts: Vec<Value> = branches.iter().map(|trace| trace.output().clone()).collect();
        Kept { output: Value::concat(&parts), branches }
    }

    fn pull_back(&self, x: &Value, kept: &Kept, cotangent: Value, team: Team) -> Value {
        match self {
            Self::Conv(conv) => conv.pull_back(x.sides, &kept.output, cotangent, team),
            Self::MaxPool(pool) => pool.pull_back(x, &cotangent),
            Self::AveragePool(pool) => pool.pull_back(&cotangent),
            Self::Split(branches) => {
                let mut gradient = Value::zeros(x.sides, x.channels);
                let mut first = 0;
                for (branch, trace) in branches.iter().zip(&kept.branches) {
                    let channels = first..first + trace.output().channels;
                    first = channels.end;
                    gradient.add(&branch.pull_back(x, trace, cotangent.channels(channels), team));
                }
                gradient
            }
        }
    }
}
