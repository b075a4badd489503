//! What a method is given: what is asked of one sample, the method's options, and its random draws.

use super::loss;
use super::{Answer, Ask};
use crate::operator::{Operator, OperatorError};
use crate::path::Path;
use crate::random::{Purpose, Stream};
use crate::spec::init::InitSpec;
use crate::spec::likelihood::MeasuredData;
use crate::spec::method::{MethodSpec, RegularizerSpec};

/// The problem of one sample.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The method with its options for this task ([`MethodSpec::for_task`]).
    pub method: MethodSpec,
    /// What is asked of the sample.
    pub goal: Goal,
    /// Random numbers and given start.
    pub draws: Draws,
    /// The model's probability path, where the method steps along it by itself.
    pub path: Option<Path>,
    /// Whether a solve of the model ends with its denoiser at t = 1; a method that steps by itself does the same.
    pub finish: bool,
    /// Whether evaluations 1, 2, 4, 8 … are kept whole ([`super::Snapshot`]); never changes a number.
    pub keeps_trajectory: bool,
}

/// What is asked of a sample.
#[derive(Debug, Clone)]
pub enum Goal {
    /// Recover x from y = H x + σ_y n.
    Restore(Restoration),
    /// A molecule of a wanted property.
    Property(PropertyTarget),
    /// A molecule.
    Generate(Points),
}

/// An inverse problem.
#[derive(Debug, Clone)]
pub struct Restoration {
    /// H.
    pub operator: Operator,
    /// y: the observed entries.
    pub measurement: Vec<f32>,
    /// σ_y on the scale of the images, [−1, 1].
    pub sigma: f64,
    /// What the data term compares with: y or H†y.
    target: Vec<f32>,
}

/// A wanted property.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PropertyTarget {
    /// The atoms.
    pub points: Points,
    /// c, in the property's unit.
    pub value: f64,
}

/// The state of a molecule: one row of features per atom, of which the first three are its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Points {
    /// Number of atoms.
    pub count: usize,
    /// Numbers per atom.
    pub columns: usize,
}

impl Points {
    /// Numbers of a state.
    pub const fn dim(self) -> usize {
        self.count * self.columns
    }

    /// Moves the positions so that their mean is zero: noise of a model whose states have no centre of gravity.
    pub fn centre(self, state: &mut [f32]) {
        const SPACE: usize = 3;
        for axis in 0..SPACE.min(self.columns) {
            let sum: f64 = state.chunks_exact(self.columns).map(|row| f64::from(row[axis])).sum();
            let mean = sum / self.count.max(1) as f64;
            for row in state.chunks_exact_mut(self.columns) {
                row[axis] = (f64::from(row[axis]) - mean) as f32;
            }
        }
    }
}

impl Restoration {
    /// The inverse problem as `method` looks at it.
    ///
    /// # Panics
    /// If `measurement` does not have the operator's number of observed entries.
    pub fn new(method: &MethodSpec, operator: Operator, measurement: Vec<f32>, sigma: f64) -> Self {
        assert_eq!(measurement.len(), operator.measurement_dim(), "numbers in the measurement");
        let target = match method {
            MethodSpec::Dflow(spec) => loss::target(&spec.loss, &operator, &measurement),
            _ => Vec::new(),
        };
        Self { operator, measurement, sigma, target }
    }

    pub(super) fn target(&self) -> &[f32] {
        &self.target
    }
}

impl Goal {
    /// Numbers in one state.
    pub fn dim(&self) -> usize {
        match self {
            Self::Restore(restoration) => restoration.operator.shape().dim(),
            Self::Property(PropertyTarget { points, .. }) | Self::Generate(points) => points.dim(),
        }
    }

    /// The atoms, if the sample is a molecule.
    pub const fn points(&self) -> Option<Points> {
        match self {
            Self::Restore(_) => None,
            Self::Property(PropertyTarget { points, .. }) | Self::Generate(points) => Some(*points),
        }
    }

    /// The inverse problem, if it is one.
    pub const fn restoration(&self) -> Option<&Restoration> {
        if let Self::Restore(restoration) = self { Some(restoration) } else { None }
    }
}

/// Everything random that a method uses, drawn before it starts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Draws {
    /// z ~ N(0, I) of the initial source point: `dim` numbers.
    pub z: Vec<f32>,
    /// Signs ±1 of the probes of a likelihood or its penalty, `dim` each.
    pub probes: Vec<Vec<f32>>,
    /// The start that `init: { given: … }` names: `dim` numbers.
    pub given: Option<Vec<f32>>,
    /// Noise of every step of the ancestral sampler, `dim` numbers each; of a likelihood the place within its level of
    /// every byte, uniform in (0, 1).
    pub steps: Vec<Vec<f32>>,
    /// Noise of the steps of a method that makes many: drawn when it is needed.
    pub noise: Option<StepNoise>,
}

/// Standard normals of every step of a method: a step's are the same whenever, and how often, they are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct StepNoise {
    stream: Stream,
    dim: usize,
    /// How many steps a whole solve draws.
    pub count: u32,
}

impl StepNoise {
    /// The noise of step `step`: `dim` numbers.
    pub fn of(&self, step: u32) -> Vec<f32> {
        self.stream.block(u64::from(step), self.dim)
    }
}

impl Draws {
    /// What `method` needs for a state of this goal; `stream` gives the sample's stream of a purpose.
    ///
    /// Noise for molecules is projected to zero centre of gravity.
    pub fn for_method(method: &MethodSpec, goal: &Goal, stream: impl Fn(Purpose) -> Stream) -> Self {
        let dim = goal.dim();
        let draw = |stream: &mut Stream| {
            let mut noise = stream.normals(dim);
            if let Some(points) = goal.points() {
                points.centre(&mut noise);
            }
            noise
        };
        let spec = match method {
            MethodSpec::Dflow(spec) => spec,
            MethodSpec::Pinv(_) => return Self::default(),
            MethodSpec::OtOde(_) | MethodSpec::Pigdm(_) | MethodSpec::RedDiff(_) => {
                let count = method.steps_drawn();
                let noise = StepNoise { stream: stream(Purpose::MethodNoise), dim, count };
                let noise = (count > 0).then_some(noise);
                let starts_from_noise = !matches!(method, MethodSpec::RedDiff(_));
                let z = if starts_from_noise { draw(&mut stream(Purpose::Init)) } else { Vec::new() };
                return Self { z, noise, ..Self::default() };
            }
            MethodSpec::Sample(_) => return Self { z: draw(&mut stream(Purpose::Init)), ..Self::default() },
            MethodSpec::Ancestral(spec) => {
                let mut noise = stream(Purpose::MethodNoise);
                let steps = (0..=spec.steps).map(|_| draw(&mut noise)).collect();
                return Self { z: draw(&mut stream(Purpose::Init)), steps, ..Self::default() };
            }
            MethodSpec::Likelihood(spec) => {
                let mut uniform = stream(Purpose::MethodNoise);
                let places = || (0..dim).map(|_| uniform.uniform() as f32).collect();
                let is_dequantized = spec.data == MeasuredData::Dequantized;
                let steps = is_dequantized.then(places).into_iter().collect();
                let probes = signs(&mut stream(Purpose::LikelihoodProbe), spec.probes, dim);
                return Self { probes, steps, ..Self::default() };
            }
        };
        let z = match spec.init {
            InitSpec::Blend(_) | InitSpec::Source => draw(&mut stream(Purpose::Init)),
            InitSpec::Given(_) => Vec::new(),
        };
        let probes = match spec.regularizer {
            RegularizerSpec::Nll(nll) => signs(&mut stream(Purpose::NllProbe), nll.probes, dim),
            _ => Vec::new(),
        };
        Self { z, probes, ..Self::default() }
    }
}

/// Vectors of signs ±1.
fn signs(stream: &mut Stream, count: u32, dim: usize) -> Vec<Vec<f32>> {
    (0..count).map(|_| (0..dim).map(|_| stream.rademacher() as f32).collect()).collect()
}

impl Problem {
    /// A problem; the lengths are checked when the method starts.
    pub const fn new(method: MethodSpec, goal: Goal, draws: Draws) -> Self {
        Self { method, goal, draws, path: None, finish: false, keeps_trajectory: false }
    }

    /// Numbers in one state.
    pub fn dim(&self) -> usize {
        self.goal.dim()
    }

    /// The inverse problem, which a method for images has.
    pub(super) fn restoration(&self) -> Result<&Restoration, MethodError> {
        self.goal.restoration().ok_or(MethodError::OtherMethod)
    }

    /// The model's path, along which a method steps by itself.
    pub(super) fn path(&self) -> Next<&Path> {
        self.path.as_ref().ok_or(MethodError::Incomplete { what: "the model's probability path" })
    }

    /// Noise of the method's steps.
    pub(super) fn step_noise(&self) -> Next<&StepNoise> {
        self.draws.noise.as_ref().ok_or(MethodError::Incomplete { what: "the noise of its steps" })
    }

    /// `values`, if there are `dim` of them.
    pub(super) fn checked(&self, what: &'static str, values: Vec<f32>) -> Result<Vec<f32>, MethodError> {
        if values.len() == self.dim() {
            return Ok(values);
        }
        Err(MethodError::Length { what, expected: self.dim(), found: values.len() })
    }
}

/// Why a solve cannot go on. The sample becomes a failed row.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MethodError {
    /// A vector does not fit the images.
    #[error(
        "{what} has {found} numbers, the samples have {expected}: model, dataset or start do not fit together"
    )]
    Length {
        /// Which vector.
        what: &'static str,
        /// Numbers in an image.
        expected: usize,
        /// Numbers in the vector.
        found: usize,
    },
    /// The measurement cannot be lifted as the options ask.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// `init: { given: … }` without a start for this sample.
    #[error("init.given: the file holds no start for this sample; add a tensor named by its id")]
    NoStart,
    /// Loss or gradient at the first point is NaN or infinite.
    #[error(
        "the loss or its gradient is not finite at the source point of an outer step (loss {loss}): check the weights, \
         and the measurement or target"
    )]
    NonFinite {
        /// The loss there.
        loss: f64,
    },
    /// The likelihood penalty with an adaptive solver.
    #[error("regularizer.nll needs a solver with fixed steps; use midpoint, heun, rk4 or euler")]
    AdaptiveLikelihood,
    /// The solver cannot be used.
    #[error("{0}")]
    Solver(String),
    /// A sampler that steps along a path that it was not told, or with other noise than it was to be given.
    #[error("the ancestral sampler needs a diffusion model with a noise for each of its {steps} steps")]
    NoPath {
        /// Steps asked for.
        steps: u32,
    },
    /// A problem that was made for another method.
    #[error("internal error: the problem of this method lacks {what}; please report this")]
    Incomplete {
        /// What it needs.
        what: &'static str,
    },
    /// The worker's answer does not belong to what was asked.
    #[error("internal error: a method was told {told} while it waited for {awaited}; please report this")]
    UnexpectedAnswer {
        /// Kind of the answer.
        told: &'static str,
        /// What it waited for.
        awaited: &'static str,
    },
    /// A stored solve goes on with another method's problem.
    #[error("internal error: a stored solve belongs to another method; please report this")]
    OtherMethod,
}

impl MethodError {
    pub(super) fn unexpected(answer: &Answer, awaited: &'static str) -> Self {
        let told = match answer {
            Answer::Start => "to start",
            Answer::State(_) => "a state",
            Answer::Value(_) => "a value",
            Answer::Gradient(_) => "a gradient",
        };
        Self::UnexpectedAnswer { told, awaited }
    }
}

/// What follows from an answer.
pub(super) type Next<T = Ask> = Result<T, MethodError>;
